/**
 * What scheduler and executor say to each other: the launch plan in TaskInfo.data, the facts in status updates,
 * the commands of the control channel and the status that the executor streams back. Every message carries a
 * version; the scheduler speaks N and N-1. Nothing secret is in LaunchPlan: it is visible in Mesos.
 */
import { z } from 'zod';
import { donorSchema } from './donor.ts';

export const PROTOCOL_VERSION = 1;

const ports = z.object({ mysql: z.number().int(), control: z.number().int(), health: z.number().int() });
const volumePlan = z.object({
  /** Single path component below the sandbox, as in Mesos' Volume.container_path. */
  containerPath: z.string(),
  persistenceId: z.string(),
  diskType: z.enum(['root', 'path', 'mount']),
  sizeMb: z.number(),
});

export const launchPlan = z.object({
  version: z.literal(PROTOCOL_VERSION),
  installation: z.string(),
  cluster: z.string(),
  clusterName: z.string(),
  ordinal: z.number().int(),
  /** task id = executor id = `<cluster uuid>.<ordinal>.<launch uuid>` */
  taskId: z.string(),
  incarnation: z.string(),
  serverUuid: z.string(),
  serverId: z.number().int(),
  /** IPv4 of the agent: mysqld and executor bind it and nothing else. */
  address: z.string(),
  ports,
  memMb: z.number(),
  data: volumePlan,
  backup: volumePlan.nullable(),
  /** SHA-256 (hex) of the bearer token by which the scheduler proves itself for this launch. */
  tokenSha256: z.string(),
});
export type LaunchPlan = z.infer<typeof launchPlan>;

/** TaskStatus.data of TASK_STARTING, and again of TASK_RUNNING. */
export const startedFacts = z.object({
  version: z.literal(PROTOCOL_VERSION),
  /** SHA-256 fingerprint (hex, lower case, no colons) of the executor's own certificate. */
  fingerprint: z.string(),
});
export type StartedFacts = z.infer<typeof startedFacts>;

/**
 * Opens and seals the cluster's encrypted backups; hex of 32 bytes. In memory only. Whatever may need it brings it, when
 * the cluster has one.
 */
const backupKey = z
  .string()
  .regex(/^[0-9a-f]{64}$/)
  .nullish();

/** What `start` hands over the pinned channel: the only way by which secrets reach a member. */
const secrets = z.object({
  caCertPem: z.string(),
  certPem: z.string(),
  keyPem: z.string(),
  replication: z.object({ user: z.string(), password: z.string() }),
  /** Donor account of CLONE. */
  clone: z.object({ user: z.string(), password: z.string() }),
  /** The team's account: all rights on its own schemas, none on mysql.* and selvedge.*. */
  team: z.object({ user: z.string(), password: z.string() }),
  backupKey,
});
export type MemberSecrets = z.infer<typeof secrets>;

/** How acknowledgements survive; absent in `start` = os. */
const ackFlush = z.enum(['os', 'disk']);

const source = z.object({ host: z.string(), port: z.number().int() });

const head = {
  version: z.literal(PROTOCOL_VERSION),
  /** Idempotency key: the same id is carried out once and answered alike. */
  id: z.string(),
  epoch: z.number().int(),
  leaderToken: z.number().int(),
  /** Rises with every command of a leader: one that was overtaken on the way is refused, not carried out late. */
  sequence: z.number().int(),
};
const command = <K extends string, S extends z.ZodRawShape>(kind: K, shape: S) =>
  z.object({ ...head, kind: z.literal(kind), ...shape });

/** Of what the work reads from disk; null and absent: as fast as it can. */
const maxBytesPerSec = z
  .number()
  .int()
  .min(1024 * 1024)
  .nullish();

const copySource = {
  backup: z.object({ id: z.string(), ordinal: z.number().int() }),
  /** The holder of the backup, and everybody whose archive may be read. */
  donors: z.array(donorSchema).min(1).max(16),
  until: z.discriminatedUnion('kind', [
    z.object({ kind: z.literal('backup') }),
    z.object({ kind: z.literal('at'), atMs: z.number() }),
    z.object({ kind: z.literal('gtid'), gtidSet: z.string() }),
  ]),
  /** What the cluster that wrote the data acknowledged: nothing else is taken over. */
  within: z.string(),
};

