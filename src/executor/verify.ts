/**
 * Is a sealed backup what it was, and can it be started and read (guarantee 7)? Rules:
 * - Nothing in the sealed directory changes. mysqld is started on a directory of hard links to its files, with
 *   innodb_read_only and everything that it writes elsewhere (measured: only auto.cnf is new then, beside the links),
 *   and afterwards every file has the size and time that it had.
 * - It counts when all is read: every file by its SHA-256, the exact GTID set, every row of every table. What ends
 *   earlier leaves a `.partial` directory, which the next executor removes, and no mark.
 * - What proves damage is marked `bad`. What proves nothing (a fence, a full disk, an mysqld that was killed) is not.
 */
import { link, mkdir, readdir, rm, stat } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import type { Command, CommandResult } from '../channel/protocol.ts';
import { type ErrorCode, Refusal } from '../errors.ts';
import { checksumTable, listTables, type Checksums as TableChecksums } from '../mysql/checksums.ts';
import type { Session } from '../mysql/connection.ts';
import { readGtids, subtractGtids } from '../mysql/gtid.ts';
import { refreshBackups } from './backup.ts';
import { type Checksums, markBad, markVerified, readChecksums, writeChecksums } from './backup-marks.ts';
import { requireScratch } from './backup-space.ts';
import { writeUnpacked } from './copy-backup.ts';
import { copyArgs } from './copy-instance.ts';
import { openSession, type RunningInstance, startInstance } from './instance.ts';
import { beginWork, requireIdle, type WorkHandle } from './long-work.ts';
import { type BackupFiles, dataOf, hashFile, type Manifest, makeDirectories, placeOf } from './manifest.ts';
import { type MemberContext, requireVolumes } from './member-context.ts';
import { describeExit, type MysqldProcess } from './mysqld-process.ts';
import { type OpenBackup, openBackup, readFiles } from './open-backup.ts';
import { lowerPriority, paceProcess } from './pace.ts';
import { packedName, packedOf, placeOfPacked } from './packing.ts';
import { createThrottle, type Throttle } from './throttle.ts';
import type { Volume } from './volumes.ts';

const READERS = 2;
const STOP_TIMEOUT_MS = 60_000;
/** So many names in a message; the rest is counted. */
const NAMES_MAX = 5;

type Verify = Extract<Command, { kind: 'verify' }>;

/** The `verify` command: answers, goes on. The result is in Status.work and beside the backup. */
export async function verify(context: MemberContext, command: Verify): Promise<CommandResult> {
  const { backup: volume } = requireVolumes(context);
  if (!volume) throw new Refusal('NO_BACKUP_VOLUME', 'this member has no backup volume');
  requireIdle(context);
  const place = placeOf(volume, command.backupId);
  const what = { kind: 'verify', commandId: command.id } as const;
  return beginWork(context, what, async (work) => {
    const view = `${place.final}.verify.partial`;
    const bytesPerSec = command.maxBytesPerSec ?? null;
    try {
      await verifyBackup(context, { volume, directory: place.final, view, bytesPerSec, work });
      context.badBackups.delete(command.backupId);
    } catch (error) {
      if (!work.signal.aborted && isDamage(error)) await tellBad(context, command.backupId, place.final, error);
      throw error;
    } finally {
      await rm(view, { recursive: true, force: true }).catch(() => {}); // the next start removes it
      await refreshBackups(context, volume).catch((error: unknown) =>
        context.log.error({ err: error }, 'the backups cannot be read'),
      );
    }
  });
}

const damages: ReadonlySet<ErrorCode> = new Set(['BACKUP_DAMAGED', 'DATA_DIR_DAMAGED']);

function isDamage(error: unknown): error is Error {
  if (error instanceof Refusal) return damages.has(error.code);
  return (error as NodeJS.ErrnoException | null)?.code === 'EIO';
}

/** Known from now on even where the volume takes no mark any more. */
async function tellBad(context: MemberContext, id: string, directory: string, error: Error): Promise<void> {
  const bad = { at: context.clock.now(), code: 'BACKUP_DAMAGED', message: error.message };
  context.badBackups.set(id, bad.message);
  await markBad(directory, bad).catch((cause: unknown) =>
    context.log.error({ err: cause, backup: id }, 'a bad backup cannot be marked'),
  );
}

interface Options {
  readonly volume: Volume;
  readonly directory: string;
  /** Where the links go; removed by the caller. */
  readonly view: string;
  readonly bytesPerSec: number | null;
  readonly work: WorkHandle;
}

