/** One member on its agent: commands in, statuses out. Puts the parts together; each rule is in its part. */
import { readFile, rm } from 'node:fs/promises';
import type { Command, CommandResult, LaunchPlan, Status } from '../channel/protocol.ts';
import type { Clock } from '../clock.ts';
import { Refusal } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { Distribution } from '../mysql/distribution.ts';
import { noArchiver, startArchiver } from './archive.ts';
import { backup, refreshBackups, removeBackup } from './backup.ts';
import { learnKey } from './backup-keys.ts';
import { besideKinds, type CommandQueue, createCommandQueue } from './command-queue.ts';
import { damageOf } from './damage.ts';
import { examine } from './examine.ts';
import type { HealthFacts } from './health-server.ts';
import { fence, start, stop } from './lifecycle.ts';
import { noLogKeeper, startLogKeeper } from './log-keeper.ts';
import { requireIdle } from './long-work.ts';
import { type FoundVolumes, lookAtVolumes } from './look-at-volumes.ts';
import { markBackupVolume, requireBackupVolume, takeBackupVolume } from './lost-backup.ts';
import { removePartialBackups } from './manifest.ts';
import { type MemberContext, reasonOf, requireVolumes, setPhase } from './member-context.ts';
import { pathsOf } from './member-files.ts';
import { requireNewest } from './member-state.ts';
import { endPauseLease, endsPauseLease, hasEndedPaused } from './pause-lease.ts';
import { rebuild } from './rebuild.ts';
import { noRefiller, startRefiller } from './refill.ts';
import { copy } from './restore.ts';
import * as roles from './roles.ts';
import { openRunDirectory, removeRunDirectory } from './run-directory.ts';
import { createShares, type Shares } from './shares.ts';
import { createStatusKeeper } from './status.ts';
import { refreshTails } from './tails.ts';
import { createTransferServer, type TransferServer } from './transfer-server.ts';
import { verify } from './verify.ts';

export interface Member {
  submit(command: Command): Promise<CommandResult>;
  getStatus(): Status;
  onStatus(listener: (status: Status) => void): () => void;
  getHealth(): HealthFacts;
  /** What other executors may read with a token of a `share`. */
  readonly transfer: Pick<TransferServer, 'serve'> & { readonly findShare: Shares['find'] };
  /** Ends the instance by the rules, for the end of the task; SIGKILL after `graceMs`. Answers whether it ended cleanly. */
  shutDown(graceMs: number): Promise<boolean>;
}

export interface MemberDeps {
  readonly plan: LaunchPlan;
  readonly sandbox: string;
  readonly runRoot: string;
  readonly cacheDir: string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly newId: () => string;
  findDistribution(): Promise<Distribution>;
  wakeScheduler(): void;
}

/**
 * Looks at the volumes and takes the member over as it is found: never starts mysqld. Volumes that are not ours do not
 * throw: the member then says so in its status and refuses every command.
 */
