/**
 * Walks the events of a plain binary log: which transactions it holds, where each begins and ends, when it was
 * committed. Bytes come in pieces of any size; of an event only what is needed is kept (a head, at most 16 MB), so a
 * log of any size costs the same memory. Whatever the bytes are, the answer is a value or BINLOG_UNREADABLE.
 * A torn end (a log that is being written, a crash) is no fault: `wholeEnd` is where the last whole event ends.
 */
import { open } from 'node:fs/promises';
import { basename } from 'node:path';
import { crc32 } from 'node:zlib';
import { Refusal } from '../errors.ts';
import { type GtidBody, readFormat, readGtid, readPreviousGtids, readTaggedGtid } from './binlog-fields.ts';
import { createGtidCollector } from './gtid-collector.ts';

const HEADER_BYTES = 19;
const CHECKSUM_BYTES = 4;
export const BINLOG_MAGIC = Buffer.from([0xfe, 0x62, 0x69, 0x6e]);
const ENCRYPTED_MAGIC = Buffer.from([0xfd, 0x62, 0x69, 0x6e]);
const READ_BYTES = 256 * 1024;
/** Where the flags of the first event stand. mysqld sets `in use` there and takes it back when it closes the log. */
export const IN_USE_OFFSET = BINLOG_MAGIC.length + 17;
export const IN_USE_FLAG = 0x01;

/** MySQL's `Log_event_type`, those that matter here. */
const types = { stop: 3, rotate: 4, format: 15, gtid: 33, anonymous: 34, previousGtids: 35, gtidTagged: 42 } as const;

/** Longest event of a type that is kept whole. Of every other type nothing is kept but the header. */
const keptBytes: Readonly<Record<number, number>> = {
  [types.format]: 4096,
  [types.gtid]: 4096,
  [types.gtidTagged]: 4096,
  [types.previousGtids]: 16 * 1024 * 1024,
};

/** One transaction of a log. Positions are bytes from the start of the file. */
export interface BinlogTransaction {
  /** `uuid:number` or `uuid:tag:number`. */
  readonly gtid: string;
  /** Of its first byte, where its GTID event begins. */
  readonly position: number;
  /** Behind its last byte. */
  readonly endPosition: number;
  /** When this server committed it, in microseconds since 1970, by this server's clock. Not sorted: clocks are set. */
  readonly committedAtMicros: number;
  /** When the server that issued it committed it, by that server's clock. */
  readonly originalCommittedAtMicros: number;
}

/** What a log says of itself before its first transaction. */
export interface BinlogHead {
  /** Length of the head: magic, format description, previous GTIDs. Every copy of a part needs these bytes first. */
  readonly headBytes: number;
  /** All that the server had in logs before this one. Without white space. */
  readonly previousGtids: string;
  /** Of the server that wrote the log, such as `9.7.4`. */
  readonly serverVersion: string;
  /** The log is open, or its server ended without closing it. */
  readonly isInUse: boolean;
}

export interface BinlogWalker {
  /** The bytes that follow those pushed before. Throws BINLOG_UNREADABLE; then the walker is of no more use. */
  push(bytes: Uint8Array): void;
  /** Bytes pushed so far. */
  readonly position: number;
  /** End of the last whole event; 4 (the magic) when there is none yet. 0 before that. */
  readonly wholeEnd: number;
  /** End of the event that is being read, known with its header; else `wholeEnd`. */
  readonly nextEnd: number;
  /** End of the last whole transaction, or of the head; 0 before that. What is behind is not of a whole transaction. */
  readonly transactionsEnd: number;
  readonly head: BinlogHead | null;
  /** A stop or rotate event came last: the server closed the log in order. */
  readonly isClosed: boolean;
  /** Whole transactions so far. Without white space. */
  gtidSet(): string;
}

export interface WalkerOptions {
  /** For messages. */
  readonly name: string;
  /** Called for each whole transaction, in the order of the file. */
  readonly onTransaction?: (transaction: BinlogTransaction) => void;
  /** Compare the CRC32 of each event; default true. Logs without checksums are read as they are. */
  readonly isVerified?: boolean;
}

/** A walker at the first byte of a log. */
export function createBinlogWalker(options: WalkerOptions): BinlogWalker {
  return new Walker(options);
}

interface OpenEvent {
  readonly at: number;
  readonly type: number;
  readonly end: number;
  readonly flags: number;
  /** Bytes of it, when its type is kept. */
  readonly kept: Buffer | null;
  /** So far, without its last four bytes. */
  crc: number;
  /** The last four bytes. */
  readonly checksum: Buffer;
}

class Walker implements BinlogWalker {
  position = 0;
  wholeEnd = 0;
  transactionsEnd = 0;
  head: BinlogHead | null = null;
  isClosed = false;
  readonly #options: WalkerOptions;
  readonly #gtids = createGtidCollector();
  /** The magic, then the header of the next event. */
  readonly #start = Buffer.alloc(HEADER_BYTES);
  #event: OpenEvent | null = null;
  #format: { readonly serverVersion: string; readonly hasChecksums: boolean; readonly isInUse: boolean } | null = null;
  #open: BinlogTransaction | null = null;

