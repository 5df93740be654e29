/**
 * Full backup of the running instance onto the backup volume: CLONE LOCAL, start the copy in place to learn its exact
 * GTID set (for LOCAL the server tells none), stop it cleanly, hash every file, and only then give it its name. Whatever
 * interrupts this leaves a `.partial` directory that counts for nothing.
 */
import { mkdir, rm } from 'node:fs/promises';
import type { Command, CommandResult } from '../channel/protocol.ts';
import { type Clock, delay } from '../clock.ts';
import { Refusal } from '../errors.ts';
import { findEmptiedTables } from '../mysql/checksums.ts';
import { cloneLocal, limitClone, readCloneProgress, readThreadId } from '../mysql/clone.ts';
import type { Session } from '../mysql/connection.ts';
import { readMarks } from './backup-marks.ts';
import { noSpace, requireRoom } from './backup-space.ts';
import { isMissing, renameDurable, syncTree } from './durable.ts';
import { parseKey } from './encryption.ts';
import { examineCopy } from './examine-copy.ts';
import { openSession } from './instance.ts';
import { beginWork, endVerification, requireIdle, tellDone, type WorkHandle } from './long-work.ts';
import {
  type BackupFiles,
  dataOf,
  findManifest,
  listBackups,
  type Packing,
  placeOf,
  writeManifest,
} from './manifest.ts';
import { type BackupEntry, type MemberContext, requireInstance, requireVolumes } from './member-context.ts';
import { lowerPriority } from './pace.ts';
import { type Packed, packFiles } from './packing.ts';
import { createThrottle } from './throttle.ts';
import type { Volume } from './volumes.ts';

const PROGRESS_MS = 500;
const STALL_MS = 10 * 60_000;

/** The `backup` command: checks, answers, goes on. The same id again is told as done. */
export async function backup(
  context: MemberContext,
  command: Extract<Command, { kind: 'backup' }>,
): Promise<CommandResult> {
  const { backup: volume } = requireVolumes(context);
  const what = { kind: 'backup', commandId: command.id } as const;
  if (!volume) throw new Refusal('NO_BACKUP_VOLUME', 'this member has no backup volume');
  await endVerification(context);
  requireIdle(context);
  const place = placeOf(volume, command.backupId);
  if (await findManifest(place.final)) return tellDone(context, what);
  const { admin } = requireInstance(context);
  const emptied = await findEmptiedTables(admin);
  if (emptied.length > 0) {
    const message = `CLONE would leave these tables empty: ${emptied.join(', ')}`;
    throw new Refusal('BACKUP_ENGINE', message, { tables: emptied });
  }
  const packing = packingOf(command);
  const roomBytes = await requireRoom(context, volume, { partial: place.partial, isPacked: packing !== null });
  const options = {
    packing,
    volume,
    id: command.backupId,
    roomBytes,
    bytesPerSec: command.maxBytesPerSec ?? null,
  };
  return beginWork(context, what, (work) => takeBackup(context, options, work));
}

function packingOf({ compress, backupKey }: Extract<Command, { kind: 'backup' }>): Packing | null {
  const [by, cipher] = (compress ?? 'none').split('+');
  if (cipher && !backupKey) throw new Refusal('BACKUP_KEY_UNKNOWN', 'an encrypted backup needs a key, and none came');
  const key = cipher && backupKey ? parseKey(backupKey) : null;
  return by === 'none' && !key ? null : { compress: by === 'zstd' ? 'zstd' : 'none', key };
}

/**
 * The `removeBackup` command. Without its final name it counts for nothing; what is left of it then goes by itself,
 * now or at the next start.
 */
