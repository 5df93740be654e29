/**
 * What happens to backups by themselves: each look notes what the volumes say, and opens at most one thing: the removal
 * of those that the policy lets go, the next backup of a due run, the next verification. Opening stores an intent; the
 * machines do the rest.
 */

import { chooseExpired, type KeptBackup } from '../cluster/retention.ts';
import { chooseForRun, findDueRun, findNextRun, type RunMember } from '../cluster/schedule.ts';
import { Refusal } from '../errors.ts';
import { adoptBackup, closeLost, noteBackup, openBackup, openRemoval, toKept } from '../store/backups.ts';
import type { BackupRow, ClusterRow } from '../store/rows.ts';
import { openVerification } from '../store/verifications.ts';
import { type Context, emit } from './context.ts';
import { type ClusterView, isInPlace, isRunning, type MemberView, primaryOf } from './gather.ts';
import { compareWithPrimary } from './joining.ts';

/** After a try that proved nothing; one that gave way to other work comes sooner. */
const verifyAgainMs = 30 * 60_000;
const supersededMs = 60_000;
/** Of the first backup of a new volume. */
const fillAgainMs = 10 * 60_000;
const hourMs = 3600_000;

export interface BackupKeeper {
  look(view: ClusterView): Promise<void>;
}

export function createBackupKeeper(context: Context): BackupKeeper {
  /** Reading a schedule costs; nothing is due before this. */
  const nextRuns = new Map<string, { readonly key: string; readonly at: number }>();
  /** On a volume, and neither kept nor given up: nothing to ask the store for again. */
  const strangers = new Set<string>();

  function findDue(cluster: ClusterRow, kept: readonly BackupRow[]): number | null {
    const now = context.clock.now();
    const { backupPolicy: policy, id: clusterId } = cluster;
    const newest = Math.max(0, ...kept.map(({ dueAt }) => dueAt ?? 0));
    const base = Math.max(cluster.backupPolicyAt ?? cluster.createdAt, newest);
    const key = JSON.stringify([policy.schedule, policy.timeZone, policy.jitterSeconds, base]);
    const known = nextRuns.get(clusterId);
    if (known?.key === key && now < known.at) return null;
    const due = findDueRun(policy, { clusterId, since: base, now });
    const at = findNextRun(policy, clusterId, now) ?? Number.POSITIVE_INFINITY;
    if (due === null) nextRuns.set(clusterId, { key, at });
    return due;
  }

  return {
    async look(view) {
      const { cluster } = view;
      if (cluster.epoch === 0 || cluster.activatedAt === null || !cluster.spec.volumes.backup) return;
      await noteAll(context, view);
      await adoptSealed(context, view, strangers);
      await removeExpired(context, view);
      if (await fillNewVolume(context, view)) return;
      if (await runSchedule(context, view, findDue(cluster, view.kept))) return;
      await verifyNext(context, view);
    },
  };
}

/** The volumes say what is verified, and what is bad or gone. */
async function noteAll(context: Context, view: ClusterView): Promise<void> {
  for (const { ordinal, status, isConnected, bundle } of view.members) {
    if (!isConnected || !status?.areBackupsKnown) continue;
    const takenAt = bundle?.bundle.backup?.takenAt ?? Number.NEGATIVE_INFINITY;
    for (const row of view.kept) {
      if (row.ordinal !== ordinal || row.state !== 'complete') continue;
      const entry = status.backups.find(({ id }) => id === row.id);
      if (!entry && row.startedAt < takenAt && status.volumesFound?.backup?.isMarked) {
        await closeLostBackup(context, view, row);
        continue;
      }
      const gone = 'it is not on the volume, or its manifest cannot be read';
      // What a verification found stays until one passes, also when no mark could be written.
      const isCured = entry?.isBad !== true && (entry?.verifiedAt ?? 0) > (row.verifiedAt ?? 0);
      const said = entry ? (entry.isBad ? (entry.reason ?? 'it was marked bad') : null) : gone;
      const badReason = said ?? (isCured ? null : row.badReason === gone ? null : row.badReason);
      const verifiedAt = entry?.verifiedAt ?? row.verifiedAt;
      if (badReason === row.badReason && verifiedAt === row.verifiedAt) continue;
      if (!(await noteBackup(context.store, context.leader, row.id, { verifiedAt, badReason }))) continue;
      if (badReason === null || row.badReason !== null) continue;
      await emit(context, 'backup.bad', view.cluster, badReason, { ordinal, data: { backup: row.id } });
    }
  }
}

