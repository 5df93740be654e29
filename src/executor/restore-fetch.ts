/**
 * Fetching a backup from the executor that holds it. What an ended executor left is gone on with as long as nothing was
 * started on it: `<target>.source` says whose files lie there.
 */
import { mkdir, readdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { type TransferClient, transferPaths } from '../channel/transfer.ts';
import { type Clock, delay } from '../clock.ts';
import { Refusal } from '../errors.ts';
import { downloadFile } from './download.ts';
import { readIfThere, syncTree, writeDurable } from './durable.ts';
import { type BackupFiles, checkFiles, type Manifest, makeDirectories, manifestSchema, readList } from './manifest.ts';

/** Small files cost a round trip each. */
const AT_ONCE = 4;
const TRIES = 20;
const PAUSE_MS = 1000;

const sourceSchema = z.object({
  version: z.literal(1),
  backupId: z.string(),
  filesSha256: z.string(),
  /** mysqld was started on the files: they are not those of the backup any more. */
  isStarted: z.boolean(),
});

export interface FetchedBackup {
  readonly manifest: Manifest;
  readonly files: BackupFiles;
}

interface FetchOptions {
  readonly client: TransferClient;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly backupId: string;
}

/** What the backup is, and its files with their checksums, the list itself checked. Throws BACKUP_DAMAGED. */
export async function fetchManifest(options: FetchOptions): Promise<FetchedBackup> {
  const { client, backupId } = options;
  const manifestText = await fetchText(options, transferPaths.manifest(backupId));
  const parsed = manifestSchema.safeParse(tryParse(manifestText));
  if (!parsed.success || parsed.data.id !== backupId) {
    throw new Refusal('BACKUP_DAMAGED', `the manifest of backup ${backupId} cannot be read`);
  }
  const files = checkFiles(await fetchText({ ...options, client }, transferPaths.files(backupId)), parsed.data);
  return { manifest: parsed.data, files };
}

/** A donor that was just told of the share, or is busy, gets some tries. */
async function fetchText({ client, clock, signal }: FetchOptions, path: string): Promise<string> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return (await readList(await client.open(path, 0, signal))).toString('utf8');
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof Refusal && error.code === 'NOT_FOUND') {
        throw new Refusal('BACKUP_DAMAGED', 'the donor does not have the backup whole', { path });
      }
      if (error instanceof Refusal && error.code !== 'BUSY') throw error;
      if (attempt >= TRIES)
        throw new Refusal('TRANSFER_BROKEN', `the donor does not answer: ${(error as Error).message}`);
      await delay(clock, PAUSE_MS, signal);
    }
  }
}

function tryParse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

export interface FillOptions extends FetchOptions {
  readonly backup: FetchedBackup;
  /** Directory to fill; what is in it and not of this backup goes. */
  readonly target: string;
  onBytes(count: number): void;
}

/** Fills `target` with the backup's data, each file checked; on disk when it returns. Throws as downloadFile does. */
export async function fetchBackup(options: FillOptions): Promise<void> {
  const { backup, target, signal } = options;
  await prepare(options);
  const files = backup.files.values();
  const failed = new AbortController();
  const both = AbortSignal.any([signal, failed.signal]);
  const work = async () => {
    for (const { path, bytes, sha256 } of files) {
      const to = join(target, path);
      await mkdir(dirname(to), { recursive: true, mode: 0o750 });
      const from = transferPaths.data(options.backupId, path);
      await downloadFile({ ...options, signal: both, path: from, target: to, bytes, sha256 });
    }
  };
  const workers = Array.from({ length: AT_ONCE }, () => work().catch((error: unknown) => failed.abort(error)));
  await Promise.all(workers);
  both.throwIfAborted();
  await syncTree(target);
}

const sourceOf = (target: string) => `${target}.source`;

async function prepare({ backup, target }: FillOptions): Promise<void> {
  const { id: backupId, filesSha256 } = backup.manifest;
  const known = sourceSchema.safeParse(tryParse((await readIfThere(sourceOf(target))) ?? ''));
  const isSame = known.success && known.data.filesSha256 === filesSha256 && !known.data.isStarted;
  if (!isSame) await rm(target, { recursive: true, force: true });
  await writeSource(target, { backupId, filesSha256, isStarted: false });
  await mkdir(target, { recursive: true, mode: 0o750 });
  await makeDirectories(target, backup.manifest);
  const listed = new Set(backup.files.map(({ path }) => path));
  for (const entry of await readdir(target, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (!entry.isDirectory() && !listed.has(path.slice(target.length + 1))) await rm(path, { force: true });
  }
}

function writeSource(target: string, source: Omit<z.infer<typeof sourceSchema>, 'version'>): Promise<void> {
  return writeDurable(sourceOf(target), `${JSON.stringify({ version: 1, ...source })}\n`);
}

/** Before mysqld is started on what was fetched: from here on an interrupted filling begins anew. */
export function markStarted(target: string, { id: backupId, filesSha256 }: Manifest): Promise<void> {
  return writeSource(target, { backupId, filesSha256, isStarted: true });
}

/** When it has got its name, or nothing of it is wanted. */
export async function forgetFetched(target: string): Promise<void> {
  await rm(target, { recursive: true, force: true });
  await rm(sourceOf(target), { force: true });
}
