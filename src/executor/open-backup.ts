/** A sealed backup, ready to be read: what its manifest says, and the key that opens its files when they are encrypted. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Refusal } from '../errors.ts';
import { isMissing, readIfThere } from './durable.ts';
import { type BackupKeys, decrypt, isMacOf } from './encryption.ts';
import {
  type BackupFiles,
  checkFiles,
  LIST_BYTES_MAX,
  type Manifest,
  names,
  parseManifest,
  sealedListOf,
} from './manifest.ts';
import type { Packed } from './packing.ts';

export interface OpenBackup {
  readonly directory: string;
  readonly manifest: Manifest;
  /** Null: its files lie plain in `data/`. */
  readonly packed: Packed | null;
}

/**
 * Null when there is no manifest that can be read. Throws BACKUP_KEY_UNKNOWN; BACKUP_DAMAGED when an encrypted one has a
 * manifest that its key does not stand behind. Other manifests are as true as the volume.
 */
export async function openBackup(directory: string, keys: BackupKeys): Promise<OpenBackup | null> {
  const text = await readIfThere(join(directory, names.manifest)).catch(() => null);
  const manifest = text === null ? null : parseManifest(text);
  if (!manifest || text === null) return null;
  const { id, encrypted, packed } = manifest;
  const key = encrypted ? getKey(keys, encrypted.keyId, id) : null;
  if (key) {
    const mac = await readIfThere(join(directory, names.mac)).catch(() => null);
    if (!isMacOf(key, text, mac?.trim() ?? '')) {
      throw new Refusal('BACKUP_DAMAGED', `the manifest of backup ${id} is not the one that was sealed with its key`);
    }
  }
  return { directory, manifest, packed: packed ? { directory, id, compress: packed.by, key } : null };
}

function getKey(keys: BackupKeys, keyId: string, id: string): Buffer {
  const key = keys.get(keyId);
  if (key) return key;
  throw new Refusal('BACKUP_KEY_UNKNOWN', `backup ${id} is encrypted with key ${keyId}, which is not here`, { keyId });
}

/** Its list of files. Throws BACKUP_DAMAGED when it is not the one that the manifest speaks of. */
export async function readFiles(backup: OpenBackup): Promise<BackupFiles> {
  return checkFiles(await readFilesText(backup), backup.manifest);
}

/** The list as a text, opened when it is sealed, not compared; null when there is none. */
export async function readFilesText({ directory, manifest, packed }: OpenBackup): Promise<string | null> {
  const key = packed?.key ?? null;
  if (!key) return readIfThere(join(directory, names.files), LIST_BYTES_MAX);
  const sealed = await readFile(join(directory, names.sealedFiles)).catch((error: unknown) => {
    if (isMissing(error)) return null;
    throw error;
  });
  if (sealed === null || sealed.length > LIST_BYTES_MAX) return null;
  const parts: Buffer[] = [];
  for await (const part of decrypt(single(sealed), key, sealedListOf(manifest.id))) parts.push(part);
  return Buffer.concat(parts).toString('utf8');
}

async function* single(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}