  constructor(options: WalkerOptions) {
    this.#options = options;
  }

  get nextEnd(): number {
    return this.#event?.end ?? this.wholeEnd;
  }

  gtidSet(): string {
    return this.#gtids.text();
  }

  push(bytes: Uint8Array): void {
    let rest = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    while (rest.length > 0) rest = rest.subarray(this.#take(rest));
  }

  /** Takes what belongs to the magic, the next header or the open event; says how many bytes that was. */
  #take(bytes: Buffer): number {
    if (this.#event) return this.#takeBody(bytes, this.#event);
    const length = this.wholeEnd === 0 ? BINLOG_MAGIC.length : HEADER_BYTES;
    const have = this.position - this.wholeEnd;
    const taken = bytes.copy(this.#start, have, 0, Math.min(bytes.length, length - have));
    this.position += taken;
    if (have + taken < length) return taken;
    if (this.wholeEnd === 0) this.#takeMagic();
    else this.#openEvent();
    return taken;
  }

  #takeMagic(): void {
    const magic = this.#start.subarray(0, BINLOG_MAGIC.length);
    if (magic.equals(ENCRYPTED_MAGIC)) throw this.#fault('it is encrypted');
    if (!magic.equals(BINLOG_MAGIC)) throw this.#fault('it does not begin as a binary log');
    this.wholeEnd = BINLOG_MAGIC.length;
  }

  #openEvent(): void {
    const type = this.#start.readUInt8(4);
    const length = this.#start.readUInt32LE(9);
    const at = this.wholeEnd;
    const checksumBytes = this.#format?.hasChecksums === false ? 0 : CHECKSUM_BYTES;
    if (length < HEADER_BYTES + checksumBytes) throw this.#fault(`the event at ${at} has ${length} bytes`);
    if (!this.#format && type !== types.format) throw this.#fault('its first event is no format description');
    const most = keptBytes[type];
    if (most !== undefined && length > most)
      throw this.#fault(`the event at ${at} has ${length} bytes, of type ${type}`);
    const flags = this.#start.readUInt16LE(17);
    const kept = most === undefined ? null : Buffer.alloc(length);
    if (kept) this.#start.copy(kept, 0, 0, HEADER_BYTES);
    if (type === types.format) this.#start[17] = this.#start[17]! & ~IN_USE_FLAG; // its checksum is without it
    const crc = this.#isVerified ? crc32(this.#start) : 0;
    this.#event = { at, type, end: at + length, flags, kept, crc, checksum: Buffer.alloc(CHECKSUM_BYTES) };
    if (length === HEADER_BYTES) this.#closeEvent(this.#event);
  }

  get #isVerified(): boolean {
    return this.#options.isVerified !== false && this.#format?.hasChecksums !== false;
  }

