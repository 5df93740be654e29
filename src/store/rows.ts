/**
 * The control plane's facts, as the rest of the program sees them. One type a table; the functions beside this file
 * read and write them. Times are UTC milliseconds, JSON columns are parsed and validated at the row boundary.
 * Rows are tombstoned, never deleted: absence of a row is never a reason to destroy anything.
 */
import type { BackupPolicy } from '../cluster/backup-policy.ts';
import type { Origin } from '../cluster/recovery.ts';
import type { Bundle, ClusterSpec, Preferences, VoterRule } from '../cluster/types.ts';

/** Proof of leadership: every function that changes facts takes it and fails with STALE_LEADER when a newer leader exists. */
export interface Leader {
  readonly token: number;
}

export interface ClusterRow {
  readonly id: string;
  readonly name: string;
  readonly spec: ClusterSpec;
  /**
   * 'deleted' is a person's intent; deletedAt says when nothing was left. The name is free again from then on.
   * 'retained': deleted but for its volumes and reservations, until a person purges it.
   */
  readonly desired: 'present' | 'retained' | 'deleted';
  readonly createdAt: number;
  readonly deletedAt: number | null;
  /** 0 until the first primary. Epoch, primary and voters change together, by compare-and-set on epoch and rule version. */
  readonly epoch: number;
  readonly primary: number | null;
  readonly rule: VoterRule | null;
  /** When the primary of this epoch was first seen writable; endpoints are announced from then on. */
  readonly activatedAt: number | null;
  /** A person's word on what happens by itself; `off` with `until` ends by itself. */
  readonly automation: 'on' | 'off';
  readonly automationUntil: number | null;
  /** No automatic failover begins before; null when none happened lately. */
  readonly cooldownUntil: number | null;
  readonly preferences: Preferences;
  /** Null: it began empty. */
  readonly origin: Origin | null;
  /** Null: nobody ever asked to keep its volumes. */
  readonly retained: Retained | null;
  readonly backupPolicy: BackupPolicy;
  /** When a person said so; null: it is the default, and runs count from the cluster's creation. */
  readonly backupPolicyAt: number | null;
  /** Of the cluster for life: `selvedge proxy` gives the primary there. null when nothing is left of the cluster. */
  readonly servicePort: number | null;
}

/** The end of a cluster whose volumes are kept. Each fact is there from when it is known. */
export interface Retained {
  /** When a person asked for it. */
  readonly since: number;
  readonly requestedBy: string;
  /** All that it had acknowledged when nobody could write any more: nothing else gets into a copy. */
  readonly within?: string;
  /** The primary said so after its last write. False: it is what was known of it, and what its replicas had received. */
  readonly isExact?: boolean;
  /** mysqld of every member that was reached has ended, and the archives have what they could get. */
  readonly endedAt?: number;
  /** As GET recovery-window shows it, as of `endedAt`. */
  readonly window?: {
    readonly from: number | null;
    readonly to: number | null;
    readonly backupId: string | null;
    /** Acknowledged, and in no archive. */
    readonly missing: string;
  };
  /** No task was left. */
  readonly downAt?: number;
}

export interface MemberRow {
  readonly clusterId: string;
  readonly ordinal: number;
  readonly desired: 'present' | 'gone';
  readonly incarnation: string;
  readonly serverUuid: string;
  readonly serverId: number;
  /** The data volume of this incarnation was filled; from then on no launch may initialise it. */
  readonly initialisedAt: number | null;
  /** Current reservation attempt; null before the first and after release. */
  readonly bundleId: string | null;
  /** Current or last launch. */
  readonly taskId: string | null;
  /** Display only. */
  readonly phase: string;
  readonly failures: number;
  readonly retryAt: number | null;
}

/**
 * One reservation attempt; its id is the label `selvedge.reservation`. intended: the ACCEPT may or may not have been
 * sent or carried out. reserved: seen whole (task running or offer). releasing: a person's or an aborted attempt's
 * intent to DESTROY and UNRESERVE, for these very persistence ids. released: tombstone.
 */