export const commandSchema = z.discriminatedUnion('kind', [
  /**
   * Bring mysqld up: read-only, replication stopped. `initialise`: this launch may fill an empty data volume for
   * its incarnation; without it an empty or unmarked volume is refused with VOLUME_NOT_OURS. A first filling that was
   * interrupted goes on either way: its marker proves that nothing was ever in use there. Also ends a hold: crash
   * recovery runs, the member stays read-only and is compared before it may follow anyone.
   */
  command('start', { initialise: z.boolean(), secrets, ackFlush: ackFlush.optional() }),
  /** Stop mysqld by the rules (offline_mode first; SIGTERM only if no session waits for an acknowledgement). */
  command('stop', {}),
  /** SIGKILL mysqld and hold, durable: proof that this member acknowledges nothing any more. */
  command('fence', {}),
  /** Point the receiver at the primary of this epoch, keeping the relay log, and start both threads. */
  command('follow', { source }),
  /** Stop the receiver, let the applier run: denies acknowledgements to an old primary. Answers GTID sets. */
  command('freeze', {}),
  /** Start the receiver again, after an aborted failover. */
  command('thaw', {}),
  /** Of a mysqld that has ended: the GTIDs in its binary logs, read from the files. Nothing is changed or started. */
  command('examine', { timeoutMs: z.number().int() }),
  /** Wait until `gtidSet` is executed here (the applier runs). */
  command('catchUp', { gtidSet: z.string(), timeoutMs: z.number().int() }),
  /**
   * Become the primary of `epoch`: semi-sync source on with k, first transaction is the epoch row, then writable,
   * RESET REPLICA ALL last. Idempotent for the same epoch; also "still primary in this epoch" after a restart.
   */
  command('promote', {
    k: z.number().int(),
    member: z.number().int(),
    timeoutMs: z.number().int(),
    /** Heartbeats that other members may hold and this one lacks, as a GTID set: logged as empty transactions first. */
    heartbeats: z.string().optional(),
  }),
  /**
   * Switchover's first step: super_read_only; answers the executed set. Running writers get until maxPauseMs and are
   * killed then; two seconds more, else TIMED_OUT and still writable. Undone by `promote` in the same epoch. With
   * `killAfterMs` writers are killed then, and `maxPauseMs` is the end. With `transactionMaxMs` it is refused with
   * LONG_TRANSACTION, and nothing touched, while a transaction that writes is older than that. With `leaseMs` the
   * member takes writes again by itself, in its own epoch, when nothing else is heard for so long: see `seal`.
   */
  command('demote', {
    maxPauseMs: z.number().int().min(0).max(600_000),
    killAfterMs: z.number().int().min(0).max(600_000).optional(),
    transactionMaxMs: z.number().int().min(0).max(600_000).optional(),
    leaseMs: z.number().int().min(0).max(700_000).optional(),
  }),
  /**
   * Ends the lease of a `demote`, before the commit point: this member takes no writes again unless it is told to.
   * Refused with PAUSE_ENDED when it does already, or when it holds more than `gtidSet`, what it had when it was paused.
   * Done at once, without a running mysqld, when that ended in the pause.
   */
  command('seal', { gtidSet: z.string() }),
  /** After a switchover: drop the clients that still hang on the old primary. */
  command('dropClients', {}),
  /**
   * Acknowledge transactions or not (rpl_semi_sync_replica_enabled, receiver restarted). `ackFlush`: disk = what is
   * received is flushed, all of it and from now on, before it is acknowledged; absent = as it is.
   */
  command('setVoter', { isVoter: z.boolean(), ackFlush: ackFlush.optional() }),
  /** Change k on the primary and commit a barrier transaction under it. */
  command('setAcknowledgements', { k: z.number().int(), timeoutMs: z.number().int() }),
  /**
   * What binary logs are kept for: sent every while, valid for ten minutes, in memory only. Without it nothing is
   * purged but what the data volume has no room for. Taken beside other commands: an older one does no harm.
   */
  command('keepLogs', {
    /** What every member that is expected back has executed; null: not known. */
    executedByAll: z.string().nullable(),
    /** Sets of the backups of all members: the archive keeps what follows the oldest. */
    backups: z.array(z.string()).max(1000),
    policy: z.object({
      logKeepMs: z.number().min(0),
      logShare: z.number().min(0).max(1),
      logShareMax: z.number().min(0).max(1),
      absentMaxMs: z.number().min(0),
      archiveKeepMs: z.number().min(0),
      archiveShare: z.number().min(0).max(1),
    }),
    /** Of the archiver; absent or null: as fast as it goes. What is slower than the writes falls behind for ever. */
    maxBytesPerSec: z.number().int().min(65_536).nullish(),
  }),
  /**
   * Lets whoever has this token read this member's backups and archive (channel/transfer.ts). In memory only: an
   * executor that was started anew, or a share that expired, refuses with 401. The same token again: a new deadline.
   * Answers what the member holds, if it runs.
   */
  command('share', {
    tokenSha256: z.string().regex(/^[0-9a-f]{64}$/),
    expiresInMs: z
      .number()
      .int()
      .min(1000)
      .max(7 * 24 * 3600_000),
    /** Of all streams of this token together; null: as fast as it goes. */
    maxBytesPerSec: z.number().int().min(1024).nullable(),
    /** Begin a new binary log first: what the open one holds is closed, and can be fetched as a whole. */
    closeLog: z.boolean().optional(),
    backupKey,
  }),
  /**
   * In the background: fetch closed logs that hold `gtidSet` from a donor's archive into this one. Progress and result in
   * Status.archive.refill. Refused with BUSY while long work or another refill runs; long work that begins ends it.
   */
  command('refillArchive', {
    donor: donorSchema,
    gtidSet: z.string(),
    /** The archive takes no more than this part of the backup volume. */
    shareMax: z.number().min(0).max(1),
  }),
  /** Long: full backup into the backup volume. Answered at once; progress and result in Status.work. */
  command('backup', {
    backupId: z.string(),
    maxBytesPerSec,
    /** One word for both: an executor that cannot encrypt refuses it, and makes no plain backup instead. */
    compress: z.enum(['none', 'zstd', 'none+aes-256-gcm', 'zstd+aes-256-gcm']).nullish(),
    backupKey,
  }),
  /** Long: compare, start and read a sealed backup, which stays as it is. The result stands in Status.backups. */
  command('verify', { backupId: z.string(), maxBytesPerSec, backupKey }),
  /** A backup that is there no more is done too. Refused with BUSY while long work runs. */
  command('removeBackup', { backupId: z.string() }),
  /**
   * Long: fill the data volume of a new member, which was never filled, with a backup that a donor holds and archived
   * logs up to `until`; then it runs, read-only, as after `start`. `initialise` as there. Donors are asked with a token
   * that was shared with them before; TRANSFER_REFUSED says that one of them wants a new `share`.
   */
  command('copy', {
    initialise: z.boolean(),
    secrets,
    ...copySource,
  }),
  /**
   * Marks an empty backup volume beside data that are ours as this member's new one; `place` is Status.volumesFound's.
   * Carried out also where the launch was refused because of that volume.
   */
  command('takeBackupVolume', { place: z.string() }),
  /** Long: fill the data volume anew for a new incarnation. From its own backup volume, or by CLONE from a donor. */
  command('rebuild', {
    incarnation: z.string(),
    serverUuid: z.string(),
    serverId: z.number().int(),
    from: z.discriminatedUnion('kind', [
      z.object({ kind: z.literal('backup'), backupId: z.string() }),
      z.object({ kind: z.literal('clone'), donor: source }),
      /**
       * Only of a held instance: cut its last binary log at the first transaction that `keep` (what the new primary
       * has) lacks, save what is cut to the backup volume, and start with the new uuid. Nothing is copied.
       */
      z.object({ kind: z.literal('trim'), keep: z.string() }),
      /** As `copy`, for data of this very cluster. What could refuse it is looked at before the volume is touched. */
      z.object({ kind: z.literal('copy'), ...copySource }),
    ]),
    /**
     * Of a clone or backup: first keep as a tail what this member has beyond `keep`. When that fails: refused with
     * LEFTOVER_NOT_SAVED if it is required, and nothing was changed but that mysqld ended.
     */
    save: z.object({ keep: z.string(), isRequired: z.boolean() }).optional(),
    /** The data volume was lost: this directory, unmarked and empty, may be filled. */
    emptyPlace: z.string().optional(),
    /** A launch that was taken over held knows none yet, and a `start` would end the hold. */
    secrets: secrets.optional(),
  }),
]);
export type Command = z.infer<typeof commandSchema>;
/** A command without the parts that the sender adds. */
export type CommandBody = Command extends infer C ? (C extends Command ? Omit<C, keyof typeof head> : never) : never;

