/**
 * Binary logs of a data directory whose mysqld is down: where the transactions begin that another member lacks
 *. mysqlbinlog decodes GTIDs, tags included; the chain of event headers is walked beside it,
 * because text of clients (a DDL statement, a comment) is printed too and could look like an event.
 */
import { spawn } from 'node:child_process';
import { open, readFile, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Clock } from '../clock.ts';
import {
  compactGtidSet,
  formatGtidSet,
  type GtidSet,
  isGtidSetEmpty,
  parseGtidSet,
  subtractGtidSets,
  unionGtidSets,
} from '../cluster/gtid-set.ts';
import { Refusal } from '../errors.ts';
import type { Distribution } from './distribution.ts';

const MAX_INDEX_BYTES = 4 * 1024 * 1024;
/** An argument of a program has at most 128 KB on Linux. */
const MAX_KEEP_LENGTH = 120_000;
/** A tail is what sessions had waiting; more than this is another matter. */
const MAX_TAIL_TRANSACTIONS = 100_000;
const MAX_LINE_LENGTH = 4 * 1024 * 1024;
const READ_BYTES = 1024 * 1024;
const HEADER_BYTES = 19;
const MAGIC = Buffer.from([0xfe, 0x62, 0x69, 0x6e]);

/** Types of events, as in MySQL's `Log_event_type`. */
const eventTypes = { gtid: 33, anonymous: 34, previousGtids: 35, gtidTagged: 42 } as const;
const transactionStarts: ReadonlySet<number> = new Set([eventTypes.gtid, eventTypes.anonymous, eventTypes.gtidTagged]);

export type Tail =
  | { readonly kind: 'none' }
  | {
      readonly kind: 'tail';
      /** The last binary log. */
      readonly path: string;
      /** First byte of the tail: where its first GTID event begins. */
      readonly position: number;
      /** Up to the end of the file, a torn last event included. */
      readonly bytes: number;
      /** Length of what every copy of a part needs first: magic, format description, previous GTIDs. */
      readonly headBytes: number;
      readonly gtidSet: string;
      readonly transactions: number;
    };

export interface FindTail {
  readonly distribution: Distribution;
  readonly dataDir: string;
  /** GTID set that stays. */
  readonly keep: string;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly timeoutMs: number;
}

/** Paths of the binary logs, oldest first, as the index file lists them. Refuses names that leave the directory. */
export async function listBinaryLogs(dataDir: string): Promise<string[]> {
  const index = join(dataDir, 'binlog.index');
  const { size } = await stat(index);
  if (size > MAX_INDEX_BYTES) throw unreadable(`binlog.index has ${size} bytes`);
  const names = (await readFile(index, 'utf8')).split('\n').filter((name) => name !== '');
  if (names.length === 0) throw unreadable('binlog.index is empty');
  return names.map((name) => {
    if (!/^(\.\/)?binlog\.\d{6,10}$/.test(name)) throw unreadable(`binlog.index lists ${name.slice(0, 100)}`);
    return join(dataDir, basename(name));
  });
}

/**
 * The transactions of the last binary log from the first one that `keep` lacks. Refuses with TAIL_TOO_DEEP when that
 * is not a clean cut: an earlier log holds one that lacks, or a later one of the file is in `keep`; with TRIM_FAILED
 * when the log cannot be read. A torn last event (a crash) is no fault.
 */
