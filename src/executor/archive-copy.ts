/**
 * The copy of one binary log in the archive, as the log grows. Rules:
 * - Only whole events are copied; a torn end waits until mysqld has written the rest.
 * - Every event's checksum is compared on the way: what is damaged at its source is told, not copied.
 * - What the copy holds already is compared with the source before it is built upon: a crash of the host may have left
 *   other bytes in either. The source wins, as far as its events are whole.
 * - The copy is cut when the source became shorter and ends with a whole transaction, as after a trim. A source that
 *   ends amid an event is a crash or a damage: then the copy stays as it is until mysqld has mended its log.
 */
import { createHash, type Hash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Segment } from '../channel/transfer.ts';
import { type BinlogWalker, createBinlogWalker } from '../mysql/binlog-events.ts';
import { clearInUse, createTimes } from './archive-segments.ts';
import { makeDirectory, syncDirectory } from './durable.ts';
import { passBuffer } from './passing-buffers.ts';

const CHUNK_BYTES = 256 * 1024;

export interface LogCopy {
  readonly source: string;
  /**
   * Copies what the source has more than the copy. Throws the file system's errors, BINLOG_UNREADABLE, the signal's
   * reason; all may be called again.
   */
  advance(options: AdvanceOptions): Promise<void>;
  /** Makes durable what was copied. */
  sync(): Promise<void>;
  /** Bytes of the source that are not durable in the copy, as of the last look. */
  readonly pendingBytes: number;
  /** The copy had all of the source at the last look. */
  readonly isWhole: boolean;
  /** What is durable; null before the head is. */
  readonly segment: Segment | null;
  /** SHA-256 (hex) of what was copied; the copy goes on to grow. */
  sha256(): string;
}

export interface AdvanceOptions {
  readonly signal: AbortSignal;
  /** Waits for the turn of so many bytes. */
  take(bytes: number, signal: AbortSignal): Promise<void>;
}

interface Options {
  readonly source: string;
  readonly target: string;
  readonly serverUuid: string;
  readonly name: string;
}

export function createLogCopy(options: Options): LogCopy {
  return new Copy(options);
}

class Copy implements LogCopy {
  readonly source: string;
  segment: Segment | null = null;
  readonly #options: Options;
  #sourceBytes = 0;
  /** Bytes that were copied and are not durable yet. */
  #isDirty = false;
  #isDistrusted = false;
  #walker: BinlogWalker;
  #hash: Hash;
  #times = createTimes();
  /** Bytes of the copy that are known to be those of the source. */
  #written = 0;
  /** Where the copy ended when it was found; what is before is compared and not written. */
  #found: number | null = null;
  /** Where the source ended when it was last torn there: no look before it has more. */
  #tornAt = -1;

  constructor(options: Options) {
    this.#options = options;
    this.source = options.source;
    this.#walker = this.#newWalker();
    this.#hash = createHash('sha256');
  }

