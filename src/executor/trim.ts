/**
 * Rejoin by trimming. With AFTER_SYNC a commit that waits for its acknowledgement stands in the
 * binary log and is only prepared in InnoDB. Cut the log before the first restart, and crash recovery rolls it back.
 * Rules:
 * - Only of a held instance: its process was reaped, and the volume's lock is ours while files change.
 * - The tail is saved, durable, before a byte of the log goes.
 * - The marker holds the intent and how far it came, so a crash at any point is run again to its end; until then no
 *   plain `start` gets by it: a member that lost history must not issue GTIDs under its old server_uuid (finding 12).
 * - Once started, own minus `keep` must be empty: what was committed before the crash (no semi-sync, a lossy failover)
 *   is not undone by a cut, and InnoDB remembers its GTIDs.
 */
import { spawn } from 'node:child_process';
import { basename, join } from 'node:path';
import type { Command, CommandResult } from '../channel/protocol.ts';
import { Refusal } from '../errors.ts';
import { findTail, type Tail } from '../mysql/binlog.ts';
import { readGtids, subtractGtids } from '../mysql/gtid.ts';
import { readAccess } from '../mysql/read-only.ts';
import { readReplication, resetReplication } from '../mysql/replication.ts';
import { bringUp, enterRunning, forgetInstance } from './lifecycle.ts';
import { beginWork, requireIdle, tellDone, type WorkHandle } from './long-work.ts';
import { type MemberContext, reasonOf, requireVolumes, setPhase } from './member-context.ts';
import { killAndReap } from './mysqld-process.ts';
import { pruneTails } from './tail-retention.ts';
import { cutLog, refreshTails, saveTail } from './tails.ts';
import { createMarker, type Marker, type Volume, writeMarker } from './volumes.ts';

type Rebuild = Extract<Command, { kind: 'rebuild' }>;
type Trim = Rebuild & { readonly from: { readonly kind: 'trim'; readonly keep: string } };
type Intent = NonNullable<Marker['trim']>;

const FIND_TIMEOUT_MS = 5 * 60_000;
const LOCK_TIMEOUT_MS = 5_000;
const LOCKED = 75;

/** The `rebuild` command with the way `trim`: checks, answers, goes on. Status.work tells the rest. */
export async function trim(context: MemberContext, command: Trim): Promise<CommandResult> {
  const { data } = requireVolumes(context);
  const what = { kind: 'rebuild', commandId: command.id } as const;
  requireIdle(context);
  const { marker } = context;
  if (marker?.fill !== 'filled') throw refuse('the data volume is not whole');
  if (!context.secrets) throw new Refusal('NOT_RUNNING', 'the command brings no secrets, and none came before');
  if (context.instance && context.phase === 'running') {
    await requireNothingErrant(context, command.from.keep);
    return tellDone(context, what);
  }
  const isResumed = marker.trim != null || marker.incarnation === command.incarnation;
  if (context.phase !== 'held' && !(isResumed && context.phase === 'failed')) {
    throw refuse(`only a held instance is trimmed; it is ${context.phase}`);
  }
  const { reason } = context;
  setPhase(context, 'rebuilding');
  return beginWork(context, what, async (work) => {
    try {
      await run(context, command, { data, work });
    } catch (error) {
      const { process } = context;
      forgetInstance(context);
      if (process) await killAndReap(process, context.clock);
      // A fence has set its own state already.
      if (context.phase === 'rebuilding') {
        if (isUntouched(context)) setPhase(context, 'held', reason);
        else setPhase(context, 'failed', reasonOf(error, 'TRIM_FAILED'));
      }
      throw error;
    }
  });
}

interface RunOptions {
  readonly data: Volume;
  readonly work: WorkHandle;
}

async function run(context: MemberContext, command: Trim, options: RunOptions): Promise<void> {
  const { work, data } = options;
  const { leaderToken, epoch } = command;
  const isTrimmed = context.marker!.incarnation === command.incarnation;
  const isCut = isTrimmed || (await withVolumeLock(context, () => cut(context, command, options)));
  work.step('starting');
  const { incarnation, serverUuid, serverId } = isCut ? command : context.marker!;
  const instance = await bringUp(context, work.signal, { isFilling: true, identity: { serverUuid, serverId } });
  await requireNothingErrant(context, command.from.keep);
  if (isCut) {
    if (await readReplication(instance.admin)) await resetReplication(instance.admin);
    await mark(
      context,
      data,
      createMarker(data, context.plan, { incarnation, serverUuid, serverId, epoch, fill: 'filled' }),
    );
    context.rebuiltIncarnation = incarnation;
  }
  work.signal.throwIfAborted(); // a fence must not be forgotten
  await context.state.update({ leaderToken, epoch, held: null, wasWritable: false });
  work.signal.throwIfAborted();
  enterRunning(context, instance);
  await context.refresh();
}