export async function openMember(deps: MemberDeps): Promise<Member> {
  const found = await lookAtVolumes(deps);
  const context = await createContext(deps, found);
  const status = createStatusKeeper(context);
  context.changed = status.changed;
  context.refresh = status.refresh;
  const queue = createCommandQueue({
    log: deps.log,
    admit: async (command) => {
      if (command.kind === 'takeBackupVolume') await markBackupVolume(context, command);
      if (mayLookAgain(context, command)) await lookAgain(context, deps);
      await admit(context, command);
    },
    isWorkTold: (id) => context.work?.commandId === id,
    // Behind the start of its mysqld, which may take minutes, the seal of one that has ended would be given up.
    isBeside: (command) => command.kind === 'seal' && hasEndedPaused(context, context.pauseLease, command),
    execute: async (command, signal) => {
      try {
        if (command.kind !== 'fence') await context.instance?.repair();
        return await execute(context, command, signal);
      } finally {
        const fresh = status.refresh();
        // Whoever has the answer finds it in the status too; but no failover waits for a status.
        if (!inHaste.has(command.kind)) await atMost(deps.clock, REFRESH_WAIT_MS, fresh);
      }
    },
  });
  context.runExclusive = queue.runExclusive;
  takeOver(context);
  await takeOverBackups(context);
  context.archive = startArchiver(context);
  context.refiller = startRefiller(context);
  context.logKeeper = startLogKeeper(context);
  const stopPolling = status.poll();
  const { serve } = createTransferServer({
    ...deps,
    keys: context.backupKeys,
    findVolume: () => (context.refusal || !context.backupMarker ? null : (context.volumes?.backup ?? null)),
    findTailVolumes: () => {
      const { data, backup } = (!context.refusal && context.volumes) || {};
      return [backup, data].flatMap((volume) => volume ?? []);
    },
  });
  return {
    transfer: { serve, findShare: context.shares.find },
    submit: queue.submit,
    getStatus: status.get,
    onStatus: status.listen,
    getHealth: () => ({ status: status.get(), promotedEpoch: context.promotedEpoch, now: deps.clock.now() }),
    async shutDown(graceMs) {
      try {
        return await shutDown(context, queue, graceMs);
      } finally {
        stopPolling();
        await rm(context.paths.runDir, { recursive: true, force: true });
      }
    },
  };
}

/** At volumes that were not ours, or had lost their marker. */
function mayLookAgain({ refusal, marker }: MemberContext, command: Command): boolean {
  if (command.kind === 'takeBackupVolume') return refusal !== null;
  return command.kind === 'start' && (refusal !== null || (marker === null && !command.initialise));
}

const REFRESH_WAIT_MS = 250;
const inHaste: ReadonlySet<Command['kind']> = new Set(['fence', 'freeze', 'catchUp']);

async function atMost(clock: Clock, ms: number, work: Promise<void>): Promise<void> {
  let timer: unknown;
  const timeout = new Promise<void>((resolve) => {
    timer = clock.setTimeout(resolve, ms);
  });
  await Promise.race([work, timeout]);
  clock.clearTimeout(timer);
}

async function createContext(deps: MemberDeps, found: FoundVolumes): Promise<MemberContext> {
  const volumePath = found.volumes?.data.path ?? deps.sandbox;
  const runDir = await openRunDirectory(deps.runRoot, volumePath);
  const bootId = await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => 'unknown');
  return {
    ...deps,
    ...found,
    bootId: bootId.trim(),
    backupKeys: new Map(),
    shares: createShares(deps.clock),
    paths: pathsOf(volumePath, runDir, deps.sandbox),
    rebuiltIncarnation: null,
    phase: 'none',
    reason: null,
    secrets: null,
    instance: null,
    process: null,
    dying: null,
    promotedEpoch: null,
    pauseLease: null,
    newest: { leaderToken: 0, sequence: 0, kind: 'start' },
    epochCommit: null,
    heartbeatAt: null,
    following: null,
    isFrozen: false,
    isVoter: false,
    ackFlush: 'os',
    areRelayLogsFlushed: false,
    restartCount: 0,
    crashCount: 0,
    startCrashCount: 0,
    liveDamage: null,
    endLook: Promise.resolve(),
    archive: noArchiver,
    refiller: noRefiller,
    logKeeper: noLogKeeper,
    backups: [],
    areBackupsKnown: false,
    badBackups: new Map(),
    tails: [],
    work: null,
    workAbort: null,
    workEnded: Promise.resolve(),
    runExclusive: () => Promise.reject(new Error('not ready')),
    changed: () => {},
    refresh: async () => {},
  };
}

const looking = new WeakSet<MemberContext>();

/**
 * A disk that was away when this executor began may be there now. What is found then counts as at a launch, and this
 * `start` is refused all the same: whoever sent it knew nothing of it, and a hold must not be ended by accident.
 */
