/** What the steps of a failover share: what they work on, how they record a fact, how they ask a member. */
import type { CommandBody, CommandResult } from '../channel/protocol.ts';
import { formatGtidSet, parseGtidSet, unionGtidSets } from '../cluster/gtid-set.ts';
import type { FailoverInput } from '../machines/failover.ts';
import { getFailover, recordFailover } from '../store/failovers.ts';
import type { FailoverFacts, FailoverRow } from '../store/rows.ts';
import type { Context } from './context.ts';
import { type ClusterView, gather, isRunning, type MemberView } from './gather.ts';
import { defaultMaxPauseMs } from './plan.ts';

export const timeoutsMs = {
  freeze: 4000,
  fence: 8000,
  /** Beside the pause itself: what comes before it, and the answer. */
  demote: 7000,
  catchUp: 50_000,
  promote: 40_000,
  follow: 10_000,
  seal: 2000,
  undo: 20_000,
} as const;

export type Args = { readonly input: FailoverInput; readonly signal: AbortSignal };

export type Reached = NonNullable<FailoverFacts['reached']>[number];

export interface Work {
  readonly view: ClusterView;
  readonly row: FailoverRow;
  readonly signal: AbortSignal;
}

export async function begin(context: Context, { input, signal }: Args): Promise<Work> {
  const [view, row] = await Promise.all([
    gather(context, input.clusterId),
    getFailover(context.store, input.failoverId),
  ]);
  return { view, row, signal };
}

export async function record(
  context: Context,
  row: FailoverRow,
  name: string,
  facts: FailoverFacts,
  extra: { readonly toPrimary?: number; readonly detail?: string | undefined } = {},
): Promise<void> {
  const { toPrimary, detail } = extra;
  await recordFailover(context.store, context.leader, row.id, {
    facts,
    ...(toPrimary === undefined ? {} : { toPrimary }),
    step: { name, at: context.clock.now(), ...(detail ? { detail } : {}) },
  });
}

export function sendTo(
  context: Context,
  view: ClusterView,
  ordinal: number,
  body: CommandBody,
  options: Parameters<Context['executors']['send']>[2],
) {
  const launch = view.members.find((member) => member.ordinal === ordinal)?.launch;
  if (!launch) return Promise.reject(new Error(`member ${ordinal} was never launched`));
  return context.executors.send(launch.taskId, body, options);
}

export function reachedOf(member: MemberView, gtid: string | undefined, isApplierRunning: boolean): Reached[] {
  if (gtid === undefined || !member.status || !isRunning(member)) return [];
  const { incarnation, bootId } = member.status;
  return [{ ordinal: member.ordinal, incarnation, bootId, gtid, isApplierRunning }];
}

/** received union executed */
export function holds(result: CommandResult): string | undefined {
  if (result.outcome !== 'done' || result.gtidExecuted === undefined) return undefined;
  return formatGtidSet(unionGtidSets(parseGtidSet(result.gtidExecuted), parseGtidSet(result.gtidReceived ?? '')));
}

/** What is left of the time that writes may be paused, in whole milliseconds; 0 when it is used up. */
export function pauseRestMs(context: Context, { facts, options }: Pick<FailoverRow, 'facts' | 'options'>): number {
  const endsAt = (facts.pauseBeganAt ?? context.clock.now()) + (options.maxPauseMs ?? defaultMaxPauseMs);
  return Math.max(0, endsAt - context.clock.now());
}

/** What the new primary must have executed before it becomes one: what it received, or all that the old primary has. */
export function wantedOf({ kind, fromPrimary, facts }: FailoverRow): string {
  const source = kind === 'switchover' ? fromPrimary : (facts.catchUpFrom ?? facts.chosen);
  return facts.reached?.find(({ ordinal }) => ordinal === source)?.gtid ?? '';
}
