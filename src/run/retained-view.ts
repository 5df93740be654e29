/** What the API shows of a cluster whose volumes are retained: from its rows, as nothing of it runs. */
import type { LiveRecoveryWindow, LiveView } from '../api/live.ts';
import type { StateFacts } from '../cluster/state.ts';
import type { ClusterView } from '../controller/gather.ts';

/** Agents offer what is reserved every few minutes: whose volumes were not on offer for so long is away. */
const awayMs = 10 * 60_000;
/** After a start of the control plane all are taken to be there for a while: their offers come in. */
const startMs = 60_000;

/** Where its end is, and what of it is not as it should be. Null for every other cluster. */
export function describeRetained({ cluster, members, copies }: ClusterView): StateFacts['retained'] {
  const { retained, desired } = cluster;
  if (desired !== 'retained' || !retained) return null;
  const { within, endedAt, downAt, isExact, window } = retained;
  const missing = window?.missing ?? '';
  const doubts = [
    ...(isExact === false ? ['its primary did not say what it held: the last writes may not be in a copy'] : []),
    ...(missing === '' ? [] : [`in no archive, so in no copy: ${missing}`]),
  ];
  const live = members.filter(({ isLive }) => isLive).map(({ ordinal }) => ordinal);
  const now =
    within === undefined
      ? 'writes are being ended'
      : endedAt === undefined
        ? 'members are being ended, their archives completed'
        : downAt === undefined
          ? `waits for the end of the tasks of members ${live.join(', ')}`
          : 'volumes and reservations are kept until they are purged';
  const lent = copies.length === 0 ? [] : [`read by ${copies.map(({ name }) => name).join(', ')}`];
  const message = [now, ...lent, ...doubts].join('; ');
  return { isDown: downAt !== undefined, isWhole: doubts.length === 0, message };
}

/** Backups by their rows; null as `within` while its end has not come so far. */
export function retainedOptions(
  view: ClusterView,
  { now, startedAt }: { readonly now: number; readonly startedAt: number },
): NonNullable<ReturnType<LiveView['copyOptions']>> {
  const { retained } = view.cluster;
  const isThere = (ordinal: number) => {
    const member = view.members.find((one) => one.ordinal === ordinal);
    if (!member?.bundle) return false;
    const seenAt = Math.max(member.bundle.lastSeenAt ?? 0, member.launch?.endedAt ?? 0);
    return member.isConnected || now - seenAt < awayMs || now - startedAt < startMs;
  };
  const backups = view.kept.flatMap(({ id, ordinal, state, gtidSet, bytes, endedAt, badReason }) =>
    state === 'complete' && gtidSet !== null && bytes !== null && endedAt !== null
      ? [{ id, ordinal, gtidSet, bytes, endedAt, isBad: badReason !== null, isReachable: isThere(ordinal) }]
      : [],
  );
  return { backups, within: retained?.endedAt === undefined ? null : (retained.within ?? null) };
}

export function retainedWindow(view: ClusterView | null): LiveRecoveryWindow | null {
  if (view?.cluster.desired !== 'retained') return null;
  const { from = null, to = null, backupId = null, missing = '' } = view.cluster.retained?.window ?? {};
  return { from, to, backupId, missing, gap: '', rpoMs: 0, members: [] };
}