  get pendingBytes(): number {
    return Math.max(0, this.#sourceBytes - (this.segment?.bytes ?? 0));
  }

  get isWhole(): boolean {
    return this.#written === this.#sourceBytes && this.#found === this.#written;
  }

  sha256(): string {
    return this.#hash.copy().digest('hex');
  }

  async advance(options: AdvanceOptions): Promise<void> {
    const { size } = await stat(this.source);
    if (size < this.#written || size < this.#walker.position) this.#restart();
    this.#sourceBytes = size;
    if (this.isWhole) return;
    if (size === this.#tornAt && this.#found === this.#written) return;
    await using from = await open(this.source, 'r');
    await using to = await this.#openTarget();
    this.#found = (await to.stat()).size;
    if (this.#found < this.#written) this.#restart(this.#found);
    for (let isMore = true; isMore; ) isMore = await this.#copyChunk(from, to, size, options);
    this.#tornAt = this.#written < size ? size : -1;
    if (this.#found > this.#written && this.#endsWhole(size)) {
      await to.truncate(this.#written);
      this.#found = this.#written;
      this.#isDirty = true;
    }
  }

  async sync(): Promise<void> {
    if (this.#isDirty) {
      await using to = await open(this.#options.target, 'r+');
      this.#isDirty = false;
      try {
        await to.datasync();
      } catch (error) {
        // The kernel tells once what it dropped, and shows it as written still: everything is written anew.
        this.#isDistrusted = true;
        this.#restart();
        throw error;
      }
      this.#isDistrusted = false;
    }
    this.#takeSegment();
  }

  #endsWhole(size: number): boolean {
    const { head, isClosed, transactionsEnd, wholeEnd } = this.#walker;
    return head !== null && (transactionsEnd === size || (isClosed && wholeEnd === size));
  }

  #takeSegment(): void {
    const { head, wholeEnd: bytes } = this.#walker;
    // A write that failed leaves the walker ahead of the copy.
    if (!head || bytes > this.#written || this.segment?.bytes === bytes) return;
    const { serverUuid, name } = this.#options;
    const gtidSet = this.#walker.gtidSet();
    const { previousGtids } = head;
    this.segment = { serverUuid, name, bytes, sha256: null, previousGtids, gtidSet, ...this.#times.read() };
  }

  #newWalker(): BinlogWalker {
    return createBinlogWalker({
      name: this.#options.name,
      onTransaction: ({ originalCommittedAtMicros }) => this.#times.add(originalCommittedAtMicros),
    });
  }

  /** Back to the first byte; the copy is compared and kept as far as it is right. */
  #restart(found: number | null = null): void {
    this.#walker = this.#newWalker();
    this.#hash = createHash('sha256');
    this.#times = createTimes();
    this.#written = 0;
    this.#found = found;
    this.#tornAt = -1;
  }

  async #openTarget(): Promise<FileHandle> {
    try {
      return await open(this.#options.target, constants.O_RDWR | constants.O_NOFOLLOW);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      // The copy went away under us: nothing of it counts any more.
      if (this.#written > 0) this.#restart();
      await makeDirectory(dirname(this.#options.target));
      const file = await open(this.#options.target, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
      await syncDirectory(dirname(this.#options.target));
      return file;
    }
  }

  /** False when there is nothing more that may be copied. */
  async #copyChunk(from: FileHandle, to: FileHandle, size: number, options: AdvanceOptions): Promise<boolean> {
    options.signal.throwIfAborted();
    const at = this.#written;
    const buffer = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, size - at));
    if (buffer.length === 0) return false;
    await options.take(buffer.length, options.signal);
    const { bytesRead } = await from.read(buffer, 0, buffer.length, at);
    const bytes = buffer.subarray(0, bytesRead);
    const walker = this.#walker;
    this.#push(bytes.subarray(walker.position - at));
    // An event that ends within the source may go in parts: the rest follows at once.
    const isWholeThere = walker.nextEnd > walker.wholeEnd && walker.nextEnd <= size;
    const upTo = isWholeThere ? walker.position : walker.wholeEnd;
    if (upTo <= at) return false;
    const part = bytes.subarray(0, upTo - at);
    if (part.length < upTo - at) return false; // the source became shorter just now
    clearInUse(part, at);
    await this.#write(to, part, at);
    this.#hash.update(part);
    passBuffer(buffer.length);
    this.#written = upTo;
    return true;
  }

  #push(bytes: Buffer): void {
    try {
      this.#walker.push(bytes);
    } catch (error) {
      this.#restart(); // a walker that threw is of no more use
      throw error;
    }
  }

  async #write(to: FileHandle, part: Buffer, at: number): Promise<void> {
    if (this.#found! >= at + part.length && !this.#isDistrusted && (await isThere(to, part, at))) return;
    for (let done = 0; done < part.length; ) {
      done += (await to.write(part, done, part.length - done, at + done)).bytesWritten;
    }
    this.#isDirty = true;
    this.#found = Math.max(this.#found!, at + part.length);
  }
}

async function isThere(file: FileHandle, part: Buffer, at: number): Promise<boolean> {
  const { buffer, bytesRead } = await file.read(Buffer.allocUnsafe(part.length), 0, part.length, at);
  return bytesRead === part.length && buffer.equals(part);
}