/** What was sealed after its row was closed as failed would take room for ever, and be of no use. */
async function adoptSealed(context: Context, view: ClusterView, strangers: Set<string>): Promise<void> {
  const kept = new Set(view.kept.filter(({ state }) => state !== 'failed').map(({ id }) => id));
  for (const { ordinal, status, isConnected } of view.members) {
    if (!isConnected || !status?.areBackupsKnown) continue;
    for (const { id, gtidSet, bytes } of status.backups) {
      if (kept.has(id) || strangers.has(id)) continue;
      const which = { id, clusterId: view.cluster.id, ordinal };
      if (await adoptBackup(context.store, context.leader, which, { gtidSet, bytes })) {
        const detail = `${bytes} bytes, sealed after it was given up`;
        await emit(context, 'backup.complete', view.cluster, detail, { ordinal, data: { backup: id } });
      } else {
        strangers.add(id);
      }
    }
  }
}

/** It was on a volume that was lost, and another one was taken in its place. */
async function closeLostBackup(context: Context, view: ClusterView, { id, ordinal }: BackupRow): Promise<void> {
  const reason = 'it was lost with its volume';
  if (!(await closeLost(context.store, context.leader, id, reason))) return;
  await emit(context, 'backup.removed', view.cluster, reason, { ordinal, data: { backup: id } });
}

/** A backup volume that was taken in place of a lost one gets its first full backup at once. */
async function fillNewVolume(context: Context, view: ClusterView): Promise<boolean> {
  const { cluster, kept, newestBackups } = view;
  if (kept.some(({ state }) => state === 'open')) return false;
  const now = context.clock.now();
  const next = view.members.find((member) => {
    const takenAt = member.bundle?.bundle.backup?.takenAt;
    if (takenAt === undefined || !member.status?.volumesFound?.backup?.isMarked) return false;
    const newest = newestBackups.find(({ ordinal }) => ordinal === member.ordinal);
    const isDue = !newest || newest.startedAt < takenAt;
    const isAgain = newest?.state === 'failed' && now - (newest.endedAt ?? 0) >= fillAgainMs;
    return (isDue || isAgain) && runMember(view, member).isFit;
  });
  if (!next) return false;
  const { leader } = context;
  const { ordinal } = next;
  const about = { id: context.newId(), clusterId: cluster.id, ordinal, requestedBy: 'automation', leader };
  try {
    await openBackup(context.store, about);
  } catch (error) {
    // A person was faster.
    if (error instanceof Refusal && error.code !== 'STALE_LEADER') return false;
    throw error;
  }
  context.wakes.wake(cluster.id);
  return true;
}

/** The backups of a member as retention sees them. */
export function keptOf(view: ClusterView, ordinal: number): KeptBackup[] {
  const inUse = new Set([
    ...view.rebuilds.flatMap(({ way }) => (way?.startsWith('backup:') ? [way.slice('backup:'.length)] : [])),
    ...view.verifications.flatMap(({ state, backupId }) => (state === 'open' ? [backupId] : [])),
    ...(view.restore ? [view.restore.origin.backup.id, view.restore.safetyBackupId] : []),
  ]);
  // A packed one makes room for less than its data is; only its volume knows how much.
  const { status } = view.members.find((member) => member.ordinal === ordinal) ?? {};
  const stored = new Map(status?.backups.map(({ id, storedBytes }) => [id, storedBytes]));
  return view.kept
    .filter((row) => row.ordinal === ordinal && row.state === 'complete')
    .map(toKept)
    .map((kept) => ({ ...kept, bytes: stored.get(kept.id) ?? kept.bytes, isInUse: inUse.has(kept.id) }));
}

async function removeExpired(context: Context, view: ClusterView): Promise<void> {
  const now = context.clock.now();
  for (const { ordinal } of view.members) {
    for (const id of chooseExpired(keptOf(view, ordinal), view.cluster.backupPolicy, now)) {
      await removeBackup(context, view, { ordinal, id, reason: 'the policy keeps it no longer' });
    }
  }
}

/** Stores the intent and tells it; what became the last good one meanwhile stays. */
export async function removeBackup(
  context: Context,
  view: ClusterView,
  { ordinal, id, reason }: { readonly ordinal: number; readonly id: string; readonly reason: string },
): Promise<void> {
  try {
    await openRemoval(context.store, { id, reason, isForced: false, leader: context.leader });
  } catch (error) {
    if (error instanceof Refusal && error.code !== 'STALE_LEADER') return;
    throw error;
  }
  await emit(context, 'backup.removing', view.cluster, reason, { ordinal, data: { backup: id } });
  context.wakes.wake(view.cluster.id);
}

