/** What people should know of a cluster's backups, as conditions beside its state. */
import type { BackupPolicy } from './backup-policy.ts';

export interface BackupTrouble {
  readonly type: 'BackupBad' | 'BackupUnverified' | 'BackupNoSpace';
  readonly reason: string;
  readonly message: string;
}

export interface BackupSigns {
  /** Complete ones. */
  readonly backups: readonly {
    readonly id: string;
    readonly ordinal: number;
    readonly endedAt: number | null;
    readonly verifiedAt: number | null;
    readonly badReason: string | null;
  }[];
  /** The newest of each member, whatever became of it. */
  readonly newest: readonly {
    readonly ordinal: number;
    readonly code: string | null;
    readonly message: string | null;
  }[];
  readonly policy: Pick<BackupPolicy, 'verifyEveryHours'>;
  readonly now: number;
}

const hourMs = 3600_000;
/** Verifying waits for its turn and takes a while: past the policy by a quarter of it, and an hour. */
const patience = 1.25;

/** At most one of a type. */
export function findBackupTroubles({ backups, newest, policy, now }: BackupSigns): BackupTrouble[] {
  const troubles: BackupTrouble[] = [];
  const bad = backups.filter(({ badReason }) => badReason !== null);
  if (bad.length > 0) {
    const words = bad.map(({ id, ordinal, badReason }) => `${id} of member ${ordinal}: ${badReason}`);
    troubles.push({ type: 'BackupBad', reason: 'Damaged', message: words.join('; ') });
  }
  const latestMs = policy.verifyEveryHours * hourMs * patience + hourMs;
  const late = backups.filter(
    ({ badReason, endedAt, verifiedAt }) =>
      badReason === null && now - Math.max(verifiedAt ?? 0, endedAt ?? 0) > latestMs,
  );
  if (late.length > 0) {
    const words = late.map(({ id, ordinal, verifiedAt }) => {
      const since = verifiedAt === null ? 'was never verified' : `was verified ${new Date(verifiedAt).toISOString()}`;
      return `${id} of member ${ordinal} ${since}`;
    });
    troubles.push({ type: 'BackupUnverified', reason: 'Overdue', message: words.join('; ') });
  }
  const full = newest.filter(({ code }) => code === 'BACKUP_NO_SPACE');
  if (full.length > 0) {
    const words = full.map(({ ordinal, message }) => `member ${ordinal}: ${message ?? 'no room'}`);
    troubles.push({ type: 'BackupNoSpace', reason: 'VolumeTooSmall', message: words.join('; ') });
  }
  return troubles;
}
