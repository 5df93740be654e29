/**
 * Fills the data volume anew, for a new incarnation. Rules:
 * - Whether it can be done is checked before anything is touched; that this member is no voter is the controller's duty.
 * - The marker says `rebuilding` with the new incarnation before the old data goes, and `filled` when the new is whole:
 *   a crash in between leaves a volume that refuses to start and may be rebuilt again, never half data that serves.
 * - The new incarnation has a server_uuid of its own: a member that lost history and kept its uuid would issue the same
 *   GTIDs again for other transactions.
 */
import { rm } from 'node:fs/promises';
import type { Command, CommandResult } from '../channel/protocol.ts';
import { Refusal } from '../errors.ts';
import { cloneFrom, readCloneStatus } from '../mysql/clone.ts';
import { readGtids, subtractGtids } from '../mysql/gtid.ts';
import { readAccess } from '../mysql/read-only.ts';
import { readReplication, resetReplication } from '../mysql/replication.ts';
import { copyTemplate, ensureTemplate } from '../mysql/template.ts';
import { withProgress } from './backup.ts';
import { readMarks } from './backup-marks.ts';
import { copyBackup } from './copy-backup.ts';
import { renameDurable } from './durable.ts';
import { requireNoneDying } from './dying.ts';
import { openSession, startInstance } from './instance.ts';
import { saveLeftover } from './leftover.ts';
import { bringUp, enterRunning, forgetInstance } from './lifecycle.ts';
import { beginWork, endVerification, requireIdle, tellDone, type WorkHandle } from './long-work.ts';
import { type Manifest, placeOf } from './manifest.ts';
import { type MemberContext, reasonOf, requireVolumes, setPhase } from './member-context.ts';
import { writeStartFiles } from './member-files.ts';
import { killAndReap, waitForExit } from './mysqld-process.ts';
import { type OpenBackup, openBackup, readFiles } from './open-backup.ts';
import { fillFrom, findSource, type OpenSource, openSource, requireSet } from './restore.ts';
import { forgetFetched } from './restore-fetch.ts';
import { trim } from './trim.ts';
import {
  createMarker,
  isEmptyVolume,
  type Marker,
  measureDirectory,
  requireSamePlace,
  type Volume,
  writeMarker,
} from './volumes.ts';

type Rebuild = Extract<Command, { kind: 'rebuild' }>;

const RESTART_TIMEOUT_MS = 60_000;

/** The `rebuild` command: checks, ends mysqld, answers, goes on. Status.work tells the rest. */
export async function rebuild(context: MemberContext, command: Rebuild): Promise<CommandResult> {
  const { data, backup } = requireVolumes(context);
  const what = { kind: 'rebuild', commandId: command.id } as const;
  await endVerification(context);
  requireIdle(context);
  requireNoneDying(context);
  if (command.secrets) context.secrets = command.secrets;
  if (command.from.kind === 'trim') return trim(context, { ...command, from: command.from });
  const { marker } = context;
  const isDone = marker?.incarnation === command.incarnation && marker.fill === 'filled';
  if (isDone && context.phase === 'running') return tellDone(context, what);
  if (!context.secrets) {
    throw new Refusal('NOT_RUNNING', 'no start command came in this launch: send one first, it brings the secrets');
  }
  if (context.instance && !(await readAccess(context.instance.admin)).isReadOnly) {
    throw new Refusal('IS_WRITABLE', 'a writable member is not rebuilt: demote or fence it first');
  }
  if (!marker) await requireFillable(context, data, command.emptyPlace);
  const from = command.from.kind === 'backup' ? await findBackup(context, backup, command.from.backupId) : null;
  const running = context.process;
  const received = command.save ? await readReceived(context) : '';
  const before = { phase: context.phase, reason: context.reason };
  forgetInstance(context);
  context.following = null;
  setPhase(context, 'rebuilding');
  if (running) await killAndReap(running, context.clock);
  return beginWork(context, what, (work) => run(context, command, { data, from, work, received, before }));
}

/** An empty volume is filled only where the controller named it, or the backup volume says that this member lived here. */
async function requireFillable({ backupMarker }: MemberContext, data: Volume, emptyPlace?: string): Promise<void> {
  const isMeant = emptyPlace === undefined ? backupMarker !== null : emptyPlace === data.place;
  if (!isMeant) throw new Refusal('VOLUME_NOT_OURS', 'the data volume has no marker');
  await requireSamePlace(data);
  if (!(await isEmptyVolume(data))) {
    throw new Refusal('VOLUME_NOT_OURS', 'the data volume has no marker and is not empty');
  }
}