/** Every answer. `refused`: nothing was changed; `code` is from errors.ts. */
export const commandResult = z.discriminatedUnion('outcome', [
  z.object({
    outcome: z.literal('done'),
    /** freeze, demote, catchUp, start: what this member holds. */
    gtidExecuted: z.string().optional(),
    /** received by the receiver; union with executed is what the member can have. */
    gtidReceived: z.string().optional(),
    /** examine: all that the member ever logged. */
    gtidLogged: z.string().optional(),
    isApplierRunning: z.boolean().optional(),
    /** demote: a lease runs, as was asked for. Older executors know none. */
    hasLease: z.boolean().optional(),
  }),
  z.object({ outcome: z.literal('accepted') }),
  z.object({
    outcome: z.literal('refused'),
    code: z.string(),
    message: z.string(),
    facts: z.record(z.string(), z.unknown()).optional(),
  }),
]);
export type CommandResult = z.infer<typeof commandResult>;

/**
 * instance: none = not started in this launch; starting; running; held = ended uncleanly while writable (or fenced),
 * waits for `start`; stopped = ended on command; rebuilding; failed = cannot start (see message), waits for a command.
 */
export const instanceStates = ['none', 'starting', 'running', 'held', 'stopped', 'rebuilding', 'failed'] as const;

