/**
 * The archives of a cluster's members, seen together: what can be restored, what is missing, how old the oldest
 * transaction is that is in none. Tells each executor what its binary logs are kept for. All in memory: a control plane
 * that was started anew knows within a few looks, and until then nothing is purged.
 */
import type { Status } from '../channel/protocol.ts';
import {
  type ArchivePolicy,
  defaultArchivePolicy,
  findCoverage,
  findHolds,
  type Holder,
  noRpo,
  type RpoState,
  stepRpo,
} from '../cluster/archive.ts';
import { isGtidSubset, parseGtidSet } from '../cluster/gtid-set.ts';
import type { Context } from './context.ts';
import { type ClusterView, isRunning, type MemberView, primaryOf } from './gather.ts';

/** Sets are compared so often: with a thousand clusters that is not free. */
const LOOK_MS = 2_000;
const HOLD_MS = 30_000;
const SEND_TIMEOUT_MS = 5_000;
const HELD_UP_MS = 30_000;

type Archive = NonNullable<Status['archive']>;

export interface ArchiveMember {
  readonly ordinal: number;
  /** Null: it has no archive, or was not heard of. */
  readonly archive: Archive | null;
  readonly logs: Status['logs'];
  /** Its archive has an error, and not just for a moment: while mysqld starts its logs come and go. */
  readonly isHeldUp: boolean;
  /** Not waited for any more: when it comes back it is rebuilt. */
  readonly isWrittenOff: boolean;
}

export interface RecoveryWindow {
  /** UTC ms: the oldest moment to which can be restored, the end of a backup. Null: no backup reaches forward. */
  readonly from: number | null;
  /** The backup that this is. */
  readonly backupId: string | null;
  /** The newest archived commit that a restore can reach; null as `from`. */
  readonly to: number | null;
  /** Age of the oldest acknowledged transaction that is in no archive. */
  readonly rpoMs: number;
  readonly missing: string;
  /** GTIDs after the oldest kept backup that no archive has although it has later ones. */
  readonly gap: string;
  /** For a moment a gap may be what one member is about to archive. */
  readonly gapSince: number | null;
  readonly members: readonly ArchiveMember[];
}

interface Known {
  at: number;
  sentAt: number;
  rpo: RpoState;
  window: RecoveryWindow | null;
  /** The newest that a primary told: while there is none, what is missing stays missing. */
  acknowledged: string;
  gapSince: number | null;
  /** By ordinal: what an incarnation was last heard to have executed, and when it was last seen running. */
  readonly heard: Map<number, { incarnation: string; executed: string | null; runningAt: number }>;
}

export interface Archives {
  look(view: ClusterView): void;
  /** Null: the cluster has no backup volumes, or was not looked at yet. */
  window(clusterId: string): RecoveryWindow | null;
  /** Binary logs that it needs have gone, or are not kept for it any more. */
  willBeRebuilt(view: ClusterView, ordinal: number): boolean;
}

export function createArchives(context: Pick<Context, 'clock' | 'executors' | 'log'>): Archives {
  const { clock } = context;
  const known = new Map<string, Known>();
  const startedAt = clock.now();

  function listen(view: ClusterView, memory: Known): void {
    for (const { ordinal, status, isConnected, member } of view.members) {
      const before = memory.heard.get(ordinal);
      const incarnation = status?.incarnation ?? before?.incarnation ?? member.incarnation;
      const isSame = before?.incarnation === incarnation;
      const isSeen = isConnected && status !== null && status.instance === 'running' && status.gtidExecuted !== '';
      memory.heard.set(ordinal, {
        incarnation,
        executed: isSeen ? status.gtidExecuted : isSame ? before.executed : null,
        runningAt: isSeen ? clock.now() : (before?.runningAt ?? startedAt),
      });
    }
  }

  function holdersOf(view: ClusterView, memory: Known): Holder[] {
    return view.members
      .filter(({ member }) => member.desired !== 'gone')
      .map(({ ordinal }) => {
        const { executed, runningAt } = memory.heard.get(ordinal)!;
        return { ordinal, executed, absentMs: clock.now() - runningAt };
      });
  }

  /** Not waited for: the next one comes soon, and this one may be lost. */
  function send(view: ClusterView, executedByAll: string | null, policy: ArchivePolicy): void {
    const backups = goodBackupsOf(view).map(({ gtidSet }) => gtidSet);
    for (const { launch, isConnected, status } of view.members) {
      if (!launch || !isConnected || status?.instance !== 'running' || status.logs === undefined) continue;
      const body = { kind: 'keepLogs', executedByAll, backups: [...new Set(backups)].slice(-1000), policy } as const;
      context.executors
        .send(launch.taskId, body, { epoch: view.cluster.epoch, timeoutMs: SEND_TIMEOUT_MS })
        .catch((error: unknown) =>
          context.log.debug({ err: error }, 'a member was not told what its logs are kept for'),
        );
    }
  }

  return {
    look(view) {
      const { cluster } = view;
      if (cluster.deletedAt !== null) return void known.delete(cluster.id);
      const memory = known.get(cluster.id) ?? {
        ...{ at: Number.NEGATIVE_INFINITY, sentAt: Number.NEGATIVE_INFINITY, rpo: noRpo },
        ...{ window: null, acknowledged: '', gapSince: null },
        heard: new Map(),
      };
      known.set(cluster.id, memory);
      const now = clock.now();
      if (now - memory.at < LOOK_MS) return;
      memory.at = now;
      listen(view, memory);
      const policy = policyOf(view);
      const { executedByAll, writtenOff } = findHolds(holdersOf(view, memory), policy);
      if (now - memory.sentAt >= HOLD_MS && cluster.epoch > 0) {
        memory.sentAt = now;
        send(view, executedByAll, policy);
      }
      if (!cluster.spec.volumes.backup) return;
      memory.window = findWindow(view, memory, { now, writtenOff });
    },
    window: (clusterId) => known.get(clusterId)?.window ?? null,
    willBeRebuilt(view, ordinal) {
      const heard = known.get(view.cluster.id)?.heard.get(ordinal);
      const purged = primaryOf(view)?.status?.gtidPurged ?? '';
      if (!heard?.executed || clock.now() - heard.runningAt < HOLD_MS) return false;
      const isPastCap = clock.now() - heard.runningAt > policyOf(view).absentMaxMs;
      return isPastCap || !isGtidSubset(parseGtidSet(purged), parseGtidSet(heard.executed));
    },
  };
}

