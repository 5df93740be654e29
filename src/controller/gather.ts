/** The first step of the loop: all facts about one cluster, from the store and from the executors' last statuses. */
import type { Status } from '../channel/protocol.ts';
import { type MemberRecord, readClusterFacts } from '../store/cluster-facts.ts';
import type { OpenCopy } from '../store/retained.ts';
import type {
  BackupRow,
  BundleRow,
  ClusterRow,
  FailoverRow,
  LaunchRow,
  MemberRow,
  RebuildRow,
  RestoreRow,
  VerificationRow,
} from '../store/rows.ts';
import type { Context } from './context.ts';

export interface MemberView {
  readonly ordinal: number;
  readonly member: MemberRow;
  readonly bundle: BundleRow | null;
  /** The current launch, null before the first. */
  readonly launch: LaunchRow | null;
  /** Mesos has not reported the end of the launch. */
  readonly isLive: boolean;
  /** The last status of this launch's executor; may be stale while `isConnected` is false. */
  readonly status: Status | null;
  readonly isConnected: boolean;
}

export interface ClusterView {
  readonly cluster: ClusterRow;
  readonly members: readonly MemberView[];
  readonly failover: FailoverRow | null;
  /** Open ones. */
  readonly backups: readonly BackupRow[];
  /** That are there, or are being made or removed, and all of the newest run of the schedule; newest first. */
  readonly kept: readonly BackupRow[];
  /** The newest of each member, whatever became of it. */
  readonly newestBackups: readonly BackupRow[];
  /** Newest first; the open one is always among them. */
  readonly verifications: readonly VerificationRow[];
  readonly rebuilds: readonly RebuildRow[];
  /** The open one. */
  readonly restore: RestoreRow | null;
  /** New clusters that are filled from this one; known only while its volumes are retained. */
  readonly copies: readonly OpenCopy[];
  /** Of the newest change of the primary, when it was refused in this epoch. */
  readonly lastRefusal: { readonly code: string; readonly message: string } | null;
}

export async function gather(context: Context, clusterId: string): Promise<ClusterView> {
  const facts = await readClusterFacts(context.store, clusterId);
  const { cluster, newestFailover } = facts;
  return {
    cluster,
    failover: facts.openFailover,
    backups: facts.keptBackups.filter(({ state }) => state === 'open'),
    kept: facts.keptBackups,
    newestBackups: facts.newestBackups,
    verifications: facts.verifications,
    rebuilds: facts.openRebuilds,
    restore: facts.openRestore,
    copies: facts.copies,
    lastRefusal: newestFailover?.fromEpoch === cluster.epoch ? newestFailover.refusal : null,
    members: facts.members.map((record) => viewOf(context, record)),
  };
}

function viewOf({ executors }: Context, { member, bundle, launch }: MemberRecord): MemberView {
  const isLive = launch !== null && launch.endedAt === null;
  const status = isLive ? executors.status(launch.taskId) : null;
  const isConnected = isLive && status !== null && executors.brokenSince(launch.taskId) === null;
  return { ordinal: member.ordinal, member, bundle, launch, isLive, status, isConnected };
}

export async function gatherMember(context: Context, clusterId: string, ordinal: number) {
  const view = await gather(context, clusterId);
  const self = view.members.find((member) => member.ordinal === ordinal);
  if (!self) throw new Error(`member ${ordinal} of ${clusterId} has no row`);
  return { view, self };
}

export function primaryOf(view: ClusterView): MemberView | null {
  const { primary } = view.cluster;
  return primary === null ? null : (view.members.find(({ ordinal }) => ordinal === primary) ?? null);
}

/**
 * A restore has begun to fence and has not committed its epoch: only it touches members. Nobody is started, promoted,
 * failed over to or filled by anything else.
 */
export function isHeldForRestore({ cluster, restore }: Pick<ClusterView, 'cluster' | 'restore'>): boolean {
  return restore !== null && restore.fencingAt !== null && restore.fromEpoch === cluster.epoch;
}

/** Nobody is started, joined, promoted or failed over to: a restore works on it, or it ends and its volumes are kept. */
export function isHeld(view: Pick<ClusterView, 'cluster' | 'restore'>): boolean {
  return view.cluster.desired === 'retained' || isHeldForRestore(view);
}

export const isRunning = (member: MemberView): boolean => member.status?.instance === 'running';

/**
 * Proof that the member's instance cannot acknowledge anything: Mesos reports the container ended, or its executor
 * says that the process was reaped. A lost connection is not a proof (guarantee 3).
 */
export function proofOfEnd(
  member: MemberView,
): { readonly layer: 'mesos' | 'executor'; readonly detail: string } | null {
  const { launch, status } = member;
  if (launch && launch.endedAt !== null)
    return { layer: 'mesos', detail: `${launch.taskState} ${launch.taskReason ?? ''}`.trim() };
  if (!member.isConnected || !status) return null;
  const hasEnded =
    status.instance === 'held' ||
    status.instance === 'stopped' ||
    status.instance === 'failed' ||
    status.instance === 'none';
  return hasEnded
    ? { layer: 'executor', detail: `${status.instance}: ${status.reason?.message ?? 'not started'}` }
    : null;
}

/** The primary is writable; a replica follows the primary of this epoch. */
export function isInPlace(view: ClusterView, self: MemberView): boolean {
  const primary = primaryOf(view);
  if (!primary || !self.status) return false;
  if (primary.ordinal === self.ordinal) return self.status.isWritable && self.status.epoch === view.cluster.epoch;
  const { replication } = self.status;
  return isFollowing(self, primary) && replication?.receiver !== 'off' && replication?.applier === 'on';
}

/** Its receiver points at this primary, whatever state it is in. */
export function isFollowing({ status }: MemberView, primary: MemberView): boolean {
  const { replication } = status ?? {};
  if (!replication || !primary.bundle) return false;
  const { ip, bundle } = primary.bundle;
  return replication.sourceHost === ip && replication.sourcePort === bundle.ports.mysql;
}
