/**
 * Reading and writing large files past the page cache (O_DIRECT). Through it the kernel reads ahead by 128 KB: one reader
 * gets 520 MB/s of a disk that gives 1,600, and gigabytes that nobody reads again push out what others need (measured,
 * ext4 on NVMe). A file system that cannot do it is read and written the plain way.
 */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';

export const CHUNK_BYTES = 1024 * 1024;
/** What position, length and memory of a direct read or write must be a multiple of, on every disk. */
const BLOCK_BYTES = 4096;

export type Buffers = readonly [Buffer, Buffer];

/** Memory that may grow begins at a page, that of a plain Buffer somewhere. */
export function makeBuffers(): Buffers {
  const buffer = new ArrayBuffer(2 * CHUNK_BYTES, { maxByteLength: 2 * CHUNK_BYTES });
  return [Buffer.from(buffer, 0, CHUNK_BYTES), Buffer.from(buffer, CHUNK_BYTES, CHUNK_BYTES)];
}

/** Some file systems refuse to open, others the first read or write. */
const isRefused = (error: unknown): boolean => error instanceof Error && 'code' in error && error.code === 'EINVAL';

interface Opened {
  readonly file: FileHandle;
  /** Of the first chunk, which is in the buffer. */
  readonly bytesRead: number;
}

/** Opens a file and reads its first chunk into `first`. */
export async function openAndRead(path: string, first: Buffer): Promise<Opened> {
  try {
    return await tryToRead(path, constants.O_DIRECT, first);
  } catch (error) {
    if (!isRefused(error)) throw error;
    return tryToRead(path, 0, first);
  }
}

async function tryToRead(path: string, flag: number, first: Buffer): Promise<Opened> {
  const file = await open(path, constants.O_RDONLY | flag);
  try {
    const { bytesRead } = await file.read(first, 0, CHUNK_BYTES, 0);
    return { file, bytesRead };
  } catch (error) {
    await file.close();
    throw error;
  }
}

export interface DirectFile extends AsyncDisposable {
  /** In order; a chunk of `makeBuffers`, full but for the last. It may be used again when this resolves. */
  write(chunk: Buffer): Promise<void>;
  sync(): Promise<void>;
}

/** Makes a file that must not exist. The last blocks, which are no whole ones, go through the page cache. */
export async function createDirect(path: string, mode: number): Promise<DirectFile> {
  const plain = await open(path, 'wx', mode);
  let direct = await open(path, constants.O_WRONLY | constants.O_DIRECT).catch((error: unknown) => {
    if (isRefused(error)) return null;
    return plain.close().then(() => Promise.reject(error));
  });
  let position = 0;
  const writeAll = async (file: FileHandle, chunk: Buffer) => {
    for (let at = 0; at < chunk.length; ) {
      const { bytesWritten } = await file.write(chunk, at, chunk.length - at, position + at);
      at += bytesWritten;
    }
  };
  const writeDirect = async (chunk: Buffer): Promise<boolean> => {
    if (!direct || chunk.length % BLOCK_BYTES !== 0) return false;
    try {
      await writeAll(direct, chunk);
      return true;
    } catch (error) {
      if (!isRefused(error)) throw error;
      await direct.close();
      direct = null;
      return false;
    }
  };
  return {
    async write(chunk) {
      if (!(await writeDirect(chunk))) await writeAll(plain, chunk);
      position += chunk.length;
    },
    sync: () => plain.sync(),
    async [Symbol.asyncDispose]() {
      await direct?.close();
      await plain.close();
    },
  };
}
