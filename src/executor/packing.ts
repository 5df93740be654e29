/**
 * A packed backup: every file of `data/` is a file of its own in `packed/`: a zstd file (`.zst`), sealed (`.enc`,
 * encryption.ts), or the first within the second; `data/` keeps the directories only. The list of files tells both, what
 * is stored and what comes out. Rules:
 * - A plain file goes only when its packed one was flushed, read back, and came to the same checksum.
 * - A stream of bytes in little memory; a packed file never gives more than its list says.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { constants, createZstdCompress, createZstdDecompress } from 'node:zlib';
import { Refusal } from '../errors.ts';
import { decrypt, encrypt } from './encryption.ts';
import { type BackupFiles, dataOf, hashFile, type Packing } from './manifest.ts';
import { passBuffer } from './passing-buffers.ts';

/** Each chunk is new memory until it is collected: packing 300 MB took 30 MB more with 128 KB, 15 MB with this. */
const CHUNK_BYTES = 32 * 1024;
/** zstd's default: what is more takes several times as long for a few percent. */
const LEVEL = 3;
const params = { [constants.ZSTD_c_compressionLevel]: LEVEL, [constants.ZSTD_c_checksumFlag]: 1 };

/** A backup whose files are packed: where they are, and what opens them. */
export interface Packed extends Packing {
  readonly directory: string;
  /** Of the backup: no file opens as that of another one. */
  readonly id: string;
}

export const packedOf = (directory: string) => join(directory, 'packed');
/** Behind the name of a packed file. */
export const suffixOf = (compress: Packing['compress'], isEncrypted: boolean) =>
  `${compress === 'zstd' ? '.zst' : ''}${isEncrypted ? '.enc' : ''}`;
export const packedName = ({ compress, key }: Packing, path: string) => `${path}${suffixOf(compress, key !== null)}`;
export const placeOfPacked = (packed: Packed, path: string) =>
  join(packedOf(packed.directory), packedName(packed, path));
const contextOf = ({ id }: Packed, path: string) => `${id}\ndata/${path}`;

interface PackOptions {
  readonly files: BackupFiles;
  readonly signal: AbortSignal;
  /** Told what was read, and may hold it up. */
  onChunk(bytes: number): Promise<void>;
}

/** Replaces the plain files by packed ones, one after the other. Answers the list with what is stored now. */
export async function packFiles(packed: Packed, { files, signal, onChunk }: PackOptions): Promise<BackupFiles> {
  const done: BackupFiles = [];
  await mkdir(packedOf(packed.directory), { mode: 0o700 });
  for (const file of files) {
    const plain = join(dataOf(packed.directory), file.path);
    const to = placeOfPacked(packed, file.path);
    await mkdir(dirname(to), { recursive: true, mode: 0o700 });
    await packFile(packed, file.path, { signal, onChunk });
    await copyUnpacked({ packed, file, signal, take: () => {} });
    done.push({ ...file, packed: await hashFile(to, signal) });
    await rm(plain);
  }
  return done;
}

async function packFile(
  packed: Packed,
  path: string,
  { signal, onChunk }: Pick<PackOptions, 'signal' | 'onChunk'>,
): Promise<void> {
  await using file = await open(placeOfPacked(packed, path), 'wx', 0o600);
  const read = async function* () {
    const source = createReadStream(join(dataOf(packed.directory), path), { highWaterMark: CHUNK_BYTES });
    for await (const chunk of source as AsyncIterable<Buffer>) {
      await onChunk(chunk.length);
      signal.throwIfAborted();
      yield chunk;
      passBuffer(chunk.length);
    }
  };
  const packer = () => createZstdCompress({ chunkSize: CHUNK_BYTES, params });
  const smaller = packed.compress === 'zstd' ? through(read(), packer(), signal) : read();
  const sealed = packed.key ? encrypt(smaller, packed.key, contextOf(packed, path)) : smaller;
  for await (const chunk of sealed) await file.writeFile(chunk);
  await file.sync();
}

/** What comes out of `transform`. Whoever stops reading ends both. */
async function* through(
  source: AsyncIterable<Buffer>,
  transform: Transform,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  const ended = pipeline(source, transform, { signal });
  ended.catch(() => {}); // it comes out of the loop too
  try {
    for await (const chunk of transform as AsyncIterable<Buffer>) yield chunk;
  } finally {
    transform.destroy();
  }
}

/**
 * The plain bytes of a file from an offset on. Throws BACKUP_DAMAGED where they are no packed file of this backup, or
 * one that was cut.
 */
export async function* unpack(
  packed: Packed,
  path: string,
  { from = 0, signal }: { readonly from?: number; readonly signal: AbortSignal },
): AsyncGenerator<Buffer> {
  const source = createReadStream(placeOfPacked(packed, path), { highWaterMark: CHUNK_BYTES });
  const opened: AsyncIterable<Buffer> = packed.key ? decrypt(source, packed.key, contextOf(packed, path)) : source;
  const unpacker = () => createZstdDecompress({ chunkSize: CHUNK_BYTES });
  const plain = packed.compress === 'zstd' ? through(opened, unpacker(), signal) : opened;
  let at = 0;
  try {
    for await (const chunk of plain) {
      signal.throwIfAborted();
      if (at + chunk.length > from) yield chunk.subarray(Math.max(0, from - at));
      at += chunk.length;
      passBuffer(chunk.length);
    }
  } catch (error) {
    signal.throwIfAborted();
    throw isOfZstd(error) ? new Refusal('BACKUP_DAMAGED', `${packedName(packed, path)} cannot be unpacked`) : error;
  } finally {
    source.destroy();
  }
}

function isOfZstd(error: unknown): boolean {
  const { code = '' } = error as NodeJS.ErrnoException;
  return /^(ZSTD_|Z_|ERR_ZSTD|ERR_ZLIB)/.test(code);
}

interface Unpacking {
  readonly packed: Packed;
  readonly file: BackupFiles[number];
  readonly signal: AbortSignal;
  take(chunk: Buffer): Promise<void> | void;
}

/** Hands over a file's plain bytes. Throws BACKUP_DAMAGED when they are not those that the list speaks of. */
export async function copyUnpacked({ packed, file, signal, take }: Unpacking): Promise<void> {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of unpack(packed, file.path, { signal })) {
    bytes += chunk.length;
    if (bytes > file.bytes) break;
    hash.update(chunk);
    await take(chunk);
  }
  if (bytes === file.bytes && hash.digest('hex') === file.sha256) return;
  throw new Refusal('BACKUP_DAMAGED', `${file.path} does not match its checksum`);
}