const volumeFound = z.object({
  /** As `dataPlace`. */
  place: z.string(),
  /** A file system of its own is mounted there. */
  isOwnDevice: z.boolean(),
  /** It has the marker of this member. */
  isMarked: z.boolean(),
  /** Unmarked, with nothing in it. */
  isEmpty: z.boolean(),
});

export const statusSchema = z.object({
  version: z.literal(PROTOCOL_VERSION),
  taskId: z.string(),
  /** Rises with every change; a reader that sees a gap lost nothing, each status is whole. */
  sequence: z.number().int(),
  at: z.number(),
  bootId: z.string(),
  incarnation: z.string(),
  serverUuid: z.string(),
  /** Highest accepted, durable on the data volume. */
  epoch: z.number().int(),
  leaderToken: z.number().int(),
  instance: z.enum(instanceStates),
  /** Why, for held, failed and stopped: a code from errors.ts and a sentence. */
  reason: z.object({ code: z.string(), message: z.string() }).nullable(),
  /** The data directory has been filled for this incarnation, once and for all. */
  isInitialised: z.boolean(),
  /** Which directory the data volume is (inode and birth): another one in the same path is another disk. */
  dataPlace: z.string().nullish(),
  /** What the volumes are, marked by us or not; a volume that was lost comes back as an unmarked one. */
  volumesFound: z.object({ data: volumeFound, backup: volumeFound.nullable() }).optional(),
  isWritable: z.boolean(),
  gtidExecuted: z.string(),
  gtidReceived: z.string(),
  gtidPurged: z.string(),
  replication: z
    .object({
      sourceHost: z.string(),
      sourcePort: z.number().int(),
      receiver: z.enum(['on', 'off', 'connecting']),
      applier: z.enum(['on', 'off']),
      receiverError: z.string(),
      /** Since the receiver last heard of its source, a heartbeat or a transaction; null before the first. */
      heardMsAgo: z.number().nullish(),
      applierError: z.string(),
    })
    .nullable(),
  /** From the primary's heartbeat row: now - newest applied heartbeat; null when unknown. */
  lagMs: z.number().nullable(),
  semiSync: z.object({
    isSource: z.boolean(),
    k: z.number().int(),
    isReplica: z.boolean(),
    clients: z.number().int(),
    waitingSessions: z.number().int(),
    noTx: z.number().int(),
    /** server_uuids of the replicas that hold a semi-sync dump thread here. */
    acknowledgers: z.array(z.string()).nullish(),
  }),
  /** Everything received is on disk, and will be before it is acknowledged (sync_relay_log = 1). Absent: not known. */
  flushesRelayLog: z.boolean().optional(),
  /** Time of the last heartbeat commit that completed here as a primary. */
  heartbeatAt: z.number().nullable(),
  /**
   * The heartbeat commit that has not completed, on a primary: for how long, and whether it waits for an
   * acknowledgement (null: mysqld does not even answer that). Durations, because clocks of hosts differ.
   */
  heartbeatPending: z.object({ forMs: z.number(), waitsForAcknowledgement: z.boolean().nullable() }).nullish(),
  /** For how long mysqld has not answered the executor's own probe (login and SELECT over the socket). */
  probeFailing: z.object({ forMs: z.number(), message: z.string() }).nullish(),
  /** On a writable member: the oldest transaction that writes, from two seconds of age on. Looked at now and then. */
  longestTransaction: z.object({ session: z.number(), user: z.string(), startedMsAgo: z.number() }).nullish(),
  volumes: z.object({
    data: z.object({ totalMb: z.number(), usedMb: z.number() }),
    backup: z.object({ totalMb: z.number(), usedMb: z.number() }).nullable(),
  }),
  /** Complete backups on the backup volume, oldest first. */
  backups: z.array(
    z.object({
      id: z.string(),
      gtidSet: z.string(),
      /** Of its plain data. */
      bytes: z.number(),
      /** What it takes on the volume; absent: the same. */
      storedBytes: z.number().optional(),
      startedAt: z.number(),
      endedAt: z.number(),
      /** When it was last started and read whole; null: never. */
      verifiedAt: z.number().nullish(),
      /** How long that took. */
      durationMs: z.number().nullish(),
      /** It must not be used, and why. */
      isBad: z.boolean().optional(),
      reason: z.string().nullish(),
      /** Of the key that opens it; null: it is not encrypted. */
      keyId: z.string().nullish(),
    }),
  ),
  /** The list of backups was read: what is not in it is not there. */
  areBackupsKnown: z.boolean().optional(),
  /** Binary logs in the archive of the backup volume; null: there is none (of ours). */
  archive: z
    .object({
      /** Unbroken runs of logs of one server_uuid, each after what its server had before. */
      spans: z.array(
        z.object({
          serverUuid: z.string(),
          fromGtids: z.string(),
          gtidSet: z.string(),
          firstAt: z.number().nullable(),
          lastAt: z.number().nullable(),
        }),
      ),
      bytes: z.number(),
      /** Of this member's own logs, not yet durable in the archive. */
      pendingBytes: z.number(),
      /** When nothing was pending for the last time. */
      archivedAt: z.number().nullable(),
      /** Why it does not go on; it is tried again. */
      error: z.object({ code: z.string(), message: z.string() }).nullable(),
      /** The last `refillArchive`; null: none in this launch; absent: it does not know that command. */
      refill: z
        .object({
          commandId: z.string(),
          /** Ordinal. */
          donor: z.number().int(),
          doneBytes: z.number(),
          /** Null while it is not known. */
          totalBytes: z.number().nullable(),
          /** Logs that were added. */
          segments: z.number().int(),
          outcome: z.enum(['running', 'done', 'failed']),
          code: z.string().nullable(),
          message: z.string().nullable(),
        })
        .nullish(),
    })
    .nullish(),
  /** Binary logs of the data volume. */
  logs: z
    .object({
      bytes: z.number(),
      /** Since when logs that are not archived stand in the way of the volume's caps: they will be purged. */
      behindSince: z.number().nullable(),
      /** When a log was last purged that a member which was waited for still needed. */
      forcedAt: z.number().nullable(),
      /** When archived logs last went that a kept backup needed: the archive's share was used up. */
      cutAt: z.number().nullable(),
    })
    .nullish(),
  /** What only this member had, kept on its volumes when it was cut off or filled anew; oldest first. */
  tails: z
    .array(
      z.object({
        id: z.string(),
        gtidSet: z.string(),
        bytes: z.number(),
        at: z.number(),
        transactions: z.number().optional(),
        /** cut: at a rejoin by trimming. rebuilt: before the member was filled anew. */
        reason: z.enum(['cut', 'rebuilt']).optional(),
        /** The volume that it lies on. */
        place: z.enum(['data', 'backup']).optional(),
        files: z.array(z.object({ name: z.string(), bytes: z.number() })).optional(),
      }),
    )
    .optional(),
  /** The long work of a command: the last one, running or ended. */
  work: z
    .object({
      commandId: z.string(),
      kind: z.enum(['backup', 'copy', 'rebuild', 'verify']),
      step: z.string(),
      startedAt: z.number().nullish(),
      doneBytes: z.number(),
      totalBytes: z.number().nullable(),
      outcome: z.enum(['running', 'done', 'failed']),
      code: z.string().nullable(),
      message: z.string().nullable(),
    })
    .nullable(),
});
export type Status = z.infer<typeof statusSchema>;