async function lookAgain(context: MemberContext, deps: MemberDeps): Promise<void> {
  if (looking.has(context)) return;
  looking.add(context);
  try {
    await takeWhatIsThere(context, deps);
  } finally {
    looking.delete(context);
  }
}

async function takeWhatIsThere(context: MemberContext, deps: MemberDeps): Promise<void> {
  const found = await lookAtVolumes(deps);
  const { refusal, volumes } = found;
  if (refusal || !volumes) {
    const { isBackupLost, free } = found;
    const isNews = refusal !== null && refusal.message !== context.refusal?.message;
    Object.assign(context, { refusal, isBackupLost, free }, isBackupLost ? { volumes } : {});
    if (isNews) setPhase(context, 'failed', reasonOf(refusal));
    return;
  }
  // Nothing is new: it is told why this launch may not fill it.
  if (!found.marker && !context.refusal) {
    context.free = found.free;
    return;
  }
  const { runDir } = context.paths;
  const { path } = volumes.data;
  const fresh = await openRunDirectory(deps.runRoot, path);
  Object.assign(context, found, { paths: pathsOf(path, fresh, deps.sandbox), phase: 'none', reason: null });
  if (fresh !== runDir) await removeRunDirectory(runDir);
  takeOver(context);
  await takeOverBackups(context);
  context.changed();
  throw new Refusal('VOLUME_NOT_OURS', 'the volumes were not there at the launch, and are now: send it again');
}

/** What the last executor on these volumes left. */
function takeOver(context: MemberContext): void {
  const { held, wasWritable } = context.state.get();
  if (context.refusal) {
    context.phase = 'failed';
    context.reason = reasonOf(context.refusal);
  } else if (damageOf(context)) {
    context.phase = 'failed';
    context.reason = damageOf(context);
  } else if (isOtherIncarnation(context)) {
    context.phase = 'failed';
    const message = `the data volume holds incarnation ${context.marker!.incarnation}`;
    context.reason = { code: 'INCARNATION_MISMATCH', message };
  } else if (held || wasWritable) {
    context.phase = 'held';
    const message = 'the last executor ended while the instance was writable';
    context.reason = held ? { code: 'HELD', message: held.message } : { code: 'HELD', message };
  } else if (context.marker && context.marker.fill !== 'filled') {
    context.phase = 'failed';
    context.reason = { code: 'REBUILD_UNFINISHED', message: 'filling the data volume was interrupted' };
  }
}

/**
 * A whole volume of another incarnation than the launch names: a disk that was away has come back after the member was
 * filled elsewhere. That goes before a hold: what was held is out of date, and must not be led back into the cluster.
 */
function isOtherIncarnation({ marker, plan }: MemberContext): boolean {
  return marker?.fill === 'filled' && marker.trim === null && marker.incarnation !== plan.incarnation;
}

/** Complete backups and tails count; what an interrupted backup left goes. */
async function takeOverBackups(context: MemberContext): Promise<void> {
  if (!context.refusal) {
    await refreshTails(context).catch((error: unknown) =>
      context.log.error({ err: error }, 'the tails cannot be read'),
    );
  }
  const backup = context.volumes?.backup;
  if (!backup || !context.backupMarker || context.refusal) return;
  try {
    await removePartialBackups(backup);
    await refreshBackups(context, backup);
  } catch (error) {
    context.log.error({ err: error }, 'the backups cannot be read');
  }
}

