/**
 * Bringing mysqld up and down. Rules:
 * - It comes up read-only, offline, without replication (my.cnf); accounts are made before clients may connect.
 * - SIGTERM only when no session waits for an acknowledgement: mysqld would tell its client OK for a transaction that
 *   no replica has. offline_mode comes first: it drops clients without an OK.
 * - An unclean end of a writable instance holds the member: the first restart would commit the unacknowledged tail.
 * - An unclean end of a read-only instance is mended here, with a growing pause, five times.
 * - mysqld is not started on data that it has ended on (damage.ts), and not for ever on data that it crashes on.
 */
import type { Command, CommandResult } from '../channel/protocol.ts';
import { type Clock, delay } from '../clock.ts';
import { Refusal } from '../errors.ts';
import { ensureAccounts } from '../mysql/accounts.ts';
import { setOffline } from '../mysql/read-only.ts';
import { flushRelayLogs } from '../mysql/relay-log.ts';
import { readSemiSync } from '../mysql/semi-sync.ts';
import { beginEndLook, damageOf, requireAllFiles, requireUndamaged, watchData } from './damage.ts';
import { checkDataDirectory, initialiseDataDirectory } from './data-directory.ts';
import { FENCE_TIMEOUT_MS, killWithin, requireNoneDying } from './dying.ts';
import { type RunningInstance, startInstance } from './instance.ts';
import { type MemberContext, type Reason, reasonOf, requireVolumes, setPhase } from './member-context.ts';
import { writeStartFiles } from './member-files.ts';
import { describeExit, type Exit, isCrash } from './mysqld-process.ts';
import { resumeReplication } from './roles.ts';
import { readMarker } from './volumes.ts';

/** Until it is back a commit may lack its acknowledger: the longest pause is what a crash that lasts costs at most. */
const RESTART_PAUSES_MS = [0, 250, 1000, 4000, 8000];
const STOP_TIMEOUT_MS = 5 * 60_000;
/** Ran this long: the next unclean end is the first one again. */
const STABLE_MS = 20_000;
/** Crashes in a row while it starts, with nobody connected: it is the data. */
const START_CRASHES_MAX = 3;

/** The `start` command: fills the data directory when it may, ends a hold, answers what the member holds. */
export async function start(
  context: MemberContext,
  command: Extract<Command, { kind: 'start' }>,
  signal: AbortSignal,
): Promise<CommandResult> {
  const { data, backup } = requireVolumes(context);
  const { work } = context;
  if ((work?.kind === 'rebuild' || work?.kind === 'copy') && work.outcome === 'running') {
    throw new Refusal('BUSY', `a ${work.kind} runs`);
  }
  requireNoneDying(context);
  context.secrets = command.secrets;
  if (context.instance && context.phase === 'running') return { outcome: 'done' };
  if (!context.marker && !command.initialise) {
    throw new Refusal('VOLUME_NOT_OURS', 'the data volume has no marker, and this launch may not fill it');
  }
  const { marker } = context;
  const known = [context.plan.incarnation, context.rebuiltIncarnation];
  if (marker && !known.includes(marker.incarnation)) {
    const facts = { found: marker.incarnation, expected: context.plan.incarnation };
    throw new Refusal('INCARNATION_MISMATCH', 'the data volume holds another incarnation', facts);
  }
  context.ackFlush = command.ackFlush ?? 'os';
  setPhase(context, 'starting');
  try {
    if (marker ? marker.fill === 'filling' || (command.initialise && marker.fill !== 'filled') : command.initialise) {
      context.marker = await initialiseDataDirectory({
        plan: context.plan,
        data,
        backup,
        marker,
        backupMarker: context.backupMarker,
        paths: context.paths,
        distribution: await context.findDistribution(),
        cacheDir: context.cacheDir,
        epoch: command.epoch,
        signal,
      });
      if (backup) context.backupMarker = await readMarker(backup);
    }
    await release(context, await bringUp(context, signal), signal);
  } catch (error) {
    if (!signal.aborted) setPhase(context, 'failed', reasonOf(error));
    throw error;
  }
  return { outcome: 'done' };
}

/** Ends the hold. When that cannot be stored (the disk is full) mysqld ends again: the next `start` would find it there. */
async function release(context: MemberContext, instance: RunningInstance, signal: AbortSignal): Promise<void> {
  try {
    // Nothing may come between this look and the update: a fence must not be forgotten.
    signal.throwIfAborted();
    await context.state.update({ held: null, wasWritable: false });
    signal.throwIfAborted();
    enterRunning(context, instance);
  } catch (error) {
    if (context.instance === instance) forgetInstance(context);
    await instance.kill();
    throw error;
  }
}

interface BringUpOptions {
  /** A rebuild has its data in place and has yet to check them. */
  readonly isFilling?: boolean;
  /** Other than the marker's. */
  readonly identity?: { readonly serverUuid: string; readonly serverId: number };
}

