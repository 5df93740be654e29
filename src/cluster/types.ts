/**
 * What a cluster is. Words as in docs/terms.md; sizes in megabytes, times in UTC milliseconds.
 * This room is pure: no I/O, no clock, no randomness, no imports from other rooms.
 */

export type Durability = 'majority' | 'one' | 'async';
/**
 * What an acknowledgement means: the transaction is in the replica's relay log, as far as its operating system is
 * concerned (it survives every crash of processes); or on its disk (also of hosts).
 */
export type AckFlush = 'os' | 'disk';
export type DiskType = 'root' | 'path' | 'mount';
export type VolumeKind = 'data' | 'backup';

export interface VolumeSpec {
  readonly type: DiskType;
  readonly sizeMb: number;
}

/** `spread: 'agent'` (default): never two members of a cluster on one agent. `attributes`: agent attributes that must match. */
export interface PlacementSpec {
  readonly spread: 'agent' | 'none';
  readonly attributes: Readonly<Record<string, string>>;
}

/** What a team asks for, with all defaults filled in. */
export interface ClusterSpec {
  readonly name: string;
  readonly members: number;
  readonly resources: { readonly cpus: number; readonly memMb: number };
  readonly volumes: { readonly data: VolumeSpec; readonly backup: VolumeSpec | null };
  readonly durability: Durability;
  readonly ackFlush: AckFlush;
  readonly placement: PlacementSpec;
}

export interface Ports {
  readonly mysql: number;
  /** The executor's HTTPS control channel. */
  readonly control: number;
  /** The executor's plain HTTP: /primary, /replica, /health. */
  readonly health: number;
}

export interface PortRange {
  readonly begin: number;
  readonly end: number;
}

/** A disk as offered: `root` has no path; a mount disk is taken whole or not at all. */
export interface OfferedDisk {
  readonly type: DiskType;
  readonly path: string | null;
  readonly sizeMb: number;
}

/** The unreserved part of all outstanding offers of one agent, added up. */
export interface AgentOffer {
  readonly agentId: string;
  readonly hostname: string;
  readonly ip: string;
  readonly cpus: number;
  readonly memMb: number;
  readonly ports: readonly PortRange[];
  readonly disks: readonly OfferedDisk[];
  readonly attributes: Readonly<Record<string, string>>;
  /** Maintenance is scheduled for the agent: nothing new is placed there. */
  readonly isUnavailable: boolean;
}

export interface PlacedVolume {
  readonly type: DiskType;
  /** Root of the path or mount disk on the agent; null for the agent's root disk. */
  readonly path: string | null;
  /** What is really reserved: for a mount disk its whole size. */
  readonly sizeMb: number;
  /** Fresh uuid per volume incarnation; never used again after DESTROY. */
  readonly persistenceId: string;
  /** Which directory it is, as Status.volumesFound told when it last had our marker. Absent: not told yet. */
  readonly place?: string;
  readonly isOwnDevice?: boolean;
}

/** Everything that a member owns on its agent, reserved under one label set. */
export interface Bundle {
  readonly cpus: number;
  readonly memMb: number;
  readonly ports: Ports;
  readonly data: PlacedVolume & {
    /** Until it is filled, Status.dataPlace as it was first told: only this very directory may be initialised. */
    readonly place?: string;
  };
  readonly backup:
    | (PlacedVolume & {
        /** The volume before was lost: when another one was to be taken, UTC ms. A full backup is due since then. */
        readonly takenAt?: number;
        /** A person said that the volume is gone for good: the member is launched anew with another one. */
        readonly replacing?: { readonly at: number; readonly requestedBy: string };
        /** Asked of Mesos in place of that one, and not taken yet. */
        readonly isNew?: boolean;
      })
    | null;
}

/** The durable, versioned rule of who must have a transaction before its commit is acknowledged. */
export interface VoterRule {
  readonly epoch: number;
  readonly version: number;
  /** Ordinal of the primary. */
  readonly primary: number;
  /** Ordinal and incarnation of all voters, the primary among them. */
  readonly voters: readonly Voter[];
  /** Acknowledgements that a commit waits for; 0 = semi-sync off. */
  readonly k: number;
  /** GTID set that the primary held when it was chosen: everything of earlier epochs. Absent = nothing. */
  readonly base?: string | undefined;
}

export interface Voter {
  readonly ordinal: number;
  readonly incarnation: string;
  /**
   * Boot id of its host when it became a voter. An acknowledgement is not flushed to disk: a host that restarted may
   * have forgotten what it acknowledged, and is another voter. Absent where acknowledgements are flushed.
   */
  readonly bootId?: string | undefined;
}

/** Derived, never stored to decide. docs/states.md explains each. */
export type ClusterState =
  | 'creating'
  | 'ready'
  | 'degraded'
  | 'failing-over'
  | 'blocked'
  | 'retaining'
  | 'retained'
  | 'deleting'
  | 'deleted';

/** A person's word on who becomes the primary; the guards of safety come first. */
export type Preference = 'prefer' | 'neutral' | 'never';
/** By ordinal; who is not named is neutral. */
export type Preferences = Readonly<Record<string, Preference>>;

export type MemberRole = 'primary' | 'replica' | 'none';

export interface Condition {
  readonly type: string;
  readonly since: number;
  readonly reason: string;
  readonly message: string;
}
