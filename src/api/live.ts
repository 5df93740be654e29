/**
 * What the API shows besides the store's rows: the controller's memory. main implements it, so that neither room
 * imports the other. All functions answer at once and never throw.
 */
import type { Stage } from '../cluster/placement.ts';
import type { BackupOption, Until } from '../cluster/recovery.ts';
import type { RestorePlan } from '../cluster/restore-plan.ts';
import type { ClusterSpec, ClusterState, Condition, OfferedDisk, PortRange } from '../cluster/types.ts';

export interface LiveState {
  readonly state: ClusterState;
  /** Why it is not simply ready, with reasons; the heaviest first. */
  readonly conditions: readonly Condition[];
}

export interface VolumeFill {
  readonly totalMb: number;
  readonly usedMb: number;
}

/** `id` names its directory: `tails/<id>` on the backup volume, or on the data volume. */
export interface LiveTail {
  readonly id: string;
  readonly gtidSet: string;
  readonly bytes: number;
  readonly at: number;
  readonly transactions?: number | undefined;
  /** Cut off at a rejoin, or kept before the member was filled anew. */
  readonly reason?: 'cut' | 'rebuilt' | undefined;
  readonly place?: 'data' | 'backup' | undefined;
  readonly files?: readonly { readonly name: string; readonly bytes: number }[] | undefined;
}

/** `percent` and `etaMs`: null while nobody can tell. */
export interface LiveWork {
  readonly commandId: string;
  readonly isRunning: boolean;
  readonly step: string;
  readonly doneBytes: number;
  readonly totalBytes: number | null;
  readonly percent: number | null;
  readonly etaMs: number | null;
}

export interface LiveMember {
  /** Of the control channel's `Status.instance`; 'unknown' when the executor is not reached. */
  readonly instance: 'none' | 'starting' | 'running' | 'held' | 'stopped' | 'rebuilding' | 'failed' | 'unknown';
  readonly isWritable: boolean;
  readonly gtidExecuted: string | null;
  readonly lagMs: number | null;
  readonly volumes: { readonly data: VolumeFill | null; readonly backup: VolumeFill | null };
  readonly taskState: string | null;
  /** Its long work: the last one, running or ended; absent: none is known. */
  readonly work?: LiveWork | null;
  /** Tails that were cut off here and are kept on its volumes, oldest first; absent: none are known. */
  readonly tails?: readonly LiveTail[];
  /** Why it does not run or follow, for people. */
  readonly message?: string | null;
}

export interface LiveOffer {
  readonly agentId: string;
  readonly hostname: string;
  readonly offerIds: readonly string[];
  readonly receivedAt: number;
  readonly cpus: number;
  readonly memMb: number;
  readonly ports: readonly PortRange[];
  readonly disks: readonly OfferedDisk[];
  /** What was tried on it, newest last; empty when nobody waited for a place. */
  readonly tried: readonly {
    readonly clusterId: string;
    readonly cluster: string;
    readonly ordinal: number;
    readonly outcome: 'placed' | 'refused';
    readonly stages: readonly Stage[];
  }[];
}

export interface DryRun {
  readonly placed: readonly { readonly ordinal: number; readonly agentId: string; readonly hostname: string }[];
  readonly refused: readonly {
    readonly ordinal: number;
    /** Why not, for each agent with an offer. */
    readonly agents: readonly {
      readonly agentId: string;
      readonly hostname: string;
      readonly stages: readonly Stage[];
    }[];
  }[];
  /** Set when no known agent, even empty, could ever hold a member: why. */
  readonly neverFits?: string;
}

export interface LiveChange {
  readonly clusterId: string;
  readonly kind: string;
}

export interface ChangeRequest {
  readonly kind: 'failover' | 'switchover';
  readonly candidate?: number | undefined;
  readonly force?: boolean | undefined;
  readonly acceptedLoss?: string | undefined;
  readonly maxPauseMs?: number | undefined;
}

type Refused = { readonly code: string; readonly message: string; readonly facts?: Readonly<Record<string, unknown>> };

/** What a change of the primary would do now. */
export interface ChangePlan {
  readonly kind: 'failover' | 'switchover';
  readonly candidate: number | null;
  readonly refusal: Refused | null;
  readonly warnings: readonly string[];
  readonly steps: readonly { readonly name: string; readonly member: number | null; readonly what: string }[];
  readonly predictedMs: number | null;
}

/** "If the primary died now", computed at every look. */
export interface LiveRehearsal {
  readonly candidate: number | null;
  readonly refusal: Refused | null;
  readonly predictedMs: number | null;
  readonly couldLose: number;
}

/** What of an archive of binary logs is on one member's backup volume. Times are UTC milliseconds. */
export interface LiveArchive {
  readonly spans: readonly {
    readonly serverUuid: string;
    readonly fromGtids: string;
    readonly gtidSet: string;
    readonly firstAt: number | null;
    readonly lastAt: number | null;
  }[];
  readonly bytes: number;
  readonly pendingBytes: number;
  readonly archivedAt: number | null;
  readonly error: { readonly code: string; readonly message: string } | null;
}

/** To which moments a cluster can be restored. */
export interface LiveRecoveryWindow {
  readonly from: number | null;
  readonly backupId: string | null;
  readonly to: number | null;
  readonly rpoMs: number;
  readonly missing: string;
  readonly gap: string;
  readonly members: readonly {
    readonly ordinal: number;
    readonly archive: LiveArchive | null;
    readonly isWrittenOff: boolean;
  }[];
}

export interface LiveView {
  /** Subscribed to a Mesos master and leading. */
  isConnected(): boolean;
  /** null for a cluster that the controller has not looked at yet. Nothing is touched. */
  plan(clusterId: string, request: ChangeRequest): ChangePlan | null;
  /** null before the first primary and with a single member. */
  rehearsal(clusterId: string): LiveRehearsal | null;
  /** What its voters should be and cannot become yet, as `member 1 to catch up`. */
  voterWaits(clusterId: string): readonly string[];
  /** null for a cluster that the controller has not looked at yet. */
  state(clusterId: string): LiveState | null;
  member(clusterId: string, ordinal: number): LiveMember | null;
  /** null without backup volumes, or for a cluster that the controller has not looked at yet. */
  recoveryWindow(clusterId: string): LiveRecoveryWindow | null;
  offers(): readonly LiveOffer[];
  /**
   * What a copy of the cluster could be made from: backups on its members' volumes, and the set that its primary was
   * last seen to have executed (null: never). null for a cluster that the controller has not looked at yet.
   */
  copyOptions(clusterId: string): { readonly backups: readonly BackupOption[]; readonly within: string | null } | null;
  /**
   * How the cluster could be led back in place. `left`: histories that it left in earlier restores. null when what it has
   * acknowledged is not known.
   */
  planRestore(
    clusterId: string,
    wanted: { readonly until: Until; readonly backupId: string | undefined; readonly left: readonly string[] },
  ): RestorePlan | null;
  /** Where the members would go now; nothing is reserved. */
  place(spec: ClusterSpec): DryRun;
  /** Tells of changes; may tell too much or too little, readers look again by themselves. Answers the way to end it. */
  subscribe(listener: (change: LiveChange) => void): () => void;
  /** In Prometheus' text format. */
  metrics(): string;
}
