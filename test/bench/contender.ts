/** What is measured: ours or the floor, by the same writer under the same load. */
import { delay, realClock } from '../../src/clock.ts';
import type { Login } from '../../src/mysql/connection.ts';
import type { Endpoints } from '../demo/endpoints.ts';
import { now } from '../demo/wait.ts';
import { startWriter, type Writer } from '../demo/writer.ts';
import type { Sample } from './figures.ts';

/** How many write at once, and how fast each. */
export interface Load {
  readonly writers: number;
  readonly ratePerSecond: number;
}

export const pacedLoad: Load = { writers: 1, ratePerSecond: 200 };
/** As fast as commits come back. */
export const saturatedLoad: Load = { writers: 8, ratePerSecond: Number.POSITIVE_INFINITY };

export interface Target {
  readonly endpoints: Endpoints;
  readonly login: Login;
  readonly caPem: string;
}

/** What breaks or hands over; answers when that was asked for, as UTC milliseconds, and may go on working. */
export type Change = () => Promise<{ readonly at: number; readonly ended: Promise<string | undefined> }>;

const settleMs = 500;
const commitTimeoutMs = 30_000;
let tables = 0;

/** Starts the writers, calls `work` while they write, and stops them. Throws when one of them found a fault. */
export async function underLoad<T>(
  target: Target,
  { writers: count, ratePerSecond }: Load,
  work: (writers: readonly Writer[]) => Promise<T>,
): Promise<T> {
  const writers: Writer[] = [];
  try {
    for (let index = 0; index < count; index += 1) {
      tables += 1;
      writers.push(await startWriter({ ...target, table: `bench${tables}`, ratePerSecond }));
    }
    await Promise.all(writers.map((writer) => writer.acknowledgedAfter(now() + settleMs, commitTimeoutMs)));
    const result = await work(writers);
    const faults = writers.flatMap((writer) => writer.faults);
    if (faults.length > 0) throw new Error(`the writers found faults: ${faults.join('; ')}`);
    return result;
  } finally {
    await Promise.all(writers.map((writer) => writer.stop()));
  }
}

/** Writers with open connections to all members; the change; the first commit on another member. */
export function measureChange(target: Target, change: Change, load: Load = pacedLoad): Promise<Sample> {
  return underLoad(target, load, async (writers) => {
    const old = target.endpoints.primary()?.ordinal ?? -1;
    const others = target.endpoints.all().filter(({ ordinal }) => ordinal !== old);
    const ordinals = others.map(({ ordinal }) => ordinal);
    const first = Promise.any(writers.map((writer) => writer.acknowledgedAfter(0, commitTimeoutMs, ordinals)));
    first.catch(() => {});
    const { at, ended } = await change();
    const committedAt = await first;
    const detail = await ended;
    const brokenAt = findBreak(writers, at);
    return {
      totalMs: committedAt - at,
      workMs: brokenAt === null ? null : committedAt - brokenAt,
      ...(detail === undefined ? {} : { detail }),
    };
  });
}

/**
 * As above through one port that always gives the primary: from the change to the first commit over a connection that
 * was opened after the one at hand broke.
 */
export function measureBreak(target: Target, change: Change, load: Load = pacedLoad): Promise<Sample> {
  return underLoad(target, load, async (writers) => {
    const { at, ended } = await change();
    const detail = await ended;
    await Promise.all(writers.map((writer) => writer.acknowledgedAfter(now(), commitTimeoutMs)));
    const brokenAt = findBreak(writers, at);
    if (brokenAt === null) throw new Error('no connection broke');
    const committed = writers.flatMap(
      ({ acknowledgedAt }) => acknowledgedAt.find((each) => (each ?? 0) > brokenAt) ?? [],
    );
    const committedAt = Math.min(...committed);
    return { totalMs: committedAt - at, workMs: null, ...(detail === undefined ? {} : { detail }) };
  });
}

/** Commits per second of writers at full speed, over some seconds. */
export function measureRate(target: Target, seconds: number): Promise<number> {
  return underLoad(target, saturatedLoad, async (writers) => {
    const count = () => writers.reduce((sum, { acknowledgedAt }) => sum + acknowledgedAt.length, 0);
    const [startedAt, before] = [now(), count()];
    await delay(realClock, seconds * 1000);
    return Math.round((1000 * (count() - before)) / (now() - startedAt));
  });
}

function findBreak(writers: readonly Writer[], after: number): number | null {
  const found = writers.flatMap(({ breaks }) => breaks.find(({ at }) => at >= after)?.at ?? []);
  return found.length === 0 ? null : Math.min(...found);
}