function policyOf({ cluster }: ClusterView): ArchivePolicy {
  const { keepHours, maxShare } = cluster.backupPolicy.archive;
  return { ...defaultArchivePolicy, archiveKeepMs: keepHours * 3_600_000, archiveShare: maxShare };
}

function findWindow(
  view: ClusterView,
  memory: Known,
  { now, writtenOff }: { readonly now: number; readonly writtenOff: readonly number[] },
): RecoveryWindow {
  const archives = view.members.flatMap(({ status }) => (status?.archive ? [status.archive] : []));
  const spans = archives.flatMap((archive) => archive.spans);
  memory.acknowledged = acknowledgedOf(view) || memory.acknowledged;
  const { acknowledged } = memory;
  const present = parseGtidSet(acknowledged);
  const backups = goodBackupsOf(view)
    // One of a history that a restore left leads to no state of the present one.
    .filter(({ gtidSet }) => acknowledged === '' || isGtidSubset(parseGtidSet(gtidSet), present))
    .toSorted((one, other) => one.endedAt - other.endedAt);
  const coverages = backups.map((backup) => ({
    backup,
    ...findCoverage({ spans, acknowledged, from: backup.gtidSet }),
  }));
  const first = coverages.find(({ gap }) => gap === '');
  const oldest = coverages[0] ?? findCoverage({ spans, acknowledged, from: null });
  const archivedUntil = spans.reduce<number | null>(
    (latest, { lastAt }) => (lastAt === null ? latest : Math.max(latest ?? lastAt, lastAt)),
    null,
  );
  const { missing } = first ?? oldest;
  memory.gapSince = oldest.gap === '' ? null : (memory.gapSince ?? now);
  const { state, rpoMs } = stepRpo(memory.rpo, { now, acknowledged, missing, archivedUntil });
  memory.rpo = state;
  return {
    from: first?.backup.endedAt ?? null,
    backupId: first?.backup.id ?? null,
    to: first ? Math.max(first.backup.endedAt, archivedUntil ?? 0) : null,
    ...{ rpoMs, missing, gap: oldest.gap, gapSince: memory.gapSince },
    members: view.members.map((member) => tellMember(member, writtenOff)),
  };
}

export type HeldBackup = Status['backups'][number] & { readonly ordinal: number };

/** From which a restore may begin: those that the volumes tell, but for what they or the rows call bad. */
export function goodBackupsOf({ members, kept }: Pick<ClusterView, 'members' | 'kept'>): HeldBackup[] {
  const bad = new Set(kept.flatMap(({ id, badReason }) => (badReason === null ? [] : [id])));
  return members
    .flatMap(({ ordinal, status }) => status?.backups.map((backup) => ({ ...backup, ordinal })) ?? [])
    .filter(({ id, isBad }) => !isBad && !bad.has(id));
}

/** What the primary has executed was acknowledged, or will be: it had to be before it was visible. */
function acknowledgedOf(view: ClusterView): string {
  const primary = primaryOf(view);
  return primary && isRunning(primary) ? (primary.status?.gtidExecuted ?? '') : '';
}

function tellMember({ ordinal, status }: MemberView, writtenOff: readonly number[]): ArchiveMember {
  const archive = status?.archive ?? null;
  // Both times are of the executor's own clock.
  const isHeldUp = archive?.error != null && status!.at - (archive.archivedAt ?? 0) > HELD_UP_MS;
  return { ordinal, archive, logs: status?.logs ?? null, isHeldUp, isWrittenOff: writtenOff.includes(ordinal) };
}