  #takeBody(bytes: Buffer, event: OpenEvent): number {
    const taken = Math.min(bytes.length, event.end - this.position);
    const part = bytes.subarray(0, taken);
    if (event.kept) part.copy(event.kept, this.position - event.at);
    if (this.#isVerified) {
      const summed = Math.max(0, Math.min(taken, event.end - CHECKSUM_BYTES - this.position));
      if (summed > 0) event.crc = crc32(part.subarray(0, summed), event.crc);
      const into = Math.max(0, this.position - (event.end - CHECKSUM_BYTES));
      if (summed < taken) part.copy(event.checksum, into, summed);
    }
    this.position += taken;
    if (this.position === event.end) this.#closeEvent(event);
    return taken;
  }

  #closeEvent(event: OpenEvent): void {
    this.#event = null;
    this.wholeEnd = event.end;
    this.isClosed = event.type === types.stop || event.type === types.rotate;
    if (event.type === types.format) this.#format = this.#readFormat(event);
    if (this.#isVerified && event.checksum.readUInt32LE(0) !== event.crc) {
      throw this.#fault(`the checksum of the event at ${event.at} is wrong`);
    }
    if (event.type === types.previousGtids) this.#takeHead(event);
    else if (event.type === types.gtid || event.type === types.gtidTagged) this.#openTransaction(event);
    else if (event.type === types.anonymous) throw this.#fault(`the transaction at ${event.at} has no GTID`);
    if (this.#open && this.wholeEnd >= this.#open.endPosition) this.#closeTransaction(this.#open);
  }

  #readFormat(event: OpenEvent) {
    if (event.at !== BINLOG_MAGIC.length) throw this.#fault(`a second format description stands at ${event.at}`);
    const format = this.#read(event, () => readFormat(event.kept!.subarray(HEADER_BYTES)));
    return { ...format, isInUse: (event.flags & IN_USE_FLAG) !== 0 };
  }

  #takeHead(event: OpenEvent): void {
    if (this.head) throw this.#fault(`a second list of previous GTIDs stands at ${event.at}`);
    const previousGtids = this.#read(event, () => readPreviousGtids(this.#bodyOf(event)));
    const { serverVersion, isInUse } = this.#format!;
    this.head = { headBytes: event.end, previousGtids, serverVersion, isInUse };
    this.transactionsEnd = event.end;
  }

  #openTransaction(event: OpenEvent): void {
    if (!this.head) throw this.#fault('a transaction stands before the previous GTIDs');
    if (this.#open) throw this.#fault(`the transaction at ${this.#open.position} is cut off by one at ${event.at}`);
    const body: GtidBody = this.#read(event, () =>
      event.type === types.gtid ? readGtid(this.#bodyOf(event)) : readTaggedGtid(this.#bodyOf(event)),
    );
    const { transactionBytes, key, number, ...times } = body;
    const endPosition = event.at + transactionBytes;
    if (endPosition < event.end) throw this.#fault(`the transaction at ${event.at} is shorter than its GTID event`);
    this.#open = { gtid: `${key}:${number}`, position: event.at, endPosition, ...times };
    this.#openKey = { key, number };
  }

  #openKey: { readonly key: string; readonly number: bigint } | null = null;

  #closeTransaction(transaction: BinlogTransaction): void {
    if (this.wholeEnd > transaction.endPosition) {
      throw this.#fault(`the transaction at ${transaction.position} does not end with an event`);
    }
    this.#open = null;
    this.transactionsEnd = transaction.endPosition;
    this.#read({ at: transaction.position }, () => this.#gtids.add(this.#openKey!.key, this.#openKey!.number));
    this.#options.onTransaction?.(transaction);
  }

  #bodyOf({ kept }: OpenEvent): Buffer {
    return kept!.subarray(HEADER_BYTES, kept!.length - (this.#format!.hasChecksums ? CHECKSUM_BYTES : 0));
  }

  #read<T>({ at }: { readonly at: number }, read: () => T): T {
    try {
      return read();
    } catch (cause) {
      // A RangeError of Buffer: the event is shorter than its fields say.
      throw this.#fault(`the event at ${at} cannot be read: ${(cause as Error).message.slice(0, 200)}`);
    }
  }

  #fault(message: string): Refusal {
    return new Refusal('BINLOG_UNREADABLE', `binary log ${this.#options.name}: ${message}`);
  }
}

/** Only what a log says of itself; null while its head is not written whole. Rejects as `walkBinaryLog` does. */
export async function readBinlogHead(path: string): Promise<BinlogHead | null> {
  const walker = createBinlogWalker({ name: basename(path) });
  const buffer = Buffer.allocUnsafe(4096);
  await using file = await open(path, 'r');
  while (!walker.head) {
    const { bytesRead } = await file.read(buffer, 0, buffer.length, walker.position);
    if (bytesRead === 0) return null;
    walker.push(buffer.subarray(0, bytesRead));
  }
  return walker.head;
}

export interface WalkOptions extends Omit<WalkerOptions, 'name'> {
  readonly signal: AbortSignal;
  /** Stop before this byte; default: the end of the file as it is when it is reached. */
  readonly endPosition?: number;
  /** Each piece before it is looked at, for a checksum of the file. */
  readonly onBytes?: (bytes: Buffer) => void;
}

export interface WalkedBinlog {
  readonly head: BinlogHead;
  /** Bytes that were read. */
  readonly fileBytes: number;
  readonly wholeEnd: number;
  readonly transactionsEnd: number;
  readonly isClosed: boolean;
  readonly gtidSet: string;
}

/**
 * Walks one file to its end. Rejects with BINLOG_UNREADABLE when it is no binary log, is damaged, or ends before its
 * previous GTIDs; with the file system's errors; with the reason of the signal.
 */
export async function walkBinaryLog(path: string, options: WalkOptions): Promise<WalkedBinlog> {
  const walker = createBinlogWalker({ ...options, name: basename(path) });
  const end = options.endPosition ?? Number.MAX_SAFE_INTEGER;
  const buffer = Buffer.allocUnsafe(READ_BYTES);
  await using file = await open(path, 'r');
  while (walker.position < end) {
    options.signal.throwIfAborted();
    const { bytesRead } = await file.read(buffer, 0, Math.min(READ_BYTES, end - walker.position), walker.position);
    if (bytesRead === 0) break;
    const bytes = buffer.subarray(0, bytesRead);
    options.onBytes?.(bytes);
    walker.push(bytes);
  }
  const { head, position, wholeEnd, transactionsEnd, isClosed } = walker;
  if (!head) throw new Refusal('BINLOG_UNREADABLE', `binary log ${basename(path)}: it ends before its previous GTIDs`);
  return { head, fileBytes: position, wholeEnd, transactionsEnd, isClosed, gtidSet: walker.gtidSet() };
}
