/**
 * The recipient's end of a transfer: one file after the other, each from where the last connection broke off, each
 * checked by its SHA-256. What an ended executor left of a file is gone on with: the checksum covers it too.
 */
import { createHash, type Hash } from 'node:crypto';
import { constants, createReadStream } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import type { TransferClient } from '../channel/transfer.ts';
import { type Clock, delay } from '../clock.ts';
import { Refusal } from '../errors.ts';
import { isMissing } from './durable.ts';
import { passBuffer } from './passing-buffers.ts';

const READ_BYTES = 256 * 1024;
const PAUSES_MS = { first: 100, max: 5_000 } as const;
/** Without a single byte more for this long it is given up. */
const PATIENCE_MS = 120_000;

export interface Download {
  readonly client: TransferClient;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Path of the request. */
  readonly path: string;
  readonly target: string;
  readonly bytes: number;
  /** Null: the bytes are checked by whoever reads them. */
  readonly sha256: string | null;
  /** Told of bytes as they come, also of those that were there. Negative: a file is begun anew. */
  onBytes(count: number): void;
}

/**
 * Fills `target` and flushes it. Throws BACKUP_DAMAGED when the donor's file is not what it should be, TRANSFER_BROKEN
 * when the donor does not answer for two minutes, TRANSFER_REFUSED when it needs a new share.
 */
export async function downloadFile(download: Download): Promise<void> {
  for (const isLast of [false, true]) {
    if (await tryDownload(download, isLast ? constants.O_TRUNC : 0)) return;
    download.onBytes(-download.bytes);
  }
  throw new Refusal('BACKUP_DAMAGED', `${download.path} does not match its checksum at the donor`);
}

/** False: whole, and not the right bytes. What lay here before may be the reason: it is fetched anew, once. */
async function tryDownload(download: Download, truncate: number): Promise<boolean> {
  const { target, bytes, sha256, signal } = download;
  await using file = await open(target, constants.O_RDWR | constants.O_CREAT | truncate, 0o640);
  const hash = createHash('sha256');
  let done = Math.min((await file.stat()).size, bytes);
  if (done > 0) await hashStart(target, done, hash, signal);
  await file.truncate(done);
  download.onBytes(done);
  const { clock } = download;
  let movedAt = clock.now();
  for (let pauseMs: number = PAUSES_MS.first; done < bytes; ) {
    const before = done;
    try {
      done = await receive(download, { file, hash, from: done });
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof Received) done = error.done;
      const { cause } = error instanceof Received ? error : { cause: error };
      if (cause instanceof Refusal && cause.code !== 'BUSY') throw cause;
      if (done > before) movedAt = clock.now();
      if (clock.now() - movedAt > PATIENCE_MS) {
        throw new Refusal('TRANSFER_BROKEN', `the donor does not answer: ${(cause as Error).message}`);
      }
      pauseMs = done > before ? PAUSES_MS.first : Math.min(pauseMs * 2, PAUSES_MS.max);
      await delay(clock, pauseMs, signal);
    }
  }
  await file.sync();
  return sha256 === null || hash.digest('hex') === sha256;
}

/** A stream that broke off, and how many bytes of the file are there. */
class Received extends Error {
  readonly done: number;
  constructor(done: number, cause: unknown) {
    super('the stream broke off', { cause });
    this.done = done;
  }
}

interface Place {
  readonly file: FileHandle;
  readonly hash: Hash;
  readonly from: number;
}

/** Answers how many bytes the file has when the stream ends: too few is no error here. */
async function receive(download: Download, { file, hash, from }: Place): Promise<number> {
  const { client, path, bytes, signal } = download;
  let done = from;
  try {
    for await (const chunk of await client.open(path, from, signal)) {
      const part = chunk.subarray(0, bytes - done);
      await file.write(part, 0, part.length, done);
      hash.update(part);
      done += part.length;
      download.onBytes(part.length);
      passBuffer(chunk.length);
      if (done === bytes) break; // the donor's file grows
    }
  } catch (error) {
    throw new Received(done, error);
  }
  if (done === from) throw new Received(done, new Refusal('BACKUP_DAMAGED', `${path} is shorter at the donor`));
  return done;
}

async function hashStart(path: string, bytes: number, hash: Hash, signal: AbortSignal): Promise<void> {
  try {
    for await (const chunk of createReadStream(path, { end: bytes - 1, highWaterMark: READ_BYTES, signal })) {
      hash.update(chunk as Buffer);
      passBuffer(chunk.length);
    }
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
}