async function findBackup(context: MemberContext, volume: Volume | null, id: string): Promise<OpenBackup> {
  if (!volume) throw new Refusal('NO_BACKUP_VOLUME', 'this member has no backup volume');
  const directory = placeOf(volume, id).final;
  const found = await openBackup(directory, context.backupKeys);
  if (found?.manifest.id !== id) throw new Refusal('BACKUP_DAMAGED', `there is no complete backup ${id}`);
  const { manifest } = found;
  const { installation, cluster } = context.plan;
  if (manifest.installation !== installation || manifest.cluster !== cluster) {
    throw new Refusal('BACKUP_DAMAGED', `backup ${id} is that of another cluster`);
  }
  const { bad } = await readMarks(directory);
  const reason = context.badBackups.get(id) ?? bad?.message ?? null;
  if (reason !== null) throw new Refusal('BACKUP_DAMAGED', `backup ${id} is bad: ${reason}`);
  await readFiles(found);
  return found;
}

interface RunOptions {
  readonly data: Volume;
  readonly from: OpenBackup | null;
  readonly work: WorkHandle;
  /** GTIDs that the receiver had when mysqld still ran; '' when it did not. */
  readonly received: string;
  /** What a restore that was refused before anything was touched goes back to, when it was held. */
  readonly before: Pick<MemberContext, 'phase' | 'reason'>;
}

async function readReceived({ instance }: MemberContext): Promise<string> {
  if (!instance) return '';
  return (await readReplication(instance.admin).catch(() => null))?.received ?? '';
}

/** Once, while the data directory is whole: what is half gone was saved before. */
async function saveFirst(context: MemberContext, command: Rebuild, { work, received }: RunOptions): Promise<void> {
  const { save } = command;
  if (!save || context.marker?.fill !== 'filled') return;
  work.step('saving what only this member has');
  try {
    await saveLeftover(context, { keep: save.keep, received, signal: work.signal });
  } catch (error) {
    work.signal.throwIfAborted();
    context.log.warn({ err: error, isRequired: save.isRequired }, 'what only this member has could not be saved');
    if (!save.isRequired) return;
    const message = error instanceof Error ? error.message : String(error);
    throw new Refusal('LEFTOVER_NOT_SAVED', `what only this member has could not be saved: ${message}`);
  }
}

async function run(context: MemberContext, command: Rebuild, options: RunOptions): Promise<void> {
  const { before } = options;
  const source = command.from.kind === 'copy' ? openSource(context, command.from) : null;
  try {
    await fill(context, command, { ...options, source });
  } catch (error) {
    const { process } = context;
    forgetInstance(context);
    if (process) await killAndReap(process, context.clock);
    // A fence has set its own state already.
    if (context.phase === 'rebuilding') {
      const isUntouched = source !== null && context.marker?.incarnation !== command.incarnation;
      if (isUntouched && before.phase === 'held') setPhase(context, 'held', before.reason);
      else setPhase(context, 'failed', reasonOf(error, 'COMMAND_FAILED'));
    }
    throw error;
  } finally {
    source?.close();
  }
}

async function fill(
  context: MemberContext,
  command: Rebuild,
  options: RunOptions & { readonly source: OpenSource | null },
): Promise<void> {
  const { data, from, work, source } = options;
  const { paths } = context;
  const found = source && (await findSource(context, source, { data, work, goingBytes: await measureGoing(context) }));
  await saveFirst(context, command, options);
  work.step('clearing');
  context.marker = await mark(context, data, { ...command, fill: 'rebuilding' });
  const { leaderToken, epoch } = command;
  work.signal.throwIfAborted(); // a fence must not be forgotten
  await context.state.update({ leaderToken, epoch, held: null, wasWritable: false });
  // What an interrupted restore has fetched is gone on with.
  if (!source) await rm(paths.fillingDir, { recursive: true, force: true });
  await rm(paths.dataDir, { recursive: true, force: true });
  let target: string | null = null;
  if (source && found) {
    target = await fillFrom(context, source, { found, data, work, serverId: command.serverId, own: [] });
    work.signal.throwIfAborted();
    await renameDurable(paths.fillingDir, paths.dataDir);
    await forgetFetched(paths.fillingDir);
  } else if (from) {
    work.step('copying');
    await copyBackup({ backup: from, target: paths.fillingDir, work });
    work.signal.throwIfAborted();
    await renameDurable(paths.fillingDir, paths.dataDir);
  } else await fillByClone(context, command, work);
  work.step('starting');
  const instance = await bringUp(context, work.signal, { isFilling: true });
  if (await readReplication(instance.admin)) await resetReplication(instance.admin);
  const { executed } = await readGtids(instance.admin);
  if (target !== null) await requireSet(instance, target);
  else if (from) await checkGtidSet(context, from.manifest, executed);
  else await checkClone(context);
  context.marker = await mark(context, data, { ...command, fill: 'filled' });
  context.rebuiltIncarnation = command.incarnation;
  enterRunning(context, instance);
  await context.refresh();
}