/** Starts mysqld on the filled data directory, makes the accounts, opens it for clients, still read-only. */
export async function bringUp(
  context: MemberContext,
  signal: AbortSignal,
  { isFilling = false, identity }: BringUpOptions = {},
): Promise<RunningInstance> {
  const { marker, plan, paths, secrets, clock } = context;
  if (!marker) throw new Refusal('VOLUME_NOT_OURS', 'the data volume has no marker');
  if (marker.fill !== 'filled' && !isFilling) {
    throw new Refusal('REBUILD_UNFINISHED', 'the data directory was being filled when it was interrupted');
  }
  if (marker.trim && !isFilling) throw new Refusal('REBUILD_UNFINISHED', 'a trim of the binary log was interrupted');
  if (!secrets) throw new Refusal('NOT_RUNNING', 'no start command came in this launch');
  await requireUndamaged(context);
  await checkDataDirectory(paths.dataDir);
  const { serverUuid, serverId } = identity ?? marker;
  const { ackFlush } = context;
  await writeStartFiles(paths, { plan, serverUuid, serverId, secrets, ackFlush });
  // What lies there from a time without flushing; from now on mysqld does it.
  if (ackFlush === 'disk') await flushRelayLogs(paths.dataDir);
  const instance = await startInstance({
    distribution: await context.findDistribution(),
    cnfPath: paths.cnf,
    lockPath: paths.lock,
    logPath: paths.log,
    socketPath: paths.socket,
    cwd: paths.volume,
    clock,
    signal,
    onSpawn: (process) => {
      context.process = process;
    },
  }).catch((error: unknown) => {
    throw countCrash(context, error);
  });
  context.startCrashCount = 0;
  try {
    await ensureAccounts(instance.admin, secrets);
    await requireAllFiles(context, instance);
    await setOffline(instance.admin, false);
    signal.throwIfAborted();
  } catch (error) {
    await instance.kill();
    throw error;
  }
  context.instance = instance;
  context.areRelayLogsFlushed = ackFlush === 'disk';
  const startedAt = clock.now();
  void instance.process.exited.then((exit) => {
    if (context.instance !== instance) return; // ended by us
    onUncleanEnd(context, exit, { instance, ranMs: clock.now() - startedAt });
  });
  watchData(context, instance, (damaged, damage) => endDamaged(context, damaged, damage));
  return instance;
}

/** Ends a replica with damaged data, so that it is filled anew. */
async function endDamaged(context: MemberContext, instance: RunningInstance, damage: Reason): Promise<void> {
  forgetInstance(context);
  try {
    await killWithin(context, instance.process, FENCE_TIMEOUT_MS);
    setPhase(context, 'failed', damage);
  } catch (error) {
    // What does not end is told as held (status.ts); the damage is found again.
    setPhase(context, 'held', damage);
    throw error;
  } finally {
    context.wakeScheduler();
  }
}

/** The error to throw when mysqld did not start: crashes in a row say that its data are damaged. */
function countCrash(context: MemberContext, error: unknown): unknown {
  const isOne = error instanceof Refusal && error.code === 'INSTANCE_FAILED' && error.facts?.['isCrash'] === true;
  context.startCrashCount = isOne ? context.startCrashCount + 1 : 0;
  if (context.startCrashCount < START_CRASHES_MAX) return error;
  const message = `mysqld crashed ${context.startCrashCount} times in a row. ${(error as Refusal).message}`;
  return new Refusal('DATA_DIR_DAMAGED', message);
}

/** Throws INSTANCE_LOST when the instance that was brought up is gone already. */
export function enterRunning(context: MemberContext, instance: RunningInstance): void {
  if (context.instance !== instance) throw new Refusal('INSTANCE_LOST', 'mysqld ended right after it had started');
  setPhase(context, 'running');
}

/** Called at once when a running mysqld was reaped that nobody here had ended. */
function onUncleanEnd(
  context: MemberContext,
  exit: Exit,
  { instance, ranMs }: { readonly instance: RunningInstance; readonly ranMs: number },
): void {
  const wasPrimary = context.promotedEpoch !== null || context.state.get().wasWritable;
  const wasRunning = context.phase === 'running';
  forgetInstance(context);
  if (!wasRunning) return; // whoever is bringing it up finds it gone
  beginEndLook(context, instance);
  const message = `mysqld ended by itself: ${describeExit(exit)}`;
  context.log.warn({ exit, wasPrimary }, 'mysqld ended by itself');
  const reason = { code: 'INSTANCE_LOST', message } as const;
  if (wasPrimary) {
    setPhase(context, 'held', reason);
    context.wakeScheduler();
    // `wasWritable` is durable since the promotion: a lost write here changes nothing.
    context.state.update({ held: reason }).catch((error) => context.log.error({ err: error }, 'cannot store a hold'));
    return;
  }
  setPhase(context, 'starting', reason);
  context.wakeScheduler();
  if (ranMs > STABLE_MS) context.restartCount = context.crashCount = 0;
  if (isCrash(exit)) context.crashCount += 1;
  void restartReplica(context);
}