async function runSchedule(context: Context, view: ClusterView, newRun: number | null): Promise<boolean> {
  const { cluster, kept } = view;
  // A run that was begun goes on until a later one is due.
  const begun = Math.max(0, ...kept.map(({ dueAt }) => dueAt ?? 0));
  const dueAt = newRun ?? (begun > 0 ? begun : null);
  if (dueAt === null || cluster.backupPolicy.schedule === null) return false;
  const ofRun = kept.filter((row) => row.dueAt === dueAt);
  const open = kept.filter(({ state }) => state === 'open').map((row) => ({ ...row, state: 'open' as const }));
  const ordinal = chooseForRun({
    members: view.members.map((member) => runMember(view, member)),
    backups: [...open, ...ofRun.filter(({ state }) => state !== 'open')].map(({ state, ...rest }) => ({
      ...rest,
      state: state === 'open' || state === 'failed' ? state : 'other',
    })),
    which: cluster.backupPolicy.members,
    dueAt,
    now: context.clock.now(),
  });
  if (ordinal === null) return false;
  const id = context.newId();
  const { leader } = context;
  await openBackup(context.store, { id, clusterId: cluster.id, ordinal, requestedBy: 'schedule', dueAt, leader });
  context.wakes.wake(cluster.id);
  return true;
}

function runMember(view: ClusterView, self: MemberView): RunMember {
  const primary = primaryOf(view);
  const isPrimary = primary?.ordinal === self.ordinal;
  const isBusy = self.status?.work?.outcome === 'running' && self.status.work.kind !== 'verify';
  const isReady = self.isConnected && isRunning(self) && isInPlace(view, self) && !isBusy;
  const hasVolume = self.bundle?.bundle.backup != null;
  const isRebuilt = view.rebuilds.some(({ ordinal }) => ordinal === self.ordinal);
  return {
    ordinal: self.ordinal,
    isPrimary,
    isFit: isReady && hasVolume && !isRebuilt && (isPrimary || !hasErrant(self, primary)),
    lagMs: self.status?.lagMs ?? null,
  };
}

function hasErrant(self: MemberView, primary: MemberView | null): boolean {
  if (!self.status || !primary?.status) return true;
  return compareWithPrimary(self.status, primary.status).kind === 'errant';
}

/** Those that were never verified first, the newest of them first; then those whose verification is oldest. */
async function verifyNext(context: Context, view: ClusterView): Promise<void> {
  const { cluster, kept, verifications } = view;
  if (verifications.some(({ state }) => state === 'open') || kept.some(({ state }) => state === 'open')) return;
  const now = context.clock.now();
  const isDue = (row: BackupRow) =>
    row.verifiedAt === null || now - row.verifiedAt >= cluster.backupPolicy.verifyEveryHours * hourMs;
  const wasTried = (row: BackupRow) =>
    verifications.some(({ backupId, endedAt, code }) => {
      const pauseMs = code === 'SUPERSEDED' ? supersededMs : verifyAgainMs;
      return backupId === row.id && code !== null && now - (endedAt ?? 0) < pauseMs;
    });
  const isReachable = (row: BackupRow) => {
    const self = view.members.find(({ ordinal }) => ordinal === row.ordinal);
    const isThere = self?.status?.backups.some(({ id }) => id === row.id) === true;
    const isRebuilt = view.rebuilds.some(({ ordinal }) => ordinal === row.ordinal);
    return self?.isConnected === true && isThere && !isRebuilt && self.status?.work?.outcome !== 'running';
  };
  const [next] = kept
    .filter((row) => row.state === 'complete' && row.badReason === null)
    .filter((row) => isDue(row) && !wasTried(row) && isReachable(row))
    .sort((one, other) => (one.verifiedAt ?? 0) - (other.verifiedAt ?? 0) || other.startedAt - one.startedAt);
  if (!next) return;
  const { leader } = context;
  try {
    const id = context.newId();
    await openVerification(context.store, { id, backupId: next.id, requestedBy: 'schedule', leader });
  } catch (error) {
    if (error instanceof Refusal && error.code !== 'STALE_LEADER') return;
    throw error;
  }
  context.wakes.wake(cluster.id);
}