/** Bytes of the data volume that make room for a restore. */
async function measureGoing({ paths }: MemberContext): Promise<number> {
  const sizes = await Promise.all([paths.dataDir, paths.fillingDir].map(measureDirectory));
  return sizes.reduce((sum, bytes) => sum + bytes, 0);
}

async function mark(
  context: MemberContext,
  data: Volume,
  filling: Pick<Marker, 'incarnation' | 'serverUuid' | 'serverId' | 'epoch' | 'fill'>,
): Promise<Marker> {
  const { incarnation, serverUuid, serverId, epoch, fill } = filling;
  const marker = createMarker(data, context.plan, { incarnation, serverUuid, serverId, epoch, fill });
  await writeMarker(data, marker);
  return marker;
}

/** A fresh instance, offline and read-only, is replaced by the donor's data; it ends with code 16 when that is done. */
async function fillByClone(context: MemberContext, command: Rebuild, work: WorkHandle): Promise<void> {
  const { paths, plan, secrets, clock } = context;
  if (command.from.kind !== 'clone' || !secrets) throw new Error('a clone needs a donor and secrets');
  const distribution = await context.findDistribution();
  work.step('preparing');
  await copyTemplate(await ensureTemplate(distribution, context.cacheDir), paths.fillingDir);
  await renameDurable(paths.fillingDir, paths.dataDir);
  const { serverUuid, serverId } = command;
  await writeStartFiles(paths, { plan, serverUuid, serverId, secrets });
  const recipient = await startInstance({
    distribution,
    cnfPath: paths.cnf,
    lockPath: paths.lock,
    logPath: paths.log,
    socketPath: paths.socket,
    cwd: paths.volume,
    clock,
    signal: work.signal,
    onSpawn: (process) => {
      context.process = process;
    },
  });
  const onAbort = () => recipient.process.signal('SIGKILL');
  work.signal.addEventListener('abort', onAbort, { once: true });
  try {
    work.step('cloning');
    const session = await openSession({ socketPath: paths.socket, clock });
    const cloning = cloneFrom(session, { ...command.from.donor, ...secrets.clone });
    await withProgress(clock, recipient.probe, work, cloning).finally(() => session.close());
    const exit = await waitForExit(recipient.process, RESTART_TIMEOUT_MS, clock);
    work.signal.throwIfAborted();
    if (exit.kind !== 'restart') throw new Error(`mysqld ended while it cloned: ${JSON.stringify(exit)}`);
  } finally {
    work.signal.removeEventListener('abort', onAbort);
    await recipient.kill(); // nothing when it has ended; closes the sessions
  }
}

async function checkClone(context: MemberContext): Promise<void> {
  const status = context.instance && (await readCloneStatus(context.instance.admin));
  if (status?.state === 'Completed') return;
  throw new Error(`CLONE did not complete: ${status?.state ?? 'no status'} ${status?.error ?? ''}`);
}

async function checkGtidSet(context: MemberContext, manifest: Manifest, executed: string): Promise<void> {
  if (!context.instance) throw new Error('the rebuilt instance is gone');
  const { admin } = context.instance;
  const [missing, extra] = await Promise.all([
    subtractGtids(admin, manifest.gtidSet, executed),
    subtractGtids(admin, executed, manifest.gtidSet),
  ]);
  if (missing === '' && extra === '') return;
  throw new Refusal('BACKUP_DAMAGED', 'the backup holds another GTID set than its manifest says', { missing, extra });
}
