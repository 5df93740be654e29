/**
 * Rejoin by trimming (executor/trim.ts), as the controller decides it. A held member whose cluster has another primary
 * is never just started: crash recovery would commit its tail. It is cut to what the new primary has; a rebuild by
 * another way comes only when that fails.
 */
import type { Status } from '../channel/protocol.ts';
import { isGtidSubset, ownGtidTag } from '../cluster/gtid-set.ts';
import { readSet } from '../cluster/voters.ts';
import { Refusal } from '../errors.ts';
import type { RebuildRow } from '../store/rows.ts';
import { isAutomationOn } from './automation.ts';
import type { Context } from './context.ts';
import { type ClusterView, isRunning, type MemberView } from './gather.ts';

export const trimWay = 'trim';
/** It was tried: another way is chosen next. */
export const trimFailedWay = 'trim:failed';

/** Held, and another member is the primary. */
export function isLeftBehind({ cluster }: ClusterView, { ordinal, status }: MemberView): boolean {
  return status?.instance === 'held' && cluster.epoch > 0 && cluster.primary !== ordinal;
}

/** Before its commit point a change may still make this very member the primary again. */
export function isUndecided({ cluster, failover }: ClusterView): boolean {
  return failover !== null && cluster.epoch <= failover.fromEpoch;
}

/** Refuses with HELD while a person has switched automation off; their own request for a rebuild trims as well. */
export function requireTrimAllowed(context: Context, { cluster }: ClusterView): void {
  if (isAutomationOn(cluster, context.clock.now())) return;
  const message =
    'it is held, another member is the primary, and automation is off: ask for a rebuild, or switch it on';
  throw new Refusal('HELD', message);
}

/**
 * What stays: all that the new primary has. Its set only grows, and what it had received of the old epochs it has
 * executed before it was chosen: so any status that covers the rule's base will do. Null: not known yet.
 */
export function findKeep({ cluster }: ClusterView, primary: MemberView | null): string | null {
  const { status } = primary ?? {};
  if (!primary?.isConnected || !status || !isRunning(primary) || status.epoch !== cluster.epoch) return null;
  const base = readSet(cluster.rule?.base ?? '');
  const executed = readSet(status.gtidExecuted);
  return base && executed && isGtidSubset(base, executed) ? status.gtidExecuted : null;
}

const gtidMax = 2n ** 63n - 2n;

/** All GTIDs that a server can ever issue, ours with their tag too. */
export function issuedBy(serverUuid: string): string {
  return `${serverUuid}:1-${gtidMax}:${ownGtidTag}:1-${gtidMax}`;
}

/** What a rebuild that trimmed tells: `before` is the incarnation that ended. */
export function describeTrim(status: Status, before: string): { message: string; data: Record<string, unknown> } {
  const tail = status.tails?.find(({ id }) => id === before);
  if (status.incarnation === before || !tail) {
    return { message: 'nothing had to be trimmed: all that it held is on the primary', data: {} };
  }
  const message = `${tail.bytes} bytes that nobody acknowledged were saved as tail ${tail.id} and cut: ${tail.gtidSet}`;
  return { message, data: { tail: tail.id, gtidSet: tail.gtidSet, bytes: tail.bytes } };
}

/** Trims that worked cost nothing and do not count against the budget of rebuilds. */
export function countsForBudget({ way, state }: RebuildRow): boolean {
  return !(way === trimWay && state === 'done');
}

const passing: ReadonlySet<string> = new Set(['BUSY', 'SUPERSEDED', 'STALE_EPOCH', 'STALE_LEADER', 'NOT_RUNNING']);

/** A refusal that says nothing about the way that was tried. */
export function isPassing({ code }: Refusal): boolean {
  return passing.has(code);
}

/** What the executor refuses it refuses again; a connection that broke says nothing about the way. */
export function isTrimHopeless(error: unknown): boolean {
  return error instanceof Refusal && !isPassing(error);
}
