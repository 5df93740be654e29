/** What the parts of one member share. Mutable on purpose: it is the one place of the executor's own facts. */
import type { LaunchPlan, MemberSecrets, Status } from '../channel/protocol.ts';
import type { Clock } from '../clock.ts';
import { type ErrorCode, Refusal } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { Distribution } from '../mysql/distribution.ts';
import type { Archiver } from './archive.ts';
import type { RunningInstance } from './instance.ts';
import type { LogKeeper } from './log-keeper.ts';
import type { MemberPaths } from './member-files.ts';
import type { MemberStateFile } from './member-state.ts';
import type { MysqldProcess } from './mysqld-process.ts';
import type { PauseLease } from './pause-lease.ts';
import type { Refiller } from './refill.ts';
import type { Shares } from './shares.ts';
import type { Marker, Volume } from './volumes.ts';

export type Reason = { readonly code: ErrorCode; readonly message: string };
export type Work = NonNullable<Status['work']>;
export type BackupEntry = Status['backups'][number];
export type TailEntry = NonNullable<Status['tails']>[number];

export interface MemberContext {
  readonly plan: LaunchPlan;
  readonly clock: Clock;
  readonly log: Logger;
  readonly newId: () => string;
  readonly cacheDir: string;
  readonly sandbox: string;
  readonly bootId: string;
  findDistribution(): Promise<Distribution>;
  /** Null when the volumes are not ours; `refusal` says why, and every command is refused with it. */
  volumes: { readonly data: Volume; readonly backup: Volume | null } | null;
  refusal: Refusal | null;
  paths: MemberPaths;
  /** That commands brought in this launch. */
  readonly backupKeys: Map<string, Buffer>;
  /** Who may read its backups and archive. */
  readonly shares: Shares;
  state: MemberStateFile;
  /** Of the data volume; null: unmarked. */
  marker: Marker | null;
  backupMarker: Marker | null;
  /** The data volume is ours, and the backup volume beside it has no marker: lost-backup.ts. */
  isBackupLost: boolean;
  /** Unmarked volumes with nothing in them, as of the last look. */
  free: { readonly data: boolean; readonly backup: boolean };

  /** Made by a rebuild in this launch, whose plan names the one before. */
  rebuiltIncarnation: string | null;

  phase: Status['instance'];
  reason: Reason | null;
  secrets: MemberSecrets | null;
  instance: RunningInstance | null;
  /** The mysqld that is starting or running on the data volume: what a fence kills. */
  process: MysqldProcess | null;
  /** One that was sent SIGKILL and is not reaped yet. */
  dying: { readonly process: MysqldProcess; readonly since: number } | null;
  /** Epoch in which this member was made writable and is still. */
  promotedEpoch: number | null;
  /** The pause of a switchover, as long as this member may end it by itself. */
  pauseLease: PauseLease | null;
  /** The last command that was carried out: an older one of the same leader is refused. */
  newest: { readonly leaderToken: number; readonly sequence: number; readonly kind: string };
  /** A first transaction of an epoch that waits for its acknowledgements. */
  epochCommit: { readonly epoch: number; readonly promise: Promise<void> } | null;
  heartbeatAt: number | null;
  /** What `follow` said in this launch; a replica that is started again by itself goes on with it. */
  following: { readonly host: string; readonly port: number } | null;
  isFrozen: boolean;
  isVoter: boolean;
  /** As told last; a replica that is started again by itself goes on with it. */
  ackFlush: 'os' | 'disk';
  /** All that this instance had received is on disk, and mysqld was told to flush what it receives. */
  areRelayLogsFlushed: boolean;
  /** Unclean ends in a row that were mended here. */
  restartCount: number;
  /** Of those, crashes: mysqld's own failures, not a kill. */
  crashCount: number;
  /** Crashes in a row of an mysqld that was starting. */
  startCrashCount: number;
  /** Damage of the data of the instance that runs. A primary goes on with it until another one takes over. */
  liveDamage: Reason | null;
  /** Ends when it is known whether the last instance ended on damaged data. Never rejects. */
  endLook: Promise<void>;
  archive: Archiver;
  refiller: Refiller;
  logKeeper: LogKeeper;
  backups: readonly BackupEntry[];
  /** The list was read in this launch. */
  areBackupsKnown: boolean;
  /** Found to be damaged in this launch, by id, and why: also where no mark could be written. */
  readonly badBackups: Map<string, string>;
  tails: readonly TailEntry[];
  work: Work | null;
  /** Ends the long work that runs. */
  workAbort: AbortController | null;
  /** Resolves when the last long work has ended and cleaned up behind itself. Never rejects. */
  workEnded: Promise<void>;

  /** Runs in the order of commands. */
  runExclusive<T>(run: (signal: AbortSignal) => Promise<T>): Promise<T>;
  /** Publishes what is known now. */
  changed(): void;
  /** Asks the instance and publishes. Never throws. */
  refresh(): Promise<void>;
  /** Tells Mesos: a wake-up for the scheduler. */
  wakeScheduler(): void;
}

/** The running instance; throws NOT_RUNNING with the reason why there is none. */
export function requireInstance(context: MemberContext): RunningInstance {
  if (context.instance && context.phase === 'running') return context.instance;
  const why = context.reason ? `: ${context.reason.message}` : '';
  throw new Refusal('NOT_RUNNING', `mysqld is ${context.phase}${why}`, { instance: context.phase });
}

/** Volumes that are ours; throws the refusal found at the start otherwise. */
export function requireVolumes(context: MemberContext): { readonly data: Volume; readonly backup: Volume | null } {
  if (context.volumes && !context.refusal) return context.volumes;
  throw context.refusal ?? new Refusal('VOLUME_NOT_OURS', 'the volumes were not found');
}

export function setPhase(context: MemberContext, phase: Status['instance'], reason: Reason | null = null): void {
  context.phase = phase;
  context.reason = reason;
  context.changed();
}

/** Code and sentence of an error, for `reason`. */
export function reasonOf(error: unknown, fallback: ErrorCode = 'INSTANCE_FAILED'): Reason {
  if (error instanceof Refusal) return { code: error.code, message: error.message };
  return { code: fallback, message: error instanceof Error ? error.message : String(error) };
}
