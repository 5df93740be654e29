/**
 * What a real executor does with each command (src/executor), on the modelled mysqld: the same order of steps, the same
 * refusals, the same durable state on the data volume; the real command queue.
 */
import type { Command, CommandResult, LaunchPlan, Status } from '../../src/channel/protocol.ts';
import { PROTOCOL_VERSION } from '../../src/channel/protocol.ts';
import { delay } from '../../src/clock.ts';
import { eachGtid, type GtidSet, isGtidSubset, parseGtidSet, subtractGtidSets } from '../../src/cluster/gtid-set.ts';
import { type ErrorCode, Refusal } from '../../src/errors.ts';
import { createCommandQueue } from '../../src/executor/command-queue.ts';
import { endsPauseLease } from '../../src/executor/pause-lease.ts';
import type { Logger } from '../../src/log.ts';
import { type Backup, firstState, type Marker, type MemberState, type TrimIntent, type Volume } from './disks.ts';
import { cloneData, createData, type Data, Instance, type Servers, setRelayFlush, type Transaction } from './mysql.ts';
import type { Process } from './time.ts';

type Of<K extends Command['kind']> = Extract<Command, { kind: K }>;
type Reason = { readonly code: ErrorCode; readonly message: string };

interface Beat {
  pendingSince: number;
  stopped: boolean;
  readonly epoch: number;
  pending: Promise<void> | null;
}

const restartPausesMs = [0, 250, 1000, 4000, 8000];
const pollMs = 250;
const newsMs = 500;
/** An answer of mysqld that is older says nothing about now; a statement is given up after so long. */
const answerMs = 2500;
const statementMs = 10_000;
const stuckLookMs = 1000;
const stuckRowsMax = 20;
const fenceMs = 6000;

/** Faults of the product, planted on purpose: the simulation has to find each. */
export const mutants = [
  'skip-epoch-check',
  'skip-leader-token',
  'promote-before-applied',
  'trust-empty-volume',
  'keep-server-uuid',
  'forget-was-writable',
  'answer-before-acknowledged',
  'freeze-without-stop',
  'same-boot-id',
  'skip-order',
  'forget-tail',
  'resume-although-sealed',
] as const;
export type Mutant = (typeof mutants)[number];

export const trimSteps = ['marked', 'saved', 'cutting', 'cut', 'started', 'named'] as const;
export type TrimStep = (typeof trimSteps)[number];

export interface MemberOptions {
  readonly process: Process;
  readonly bootId: string;
  readonly servers: Servers;
  readonly plan: LaunchPlan;
  readonly data: Volume | null;
  readonly backup: Volume | null;
  readonly log: Logger;
  readonly mutants: ReadonlySet<Mutant>;
  /** How long steps take, milliseconds. */
  readonly pace: (what: 'start' | 'initialise' | 'statement' | 'copy') => number;
  readonly tell: (text: string) => void;
  /** For the checks: an empty data directory is made next. */
  readonly onInitialise: (volume: Volume) => void;
  readonly onWritable: (instance: Instance) => void;
  readonly onTrusted: (volume: Volume) => void;
  /** A trim has come so far: somebody may kill the executor here. */
  readonly onTrimStep: (step: TrimStep) => void;
}

/** Of a pause, as executor/pause-lease.ts. */
interface Lease {
  readonly instance: Instance;
  readonly epoch: number;
  readonly gtidSet: string;
}

export class SimulatedMember {
  readonly options: MemberOptions;
  readonly submit: (command: Command) => Promise<CommandResult>;
  instance: Instance | null = null;
  phase: Status['instance'] = 'none';
  #newest = { leaderToken: 0, sequence: 0, kind: 'start' };
  #refusal: Refusal | null = null;
  #reason: Reason | null = null;
  #hasSecrets = false;
  #promotedEpoch: number | null = null;
  #lease: Lease | null = null;
  #epochCommit: { readonly epoch: number; readonly promise: Promise<void> } | null = null;
  #heartbeatAt: number | null = null;
  #following: { host: string; port: number } | null = null;
  #isFrozen = false;
  #ackFlush: 'os' | 'disk' = 'os';
  #rebuiltIncarnation: string | null = null;
  #restartCount = 0;
  #work: Status['work'] = null;
  #workAbort: AbortController | null = null;
  #workEnded: Promise<void> = Promise.resolve();
  #beat: Beat | null = null;
  #facts: Partial<Status> = {};
  #factsOf: Instance | null = null;
  #factsAt = Number.NEGATIVE_INFINITY;
  /** It was sent SIGKILL and is not reaped. */
  #dying: { readonly instance: Instance; readonly since: number } | null = null;
  #sequence = 0;
  #published = '';
  readonly #listeners = new Set<(status: Status) => void>();
  readonly #queue: ReturnType<typeof createCommandQueue>;