async function restartReplica(context: MemberContext): Promise<void> {
  while (context.phase === 'starting') {
    const pauseMs = RESTART_PAUSES_MS[context.restartCount];
    if (pauseMs === undefined) {
      // Each time by a failure of its own: nothing but other data helps.
      const code = context.crashCount > RESTART_PAUSES_MS.length ? 'DATA_DIR_DAMAGED' : 'INSTANCE_FAILED';
      return setPhase(context, 'failed', { code, message: 'mysqld ended again and again' });
    }
    context.restartCount += 1;
    await delay(context.clock, pauseMs);
    await context.endLook;
    try {
      await context.runExclusive(async (signal) => {
        if (context.phase !== 'starting' || context.instance) return; // a command was faster
        const instance = await bringUp(context, signal);
        await resumeReplication(context);
        enterRunning(context, instance);
      });
    } catch (error) {
      if (context.phase !== 'starting') return; // fenced or stopped meanwhile
      context.log.warn({ err: error }, 'mysqld could not be started again');
      const reason = reasonOf(error);
      if (reason.code === 'DATA_DIR_DAMAGED') return setPhase(context, 'failed', reason);
      context.reason = reason;
      context.changed();
    }
  }
}

/** Everything that speaks of an instance which is gone. */
export function forgetInstance(context: MemberContext): void {
  const { instance } = context;
  context.instance = null;
  context.areRelayLogsFlushed = false;
  context.process = null;
  context.promotedEpoch = null;
  context.epochCommit = null;
  context.heartbeatAt = null;
  context.liveDamage = null;
  if (instance) for (const each of [instance.admin, instance.probe, instance.beat]) void each.close();
}

/** The `fence` command: SIGKILL and hold. Answers when the process was reaped and the hold is durable. */
export async function fence(context: MemberContext): Promise<CommandResult> {
  requireVolumes(context);
  const process = context.process ?? context.dying?.process;
  context.workAbort?.abort(new Refusal('SUPERSEDED', 'a fence overtook it'));
  const deadline = context.clock.now() + FENCE_TIMEOUT_MS;
  const killed = process ? killWithin(context, process, FENCE_TIMEOUT_MS) : Promise.resolve();
  const damage = context.liveDamage ?? damageOf(context);
  forgetInstance(context);
  const reason = { code: 'HELD', message: 'fenced on command' } as const;
  setPhase(context, 'held', reason);
  // Without a marker there is no data to hold, and the volume is not ours to write to.
  const remembered = context.marker ? context.state.update({ held: reason }) : Promise.resolve();
  remembered.catch((error: unknown) => context.log.error({ err: error }, 'cannot store a hold'));
  await killed;
  await within(context.clock, remembered, deadline - context.clock.now());
  // Damaged data are not trimmed and started, they are filled anew.
  if (damage && context.phase === 'held') setPhase(context, 'failed', damage);
  return { outcome: 'done' };
}

/** The hold must be durable too: a hung disk does not take it. Throws TIMED_OUT. */
async function within(clock: Clock, work: Promise<void>, timeoutMs: number): Promise<void> {
  let timer: unknown;
  const late = new Promise<never>((_, reject) => {
    const refusal = new Refusal('TIMED_OUT', 'mysqld has ended, but the data volume does not take the hold');
    timer = clock.setTimeout(() => reject(refusal), Math.max(0, timeoutMs));
  });
  await Promise.race([work, late]).finally(() => clock.clearTimeout(timer));
}

/** The `stop` command, and the end of the task. Idempotent. Answers whether mysqld ended cleanly: later it is killed. */
export async function stop(context: MemberContext, timeoutMs = STOP_TIMEOUT_MS): Promise<boolean> {
  const { instance } = context;
  if (context.work?.kind === 'backup') context.workAbort?.abort(new Refusal('SUPERSEDED', 'mysqld is stopped'));
  if (!instance) {
    if (context.phase !== 'held' && context.phase !== 'failed') setStopped(context);
    return true;
  }
  let isClean = false;
  const { clock } = context;
  const deadline = clock.now() + timeoutMs;
  const { admin } = instance;
  // Its queries then end at once: a disk that is full or hangs answers nothing.
  const timer = clock.setTimeout(() => void admin.close(), timeoutMs);
  try {
    await setOffline(admin, true);
    isClean = (await readSemiSync(admin)).waitingSessions === 0;
  } catch (error) {
    context.log.warn({ err: error }, 'mysqld does not go offline: it will be killed');
  } finally {
    clock.clearTimeout(timer);
  }
  forgetInstance(context);
  context.reason = { code: 'STOPPED', message: 'mysqld is being stopped' };
  if (isClean) {
    const exit = await instance.terminate(Math.max(0, deadline - clock.now()));
    isClean = exit.kind === 'ended' && exit.exitCode === 0;
  } else {
    await instance.kill();
  }
  if (isClean) await context.state.update({ wasWritable: false });
  setStopped(context);
  return isClean;
}

function setStopped(context: MemberContext): void {
  setPhase(context, 'stopped', { code: 'STOPPED', message: 'stopped on command' });
}