export async function findTail(options: FindTail): Promise<Tail> {
  const keep = parseGtidSet(options.keep);
  const keepText = compactGtidSet(keep);
  if (keepText.length > MAX_KEEP_LENGTH) throw unreadable(`the set to keep has ${keepText.length} characters`);
  const path = (await listBinaryLogs(options.dataDir)).at(-1)!;
  const walked = await walkEvents(path, options.signal);
  const decoded = await decode(path, keepText, options);
  const deep = subtractGtidSets(decoded.previous, keep);
  if (!isGtidSetEmpty(deep)) {
    const facts = { gtidSet: formatGtidSet(deep) };
    throw new Refusal('TAIL_TOO_DEEP', `an earlier binary log holds ${facts.gtidSet}, which the primary lacks`, facts);
  }
  const first = decoded.lacking[0];
  if (!first) return { kind: 'none' };
  const starts = walked.transactions.filter((position) => position >= first.position);
  const found = decoded.lacking.map(({ position }) => position);
  const missing = starts.filter((position) => !found.includes(position));
  if (starts[0] !== first.position || found.some((position, index) => index > 0 && position <= found[index - 1]!)) {
    throw unreadable('what mysqlbinlog prints does not match the events of the file');
  }
  if (missing.length > 0) {
    const message = `the primary has a transaction that begins at ${missing[0]}, after one at ${first.position} that it lacks`;
    throw new Refusal('TAIL_TOO_DEEP', message, { position: first.position });
  }
  if (starts.length !== found.length) throw unreadable('mysqlbinlog prints more transactions than the file has');
  const gtids = unionGtidSets(...decoded.lacking.map(({ gtid }) => parseGtidSet(gtid)));
  return {
    kind: 'tail',
    path,
    position: first.position,
    bytes: walked.fileBytes - first.position,
    headBytes: walked.headBytes,
    gtidSet: compactGtidSet(gtids),
    transactions: found.length,
  };
}

interface Walked {
  readonly fileBytes: number;
  readonly headBytes: number;
  /** Positions where transactions begin. */
  readonly transactions: readonly number[];
}

/** Follows the lengths in the event headers, up to the end or a torn event. */
async function walkEvents(path: string, signal: AbortSignal): Promise<Walked> {
  await using file = await open(path, 'r');
  const fileBytes = (await file.stat()).size;
  const transactions: number[] = [];
  let headBytes = 0;
  let chunk = Buffer.alloc(0);
  let chunkAt = 0;
  const readHeader = async (at: number): Promise<Buffer | null> => {
    if (at + HEADER_BYTES > fileBytes) return null;
    if (at < chunkAt || at + HEADER_BYTES > chunkAt + chunk.length) {
      signal.throwIfAborted();
      const { buffer, bytesRead } = await file.read(Buffer.alloc(READ_BYTES), 0, READ_BYTES, at);
      chunk = buffer.subarray(0, bytesRead);
      chunkAt = at;
      if (bytesRead < HEADER_BYTES) return null;
    }
    return chunk.subarray(at - chunkAt, at - chunkAt + HEADER_BYTES);
  };
  const magic = (await file.read(Buffer.alloc(MAGIC.length), 0, MAGIC.length, 0)).buffer;
  if (!magic.equals(MAGIC)) throw unreadable(`${basename(path)} does not begin as a plain binary log`);
  let at = MAGIC.length;
  for (let header = await readHeader(at); header; header = await readHeader(at)) {
    const type = header.readUInt8(4);
    const length = header.readUInt32LE(9);
    if (length < HEADER_BYTES || at + length > fileBytes) break;
    if (transactionStarts.has(type)) transactions.push(at);
    at += length;
    if (type === eventTypes.previousGtids && headBytes === 0) headBytes = at;
  }
  if (headBytes === 0) throw unreadable(`${basename(path)} has no previous GTIDs`);
  return { fileBytes, headBytes, transactions };
}

interface Decoded {
  readonly previous: GtidSet;
  readonly lacking: readonly { readonly position: number; readonly gtid: string }[];
}

