/**
 * What makes a directory on the backup volume a backup: a manifest beside its data, in a directory that has its final
 * name. `manifest.json` is small and read at each start; `files.json` (every file with its SHA-256) is read when the
 * backup is used, and the manifest holds the SHA-256 of it.
 */
import { createHash } from 'node:crypto';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { z } from 'zod';
import { Refusal } from '../errors.ts';
import { isMissing, readIfThere, writeDurable } from './durable.ts';
import { readThrough } from './read-through.ts';
import type { Volume } from './volumes.ts';

/** Some 120 bytes a file: half a million files. */
const MAX_LIST_BYTES = 64 * 1024 * 1024;

export const manifestSchema = z.object({
  /** 2: packed. Who knows only 1 must not take its data for missing. */
  version: z.union([z.literal(1), z.literal(2)]),
  id: z.string(),
  installation: z.string(),
  cluster: z.string(),
  clusterName: z.string(),
  ordinal: z.number().int(),
  incarnation: z.string(),
  serverUuid: z.string(),
  epoch: z.number().int(),
  mysqlVersion: z.string(),
  gtidSet: z.string(),
  /** Of the plain data. */
  bytes: z.number(),
  /** What it takes on the volume, when it is packed. */
  packed: z.object({ by: z.literal('zstd'), bytes: z.number() }).optional(),
  startedAt: z.number(),
  endedAt: z.number(),
  filesSha256: z.string(),
  /** Every directory below the data, those without files too: mysqld needs them. Backups of before have no list. */
  directories: z.array(z.string()).optional(),
});
export type Manifest = z.infer<typeof manifestSchema>;

const stored = { bytes: z.number(), sha256: z.string() };
const filesSchema = z.array(z.object({ path: z.string(), ...stored, packed: z.object(stored).optional() }));
export type BackupFiles = z.infer<typeof filesSchema>;

const idPattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const PARTIAL = '.partial';

export interface BackupPlace {
  readonly final: string;
  readonly partial: string;
}

/** Where a backup is and where it is made. Refuses ids that are no plain names. */
export function placeOf(volume: Volume, id: string): BackupPlace {
  if (!idPattern.test(id) || id.endsWith(PARTIAL)) throw new Refusal('BAD_REQUEST', 'this is no backup id');
  const final = join(volume.path, 'backups', id);
  return { final, partial: `${final}${PARTIAL}` };
}

/** Data directory within a backup's directory. */
export const dataOf = (directory: string) => join(directory, 'data');

/** Writes both files into `directory`, durable. */
export async function writeManifest(
  directory: string,
  manifest: Omit<Manifest, 'filesSha256' | 'bytes' | 'version' | 'directories' | 'packed'>,
  files: BackupFiles,
): Promise<void> {
  const text = `${JSON.stringify(files)}\n`;
  await writeDurable(join(directory, 'files.json'), text);
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
  const filesSha256 = createHash('sha256').update(text).digest('hex');
  const directories = await listDirectories(dataOf(directory));
  const packedBytes = files.reduce((sum, { packed }) => sum + (packed?.bytes ?? 0), 0);
  const isPacked = files.some(({ packed }) => packed);
  const packing = isPacked ? { version: 2, packed: { by: 'zstd', bytes: packedBytes } } : { version: 1 };
  const whole = manifestSchema.parse({ ...manifest, ...packing, bytes, filesSha256, directories });
  await writeDurable(join(directory, 'manifest.json'), `${JSON.stringify(whole, null, 2)}\n`);
}

async function listDirectories(root: string): Promise<string[]> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isDirectory())
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .sort();
}

/** Without it mysqld starts, but not its CLONE plugin: it lies empty in every backup. */
const alwaysThere = 'performance_schema';