export async function removeBackup(
  context: MemberContext,
  command: Extract<Command, { kind: 'removeBackup' }>,
): Promise<CommandResult> {
  const { backup: volume } = requireVolumes(context);
  if (!volume) throw new Refusal('NO_BACKUP_VOLUME', 'this member has no backup volume');
  await endVerification(context);
  requireIdle(context);
  const { final } = placeOf(volume, command.backupId);
  const going = `${final}.removed.partial`;
  await rm(going, { recursive: true, force: true });
  try {
    await renameDurable(final, going);
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
  context.badBackups.delete(command.backupId);
  await refreshBackups(context, volume);
  rm(going, { recursive: true, force: true }).catch((error: unknown) =>
    context.log.warn({ err: error, backup: command.backupId }, 'a removed backup cannot be cleared yet'),
  );
  return { outcome: 'done' };
}

interface TakeOptions {
  readonly volume: Volume;
  readonly id: string;
  /** The volume is never filled: past this the backup gives up. */
  readonly roomBytes: number;
  readonly bytesPerSec: number | null;
  /** Null: files stay plain. */
  readonly packing: Packing | null;
}

async function takeBackup(context: MemberContext, options: TakeOptions, work: WorkHandle): Promise<void> {
  const { clock, plan } = context;
  const { volume, id } = options;
  const { partial, final } = placeOf(volume, id);
  const startedAt = clock.now();
  const { marker } = context;
  if (!marker) throw new Refusal('NOT_RUNNING', 'the data volume has no marker');
  try {
    work.step('copying');
    await rm(partial, { recursive: true, force: true });
    await mkdir(partial, { recursive: true, mode: 0o700 });
    const copiedBytes = await copyInstance(context, dataOf(partial), options, work);
    work.step('starting the copy');
    const { packing } = options;
    const examined = { ...options, copiedBytes, isPacked: packing !== null };
    const { gtidSet, files: plain } = await examineCopy(context, dataOf(partial), examined, work);
    if (packing) work.step('packing');
    const files = packing
      ? await packCopy(context, { ...packing, directory: partial, id }, plain, { ...options, work })
      : plain;
    work.step('sealing');
    const { installation, cluster, clusterName, ordinal } = plan;
    const { incarnation, serverUuid } = marker;
    const about = { id, installation, cluster, clusterName, ordinal, incarnation, serverUuid };
    const { epoch } = context.state.get();
    const mysqlVersion = (await context.findDistribution()).version;
    const times = { startedAt, endedAt: clock.now() };
    await writeManifest(partial, { ...about, epoch, mysqlVersion, gtidSet, ...times }, files, packing);
    await syncTree(partial);
    work.signal.throwIfAborted();
    await renameDurable(partial, final);
  } catch (error) {
    await rm(partial, { recursive: true, force: true }).catch(() => {}); // the next start removes it
    throw error;
  }
  await refreshBackups(context, volume);
}

/** Reads the list of complete backups into the status. */
export async function refreshBackups(context: MemberContext, volume: Volume): Promise<void> {
  const { installation, cluster } = context.plan;
  const entries: BackupEntry[] = [];
  for (const manifest of await listBackups(volume)) {
    if (manifest.installation !== installation || manifest.cluster !== cluster) continue;
    const { id, gtidSet, bytes, startedAt, endedAt, packed, encrypted } = manifest;
    const storedBytes = packed?.bytes ?? bytes;
    const keyId = encrypted?.keyId ?? null;
    const { verified, bad } = await readMarks(placeOf(volume, id).final);
    const reason = context.badBackups.get(id) ?? bad?.message ?? null;
    const marks = { verifiedAt: verified?.at ?? null, durationMs: verified?.durationMs ?? null };
    entries.push({
      id,
      gtidSet,
      bytes,
      storedBytes,
      startedAt,
      endedAt,
      ...marks,
      isBad: reason !== null,
      reason,
      keyId,
    });
  }
  context.backups = entries;
  context.areBackupsKnown = true;
  context.changed();
}

/**
 * CLONE LOCAL on a session of its own: closing it ends the copying. It runs within mysqld: its threads get the lowest
 * I/O priority, and `clone_max_data_bandwidth` holds the rate (measured: it is obeyed by LOCAL too, although the manual
 * speaks of remote clones only). Answers the bytes that were copied.
 */
async function copyInstance(
  context: MemberContext,
  target: string,
  { bytesPerSec, roomBytes }: TakeOptions,
  work: WorkHandle,
): Promise<number> {
  const instance = requireInstance(context);
  const session = await openSession({ socketPath: context.paths.socket, clock: context.clock });
  const onAbort = () => void session.close();
  work.signal.addEventListener('abort', onAbort, { once: true });
  let copied = 0;
  const progress = (done: number, total: number | null) => {
    copied = Math.max(done, total ?? 0);
    const most = Math.max(done, total ?? 0);
    if (most > roomBytes) throw noSpace({ neededBytes: most, roomBytes });
    work.progress(done, total === null ? null : total * 2);
  };
  try {
    await limitClone(session, bytesPerSec);
    const threadId = await readThreadId(session);
    if (threadId !== null) lowerPriority(threadId);
    await withProgress(context.clock, instance.probe, { ...work, progress }, cloneLocal(session, target));
    work.signal.throwIfAborted();
    return copied;
  } finally {
    work.signal.removeEventListener('abort', onAbort);
    await session.close();
  }
}

async function packCopy(
  { clock }: MemberContext,
  packed: Packed,
  files: BackupFiles,
  { bytesPerSec, work }: TakeOptions & { readonly work: WorkHandle },
): Promise<BackupFiles> {
  const throttle = createThrottle(clock, bytesPerSec);
  const total = files.reduce((sum, { bytes }) => sum + bytes, 0);
  let done = 0;
  const onChunk = async (bytes: number) => {
    done += bytes;
    work.progress(total * 2 + done, total * 3);
    await throttle.take(bytes, work.signal);
  };
  return packFiles(packed, { files, signal: work.signal, onChunk });
}

/**
 * Waits for a running CLONE and reports how far it is, asked over another session. Rejects when nothing moved for ten
 * minutes: a donor whose commits wait for acknowledgements never ends its CLONE. The caller then ends its session.
 */
export async function withProgress(
  clock: Clock,
  session: Session,
  work: WorkHandle,
  cloning: Promise<void>,
): Promise<void> {
  const ended = new AbortController();
  const watch = async () => {
    let done = -1;
    for (let movedAt = clock.now(); clock.now() - movedAt < STALL_MS; ) {
      await delay(clock, PROGRESS_MS, ended.signal);
      const progress = await readCloneProgress(session);
      if (!progress || progress.doneBytes === done) continue;
      done = progress.doneBytes;
      movedAt = clock.now();
      work.progress(done, progress.totalBytes);
    }
    throw new Refusal('TIMED_OUT', 'CLONE does not move: do commits of the donor wait for acknowledgements?');
  };
  const stalled = watch().catch((error: unknown) => {
    if (error instanceof Refusal) throw error;
    return new Promise<never>(() => {}); // ended, or the session did: only the clone itself counts then
  });
  try {
    await Promise.race([cloning, stalled]);
  } finally {
    ended.abort(new Error('ended'));
    cloning.catch(() => {}); // given up: its session is closed by the caller
  }
}
