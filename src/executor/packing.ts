/**
 * A packed backup: every file of `data/` is a zstd file of its own in `packed/`, with `.zst` behind its name; `data/` keeps
 * the directories only. The list of files tells both, what is stored and what comes out. Rules:
 * - A plain file goes only when its packed one was flushed, read back, and came to the same checksum.
 * - A stream of bytes in little memory; a packed file never gives more than its list says.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { constants, createZstdCompress, createZstdDecompress } from 'node:zlib';
import { Refusal } from '../errors.ts';
import { type BackupFiles, dataOf, hashFile } from './manifest.ts';

/** Each chunk is new memory until it is collected: packing 300 MB took 30 MB more with 128 KB, 15 MB with this. */
const CHUNK_BYTES = 32 * 1024;
/** zstd's default: what is more takes several times as long for a few percent. */
const LEVEL = 3;
const params = { [constants.ZSTD_c_compressionLevel]: LEVEL, [constants.ZSTD_c_checksumFlag]: 1 };

export const packedOf = (directory: string) => join(directory, 'packed');
export const packedName = (path: string) => `${path}.zst`;
const placeOf = (directory: string, path: string) => join(packedOf(directory), packedName(path));

interface Packing {
  /** Of the backup. */
  readonly directory: string;
  readonly files: BackupFiles;
  readonly signal: AbortSignal;
  /** Told what was read, and may hold it up. */
  onChunk(bytes: number): Promise<void>;
}

/** Replaces the plain files by packed ones, one after the other. Answers the list with what is stored now. */
export async function packFiles({ directory, files, signal, onChunk }: Packing): Promise<BackupFiles> {
  const packed: BackupFiles = [];
  await mkdir(packedOf(directory), { mode: 0o700 });
  for (const file of files) {
    const plain = join(dataOf(directory), file.path);
    const to = placeOf(directory, file.path);
    await mkdir(dirname(to), { recursive: true, mode: 0o700 });
    await packFile(plain, to, { signal, onChunk });
    await copyUnpacked({ directory, file, signal, take: () => {} });
    packed.push({ ...file, packed: await hashFile(to, signal) });
    await rm(plain);
  }
  return packed;
}

async function packFile(
  from: string,
  to: string,
  { signal, onChunk }: Pick<Packing, 'signal' | 'onChunk'>,
): Promise<void> {
  await using file = await open(to, 'wx', 0o600);
  const counted = async function* (source: AsyncIterable<Buffer>) {
    for await (const chunk of source) {
      await onChunk(chunk.length);
      yield chunk;
    }
  };
  const source = createReadStream(from, { highWaterMark: CHUNK_BYTES });
  const packer = createZstdCompress({ chunkSize: CHUNK_BYTES, params });
  const sink = new Writable({
    write(chunk: Buffer, _, done) {
      file.writeFile(chunk).then(() => done(), done);
    },
  });
  await pipeline(source, counted, packer, sink, { signal });
  await file.sync();
}

/** The plain bytes of a file from an offset on. Throws BACKUP_DAMAGED where they are no zstd file, or one that was cut. */
export async function* unpack(
  directory: string,
  path: string,
  { from = 0, signal }: { readonly from?: number; readonly signal: AbortSignal },
): AsyncGenerator<Buffer> {
  const unpacker = createZstdDecompress({ chunkSize: CHUNK_BYTES });
  const source = createReadStream(placeOf(directory, path), { highWaterMark: CHUNK_BYTES });
  const ended = pipeline(source, unpacker, { signal });
  ended.catch(() => {}); // it comes out of the loop too
  let at = 0;
  try {
    for await (const chunk of unpacker as AsyncIterable<Buffer>) {
      if (at + chunk.length > from) yield chunk.subarray(Math.max(0, from - at));
      at += chunk.length;
    }
  } catch (error) {
    signal.throwIfAborted();
    throw isOfZstd(error) ? new Refusal('BACKUP_DAMAGED', `${packedName(path)} cannot be unpacked`) : error;
  } finally {
    source.destroy();
  }
}

function isOfZstd(error: unknown): boolean {
  const { code = '' } = error as NodeJS.ErrnoException;
  return /^(ZSTD_|Z_|ERR_ZSTD|ERR_ZLIB)/.test(code);
}

interface Unpacking {
  readonly directory: string;
  readonly file: BackupFiles[number];
  readonly signal: AbortSignal;
  take(chunk: Buffer): Promise<void> | void;
}

/** Hands over a file's plain bytes. Throws BACKUP_DAMAGED when they are not those that the list speaks of. */
export async function copyUnpacked({ directory, file, signal, take }: Unpacking): Promise<void> {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of unpack(directory, file.path, { signal })) {
    bytes += chunk.length;
    if (bytes > file.bytes) break;
    hash.update(chunk);
    await take(chunk);
  }
  if (bytes === file.bytes && hash.digest('hex') === file.sha256) return;
  throw new Refusal('BACKUP_DAMAGED', `${file.path} does not match its checksum`);
}
