/** Reading a file once, from its beginning to its end, in little memory. */
import type { FileHandle } from 'node:fs/promises';
import { type Buffers, CHUNK_BYTES, makeBuffers, openAndRead } from './direct-io.ts';

/** Of the last file: many small files would leave tens of megabytes of buffers that nobody has collected yet. */
let spare: Buffers | null = null;

/**
 * Hands over each chunk in turn and reads the next one meanwhile. Two buffers, used again and again: a stream makes a new
 * one for each chunk, and an executor that hashed 300 MB so was 70 MB larger (measured). Keep no chunk. Answers the bytes.
 */
export async function readThrough(
  path: string,
  signal: AbortSignal,
  take: (chunk: Buffer) => Promise<void> | void,
): Promise<number> {
  signal.throwIfAborted();
  const buffers = spare ?? makeBuffers();
  spare = null;
  try {
    const { file, bytesRead } = await openAndRead(path, buffers[0]);
    await using _ = file;
    return await readInto(file, buffers, { bytesRead, signal, take });
  } finally {
    spare = buffers;
  }
}

interface Reading {
  /** Of the first chunk. */
  readonly bytesRead: number;
  readonly signal: AbortSignal;
  readonly take: (chunk: Buffer) => Promise<void> | void;
}

/** No read is under way when it ends. A chunk that is not full is the last: direct reads begin at whole blocks only. */
async function readInto(file: FileHandle, buffers: Buffers, { bytesRead, signal, take }: Reading): Promise<number> {
  let done = 0;
  for (let index = 0, length = bytesRead; length > 0; index += 1) {
    const chunk = buffers[index % 2 === 0 ? 0 : 1].subarray(0, length);
    done += length;
    const isLast = length < CHUNK_BYTES;
    const next = isLast ? null : file.read(buffers[index % 2 === 0 ? 1 : 0], 0, CHUNK_BYTES, done);
    try {
      signal.throwIfAborted();
      await take(chunk);
    } catch (error) {
      await next?.catch(() => {}); // it writes into a buffer, and the file is about to be closed
      throw error;
    }
    length = next === null ? 0 : (await next).bytesRead;
  }
  return done;
}