async function verifyBackup(context: MemberContext, options: Options): Promise<void> {
  const { directory, view, work, bytesPerSec } = options;
  const startedAt = context.clock.now();
  const backup = await getBackup(context, directory);
  const { manifest } = backup;
  const files = await readFiles(backup);
  await rm(view, { recursive: true, force: true });
  work.step('hashing');
  await requireSameNames(backup, files);
  const throttle = createThrottle(context.clock, bytesPerSec);
  const before = await compareFiles({ backup, files, throttle, work });
  if (manifest.packed) await requireScratch(options.volume, manifest.bytes);
  work.step(manifest.packed ? 'unpacking' : 'starting');
  await fillView({ backup, files, view, throttle, work });
  if (manifest.packed) work.step('starting');
  const read = await readInstance(context, manifest, options);
  work.step('comparing');
  const after = await readStamps(backup, files);
  const touched = files.filter((_, index) => after[index] !== before[index]).map(({ path }) => path);
  if (touched.length > 0) throw new Refusal('BACKUP_DAMAGED', `files changed while it was read: ${namesOf(touched)}`);
  await compareChecksums(directory, read.tables);
  work.signal.throwIfAborted();
  const at = context.clock.now();
  const tables = Object.keys(read.tables).length;
  await markVerified(directory, { at, durationMs: at - startedAt, tables, rows: read.rows });
}

async function getBackup(context: MemberContext, directory: string): Promise<OpenBackup> {
  const found = await openBackup(directory, context.backupKeys);
  if (!found) throw new Refusal('BACKUP_DAMAGED', 'its manifest is missing or cannot be read');
  const { manifest } = found;
  if (manifest.id !== basename(directory)) throw new Refusal('BACKUP_DAMAGED', 'its manifest is that of another one');
  const { installation, cluster } = context.plan;
  if (manifest.installation === installation && manifest.cluster === cluster) return found;
  throw new Refusal('BACKUP_DAMAGED', 'its manifest is that of another cluster');
}

async function requireSameNames({ directory, manifest, packed }: OpenBackup, files: BackupFiles): Promise<void> {
  const dataDir = packed ? packedOf(directory) : dataOf(directory);
  const entries = await readdir(dataDir, { recursive: true, withFileTypes: true }).catch(() => []);
  const found = new Set(
    entries
      .filter((entry) => !entry.isDirectory())
      .map((entry) => relative(dataDir, join(entry.parentPath, entry.name))),
  );
  const expected = new Set(files.map(({ path }) => (packed ? packedName(packed, path) : path)));
  const missing = [...expected].filter((path) => !found.has(path));
  const extra = [...found].filter((path) => !expected.has(path));
  if (missing.length > 0) throw new Refusal('BACKUP_DAMAGED', `files are missing: ${namesOf(missing)}`);
  if (extra.length > 0) throw new Refusal('BACKUP_DAMAGED', `files that are not its own: ${namesOf(extra)}`);
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
  if (bytes !== manifest.bytes) throw new Refusal('BACKUP_DAMAGED', 'the sizes of its files are not those it had');
}

interface Compare {
  readonly backup: OpenBackup;
  readonly files: BackupFiles;
  readonly throttle: Throttle;
  readonly work: WorkHandle;
}

/** Every file by its SHA-256. Answers the stamps of the files as they were read, in their order. */
async function compareFiles({ backup, files, throttle, work }: Compare): Promise<string[]> {
  const { manifest } = backup;
  const stamps = await readStamps(backup, files);
  let done = 0;
  for (const file of files) {
    const stored = file.packed ?? file;
    const found = await hashFile(storedAt(backup, file), work.signal, async (bytes) => {
      done += bytes;
      work.progress(done, manifest.bytes * 2);
      await throttle.take(bytes, work.signal);
    });
    if (found.bytes !== stored.bytes) {
      throw new Refusal('BACKUP_DAMAGED', `${file.path} has ${found.bytes} bytes, not ${stored.bytes}`);
    }
    if (found.sha256 !== stored.sha256) throw new Refusal('BACKUP_DAMAGED', `${file.path} does not match its checksum`);
  }
  return stamps;
}

const storedAt = ({ directory, packed }: OpenBackup, { path }: BackupFiles[number]) =>
  packed ? placeOfPacked(packed, path) : join(dataOf(directory), path);

/** Any write moves the time: what the kernel says of each file, without reading it. */
async function readStamps(backup: OpenBackup, files: BackupFiles): Promise<string[]> {
  const stamps: string[] = [];
  for (const file of files) {
    const found = await stat(storedAt(backup, file), { bigint: true }).catch(() => null);
    stamps.push(found ? `${found.ino} ${found.size} ${found.mtimeNs}` : 'missing');
  }
  return stamps;
}

/** By hard links; what is packed is written there plain, and checked. */
async function fillView(options: Compare & { readonly view: string }): Promise<void> {
  const { backup, files, view, work, throttle } = options;
  const { packed, manifest } = backup;
  const { signal } = work;
  const onChunk = (bytes: number) => throttle.take(bytes, signal);
  await mkdir(join(view, 'tmp'), { recursive: true, mode: 0o700 });
  await makeDirectories(join(view, 'data'), manifest);
  for (const file of files) {
    const to = join(view, 'data', file.path);
    await mkdir(dirname(to), { recursive: true, mode: 0o750 });
    if (packed) await writeUnpacked({ packed, file, to, signal, onChunk });
    else await link(storedAt(backup, file), to);
  }
}

interface Read {
  readonly tables: Checksums;
  readonly rows: number;
}