/** Stale commands are refused; a newer leader or epoch is durable before the command is obeyed. */
async function admit(context: MemberContext, command: Command): Promise<void> {
  requireVolumes(context);
  requireNewest(context.state.get(), command);
  requireInOrder(context, command);
  // An unmarked volume is not written to before a command may fill it; nothing but these gets past here then.
  if (!context.marker && command.kind !== 'start' && command.kind !== 'rebuild' && command.kind !== 'copy') {
    if (command.kind === 'fence' || command.kind === 'stop') return;
    throw new Refusal('NOT_RUNNING', 'the data volume was never filled');
  }
  if (!context.marker) return;
  const remembered = context.state.update({ leaderToken: command.leaderToken, epoch: command.epoch });
  // On a hung disk a write never ends: the kill comes first, and the fence itself waits for what it stores.
  if (command.kind === 'fence') remembered.catch((error) => context.log.error({ err: error }, 'cannot store an epoch'));
  else await remembered;
}

/**
 * A command that a later one of the same leader overtook on the network would undo it: a `promote` that arrives after
 * the `demote` of a switchover. Not durable: with this process its connections end, and what was sent on them.
 */
function requireInOrder(context: MemberContext, { kind, leaderToken, sequence }: Command): void {
  const { newest } = context;
  if (besideKinds.has(kind)) return;
  if (newest.leaderToken === leaderToken && sequence < newest.sequence) {
    throw new Refusal('SUPERSEDED', `a later ${newest.kind} was carried out before`, { ...newest });
  }
  context.newest = { leaderToken, sequence, kind };
}

async function execute(context: MemberContext, command: Command, signal: AbortSignal): Promise<CommandResult> {
  learnKey(context.backupKeys, command);
  if (endsPauseLease.has(command.kind)) endPauseLease(context);
  switch (command.kind) {
    case 'start': {
      const result = await start(context, command, signal);
      if (result.outcome !== 'done' || !context.instance) return result;
      await context.state.update({ leaderToken: command.leaderToken, epoch: command.epoch });
      return roles.answerHoldings(context.instance.admin);
    }
    case 'stop':
      if (context.phase === 'rebuilding') requireIdle(context);
      await stop(context);
      return { outcome: 'done' };
    case 'fence':
      return fence(context);
    case 'follow':
      return roles.follow(context, command);
    case 'freeze':
      return roles.freeze(context);
    case 'examine':
      return examine(context, command, signal);
    case 'thaw':
      return roles.thaw(context);
    case 'catchUp':
      return roles.catchUp(context, command, signal);
    case 'promote':
      return roles.promote(context, command, signal);
    case 'demote':
      return roles.demote(context, command);
    case 'seal':
      return roles.seal(context, command);
    case 'dropClients':
      return roles.dropClients(context);
    case 'setVoter':
      return roles.setVoter(context, command);
    case 'setAcknowledgements':
      return roles.setAcknowledgements(context, command);
    case 'copy':
      return copy(context, command);
    case 'keepLogs':
      context.logKeeper.take(command);
      return { outcome: 'done' };
    case 'share':
      context.shares.add(command);
      if (command.closeLog) await context.instance?.admin.query('FLUSH LOCAL BINARY LOGS');
      // Of the primary it is what the cluster has acknowledged by now.
      return context.instance ? roles.answerHoldings(context.instance.admin) : { outcome: 'done' };
    case 'refillArchive':
      return context.refiller.begin(command);
    case 'backup':
      requireBackupVolume(context);
      return backup(context, command);
    case 'verify':
      return verify(context, command);
    case 'removeBackup':
      return removeBackup(context, command);
    case 'takeBackupVolume':
      return takeBackupVolume(context);
    case 'rebuild':
      return rebuild(context, command);
  }
}

async function shutDown(context: MemberContext, queue: CommandQueue, graceMs: number): Promise<boolean> {
  queue.abortAll(new Refusal('SUPERSEDED', 'the task ends'));
  context.workAbort?.abort(new Refusal('SUPERSEDED', 'the task ends'));
  await context.workEnded;
  const isClean = await queue.runExclusive(() => stop(context, graceMs));
  await context.refiller.close();
  await context.logKeeper.close();
  await context.archive.close();
  // Keys are in it, and nobody looks for them once the member is gone.
  await removeRunDirectory(context.paths.runDir);
  return isClean;
}
