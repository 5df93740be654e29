/**
 * What makes a directory on the backup volume a backup: a manifest beside its data, in a directory that has its final
 * name. `manifest.json` is small and read at each start; `files.json` (every file with its SHA-256) is read when the
 * backup is used, and the manifest holds the SHA-256 of it.
 */
import { createHash } from 'node:crypto';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { z } from 'zod';
import { keyIdOf } from '../cluster/backup-key.ts';
import { Refusal } from '../errors.ts';
import { isMissing, readIfThere, writeDurable } from './durable.ts';
import { encrypt, macOf } from './encryption.ts';
import { readThrough } from './read-through.ts';
import type { Volume } from './volumes.ts';

/** Some 120 bytes a file: half a million files. */
export const LIST_BYTES_MAX = 64 * 1024 * 1024;

/** A manifest or a list of files that comes as a stream. Throws BACKUP_DAMAGED past LIST_BYTES_MAX. */
export async function readList(stream: AsyncIterable<Buffer>): Promise<Buffer> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of stream) {
    size += part.length;
    if (size > LIST_BYTES_MAX) throw new Refusal('BACKUP_DAMAGED', 'the list of files is too long');
    parts.push(part);
  }
  return Buffer.concat(parts);
}

/** Within a backup's directory. `sealedFiles` instead of `files`, and `mac`: of an encrypted one. */
export const names = {
  manifest: 'manifest.json',
  mac: 'manifest.mac',
  files: 'files.json',
  sealedFiles: 'files.json.enc',
} as const;
/** Where the sealed list belongs: encryption.ts. No file of the data has this place. */
export const sealedListOf = (id: string) => `${id}\nfiles.json`;

/** How the files of a backup are stored. */
export interface Packing {
  readonly compress: 'zstd' | 'none';
  /** Null: not encrypted. */
  readonly key: Buffer | null;
}

export const manifestSchema = z.object({
  /** 2: packed; 3: encrypted. Who knows only those before must not take its data for missing. */
  version: z.union([z.literal(1), z.literal(2), z.literal(3)]),
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
  packed: z.object({ by: z.enum(['zstd', 'none']), bytes: z.number() }).optional(),
  /** Then `manifest.mac` stands behind this text, and the list of files is sealed too. */
  encrypted: z.object({ by: z.literal('aes-256-gcm'), keyId: z.string() }).optional(),
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

/** Writes manifest and list of files into `directory`, durable. `packing`: how the files were packed; null: not at all. */
export async function writeManifest(
  directory: string,
  manifest: Omit<Manifest, 'filesSha256' | 'bytes' | 'version' | 'directories' | 'packed' | 'encrypted'>,
  files: BackupFiles,
  packing: Packing | null = null,
): Promise<void> {
  const text = `${JSON.stringify(files)}\n`;
  const key = packing?.key ?? null;
  if (key) await writeDurable(join(directory, names.sealedFiles), await sealText(text, key, sealedListOf(manifest.id)));
  else await writeDurable(join(directory, names.files), text);
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
  const filesSha256 = createHash('sha256').update(text).digest('hex');
  const directories = await listDirectories(dataOf(directory));
  const stored = describePacking(packing, files);
  const whole = manifestSchema.parse({ ...manifest, ...stored, bytes, filesSha256, directories });
  const manifestText = `${JSON.stringify(whole, null, 2)}\n`;
  if (key) await writeDurable(join(directory, names.mac), `${macOf(key, manifestText)}\n`);
  await writeDurable(join(directory, names.manifest), manifestText);
}

function describePacking(
  packing: Packing | null,
  files: BackupFiles,
): Pick<Manifest, 'version' | 'packed' | 'encrypted'> {
  if (!packing) return { version: 1 };
  const packed = { by: packing.compress, bytes: files.reduce((sum, file) => sum + (file.packed?.bytes ?? 0), 0) };
  if (!packing.key) return { version: 2, packed };
  return { version: 3, packed, encrypted: { by: 'aes-256-gcm', keyId: keyIdOf(packing.key) } };
}

async function sealText(text: string, key: Buffer, context: string): Promise<Buffer> {
  const whole = async function* () {
    yield Buffer.from(text);
  };
  const parts: Buffer[] = [];
  for await (const part of encrypt(whole(), key, context)) parts.push(part);
  return Buffer.concat(parts);
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

/** Makes every directory of a backup below `target`; answers their paths. Throws BACKUP_DAMAGED as checkFiles does. */
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

/** The manifest of a complete backup; null when there is none that can be read. Nobody stands behind it: openBackup. */
export async function findManifest(directory: string): Promise<Manifest | null> {
  const text = await readIfThere(join(directory, names.manifest)).catch(() => null);
  return text === null ? null : parseManifest(text);
}

/** Null: not one of ours, or of a version that is not known here. */
export function parseManifest(text: string): Manifest | null {
  try {
    const manifest = manifestSchema.parse(JSON.parse(text));
    const isWhole = (manifest.version === 3) === (manifest.encrypted !== undefined);
    return isWhole && (manifest.version === 1) === (manifest.packed === undefined) ? manifest : null;
  } catch {
    return null;
  }
}

/** The list of files from its text, wherever it is from. BACKUP_DAMAGED: not the one that the manifest speaks of. */
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
