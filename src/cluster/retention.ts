/**
 * Which full backups of one member go. Rules:
 * - The last verified one never goes; while none is verified, the newest good one never does. Nor what is in use.
 * - The newest `keepCount` good ones stay. Others go after `keepDays`, or when a new backup needs their room.
 * - A bad one goes when a newer one was verified, after `keepDays`, or for room: before all others.
 * - Nothing goes for room that would not be enough.
 */
import type { BackupPolicy } from './backup-policy.ts';

export interface KeptBackup {
  readonly id: string;
  /** UTC ms. */
  readonly endedAt: number;
  readonly bytes: number;
  readonly verifiedAt: number | null;
  readonly isBad: boolean;
  /** A rebuild, a copy or a verification reads it. */
  readonly isInUse: boolean;
}

type Keep = Pick<BackupPolicy, 'keepCount' | 'keepDays'>;

const dayMs = 86_400_000;
const newestFirst = (one: KeptBackup, other: KeptBackup) => other.endedAt - one.endedAt || (one.id < other.id ? 1 : -1);

/** The one that nothing but a person's `force` removes; null: there is no good one. */
export function findLastGood(backups: readonly KeptBackup[]): string | null {
  const good = backups.filter(({ isBad }) => !isBad).sort(newestFirst);
  return (good.find(({ verifiedAt }) => verifiedAt !== null) ?? good[0])?.id ?? null;
}

/** Those that go by age, oldest first. */
export function chooseExpired(backups: readonly KeptBackup[], keep: Keep, now: number): string[] {
  const lastGood = findLastGood(backups);
  const good = backups.filter(({ isBad }) => !isBad).sort(newestFirst);
  const kept = new Set(good.slice(0, keep.keepCount).map(({ id }) => id));
  const isOld = ({ endedAt }: KeptBackup) => now - endedAt > keep.keepDays * dayMs;
  const isReplaced = (bad: KeptBackup) => good.some((one) => one.verifiedAt !== null && one.endedAt > bad.endedAt);
  return [...backups]
    .sort(newestFirst)
    .reverse()
    .filter((backup) => !backup.isInUse && backup.id !== lastGood && !kept.has(backup.id))
    .filter((backup) => isOld(backup) || (backup.isBad && isReplaced(backup)))
    .map(({ id }) => id);
}

/**
 * Those that go so that `missingBytes` more are free, in the order in which they go; null: it cannot be done. The new
 * backup counts among the `keepCount`.
 */
export function chooseForRoom(backups: readonly KeptBackup[], keep: Keep, missingBytes: number): string[] | null {
  const lastGood = findLastGood(backups);
  const good = backups.filter(({ isBad }) => !isBad).sort(newestFirst);
  const oldestFirst = (list: readonly KeptBackup[]) => [...list].sort(newestFirst).reverse();
  const candidates = [
    ...oldestFirst(backups.filter(({ isBad }) => isBad)),
    ...oldestFirst(good.slice(Math.max(0, keep.keepCount - 1))),
  ].filter(({ id, isInUse }) => !isInUse && id !== lastGood);
  const chosen: string[] = [];
  let missing = missingBytes;
  for (const { id, bytes } of candidates) {
    if (missing <= 0) break;
    chosen.push(id);
    missing -= bytes;
  }
  return missing > 0 ? null : chosen;
}