async function decode(path: string, keep: string, options: FindTail): Promise<Decoded> {
  const lacking: { position: number; gtid: string }[] = [];
  const previous: string[] = [];
  let position = 0;
  let isInPrevious = false;
  const args = ['--base64-output=decode-rows', ...(keep === '' ? [] : [`--exclude-gtids=${keep}`]), path];
  await runMysqlbinlog(options, args, (line) => {
    const at = /^# at (\d{1,16})$/.exec(line);
    if (isInPrevious && !at) {
      if (line.startsWith('# ') && line !== '# [empty]') previous.push(line.slice(2));
      return;
    }
    isInPrevious = false;
    if (at) position = Number(at[1]);
    else if (lacking.length === 0 && previous.length === 0 && /^#\d.*\tPrevious-GTIDs$/.test(line)) isInPrevious = true;
    const gtid = /^SET @@SESSION\.GTID_NEXT= '([0-9a-z_:-]+)'/.exec(line)?.[1];
    if (gtid === undefined) return;
    if (lacking.length >= MAX_TAIL_TRANSACTIONS) {
      throw new Refusal('TAIL_TOO_DEEP', `the primary lacks more than ${MAX_TAIL_TRANSACTIONS} transactions`);
    }
    lacking.push({ position, gtid });
  });
  return { previous: parsePrevious(previous), lacking };
}

/** mysqlbinlog ends its lines with the set's own commas; other comments may follow it. */
function parsePrevious(lines: readonly string[]): GtidSet {
  return parseGtidSet(lines.filter((line) => /^[0-9a-f]{8}-/.test(line)).join('\n'));
}

/** What a text of mysqlbinlog is cut to, so that a huge tail does not fill a volume. */
export interface DecodeText {
  readonly distribution: Distribution;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly timeoutMs: number;
}

/** Rows of a binary log as text, line by line, until `take` throws or the file ends. */
export async function decodeRows(path: string, options: DecodeText, take: (line: string) => void): Promise<void> {
  await runMysqlbinlog(options, ['--verbose', '--base64-output=decode-rows', path], take);
}

/** Streams the lines of one mysqlbinlog, as latin1: bytes stay bytes. Ends it at the deadline, an abort or a throw. */
async function runMysqlbinlog(options: DecodeText, args: readonly string[], take: (line: string) => void) {
  const { distribution, clock, signal, timeoutMs } = options;
  const [program = '', ...prefix] = distribution.program('mysqlbinlog');
  signal.throwIfAborted();
  const child = spawn(program, [...prefix, '--no-defaults', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: '/usr/bin:/bin', TZ: 'UTC', LC_ALL: 'C' },
  });
  let failure: unknown = null;
  const stop = (reason: unknown) => {
    failure ??= reason;
    child.kill('SIGKILL');
  };
  const timer = clock.setTimeout(() => stop(unreadable(`mysqlbinlog took more than ${timeoutMs} ms`)), timeoutMs);
  const onAbort = () => stop(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  let errorText = '';
  child.stderr.on('data', (chunk: Buffer) => {
    if (errorText.length < 1000) errorText += chunk.toString('latin1');
  });
  const exited = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('close', (code, by) => resolve(code === 0 ? '' : `exit ${code ?? by}: ${errorText.slice(0, 300)}`));
  });
  try {
    await eachLine(child.stdout, take);
  } catch (error) {
    stop(error);
  }
  try {
    const fault = await exited;
    if (failure) throw failure;
    if (fault !== '') throw unreadable(`mysqlbinlog failed: ${fault.trim()}`);
  } finally {
    clock.clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
  }
}

/** Lines without their ends; a longer one than 4 MB is cut. */
async function eachLine(stream: AsyncIterable<unknown>, take: (line: string) => void): Promise<void> {
  let rest = '';
  for await (const chunk of stream) {
    const lines = (rest + (chunk as Buffer).toString('latin1')).split('\n');
    rest = lines.pop() ?? '';
    if (rest.length > MAX_LINE_LENGTH) rest = rest.slice(0, MAX_LINE_LENGTH);
    for (const line of lines) take(line);
  }
  if (rest !== '') take(rest);
}

function unreadable(message: string): Refusal {
  return new Refusal('TRIM_FAILED', `the binary log cannot be trimmed: ${message}`);
}