async function readInstance(context: MemberContext, manifest: Manifest, options: Options): Promise<Read> {
  const { bytesPerSec, work } = options;
  const { clock } = context;
  const started: { process?: MysqldProcess } = {};
  const onSpawn = (process: MysqldProcess) => {
    started.process = process;
    lowerPriority(process.pid);
  };
  try {
    const copy = await startInstance({ ...(await describeReader(context, options)), clock, onSpawn });
    const onAbort = () => copy.process.signal('SIGKILL');
    work.signal.addEventListener('abort', onAbort, { once: true });
    const onRead = (bytes: number) => {
      work.progress(manifest.bytes + Math.min(bytes, manifest.bytes), manifest.bytes * 2);
    };
    const release = paceProcess(copy.process, { clock, bytesPerSec, onRead });
    try {
      await requireSameGtids(copy.admin, manifest);
      work.step('reading');
      return await readTables(context, copy, socketOf(context));
    } finally {
      work.signal.removeEventListener('abort', onAbort);
      await release();
      await copy.terminate(STOP_TIMEOUT_MS);
    }
  } catch (error) {
    work.signal.throwIfAborted();
    throw started.process ? await explain(started.process, error) : error;
  }
}

const socketOf = (context: MemberContext) => join(context.paths.runDir, 'v');

async function describeReader(context: MemberContext, { volume, view, work }: Options) {
  const socketPath = socketOf(context);
  const logPath = `${context.paths.log}.verify`;
  const tmpDir = join(view, 'tmp');
  return {
    distribution: await context.findDistribution(),
    cnfPath: null,
    extraArgs: [
      ...copyArgs({ dataDir: join(view, 'data'), socketPath, logPath }),
      '--innodb-read-only',
      `--tmpdir=${tmpDir}`,
      `--innodb-temp-tablespaces-dir=${tmpDir}`,
      `--relay-log=${join(tmpDir, 'relay')}`,
      // Reads may come from the page cache that hashing has just filled; without native AIO they are seen in /proc.
      '--innodb-flush-method=fsync',
    ],
    lockPath: join(volume.path, 'lock'),
    logPath,
    socketPath,
    cwd: volume.path,
    isCopy: true,
    signal: work.signal,
  };
}

/**
 * An mysqld that ended by itself on files that match found damage from before they were hashed. One that was killed
 * found nothing. `error` came first: by now the process has been ended by us at the latest.
 */
async function explain(process: MysqldProcess, error: unknown): Promise<unknown> {
  const exit = await process.exited;
  if (exit.kind !== 'ended' || (exit.exitCode === 0 && exit.signal === null)) return error;
  if (exit.signal === 'SIGKILL') return new Error('mysqld was killed', { cause: error });
  if (error instanceof Refusal && damages.has(error.code)) return error;
  const isOfOurs = error instanceof Refusal && error.code !== 'INSTANCE_FAILED';
  return isOfOurs ? error : new Refusal('BACKUP_DAMAGED', `mysqld ended while it was read: ${describeExit(exit)}`);
}

async function requireSameGtids(session: Session, { gtidSet }: Manifest): Promise<void> {
  const { executed } = await readGtids(session);
  const [missing, extra] = await Promise.all([
    subtractGtids(session, gtidSet, executed),
    subtractGtids(session, executed, gtidSet),
  ]);
  if (missing === '' && extra === '') return;
  throw new Refusal('BACKUP_DAMAGED', 'it holds another GTID set than its manifest says', { missing, extra });
}

/** Every row of every table, two tables at a time. */
async function readTables(context: MemberContext, copy: RunningInstance, socketPath: string): Promise<Read> {
  const tables = await listTables(copy.admin);
  const sums: Record<string, number> = {};
  let rows = 0;
  const next = tables.values();
  const read = async () => {
    const session = await openSession({ socketPath, clock: context.clock });
    try {
      for (const table of next) {
        const found: TableChecksums = await checksumTable(session, table);
        if (found.checksum === null) {
          throw new Refusal('BACKUP_DAMAGED', `table ${table.schema}.${table.name} cannot be read: ${found.problem}`);
        }
        sums[`${table.schema}.${table.name}`] = found.checksum;
        rows += found.rows;
      }
    } finally {
      await session.close();
    }
  };
  const readers = await Promise.allSettled(Array.from({ length: READERS }, read));
  for (const reader of readers) if (reader.status === 'rejected') throw reader.reason;
  return { tables: sums, rows };
}

/** The first time they are recorded; what is read later must come to the same. */
async function compareChecksums(directory: string, tables: Checksums): Promise<void> {
  const known = await readChecksums(directory);
  if (!known) return writeChecksums(directory, tables);
  const names = new Set([...Object.keys(known), ...Object.keys(tables)]);
  const changed = [...names].filter((name) => known[name] !== tables[name]);
  if (changed.length === 0) return;
  throw new Refusal('BACKUP_DAMAGED', `tables read otherwise than the first time: ${namesOf(changed)}`);
}

function namesOf(names: readonly string[]): string {
  const more = names.length > NAMES_MAX ? ` and ${names.length - NAMES_MAX} more` : '';
  return `${names.slice(0, NAMES_MAX).join(', ')}${more}`;
}
