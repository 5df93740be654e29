/** What is measured: ours or the floor, by the same writer under the same load. */
import type { Login } from '../../src/mysql/connection.ts';
import type { Endpoints } from '../demo/endpoints.ts';
import { now } from '../demo/wait.ts';
import { startWriter, type Writer } from '../demo/writer.ts';
import type { Sample } from './figures.ts';

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

/** One paced writer with open connections to all members; the change; the first commit on another member. */
export async function measureChange(target: Target, change: Change): Promise<Sample> {
  tables += 1;
  const writer = await startWriter({ ...target, table: `bench${tables}` });
  try {
    await writer.acknowledgedAfter(now() + settleMs, commitTimeoutMs);
    const old = target.endpoints.primary()?.ordinal ?? -1;
    const others = target.endpoints.all().filter(({ ordinal }) => ordinal !== old);
    const first = writer.acknowledgedAfter(
      0,
      commitTimeoutMs,
      others.map(({ ordinal }) => ordinal),
    );
    first.catch(() => {});
    const { at, ended } = await change();
    const committedAt = await first;
    const detail = await ended;
    if (writer.faults.length > 0) throw new Error(`the writer found faults: ${writer.faults.join('; ')}`);
    const brokenAt = findBreak(writer, at);
    return {
      totalMs: committedAt - at,
      workMs: brokenAt === null ? null : committedAt - brokenAt,
      ...(detail === undefined ? {} : { detail }),
    };
  } finally {
    await writer.stop();
  }
}

const findBreak = ({ breaks }: Writer, after: number): number | null =>
  breaks.find(({ at }) => at >= after)?.at ?? null;
