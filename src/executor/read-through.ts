/** Reading a file once, from its beginning to its end, in little memory. */
import { open } from 'node:fs/promises';

const CHUNK_BYTES = 512 * 1024;

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
  await using file = await open(path, 'r');
  const buffers = [Buffer.allocUnsafeSlow(CHUNK_BYTES), Buffer.allocUnsafeSlow(CHUNK_BYTES)] as const;
  const read = (index: number, at: number) => file.read(buffers[index % 2 === 0 ? 0 : 1], 0, CHUNK_BYTES, at);
  let done = 0;
  let next = read(0, 0);
  for (let index = 0; ; index += 1) {
    const { buffer, bytesRead } = await next;
    if (bytesRead === 0) return done;
    done += bytesRead;
    next = read(index + 1, done);
    try {
      signal.throwIfAborted();
      await take(buffer.subarray(0, bytesRead));
    } catch (error) {
      await next.catch(() => {}); // it writes into a buffer, and the file is about to be closed
      throw error;
    }
  }
}