  constructor(options: MemberOptions) {
    this.options = options;
    this.#queue = createCommandQueue({
      log: options.log,
      admit: (command) => this.#admit(command),
      isWorkTold: (id) => this.#work?.commandId === id,
      isBeside: (command) => command.kind === 'seal' && this.#hasEndedPaused(command),
      execute: async (command, signal) => {
        try {
          return await this.#execute(command, signal);
        } finally {
          this.#poll();
        }
      },
    });
    this.submit = this.#queue.submit;
    this.#takeOver();
    const poll = () => {
      this.#poll();
      options.process.clock.setTimeout(poll, pollMs);
    };
    poll();
  }

  get #marker(): Marker | null {
    return this.options.data?.marker ?? null;
  }

  get #state(): MemberState {
    return this.options.data?.state ?? firstState;
  }

  /** Throws when the disk is full and something would have to be written. */
  #update(change: Partial<MemberState>): void {
    const { data } = this.options;
    if (!data) return;
    const next = { ...data.state, ...change };
    if (JSON.stringify(next) === JSON.stringify(data.state)) return;
    data.disk.assertSpace();
    data.state = next;
  }

  #hold(reason: NonNullable<MemberState['held']>): void {
    try {
      this.#update({ held: reason });
    } catch (error) {
      this.options.log.error({ err: error }, 'cannot store a hold');
    }
  }

  /** Who writes to a disk that hangs waits. */
  async #whenDiskAnswers(signal?: AbortSignal): Promise<void> {
    while (this.options.data?.disk.condition === 'hung') await delay(this.options.process.clock, 100, signal);
  }

  /** A stopped mysqld answers no statement. */
  async #whenAnswering(instance: Instance, signal?: AbortSignal): Promise<void> {
    const { clock } = this.options.process;
    const deadline = clock.now() + statementMs;
    while (instance.isStopped && instance.isAlive) {
      if (clock.now() >= deadline) throw new Error(`no answer within ${statementMs} ms`);
      await delay(clock, 100, signal);
    }
  }

  async #whenReaped(instance: Instance, timeoutMs: number): Promise<void> {
    const { clock } = this.options.process;
    const deadline = clock.now() + timeoutMs;
    while (!instance.isReaped) {
      if (clock.now() >= deadline)
        throw new Refusal('TIMED_OUT', `mysqld was sent SIGKILL and has not ended in ${timeoutMs} ms`);
      await delay(clock, 50);
    }
  }

  #takeOver(): void {
    const { plan, data, backup } = this.options;
    const foreign = (volume: Volume | null, kind: string, persistenceId: string) =>
      volume?.marker &&
      (volume.marker.cluster !== plan.cluster ||
        volume.marker.ordinal !== plan.ordinal ||
        volume.marker.persistenceId !== persistenceId)
        ? new Refusal('VOLUME_NOT_OURS', `the ${kind} volume belongs elsewhere`)
        : null;
    if (!data || (plan.backup && !backup)) this.#refusal = new Refusal('VOLUME_NOT_OURS', 'a volume is not there');
    else {
      this.#refusal =
        foreign(data, 'data', plan.data.persistenceId) ??
        (plan.backup ? foreign(backup, 'backup', plan.backup.persistenceId) : null) ??
        (data.marker && backup && !backup.marker
          ? new Refusal('VOLUME_NOT_OURS', 'the backup volume has no marker although the data volume has one')
          : null);
    }
    const { held, wasWritable } = this.#state;
    const marker = this.#marker;
    if (this.#refusal) this.#setPhase('failed', { code: 'VOLUME_NOT_OURS', message: this.#refusal.message });
    else if (marker?.fill === 'filled' && !marker.trim && marker.incarnation !== plan.incarnation)
      this.#setPhase('failed', { code: 'INCARNATION_MISMATCH', message: `it holds ${marker.incarnation}` });
    else if (held || wasWritable) this.#setPhase('held', { code: 'HELD', message: held?.message ?? 'was writable' });
    else if (marker && marker.fill !== 'filled')
      this.#setPhase('failed', { code: 'REBUILD_UNFINISHED', message: 'filling was interrupted' });
  }

  #setPhase(phase: Status['instance'], reason: Reason | null = null): void {
    this.phase = phase;
    this.#reason = reason;
    this.changed();
  }

  #pause(what: Parameters<MemberOptions['pace']>[0], signal?: AbortSignal): Promise<void> {
    return delay(this.options.process.clock, this.options.pace(what), signal);
  }

  /** src/executor/lost-backup.ts: only the directory that was named, and only when it is empty. */
  #markBackup({ place }: Of<'takeBackupVolume'>): void {
    const { data, backup } = this.options;
    if (!data?.marker || !backup || backup.marker) return;
    if (backup.place !== place || backup.backups.length > 0)
      throw new Refusal('VOLUME_NOT_OURS', 'another directory lies where the backup volume was to be taken');
    this.#mark(backup, { ...data.marker, persistenceId: this.options.plan.backup!.persistenceId, fill: 'filled' });
    if (!this.#refusal) return;
    this.#refusal = null;
    this.#setPhase('none');
    this.#takeOver();
    throw new Refusal('VOLUME_NOT_OURS', 'the volumes were not there at the launch, and are now: send it again');
  }

  async #admit(command: Command): Promise<void> {
    if (command.kind === 'takeBackupVolume') this.#markBackup(command);
    this.#requireVolumes();
    const { leaderToken, epoch } = this.#state;
    const { mutants } = this.options;
    if (command.leaderToken < leaderToken && !mutants.has('skip-leader-token'))
      throw new Refusal('STALE_LEADER', `leader ${leaderToken} commands this member`);
    if (command.epoch < epoch && !mutants.has('skip-epoch-check'))
      throw new Refusal('STALE_EPOCH', `this member knows epoch ${epoch}`);
    this.#requireInOrder(command);
    if (!this.#marker && command.kind !== 'start' && command.kind !== 'rebuild') {
      if (command.kind === 'fence' || command.kind === 'stop') return;
      throw new Refusal('NOT_RUNNING', 'the data volume was never filled');
    }
    if (!this.#marker) return;
    const isNews = command.leaderToken > leaderToken || command.epoch > epoch;
    const remember = () =>
      this.#update({
        leaderToken: Math.max(this.#state.leaderToken, command.leaderToken),
        epoch: Math.max(this.#state.epoch, command.epoch),
      });
    if (command.kind === 'fence') {
      try {
        remember();
      } catch (error) {
        this.options.log.error({ err: error }, 'cannot store an epoch');
      }
      return;
    }
    if (isNews) await this.#whenDiskAnswers();
    remember();
  }

  /** A command that a later one of the same leader overtook on the way is not carried out. */
  #requireInOrder({ kind, leaderToken, sequence }: Command): void {
    if (this.options.mutants.has('skip-order')) return;
    if (kind === 'catchUp' || kind === 'keepLogs' || kind === 'refillArchive') return;
    const newest = this.#newest;
    if (newest.leaderToken === leaderToken && sequence < newest.sequence)
      throw new Refusal('SUPERSEDED', `a later ${newest.kind} was carried out before`);
    this.#newest = { leaderToken, sequence, kind };
  }

  #requireVolumes(): Volume {
    const { data } = this.options;
    if (this.#refusal || !data) throw this.#refusal ?? new Refusal('VOLUME_NOT_OURS', 'no volume');
    return data;
  }

  #requireInstance(): Instance {
    if (this.instance?.isAlive && this.phase === 'running') return this.instance;
    throw new Refusal('NOT_RUNNING', `mysqld is ${this.phase}`, { instance: this.phase });
  }

  async #execute(command: Command, signal: AbortSignal): Promise<CommandResult> {
    await this.#pause('statement');
    if (this.instance && command.kind !== 'fence' && command.kind !== 'stop')
      await this.#whenAnswering(this.instance, signal);
    if (endsPauseLease.has(command.kind)) this.#lease = null;
    switch (command.kind) {
      case 'start':
        return this.#start(command, signal);
      case 'stop':
        if (this.phase === 'rebuilding') this.#requireIdle();
        await this.#stop();
        return { outcome: 'done' };
      case 'fence':
        return this.#fence();
      case 'follow':
        return this.#follow(command);
      case 'freeze':
        return this.#freeze();
      case 'examine':
        return this.#examine();
      case 'thaw':
        return this.#thaw();
      case 'catchUp': {
        const instance = this.#requireInstance();
        if (!this.options.mutants.has('promote-before-applied'))
          await this.#waitExecuted(instance, command.gtidSet, command.timeoutMs, signal);
        return this.#holdings(instance);
      }
      case 'promote':
        return this.#promote(command, signal);
      case 'demote':
        return this.#demote(command);
      case 'seal':
        return this.#seal(command);
      case 'dropClients':
        return this.#dropClients();
      case 'setVoter':
        return this.#setVoter(command);
      case 'setAcknowledgements':
        return this.#setAcknowledgements(command);
      case 'keepLogs':
      case 'share':
        return { outcome: 'done' };
      case 'copy':
      case 'refillArchive':
        throw new Refusal('NOT_SUPPORTED', 'copies are not modelled');
      case 'backup':
        return this.#backup(command);
      case 'verify':
        return this.#verify(command);
      case 'removeBackup':
        return this.#removeBackup(command);
      case 'takeBackupVolume':
        return { outcome: 'done' };
      case 'rebuild':
        return this.#rebuild(command);
    }
  }

  #holdings(instance: Instance): CommandResult {
    if (!instance.isAlive) throw new Error('the session was lost');
    return {
      outcome: 'done',
      gtidExecuted: instance.data.executed.text(),
      gtidReceived: instance.data.received.text(),
      isApplierRunning: instance.applier === 'on',
    };
  }

  async #start(command: Of<'start'>, signal: AbortSignal): Promise<CommandResult> {
    const data = this.#requireVolumes();
    const { plan, mutants } = this.options;
    if (this.#work?.kind === 'rebuild' && this.#work.outcome === 'running') throw new Refusal('BUSY', 'a rebuild runs');
    this.#requireNoneDying();
    this.#hasSecrets = true;
    if (this.instance && this.phase === 'running') return this.#holdings(this.instance);
    const mayFill = command.initialise || mutants.has('trust-empty-volume');
    if (!data.marker && !mayFill)
      throw new Refusal('VOLUME_NOT_OURS', 'the data volume has no marker, and this launch may not fill it');
    const known = [plan.incarnation, this.#rebuiltIncarnation];
    if (data.marker && !known.includes(data.marker.incarnation))
      throw new Refusal('INCARNATION_MISMATCH', 'the data volume holds another incarnation');
    this.#setPhase('starting');
    try {
      if (data.marker?.fill === 'filling' || (mayFill && data.marker?.fill !== 'filled'))
        await this.#initialise(data, signal);
      this.#ackFlush = command.ackFlush ?? 'os';
      const instance = await this.#bringUp(signal);
      try {
        this.#update({ held: null, wasWritable: false });
        this.#enterRunning(instance);
      } catch (error) {
        if (this.instance === instance) this.#forget();
        instance.die();
        throw error;
      }
    } catch (error) {
      if (!signal.aborted) this.#setPhase('failed', reasonOf(error));
      throw error;
    }
    this.#update({
      leaderToken: Math.max(this.#state.leaderToken, command.leaderToken),
      epoch: Math.max(this.#state.epoch, command.epoch),
    });
    return this.#holdings(this.#requireInstance());
  }

  async #initialise(data: Volume, signal: AbortSignal): Promise<void> {
    const { plan, backup } = this.options;
    if (data.marker?.fill === 'rebuilding') throw new Refusal('REBUILD_UNFINISHED', 'a rebuild was interrupted');
    if (!data.marker && data.data) throw new Refusal('VOLUME_NOT_OURS', 'not empty');
    const { cluster, ordinal, incarnation, serverUuid, serverId } = plan;
    const about = { cluster, ordinal, incarnation, serverUuid, serverId };
    if (backup && !backup.marker)
      backup.marker = { ...about, persistenceId: plan.backup!.persistenceId, fill: 'filled' };
    data.marker = { ...about, persistenceId: plan.data.persistenceId, fill: 'filling' };
    await this.#pause('initialise', signal);
    this.options.onInitialise(data);
    data.data = createData(serverUuid);
    data.marker = { ...data.marker, fill: 'filled' };
  }

  /** mysqld comes up read-only, without replication. */
  async #bringUp(signal: AbortSignal, isFilling = false): Promise<Instance> {
    const { data, plan, servers, process } = this.options;
    const marker = this.#marker;
    if (!data || !marker) throw new Refusal('VOLUME_NOT_OURS', 'the data volume has no marker');
    if (marker.fill !== 'filled' && !isFilling) throw new Refusal('REBUILD_UNFINISHED', 'filling was interrupted');
    if (marker.trim && !isFilling) throw new Refusal('REBUILD_UNFINISHED', 'a trim was interrupted');
    if (!data.data) throw new Refusal('DATA_DIR_DAMAGED', 'there is no data directory');
    await this.#whenDiskAnswers(signal);
    await this.#pause('start', signal);
    await this.#whenDiskAnswers(signal);
    if (data.disk.holder) throw new Refusal('BUSY', 'another process holds the lock of the data volume');
    setRelayFlush(data.data, this.#ackFlush === 'disk');
    const { cluster, ordinal } = plan;
    const instance = new Instance(servers, {
      host: plan.address,
      port: plan.ports.mysql,
      data: data.data,
      disk: data.disk,
      owner: { clusterId: cluster, ordinal, incarnation: marker.incarnation },
    });
    process.onKill(() => instance.die());
    instance.isOffline = false;
    this.instance = instance;
    return instance;
  }

  #requireNoneDying(): void {
    if (this.#dying && !this.#dying.instance.isReaped)
      throw new Refusal('BUSY', 'mysqld was sent SIGKILL and has not ended yet');
  }

  #enterRunning(instance: Instance): void {
    if (this.instance !== instance || !instance.isAlive) throw new Refusal('INSTANCE_LOST', 'mysqld ended again');
    this.#setPhase('running');
  }

  /** mysqld was killed by somebody else. */
  instanceKilled(): void {
    const { instance } = this;
    if (!instance) return;
    instance.die();
    const { process } = this.options;
    const reap = () => {
      if (this.instance === instance) this.#onUncleanEnd();
    };
    instance.whenReaped(() => process.clock.setTimeout(reap, 1));
  }

  #onUncleanEnd(): void {
    const wasPrimary = this.#promotedEpoch !== null || this.#state.wasWritable;
    const wasRunning = this.phase === 'running';
    this.#forget();
    if (!wasRunning) return;
    const reason = { code: 'INSTANCE_LOST', message: 'mysqld ended by itself' } as const;
    if (wasPrimary) {
      this.#hold(reason);
      this.#setPhase('held', reason);
      return;
    }
    this.#setPhase('starting', reason);
    void this.#restartReplica();
  }

  async #restartReplica(): Promise<void> {
    while (this.phase === 'starting') {
      const pauseMs = restartPausesMs[this.#restartCount];
      if (pauseMs === undefined) return this.#setPhase('failed', { code: 'INSTANCE_FAILED', message: 'again' });
      this.#restartCount += 1;
      await delay(this.options.process.clock, pauseMs);
      try {
        await this.#queue.runExclusive(async (signal) => {
          if (this.phase !== 'starting' || this.instance) return;
          const instance = await this.#bringUp(signal);
          if (this.#following && instance.data.channel) {
            instance.startApplier();
            if (!this.#isFrozen) instance.startReceiver();
          }
          this.#enterRunning(instance);
        });
      } catch (error) {
        if (this.phase !== 'starting') return;
        this.#reason = reasonOf(error);
        this.changed();
      }
    }
  }

  #forget(): void {
    this.instance = null;
    this.#promotedEpoch = null;
    this.#epochCommit = null;
    this.#heartbeatAt = null;
    this.#stopHeartbeat();
  }

  async #fence(): Promise<CommandResult> {
    this.#requireVolumes();
    const { instance } = this;
    this.#workAbort?.abort(new Refusal('SUPERSEDED', 'a fence overtook it'));
    this.#forget();
    const reason = { code: 'HELD', message: 'fenced on command' } as const;
    const killed = instance ?? this.#dying?.instance ?? null;
    instance?.die();
    if (instance && !instance.isReaped) this.#dying = { instance, since: this.options.process.clock.now() };
    if (this.#marker) this.#hold(reason);
    this.#setPhase('held', reason);
    await this.#pause('statement');
    if (killed) await this.#whenReaped(killed, fenceMs);
    return { outcome: 'done' };
  }

  #examine(): CommandResult {
    const { data } = this.#requireVolumes();
    if (this.instance || this.#work?.outcome === 'running') throw new Refusal('BUSY', `mysqld is ${this.phase}`);
    if (!data || this.#marker?.fill !== 'filled') throw new Refusal('REBUILD_UNFINISHED', 'the data are not whole');
    return { outcome: 'done', gtidLogged: data.flushed.text() };
  }

  async #stop(): Promise<void> {
    const { instance } = this;
    if (!instance) {
      if (this.phase !== 'held' && this.phase !== 'failed') this.#setStopped();
      return;
    }
    const isAnswering = instance.isAble;
    if (isAnswering) instance.setOffline(true);
    const isClean = isAnswering && instance.waitingCommits === 0;
    this.#forget();
    instance.die();
    await this.#whenReaped(instance, 300_000);
    if (isClean) this.#update({ wasWritable: false });
    this.#setStopped();
  }

  #setStopped(): void {
    this.#setPhase('stopped', { code: 'STOPPED', message: 'stopped on command' });
  }

  async #follow({ source }: Of<'follow'>): Promise<CommandResult> {
    const instance = this.#requireInstance();
    if (!instance.isReadOnly) throw new Refusal('IS_WRITABLE', 'a writable member follows nobody');
    await this.#withdraw(instance);
    instance.setSource(0);
    await this.#pause('statement');
    this.#assertRuns(instance);
    const { channel } = instance.data;
    if (!channel) {
      instance.changeSource(source.host, source.port);
    } else if (channel.host !== source.host || channel.port !== source.port || instance.receiver !== 'on') {
      instance.startApplier();
      instance.stopReceiver();
      await this.#pause('statement');
      this.#assertRuns(instance);
      instance.changeSource(source.host, source.port);
    }
    instance.startApplier();
    instance.startReceiver();
    this.#following = source;
    this.#isFrozen = false;
    return this.#holdings(instance);
  }

  #assertRuns(instance: Instance): void {
    if (!instance.isAlive) throw new Error('the session was lost');
  }

  async #freeze(): Promise<CommandResult> {
    const instance = this.#requireInstance();
    this.#isFrozen = true;
    if (!this.options.mutants.has('freeze-without-stop')) instance.stopReceiver();
    if (instance.applier === 'off') instance.startApplier();
    await this.#pause('statement');
    return this.#holdings(instance);
  }

  async #thaw(): Promise<CommandResult> {
    const instance = this.#requireInstance();
    instance.startReceiver();
    this.#isFrozen = false;
    return this.#holdings(instance);
  }

  async #waitExecuted(instance: Instance, set: string, timeoutMs: number, signal: AbortSignal): Promise<void> {
    const { clock } = this.options.process;
    const deadline = clock.now() + timeoutMs;
    const wanted = parseGtidSet(set);
    for (let pauseMs = 1; ; pauseMs = Math.min(20, pauseMs * 2)) {
      await this.#whenAnswering(instance, signal);
      this.#assertRuns(instance);
      if (isGtidSubset(wanted, parseGtidSet(instance.data.executed.text()))) return;
      if (clock.now() >= deadline) throw new Refusal('TIMED_OUT', `not everything was applied in ${timeoutMs} ms`);
      await delay(clock, pauseMs, signal);
    }
  }

  async #promote(command: Of<'promote'>, signal: AbortSignal): Promise<CommandResult> {
    const { clock } = this.options.process;
    const { mutants } = this.options;
    const instance = this.#requireInstance();
    const deadline = clock.now() + command.timeoutMs;
    const isDone = this.#promotedEpoch === command.epoch && !instance.isReadOnly;
    if (isDone && instance.k === command.k) return this.#holdings(instance);
    instance.stopReceiver();
    const hasChannel = instance.data.channel !== null;
    if (hasChannel && !mutants.has('promote-before-applied'))
      await this.#waitExecuted(instance, instance.data.received.text(), Math.max(0, deadline - clock.now()), signal);
    instance.isReplica = false;
    instance.ignoresAcknowledgements = mutants.has('answer-before-acknowledged');
    if (command.heartbeats !== undefined) this.#passOver(instance, command.heartbeats, command.epoch);
    instance.setSource(command.k);
    await this.#pause('statement', signal);
    if (!mutants.has('forget-was-writable')) this.#update({ wasWritable: true });
    this.#assertRuns(instance);
    if (instance.isReadOnly) instance.isSuperReadOnly = false;
    await this.#commitEpoch(instance, command, deadline);
    signal.throwIfAborted();
    this.#assertRuns(instance);
    instance.isSuperReadOnly = false;
    instance.isReadOnly = false;
    instance.epoch = command.epoch;
    this.options.onWritable(instance);
    this.#promotedEpoch = command.epoch;
    this.#following = null;
    this.#isFrozen = false;
    this.#startHeartbeat(instance, command.epoch);
    const answer = this.#holdings(instance);
    if (hasChannel)
      this.#queue
        .runExclusive(async () => {
          if (this.instance === instance && this.#promotedEpoch !== null) instance.resetReplication();
        })
        .catch(() => {});
    return answer;
  }

  /** As src/executor/pass-over.ts. */
  #passOver(instance: Instance, heartbeats: string, epoch: number): void {
    if (!instance.data.epochs.has(epoch - 1)) return;
    const executed = parseGtidSet(instance.data.executed.text());
    instance.passOver(eachGtid(subtractGtidSets(parseGtidSet(heartbeats), executed)));
  }

  async #commitEpoch(instance: Instance, command: Of<'promote'>, deadline: number): Promise<void> {
    if (this.#epochCommit?.epoch !== command.epoch) {
      const { epoch } = command;
      const value = `${command.member}/${this.#marker?.serverUuid}`;
      const known = [...instance.data.epochs].filter(([one]) => one >= epoch);
      if (known.length === 1 && known[0]![0] === epoch && known[0]![1] === value) return;
      if (known.length > 0) throw new Refusal('STALE_EPOCH', `Epoch ${epoch} is not free on this member.`);
      const promise = commit(instance, { kind: 'epoch', epoch, value });
      const forget = () => {
        if (this.#epochCommit?.promise === promise) this.#epochCommit = null;
      };
      this.#epochCommit = { epoch, promise };
      this.#freeStuckCommits(instance, epoch, promise);
      promise.then(forget, forget);
    }
    await this.#within(this.#epochCommit?.promise ?? Promise.resolve(), deadline, 'the epoch row');
  }

  /** As src/executor/stuck-commits.ts: a later transaction carries an acknowledgement that never comes. */
  #freeStuckCommits(instance: Instance, epoch: number, pending: Promise<unknown>): void {
    const { clock } = this.options.process;
    let waiting = 0;
    const look = () => {
      if (this.instance !== instance || waiting === stuckRowsMax) return;
      timer = clock.setTimeout(look, stuckLookMs);
      if (instance.isStopped || instance.waitingCommits === 0 || instance.clients < instance.k) return;
      waiting += 1;
      commit(instance, { kind: 'heartbeat', epoch, value: '' }).catch(() => {});
    };
    let timer = clock.setTimeout(look, stuckLookMs);
    const end = () => clock.clearTimeout(timer);
    pending.then(end, end);
  }

  async #within(work: Promise<void>, deadline: number, what: string): Promise<void> {
    const { clock } = this.options.process;
    let timer: unknown;
    const timeout = new Promise<never>((_, reject) => {
      const late = () => reject(new Refusal('TIMED_OUT', `${what} is not acknowledged by enough voters yet`));
      timer = clock.setTimeout(late, Math.max(0, deadline - clock.now()));
    });
    try {
      await Promise.race([work, timeout]);
    } finally {
      clock.clearTimeout(timer);
    }
  }

  #startHeartbeat(instance: Instance, epoch: number): void {
    if (this.#beat && !this.#beat.stopped && this.#beat.epoch === epoch) return;
    this.#stopHeartbeat();
    const beat: Beat = { stopped: false, epoch, pending: null, pendingSince: 0 };
    this.#beat = beat;
    const { clock } = this.options.process;
    const run = () => {
      if (beat.stopped || !instance.isAlive) return;
      const began = clock.now();
      this.#commitBeat(instance, beat)
        .catch(() => {})
        .finally(() => {
          if (!beat.stopped) clock.setTimeout(run, Math.max(0, 1000 - (clock.now() - began)));
        });
    };
    run();
  }

  #commitBeat(instance: Instance, beat: Beat): Promise<void> {
    if (beat.pending !== null) return beat.pending;
    const pending = commit(instance, { kind: 'heartbeat', epoch: beat.epoch, value: '' }).then(() => {
      if (!beat.stopped) this.#heartbeatAt = this.options.process.clock.now();
    });
    beat.pending = pending;
    beat.pendingSince = this.options.process.clock.now();
    const clear = () => {
      beat.pending = null;
    };
    pending.then(clear, clear);
    this.#freeStuckCommits(instance, beat.epoch, pending);
    return pending;
  }

  #stopHeartbeat(): void {
    if (this.#beat) this.#beat.stopped = true;
    this.#beat = null;
  }

  /** 'blocked': a commit still waits and nothing has changed. */
  async #setReadOnly(instance: Instance, lockWaitSeconds: number): Promise<'done' | 'blocked'> {
    if (instance.isSuperReadOnly) return 'done';
    const { clock } = this.options.process;
    instance.lock();
    const isIdle = await new Promise<boolean>((resolve) => {
      const timer = clock.setTimeout(() => resolve(false), Math.max(1, lockWaitSeconds) * 1000);
      instance.whenIdle(() => {
        clock.clearTimeout(timer);
        resolve(true);
      });
    });
    if (isIdle) {
      instance.isSuperReadOnly = true;
      instance.isReadOnly = true;
    }
    instance.unlock();
    this.#assertRuns(instance);
    return isIdle ? 'done' : 'blocked';
  }

  async #demote(command: Of<'demote'>): Promise<CommandResult> {
    const instance = this.#requireInstance();
    const promotedEpoch = this.#promotedEpoch;
    const lease = this.#lease;
    const isLeased = promotedEpoch === command.epoch || (lease?.epoch === command.epoch && lease.instance === instance);
    const leaseEndsAt = isLeased && command.leaseMs ? this.options.process.clock.now() + command.leaseMs : null;
    this.#lease = null;
    this.#stopHeartbeat();
    if ((await this.#setReadOnly(instance, command.maxPauseMs / 1000)) === 'blocked') {
      if (promotedEpoch !== null) this.#startHeartbeat(instance, promotedEpoch);
      throw new Refusal('TIMED_OUT', 'a write did not end; the member is still writable');
    }
    await this.#withdraw(instance);
    if (leaseEndsAt === null) return this.#holdings(instance);
    this.#beginLease({ instance, epoch: command.epoch, gtidSet: instance.data.executed.text() }, leaseEndsAt);
    return { ...this.#holdings(instance), hasLease: true } as CommandResult;
  }

  /** As executor/pause-lease.ts. */
  #beginLease(lease: Lease, endsAt: number): void {
    const { clock } = this.options.process;
    this.#lease = lease;
    const resume = async (signal: AbortSignal) => {
      const { instance, epoch } = lease;
      if (this.#lease !== lease) return;
      if (this.instance !== instance || this.phase !== 'running' || this.#state.epoch !== epoch) return;
      this.#update({ wasWritable: true });
      await this.#whenAnswering(instance, signal);
      await this.#pause('statement');
      this.#assertRuns(instance);
      this.#lease = null;
      this.options.tell('takes writes again: nobody ended the pause');
      instance.isSuperReadOnly = false;
      instance.isReadOnly = false;
      instance.epoch = epoch;
      this.options.onWritable(instance);
      this.#promotedEpoch = epoch;
      this.#startHeartbeat(instance, epoch);
      this.#poll();
    };
    const arm = (ms: number) => {
      clock.setTimeout(() => void this.#queue.runExclusive(resume).catch(() => this.#lease === lease && arm(1000)), ms);
    };
    arm(Math.max(0, endsAt - clock.now()));
  }

  #hasEndedPaused({ gtidSet, epoch }: Pick<Of<'seal'>, 'gtidSet' | 'epoch'>): boolean {
    const lease = this.#lease;
    if (this.instance?.isAlive === true || this.#state.wasWritable || lease?.epoch !== epoch) return false;
    return isGtidSubset(parseGtidSet(lease.gtidSet), parseGtidSet(gtidSet));
  }

  #seal({ gtidSet, epoch }: Of<'seal'>): CommandResult {
    const hasEndedPaused = this.#hasEndedPaused({ gtidSet, epoch });
    if (!this.options.mutants.has('resume-although-sealed')) this.#lease = null;
    if (hasEndedPaused) return { outcome: 'done' };
    const instance = this.#requireInstance();
    const isNoMore = isGtidSubset(parseGtidSet(instance.data.executed.text()), parseGtidSet(gtidSet));
    if (instance.isSuperReadOnly && isNoMore) return this.#holdings(instance);
    throw new Refusal('PAUSE_ENDED', 'it takes writes again');
  }

  async #withdraw(instance: Instance): Promise<void> {
    this.#stopHeartbeat();
    if ((await this.#setReadOnly(instance, 5)) === 'blocked')
      throw new Refusal('IS_WRITABLE', 'a commit of this member still waits');
    this.#promotedEpoch = null;
    this.#update({ wasWritable: false });
  }

  async #dropClients(): Promise<CommandResult> {
    const instance = this.#requireInstance();
    instance.setOffline(true);
    await this.#pause('statement');
    if (instance.isAlive) instance.setOffline(false);
    return { outcome: 'done' };
  }

  async #setVoter({ isVoter, ackFlush }: Of<'setVoter'>): Promise<CommandResult> {
    const instance = this.#requireInstance();
    this.#ackFlush = ackFlush ?? this.#ackFlush;
    if (ackFlush) setRelayFlush(instance.data, ackFlush === 'disk');
    instance.isReplica = isVoter;
    if (instance.receiver !== 'off' && instance.isAcknowledging !== isVoter) {
      instance.stopReceiver();
      await this.#pause('statement');
      if (instance.isAlive) instance.startReceiver();
    }
    return this.#holdings(instance);
  }

  async #setAcknowledgements(command: Of<'setAcknowledgements'>): Promise<CommandResult> {
    const instance = this.#requireInstance();
    if (this.#promotedEpoch !== command.epoch) throw new Refusal('NOT_PRIMARY', `not of epoch ${command.epoch}`);
    instance.setSource(command.k);
    const deadline = this.options.process.clock.now() + command.timeoutMs;
    const barrier = async () => {
      const beat = this.#beat;
      if (!beat || beat.stopped) throw new Refusal('NOT_PRIMARY', 'no heartbeat runs on this member');
      await beat.pending?.catch(() => {});
      if (beat.stopped) throw new Refusal('NOT_PRIMARY', 'the heartbeat was stopped');
      await this.#commitBeat(instance, beat);
    };
    await this.#within(barrier(), deadline, 'the barrier');
    return this.#holdings(instance);
  }

  /** As executor/long-work.ts: it gives way to whatever else is asked for. */
  async #endVerification(): Promise<void> {
    if (this.#work?.kind !== 'verify' || this.#work.outcome !== 'running') return;
    this.#workAbort?.abort(new Refusal('SUPERSEDED', 'other work goes first'));
    await this.#workEnded;
  }

  #requireIdle(): void {
    if (this.#work?.outcome === 'running') throw new Refusal('BUSY', `a ${this.#work.kind} runs`);
  }

  #beginWork(
    kind: 'backup' | 'rebuild' | 'verify',
    commandId: string,
    run: (signal: AbortSignal) => Promise<void>,
  ): CommandResult {
    const abort = new AbortController();
    const base = { kind, commandId, step: 'copying', doneBytes: 0, totalBytes: null, code: null, message: null };
    this.#work = { ...base, outcome: 'running' };
    this.#workAbort = abort;
    this.changed();
    this.#workEnded = run(abort.signal)
      .then(
        () => {
          this.#work = { ...base, step: 'done', outcome: 'done' };
        },
        (error: unknown) => {
          const { code, message } = reasonOf(error, 'COMMAND_FAILED');
          this.#work = { ...base, outcome: 'failed', code, message };
        },
      )
      .finally(() => {
        this.#workAbort = null;
        this.changed();
      });
    return { outcome: 'accepted' };
  }

  #tellDone(kind: 'backup' | 'rebuild', commandId: string): CommandResult {
    const rest = { step: 'done', doneBytes: 0, totalBytes: null, outcome: 'done', code: null, message: null } as const;
    this.#work = { kind, commandId, ...rest };
    this.changed();
    return { outcome: 'accepted' };
  }

  async #backup(command: Of<'backup'>): Promise<CommandResult> {
    const { backup } = this.options;
    this.#requireVolumes();
    if (!backup) throw new Refusal('NO_BACKUP_VOLUME', 'this member has no backup volume');
    await this.#endVerification();
    this.#requireIdle();
    if (backup.backups.some(({ id }) => id === command.backupId)) return this.#tellDone('backup', command.id);
    const room = (backup.backupsMax ?? Number.POSITIVE_INFINITY) - backup.backups.length;
    if (room < 1) throw new Refusal('BACKUP_NO_SPACE', 'there is no room', { neededBytes: 1, roomBytes: room });
    const instance = this.#requireInstance();
    const { clock } = this.options.process;
    return this.#beginWork('backup', command.id, async (signal) => {
      const startedAt = clock.now();
      await this.#pause('copy', signal);
      await this.#whenCommitted(instance, signal);
      backup.disk.assertSpace();
      const data = cloneData(instance.data, instance.data.serverUuid);
      await this.#pause('start', signal);
      const sealed: Backup = {
        id: command.backupId,
        gtidSet: data.executed.text(),
        data,
        startedAt,
        endedAt: clock.now(),
      };
      backup.backups.push(sealed);
    });
  }

  #verify(command: Of<'verify'>): CommandResult {
    this.#requireVolumes();
    this.#requireIdle();
    const found = this.options.backup?.backups.find(({ id }) => id === command.backupId);
    const { clock } = this.options.process;
    return this.#beginWork('verify', command.id, async (signal) => {
      await this.#pause('copy', signal);
      if (!found) throw new Refusal('BACKUP_DAMAGED', 'its manifest is missing or cannot be read');
      found.verifiedAt = clock.now();
    });
  }

  async #removeBackup(command: Of<'removeBackup'>): Promise<CommandResult> {
    const { backup } = this.options;
    this.#requireVolumes();
    await this.#endVerification();
    this.#requireIdle();
    if (backup) backup.backups = backup.backups.filter(({ id }) => id !== command.backupId);
    this.changed();
    return { outcome: 'done' };
  }

  /** CLONE does not end while a commit of the donor waits. */
  async #whenCommitted(donor: Instance, signal: AbortSignal): Promise<void> {
    const { clock } = this.options.process;
    const deadline = clock.now() + 600_000;
    while (donor.data.committed < donor.data.log.length) {
      this.#assertRuns(donor);
      if (clock.now() > deadline) throw new Refusal('TIMED_OUT', 'CLONE does not move');
      await delay(clock, 500, signal);
    }
    this.#assertRuns(donor);
  }

  async #rebuild(command: Of<'rebuild'>): Promise<CommandResult> {
    const data = this.#requireVolumes();
    const { backup } = this.options;
    await this.#endVerification();
    this.#requireIdle();
    this.#requireNoneDying();
    this.#hasSecrets ||= command.secrets !== undefined;
    if (command.from.kind === 'trim') return this.#trim(data, command, command.from.keep);
    const isDone = data.marker?.incarnation === command.incarnation && data.marker.fill === 'filled';
    if (isDone && this.phase === 'running') return this.#tellDone('rebuild', command.id);
    if (!this.#hasSecrets) throw new Refusal('NOT_RUNNING', 'no start command came in this launch');
    if (this.instance && !this.instance.isReadOnly)
      throw new Refusal('IS_WRITABLE', 'a writable member is not rebuilt');
    const isMeant = command.emptyPlace === undefined ? backup?.marker : command.emptyPlace === data.place;
    if (!data.marker && !(isMeant && !data.data)) throw new Refusal('VOLUME_NOT_OURS', 'the data volume has no marker');
    let from: Backup | null = null;
    if (command.from.kind === 'backup') {
      const { backupId } = command.from;
      if (!backup) throw new Refusal('NO_BACKUP_VOLUME', 'this member has no backup volume');
      from = backup.backups.find(({ id }) => id === backupId) ?? null;
      if (!from) throw new Refusal('BACKUP_DAMAGED', `there is no complete backup ${backupId}`);
    }
    const { instance } = this;
    this.#forget();
    this.#following = null;
    this.#setPhase('rebuilding');
    instance?.die();
    return this.#beginWork('rebuild', command.id, (signal) => this.#refill(data, command, from, signal));
  }

  /** Cuts the unacknowledged end of the log before the first restart: crash recovery then rolls it back (11). */
  #trim(volume: Volume, command: Of<'rebuild'>, keep: string): CommandResult {
    const refuse = (why: string) => new Refusal('TRIM_FAILED', why);
    const { marker } = volume;
    if (marker?.fill !== 'filled') throw refuse('the data volume is not whole');
    if (!this.#hasSecrets) throw new Refusal('NOT_RUNNING', 'the command brings no secrets');
    const kept = parseGtidSet(keep);
    const assertNothingErrant = (instance: Instance) => {
      if (this.options.mutants.has('forget-tail')) return;
      if (!isGtidSubset(parseGtidSet(instance.data.executed.text()), kept)) throw refuse('something errant is left');
    };
    if (this.instance && this.phase === 'running') {
      assertNothingErrant(this.instance);
      return this.#tellDone('rebuild', command.id);
    }
    const isResumed = marker.trim != null || marker.incarnation === command.incarnation;
    if (this.phase !== 'held' && !(isResumed && this.phase === 'failed'))
      throw refuse(`only a held instance is trimmed; it is ${this.phase}`);
    const reason = this.#reason;
    this.#setPhase('rebuilding');
    return this.#beginWork('rebuild', command.id, async (signal) => {
      const { incarnation, serverUuid, serverId } = command;
      const used = this.options.mutants.has('keep-server-uuid') ? marker.serverUuid : serverUuid;
      try {
        const isCut =
          marker.incarnation === incarnation ||
          (await this.#cut(volume, { ...command, serverUuid: used, kept, signal }));
        if (isCut && volume.data) volume.data = { ...volume.data, serverUuid: used };
        const instance = await this.#bringUp(signal, true);
        await this.#trimStep('started', signal);
        assertNothingErrant(instance);
        if (isCut) {
          instance.resetReplication();
          this.#mark(volume, { ...this.#marker!, incarnation, serverUuid: used, serverId, trim: null });
          this.#rebuiltIncarnation = incarnation;
          instance.owner = { ...instance.owner, incarnation };
          await this.#trimStep('named', signal);
        }
        this.#update({ held: null, wasWritable: false });
        this.#enterRunning(instance);
        this.#poll();
      } catch (error) {
        const { instance } = this;
        this.#forget();
        instance?.die();
        const { trim } = volume.marker ?? {};
        const isUntouched = volume.marker?.fill === 'filled' && (trim == null || trim.phase === 'saving');
        if (this.phase === 'rebuilding')
          if (isUntouched) this.#setPhase('held', reason);
          else this.#setPhase('failed', reasonOf(error, 'COMMAND_FAILED'));
        throw error;
      }
    });
  }

  async #trimStep(step: TrimStep, signal: AbortSignal): Promise<void> {
    this.options.onTrimStep(step);
    await this.#pause('statement', signal); // an executor that was killed goes no further
  }

  #mark(volume: Volume, marker: Marker): void {
    volume.disk.assertSpace();
    volume.marker = marker;
  }

  /** The steps of src/executor/trim.ts, each with its mark. False: nothing had to be cut. */
  async #cut(
    volume: Volume,
    to: Pick<TrimIntent, 'incarnation' | 'serverUuid' | 'serverId'> & { kept: GtidSet; signal: AbortSignal },
  ): Promise<boolean> {
    const { incarnation, serverUuid, serverId, kept, signal } = to;
    await this.#whenDiskAnswers(signal);
    const known = volume.marker?.trim ?? null;
    const mark = (phase: TrimIntent['phase']) =>
      this.#mark(volume, { ...volume.marker!, trim: { incarnation, serverUuid, serverId, phase } });
    if (known?.phase === 'cut') {
      mark('cut');
      return true;
    }
    const cut = volume.data && !this.options.mutants.has('forget-tail') && cutTail(volume.data, kept);
    if (!cut && known?.phase !== 'cutting') {
      if (known) this.#mark(volume, { ...volume.marker!, trim: null });
      return false;
    }
    if (!known || known.phase === 'saving') {
      mark('saving');
      await this.#trimStep('marked', signal);
      const place = this.options.backup?.disk.condition === 'well' ? this.options.backup : volume;
      place.disk.assertSpace();
      place.tails += 1;
      await this.#trimStep('saved', signal);
    }
    mark('cutting');
    await this.#trimStep('cutting', signal);
    if (cut) volume.data = cut;
    await this.#trimStep('cut', signal);
    mark('cut');
    return true;
  }

  async #refill(data: Volume, command: Of<'rebuild'>, from: Backup | null, signal: AbortSignal): Promise<void> {
    const { plan, servers, mutants } = this.options;
    try {
      const serverUuid = mutants.has('keep-server-uuid')
        ? (data.marker?.serverUuid ?? command.serverUuid)
        : command.serverUuid;
      const marker: Marker = {
        cluster: plan.cluster,
        ordinal: plan.ordinal,
        persistenceId: plan.data.persistenceId,
        incarnation: command.incarnation,
        serverUuid,
        serverId: command.serverId,
        fill: 'rebuilding',
      };
      await this.#whenDiskAnswers(signal);
      this.#mark(data, marker);
      const { leaderToken, epoch } = command;
      data.state = { ...data.state, leaderToken, epoch, held: null, wasWritable: false };
      data.data = null;
      await this.#pause('copy', signal);
      if (from) data.data = cloneData(from.data, serverUuid);
      else if (command.from.kind === 'clone') {
        const { host, port } = command.from.donor;
        const donor = servers.at.get(`${host}:${port}`);
        if (!donor?.isAlive || donor.isStopped || donor.isOffline || servers.net.isCut(plan.address, host))
          throw new Error('the donor cannot be reached');
        await this.#whenCommitted(donor, signal);
        if (servers.net.isCut(plan.address, host)) throw new Error('the donor was lost');
        data.data = cloneData(donor.data, serverUuid);
      }
      const instance = await this.#bringUp(signal, true);
      data.marker = { ...marker, fill: 'filled' };
      this.#rebuiltIncarnation = command.incarnation;
      this.#enterRunning(instance);
      this.#poll();
    } catch (error) {
      const { instance } = this;
      this.#forget();
      instance?.die();
      if (this.phase === 'rebuilding') this.#setPhase('failed', reasonOf(error, 'COMMAND_FAILED'));
      throw error;
    }
  }

  async shutDown(): Promise<void> {
    this.#queue.abortAll(new Refusal('SUPERSEDED', 'the task ends'));
    this.#workAbort?.abort(new Refusal('SUPERSEDED', 'the task ends'));
    await this.#workEnded;
    await this.#queue.runExclusive(() => this.#stop());
  }

  // Status.

  /** Asks mysqld: what it says now is what statuses tell until it is asked again. */
  #poll(): void {
    const { instance } = this;
    if (instance?.isAlive && !instance.isStopped && this.phase === 'running') {
      const { data } = instance;
      this.#factsAt = this.options.process.clock.now();
      this.#factsOf = instance;
      this.#facts = {
        isWritable: !instance.isReadOnly,
        gtidExecuted: data.executed.text(),
        gtidReceived: data.received.text(),
        gtidPurged: data.purged.text(),
        replication: data.channel && {
          sourceHost: data.channel.host,
          sourcePort: data.channel.port,
          receiver: instance.receiver,
          applier: instance.applier,
          receiverError: instance.receiverError,
          heardMsAgo: instance.heardMsAgo(),
          applierError: '',
        },
        lagMs: data.heartbeatAt === null ? null : Math.max(0, this.options.process.clock.now() - data.heartbeatAt),
        semiSync: {
          isSource: instance.isSource,
          k: instance.k,
          isReplica: instance.isReplica,
          clients: instance.clients,
          waitingSessions: instance.waitingCommits,
          noTx: instance.noTx,
        },
      };
    }
    this.changed();
  }

  #heartbeatPending(): Status['heartbeatPending'] {
    const beat = this.#beat;
    if (!beat?.pending || beat.stopped) return null;
    const forMs = this.options.process.clock.now() - beat.pendingSince;
    if (forMs < newsMs) return null;
    const isAnswering = this.options.process.clock.now() - this.#factsAt < answerMs;
    return {
      forMs,
      waitsForAcknowledgement: isAnswering ? (this.#facts.semiSync?.waitingSessions ?? 0) > 0 : null,
    };
  }

  #probeFailing(): Status['probeFailing'] {
    const stoppedAt = this.instance?.stoppedAt ?? null;
    const forMs = stoppedAt === null ? 0 : this.options.process.clock.now() - stoppedAt;
    return forMs < newsMs ? null : { forMs, message: 'no login' };
  }

  /** As long as nothing is proven a process that was sent SIGKILL counts as there. */
  #tellDying(): Partial<Status> {
    if (!this.#dying || this.#dying.instance.isReaped || this.phase !== 'held') return {};
    const forMs = this.options.process.clock.now() - this.#dying.since;
    const heartbeatPending = this.#facts.isWritable ? { forMs, waitsForAcknowledgement: false } : null;
    const reason = { code: 'HELD', message: 'mysqld was sent SIGKILL and has not ended yet' };
    const probeFailing = { forMs, message: 'it was sent SIGKILL' };
    return { ...this.#facts, instance: 'running', reason, heartbeatPending, probeFailing };
  }

  #volumesFound(): Status['volumesFound'] {
    const { data, backup } = this.options;
    if (!data || (this.#refusal && !(data.marker && backup && !backup.marker))) return undefined;
    const tell = ({ place, marker, isOwnDevice, ...volume }: Volume) => {
      const isEmpty = marker === null && volume.data === null && volume.backups.length === 0;
      return { place, isOwnDevice, isMarked: marker !== null, isEmpty };
    };
    return { data: tell(data), backup: backup && tell(backup) };
  }

  status(): Status {
    const { plan, backup, process } = this.options;
    const { epoch, leaderToken } = this.#state;
    const marker = this.#marker;
    const isKnown = this.instance !== null && this.instance === this.#factsOf;
    const known = isKnown ? this.#facts : {};
    return {
      version: PROTOCOL_VERSION,
      taskId: plan.taskId,
      sequence: this.#sequence,
      at: process.clock.now(),
      bootId: this.options.mutants.has('same-boot-id') ? 'boot' : this.options.bootId,
      flushesRelayLog: this.options.data?.data?.flushesRelay ?? false,
      incarnation: marker?.incarnation ?? plan.incarnation,
      serverUuid: marker?.serverUuid ?? plan.serverUuid,
      epoch,
      leaderToken,
      // Nobody may take "nothing known" for "holds nothing".
      instance: this.phase === 'running' && !isKnown ? 'starting' : this.phase,
      reason: this.#reason,
      isInitialised: marker?.fill === 'filled',
      dataPlace: this.options.data?.place ?? null,
      volumesFound: this.#volumesFound(),
      ...unknownFacts,
      ...known,
      heartbeatAt: this.#heartbeatAt,
      heartbeatPending: this.#heartbeatPending(),
      probeFailing: this.#probeFailing(),
      volumes: { data: { totalMb: 1, usedMb: 1 }, backup: null },
      backups: (backup?.backups ?? []).map(({ id, gtidSet, startedAt, endedAt, verifiedAt }) => ({
        id,
        gtidSet,
        bytes: 1,
        startedAt,
        endedAt,
        verifiedAt: verifiedAt ?? null,
      })),
      areBackupsKnown: true,
      work: this.#work,
      ...this.#tellDying(),
    };
  }

  changed(): void {
    if (!this.options.process.isAlive()) return;
    const status = this.status();
    const text = JSON.stringify({ ...status, sequence: 0, at: 0 });
    if (text === this.#published) return;
    this.#published = text;
    this.#sequence += 1;
    for (const listener of this.#listeners) listener({ ...status, sequence: this.#sequence });
  }

  listen(listener: (status: Status) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

const unknownFacts = {
  isWritable: false,
  gtidExecuted: '',
  gtidReceived: '',
  gtidPurged: '',
  replication: null,
  lagMs: null,
  semiSync: { isSource: false, k: 0, isReplica: false, clients: 0, waitingSessions: 0, noTx: 0 },
};

/** Null: nothing is to be cut. What the engine has committed is not undone by a cut. */
function cutTail(data: Data, kept: GtidSet): Data | null {
  const isKept = ({ key, n }: Transaction) => isGtidSubset(parseGtidSet(`${key}:${n}`), kept);
  const first = data.log.findIndex((one) => !isKept(one));
  if (first === -1) return null;
  if (data.log.slice(first).some(isKept)) throw new Refusal('TRIM_FAILED', 'what is to be kept stands behind it');
  if (first < data.committed) throw new Refusal('TRIM_FAILED', 'it was committed');
  const cut = data.log.slice(first);
  const held = new Set(data.held);
  for (const { id } of cut) held.delete(id);
  return { ...data, log: data.log.slice(0, first), held, flushed: data.executed.copy() };
}

function commit(
  instance: Instance,
  what: { readonly kind: 'epoch' | 'heartbeat'; readonly epoch: number; readonly value: string },
): Promise<void> {
  return new Promise((resolve, reject) => {
    instance.write({ ...what, isOurs: true }, (outcome) =>
      outcome === 'ok' ? resolve() : reject(new Error(`commit: ${outcome}`)),
    );
  });
}

function reasonOf(error: unknown, fallback: ErrorCode = 'INSTANCE_FAILED'): Reason {
  if (error instanceof Refusal) return { code: error.code, message: error.message };
  return { code: fallback, message: error instanceof Error ? error.message : String(error) };
}
