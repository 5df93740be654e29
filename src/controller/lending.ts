/**
 * Members of a cluster whose volumes are retained: nothing runs on them, but while a copy is being made from the cluster.
 * Their executors are then launched on their own volumes, never told to start mysqld, and let the new cluster read
 * backups and archive. The intent is the copy itself: it is open until its first member is filled, or it is deleted.
 */
import { setMemberFailure } from '../store/members.ts';
import type { Context } from './context.ts';
import { type ClusterView, gatherMember, type MemberView } from './gather.ts';
import { lookUntil } from './wakes.ts';

/** Its tasks are to be ended, or have been: mysqld has ended everywhere, and the archives were waited for. */
export function isRetired({ cluster }: Pick<ClusterView, 'cluster'>): boolean {
  return cluster.desired === 'retained' && cluster.retained?.endedAt !== undefined;
}

/** A copy reads this member's volumes: its backup, or archives, which may be any member's. */
export function isLending(view: ClusterView, { ordinal, bundle }: Pick<MemberView, 'ordinal' | 'bundle'>): boolean {
  if (!isRetired(view) || bundle === null) return false;
  if (bundle.state !== 'reserved' && bundle.state !== 'intended') return false;
  return view.copies.some(({ origin: { until, backup } }) => until.kind !== 'backup' || backup.ordinal === ordinal);
}

interface Run {
  readonly input: { readonly clusterId: string; readonly ordinal: number };
  readonly signal: AbortSignal;
}

/** Stays while nothing is asked of the member. */
export async function park(context: Context, { input: { clusterId, ordinal }, signal }: Run): Promise<void> {
  await lookUntil(context, clusterId, signal, async () => {
    const { view, self } = await gatherMember(context, clusterId, ordinal);
    return !isRetired(view) || self.isLive || isLending(view, self) ? true : undefined;
  });
}

/** Stays while a copy reads its volumes and its executor runs. Nothing is sent here: the copy asks it to share. */
export async function lend(context: Context, { input: { clusterId, ordinal }, signal }: Run): Promise<void> {
  await lookUntil(context, clusterId, signal, async () => {
    const { view, self } = await gatherMember(context, clusterId, ordinal);
    if (!self.isLive || !isLending(view, self)) return true;
    if (self.isConnected && self.member.failures > 0)
      await setMemberFailure(context.store, context.leader, { clusterId, ordinal, failures: 0, retryAt: null });
    return undefined;
  });
}