export interface BundleRow {
  readonly id: string;
  readonly clusterId: string;
  readonly ordinal: number;
  readonly state: 'intended' | 'reserved' | 'releasing' | 'released';
  readonly agentId: string;
  readonly hostname: string;
  readonly ip: string;
  readonly bundle: Bundle;
  /** Mesos resources as they were reserved, volumes included, without allocation_info: the exact objects to repeat. */
  readonly resources: readonly unknown[];
  readonly createdAt: number;
  readonly lastSeenAt: number | null;
  readonly releaseReason: string | null;
  readonly releasedAt: number | null;
}

export interface LaunchRow {
  readonly taskId: string;
  readonly clusterId: string;
  readonly ordinal: number;
  readonly bundleId: string;
  /** Agent that the task was sent to (reconciliation needs it). */
  readonly agentId: string;
  /** Encrypted at rest; the executor knows only its SHA-256. */
  readonly token: string;
  readonly createdAt: number;
  /** Mesos' state, 'INTENDED' before any update. */
  readonly taskState: string;
  readonly taskReason: string | null;
  readonly taskMessage: string | null;
  readonly fingerprint: string | null;
  /** Set on a terminal state: the container has ended. */
  readonly endedAt: number | null;
}

/** One step of a failover, as people and the benchmarks read it. */
export interface Step {
  readonly name: string;
  readonly at: number;
  readonly detail?: string;
}

export interface FailoverRow {
  readonly id: string;
  readonly clusterId: string;
  /** first: the first primary of a new cluster; resume: the same primary takes up again in its epoch. */
  readonly kind: 'first' | 'failover' | 'switchover';
  readonly reason: string;
  readonly requestedBy: string;
  readonly candidate: number | null;
  readonly fromPrimary: number | null;
  readonly toPrimary: number | null;
  readonly fromEpoch: number;
  readonly outcome: 'open' | 'done' | 'refused' | 'aborted';
  readonly refusal: {
    readonly code: string;
    readonly message: string;
    readonly facts?: Readonly<Record<string, unknown>> | undefined;
  } | null;
  readonly options: FailoverOptions;
  /** Facts that the machine resumes from: what was frozen, chosen, committed. Stored before the machine moves on. */
  readonly facts: FailoverFacts;
  readonly steps: readonly Step[];
  readonly startedAt: number;
  readonly endedAt: number | null;
}

/** What a person asked for beyond the kind. */
export interface FailoverOptions {
  /** Fail over although the primary is alive; switch over although a long transaction is ended by it. */
  readonly force?: boolean | undefined;
  /** The statement of a loss, quoted from a refusal or a dry run. */
  readonly acceptedLoss?: string | undefined;
  /** Switchover: the longest time without writes; running writers are ended then. Default 5000. */
  readonly maxPauseMs?: number | undefined;
}

export interface FailoverFacts {
  /** Evidence per layer that the old primary cannot acknowledge any more. */
  readonly fence?: {
    readonly layer: 'executor' | 'mesos' | 'quorum' | 'demoted' | 'none';
    readonly detail: string;
    readonly at: number;
  };
  /** What each reached member holds: received union executed. */
  readonly reached?: readonly {
    readonly ordinal: number;
    readonly incarnation: string;
    readonly bootId?: string | undefined;
    readonly gtid: string;
    readonly isApplierRunning: boolean;
  }[];
  /** Switchover: from when on writes may have been paused. Stored before they are. */
  readonly pauseBeganAt?: number;
  /** Switchover: the old primary ends the pause by itself unless it is sealed before the commit point. */
  readonly hasLease?: boolean;
  readonly chosen?: number;
  /** All that the old primary ever logged, read from its binary logs after its mysqld was reaped: its final set. */
  readonly postMortem?: { readonly gtid: string; readonly at: number };
  /** The best informed member may not become the primary: the chosen one first catches up from it. */
  readonly catchUpFrom?: number;
  readonly caughtUpAt?: number;
  /** Before the commit point it was begun to undo it. */
  readonly takenBackAt?: number;
  /** The commit point: epoch, primary and rule are in the cluster's row. */
  readonly committedAt?: number;
  readonly activatedAt?: number;
}