/** False: there is nothing to trim, and nothing was changed. */
async function cut(context: MemberContext, command: Trim, { data, work }: RunOptions): Promise<boolean> {
  const intent = context.marker!.trim ?? null;
  const step = (phase: Intent['phase'], about: Pick<Intent, 'binaryLog' | 'position' | 'gtidSet'>) => {
    const { incarnation, serverUuid, serverId } = command;
    const trim = { incarnation, serverUuid, serverId, ...about, phase };
    return mark(context, data, { ...context.marker!, trim });
  };
  if (intent && intent.phase !== 'saving') {
    work.step('cutting');
    await step(intent.phase, intent);
    return finishCut(context, intent, step);
  }
  work.step('looking');
  const tail = await findTail({
    distribution: await context.findDistribution(),
    dataDir: context.paths.dataDir,
    keep: command.from.keep,
    clock: context.clock,
    signal: work.signal,
    timeoutMs: FIND_TIMEOUT_MS,
  });
  if (tail.kind === 'none') {
    if (intent) await mark(context, data, { ...context.marker!, trim: null });
    work.step('nothing to trim');
    return false;
  }
  const about = { binaryLog: basename(tail.path), position: tail.position, gtidSet: tail.gtidSet };
  await step('saving', about);
  work.step('saving the tail');
  await keepTail(context, tail, work);
  work.step('cutting');
  await step('cutting', about);
  return finishCut(context, { ...about, phase: 'cutting' }, step);
}

async function finishCut(
  context: MemberContext,
  intent: Pick<Intent, 'binaryLog' | 'position' | 'gtidSet' | 'phase'>,
  step: (phase: Intent['phase'], about: typeof intent) => Promise<void>,
): Promise<true> {
  // From `cut` on mysqld may have been started: the file is its own again.
  if (intent.phase !== 'cut') {
    const { gtidSet, position, binaryLog } = intent;
    await cutLog(join(context.paths.dataDir, binaryLog), position);
    context.log.warn({ gtidSet, position, binaryLog }, 'the unacknowledged tail was cut off');
    await step('cut', intent);
  }
  return true;
}

async function keepTail(context: MemberContext, tail: Extract<Tail, { kind: 'tail' }>, work: WorkHandle) {
  await saveTail(context, tail, work.signal);
  await refreshTails(context);
  await pruneTails(context, true);
  context.changed();
}

/** Nothing was cut yet: the member can go on being held. */
function isUntouched({ marker }: MemberContext): boolean {
  return marker?.fill === 'filled' && (marker.trim == null || marker.trim.phase === 'saving');
}

async function requireNothingErrant(context: MemberContext, keep: string): Promise<void> {
  const { admin } = context.instance!;
  if (!(await readAccess(admin)).isReadOnly) throw new Refusal('IS_WRITABLE', 'a writable member is not trimmed');
  const { executed } = await readGtids(admin);
  const errant = await subtractGtids(admin, executed, keep);
  if (errant === '') return;
  throw new Refusal('TRIM_FAILED', `this member had committed what the primary lacks: ${errant}`, { errant });
}

async function mark(context: MemberContext, data: Volume, marker: Marker): Promise<void> {
  await writeMarker(data, marker);
  context.marker = marker;
}

function refuse(message: string): Refusal {
  return new Refusal('TRIM_FAILED', message);
}

/**
 * Runs `work` while the volume's lock is held as mysqld holds it: no mysqld lives on these files, and none can start.
 * The lock is that of a `cat` that echoes once it has it, and ends with its input or with us.
 */
export async function withVolumeLock<T>(context: MemberContext, work: () => Promise<T>): Promise<T> {
  const flock = ['flock', '-n', '-E', String(LOCKED), '-F', context.paths.lock, 'cat'];
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...flock], { stdio: ['pipe', 'pipe', 'ignore'] });
  const exited = new Promise<number | null>((resolve) => {
    child.once('error', () => resolve(127));
    child.once('exit', (code) => resolve(code));
  });
  child.stdin.on('error', () => {}); // it ended: `exited` tells
  child.stdin.write('\n');
  const echoed = new Promise<'locked'>((resolve) => child.stdout.once('data', () => resolve('locked')));
  let timer: unknown;
  const late = new Promise<'late'>((resolve) => {
    timer = context.clock.setTimeout(() => resolve('late'), LOCK_TIMEOUT_MS);
  });
  try {
    const outcome = await Promise.race([echoed, exited, late]);
    if (outcome !== 'locked') throw new Refusal('BUSY', 'another process holds the lock of the data volume');
    return await work();
  } finally {
    context.clock.clearTimeout(timer);
    child.stdin.end();
    child.kill('SIGKILL');
    await exited;
  }
}
