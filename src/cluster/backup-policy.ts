/** When a cluster is backed up, what is kept, and how gently. A person's word (`PUT /v1/clusters/{name}/backup-policy`). */
export interface BackupPolicy {
  /** Five fields of cron; null: only by hand. */
  readonly schedule: string | null;
  /** IANA name; `schedule` is read in it. */
  readonly timeZone: string;
  /** Each cluster runs so much later at most, always by the same time: not all of them at once. */
  readonly jitterSeconds: number;
  /** `all`: every member onto its own backup volume, one after the other. `replica`: one member, a replica if there is one. */
  readonly members: 'all' | 'replica';
  /** So many of the newest good backups of a member always stay. */
  readonly keepCount: number;
  /** The others stay so long, unless a new one needs their room. */
  readonly keepDays: number;
  /** Of what a backup or verification reads; null: as fast as it can. */
  readonly maxBytesPerSec: number | null;
  /** How new ones are packed; those that are there stay as they are. */
  readonly compress: 'none' | 'zstd';
  /** Whether new ones are sealed with the cluster's key of backups. */
  readonly encrypt: 'none' | 'aes-256-gcm';
  /** Each backup is verified after it was made, and again when that is older. */
  readonly verifyEveryHours: number;
  readonly archive: {
    readonly keepHours: number;
    /** Of the backup volume. */
    readonly maxShare: number;
  };
}

export const backupPolicyDefault: BackupPolicy = {
  schedule: '0 2 * * *',
  timeZone: 'UTC',
  jitterSeconds: 3600,
  members: 'all',
  keepCount: 2,
  keepDays: 7,
  maxBytesPerSec: null,
  compress: 'none',
  encrypt: 'none',
  verifyEveryHours: 168,
  archive: { keepHours: 168, maxShare: 0.3 },
};

export const BYTES_PER_SEC_MIN = 1024 * 1024;
export const KEEP_COUNT_MAX = 100;
export const KEEP_DAYS_MAX = 3660;
export const VERIFY_HOURS_MAX = 8760;
export const JITTER_SECONDS_MAX = 86_400;