/** removing: a person's or the policy's intent. removed: a tombstone. */
export interface BackupRow {
  readonly id: string;
  readonly clusterId: string;
  readonly ordinal: number;
  readonly state: 'open' | 'complete' | 'failed' | 'removing' | 'removed';
  readonly requestedBy: string;
  readonly startedAt: number;
  readonly endedAt: number | null;
  readonly gtidSet: string | null;
  readonly bytes: number | null;
  readonly code: string | null;
  readonly message: string | null;
  /** The run of the schedule that it belongs to; null: asked for by hand. */
  readonly dueAt: number | null;
  /** When it was last started and read whole. */
  readonly verifiedAt: number | null;
  /** It must not be used, and why. */
  readonly badReason: string | null;
  readonly removalReason: string | null;
}

/** Starting and reading one sealed backup. */
export interface VerificationRow {
  readonly id: string;
  readonly clusterId: string;
  readonly ordinal: number;
  readonly backupId: string;
  readonly state: 'open' | 'done' | 'failed';
  readonly requestedBy: string;
  readonly startedAt: number;
  readonly endedAt: number | null;
  readonly code: string | null;
  readonly message: string | null;
}

/** Filling a member's data volume anew on its own agent. The new incarnation is chosen and stored before anything is touched. */
export interface RebuildRow {
  readonly id: string;
  readonly clusterId: string;
  readonly ordinal: number;
  readonly state: 'open' | 'done' | 'failed';
  readonly reason: string;
  readonly requestedBy: string;
  readonly incarnation: string;
  readonly serverUuid: string;
  readonly serverId: number;
  /** A person gives up what only this member has when it cannot be saved. */
  readonly isForced: boolean;
  /** `backup:<id>` or `clone:<donor ordinal>`; null until chosen. */
  readonly way: string | null;
  /** Times that the way was tried; bounded. */
  readonly attempts: number;
  readonly startedAt: number;
  readonly endedAt: number | null;
  readonly code: string | null;
  readonly message: string | null;
}

/** A cluster led back in place to a state of its past (controller/restore-actors.ts). */
export interface RestoreRow {
  readonly id: string;
  readonly clusterId: string;
  /** refused: it was taken back, everything is as before. */
  readonly state: 'open' | 'done' | 'refused';
  readonly requestedBy: string;
  readonly origin: Origin;
  /** The member that is filled and becomes the primary; its new identity was chosen when it was asked for. */
  readonly ordinal: number;
  readonly incarnation: string;
  readonly serverUuid: string;
  readonly serverId: number;
  readonly safetyBackupId: string;
  /** A person goes on without the safety backup when it cannot be made. */
  readonly isForced: boolean;
  /** The epoch that it ends; null before `fencingAt`. */
  readonly fromEpoch: number | null;
  /** From then on, in that epoch, nothing else changes the cluster. Null: nothing was touched. */
  readonly fencingAt: number | null;
  readonly facts: RestoreFacts;
  readonly steps: readonly Step[];
  /** Of filling the member. */
  readonly attempts: number;
  readonly startedAt: number;
  readonly endedAt: number | null;
  readonly code: string | null;
  readonly message: string | null;
}

/** What the machine resumes from; each is stored before it moves on. */
export interface RestoreFacts {
  /** `backup` null: none could be made, and a person wanted to go on. */
  readonly safety?: { readonly backup: string | null; readonly detail: string };
  /** All that the primary had when it could take no more writes: the history that is left. */
  readonly held?: string;
  readonly fencedAt?: number;
  /** Before the first command that may touch the data volume is sent. */
  readonly fillingAt?: number;
  /** What the filled member holds. */
  readonly gtidSet?: string;
  /** It is being taken back, and why. */
  readonly undoing?: { readonly code: string; readonly message: string } | null;
}

export interface EventRow {
  readonly seq: number;
  readonly at: number;
  /** From events.ts. */
  readonly kind: string;
  readonly clusterId: string | null;
  readonly cluster: string | null;
  readonly ordinal: number | null;
  readonly message: string;
  readonly data: Readonly<Record<string, unknown>>;
}

export interface Account {
  readonly user: string;
  readonly password: string;
}

/** Encrypted at rest; read where it is used, never logged. */
export interface ClusterSecrets {
  readonly team: Account;
  readonly replication: Account;
  readonly clone: Account;
  /** The cluster's own certificate authority. */
  readonly caCertPem: string;
  readonly caKeyPem: string;
  /** Hex of 32 bytes, from when backups are to be encrypted. It never changes: older backups open with it. */
  readonly backupKey?: string;
}