/** Makes every directory of a backup below `target`; answers their paths. Throws BACKUP_DAMAGED as readFiles does. */
export async function makeDirectories(target: string, { id, directories = [] }: Manifest): Promise<string[]> {
  const paths: string[] = [];
  for (const path of [alwaysThere, ...directories]) {
    if (leavesDirectory(path)) {
      throw new Refusal('BACKUP_DAMAGED', `the list of directories of backup ${id} leaves its directory`);
    }
    paths.push(join(target, path));
    await mkdir(join(target, path), { recursive: true, mode: 0o750 });
  }
  return paths;
}

const leavesDirectory = (path: string) => path.startsWith('/') || path.split('/').includes('..');

/** The manifest of a complete backup; null when there is none that can be read. */
export async function findManifest(directory: string): Promise<Manifest | null> {
  try {
    const text = await readIfThere(join(directory, 'manifest.json'));
    if (text === null) return null;
    return manifestSchema.parse(JSON.parse(text));
  } catch {
    return null;
  }
}

/** The file list of a backup. Refuses with BACKUP_DAMAGED when it is not the one that the manifest speaks of. */
export async function readFiles(directory: string, manifest: Manifest): Promise<BackupFiles> {
  const text = await readIfThere(join(directory, 'files.json'), MAX_LIST_BYTES);
  return checkFiles(text, manifest);
}

/** The same of the text of such a list, wherever it is from. */
export function checkFiles(text: string | null, manifest: Manifest): BackupFiles {
  const isWhole = text !== null && createHash('sha256').update(text).digest('hex') === manifest.filesSha256;
  if (!isWhole) throw new Refusal('BACKUP_DAMAGED', `the file list of backup ${manifest.id} does not match`);
  const files = filesSchema.parse(JSON.parse(text));
  for (const { path } of files) {
    if (leavesDirectory(path)) {
      throw new Refusal('BACKUP_DAMAGED', `the file list of backup ${manifest.id} leaves its directory`);
    }
  }
  return files;
}

/** Complete backups, oldest first. */
export async function listBackups(volume: Volume): Promise<Manifest[]> {
  const names = await readdir(join(volume.path, 'backups')).catch(emptyWhenMissing);
  const found: Manifest[] = [];
  for (const name of names) {
    if (!idPattern.test(name) || name.endsWith(PARTIAL)) continue;
    const manifest = await findManifest(join(volume.path, 'backups', name));
    if (manifest && manifest.id === name) found.push(manifest);
  }
  return found.sort((a, b) => a.startedAt - b.startedAt);
}

/** Removes what interrupted backups left: a directory without its final name counts for nothing. */
export async function removePartialBackups(volume: Volume): Promise<void> {
  const names = await readdir(join(volume.path, 'backups')).catch(emptyWhenMissing);
  for (const name of names) {
    if (name.endsWith(PARTIAL)) await rm(join(volume.path, 'backups', name), { recursive: true, force: true });
  }
}

function emptyWhenMissing(error: unknown): string[] {
  if (isMissing(error)) return [];
  throw error;
}

/** Every file below `directory`, by its path from there, in order. */
export async function listFiles(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => relative(directory, join(entry.parentPath, entry.name)))
    .sort();
}

/** Every file below `directory`, with its SHA-256, in order of path. `find` knows what was hashed before. */
export async function hashFiles(
  directory: string,
  options: {
    readonly signal: AbortSignal;
    find?(path: string): Promise<{ bytes: number; sha256: string } | null>;
    onChunk?(bytes: number): Promise<void>;
  },
): Promise<BackupFiles> {
  const files: BackupFiles = [];
  for (const path of await listFiles(directory)) {
    const known = await options.find?.(path);
    const hashed = known ?? (await hashFile(join(directory, path), options.signal, options.onChunk));
    files.push({ path, ...hashed });
  }
  return files;
}

/** Size and SHA-256 (hex) of one file; `onChunk` is told what was read and may hold it up. */
export async function hashFile(
  path: string,
  signal: AbortSignal,
  onChunk?: (bytes: number) => Promise<void>,
): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash('sha256');
  const bytes = await readThrough(path, signal, (chunk) => {
    hash.update(chunk);
    return onChunk?.(chunk.length);
  });
  return { bytes, sha256: hash.digest('hex') };
}
