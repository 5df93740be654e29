/**
 * The fields of four events of a binary log, without header and checksum. Every function throws an Error (a RangeError
 * of Buffer among them) on bytes that do not fit; the caller says where.
 * Layouts: https://dev.mysql.com/doc/dev/mysql-server/latest/classmysql_1_1binlog_1_1event_1_1Gtid__event.html and
 * libs/mysql/serialization/readme.md of the MySQL sources.
 */
import { compactGtidSet, GTID_INTERVALS_MAX, parseGtidSet } from '../cluster/gtid-set.ts';

const UUID_BYTES = 16;
const NUMBER_MAX = 2n ** 63n - 2n;
const TAG_LENGTH_MAX = 32;
const tagPattern = /^[a-z_][a-z0-9_]{0,31}$/;
/** Bit 55 of a commit timestamp: the original one differs and follows. */
const HAS_ORIGINAL = 2n ** 55n;

export interface GtidBody {
  /** `uuid` or `uuid:tag`. */
  readonly key: string;
  readonly number: bigint;
  readonly committedAtMicros: number;
  readonly originalCommittedAtMicros: number;
  /** Of the whole transaction, its GTID event among it. */
  readonly transactionBytes: number;
}

/** FORMAT_DESCRIPTION_EVENT, its checksum included: it is always there, and says whether others have one. */
export function readFormat(body: Buffer): { readonly serverVersion: string; readonly hasChecksums: boolean } {
  const version = body.readUInt16LE(0);
  if (version !== 4) throw new Error(`the format has version ${version}, not 4`);
  const text = body.toString('latin1', 2, 52);
  const serverVersion = text.split('\0', 1)[0]!;
  if (!/^[0-9A-Za-z.+~_-]{1,50}$/.test(serverVersion)) throw new Error('the server version is no text');
  const algorithm = body.readUInt8(body.length - 5);
  if (algorithm > 1) throw new Error(`the checksum algorithm ${algorithm} is not known`);
  return { serverVersion, hasChecksums: algorithm === 1 };
}

/** GTID_LOG_EVENT of MySQL 8.0.2 and later: older ones tell no length of the transaction. */
export function readGtid(body: Buffer): GtidBody {
  const key = formatUuid(body, 1);
  const number = checkNumber(body.readBigUInt64LE(17));
  const logicalType = body.readUInt8(25);
  if (logicalType !== 2) throw new Error(`the logical timestamp has type ${logicalType}, not 2`);
  let at = 42; // behind last_committed and sequence_number
  const committed = readSevenBytes(body, at);
  const committedAtMicros = checkMicros(committed & (HAS_ORIGINAL - 1n));
  at += 7;
  let originalCommittedAtMicros = committedAtMicros;
  if ((committed & HAS_ORIGINAL) !== 0n) {
    originalCommittedAtMicros = checkMicros(readSevenBytes(body, at));
    at += 7;
  }
  const transactionBytes = readPacked(body, at);
  return { key, number, committedAtMicros, originalCommittedAtMicros, transactionBytes };
}

function readSevenBytes(body: Buffer, at: number): bigint {
  return BigInt(body.readUIntLE(at, 6)) + (BigInt(body.readUInt8(at + 6)) << 48n);
}

/** An integer with its length in the first byte, as the client protocol has it. */
function readPacked(body: Buffer, at: number): number {
  const first = body.readUInt8(at);
  if (first < 251) return first;
  if (first === 252) return body.readUInt16LE(at + 1);
  if (first === 253) return body.readUIntLE(at + 1, 3);
  if (first === 254) return checkSafe(body.readBigUInt64LE(at + 1), 'length of the transaction');
  throw new Error('the length of the transaction is no number');
}

/** Ids of the fields of a GTID_TAGGED_LOG_EVENT. Those that are not named here are skipped by its length. */
const fields = { flags: 0, uuid: 1, number: 2, tag: 3, committed: 6, original: 7, bytes: 8 } as const;

/**
 * GTID_TAGGED_LOG_EVENT, in MySQL's serialization format: version, size, last id that may not be skipped, then fields
 * of increasing id. A field that equals its default is left out.
 */
export function readTaggedGtid(body: Buffer): GtidBody {
  const reader = createVarlenReader(body);
  const version = reader.unsigned();
  if (version !== 1n) throw new Error(`the serialization has version ${version}, not 1`);
  const size = checkSafe(reader.unsigned(), 'size');
  if (size > body.length) throw new Error(`the size is ${size}, of ${body.length} bytes`);
  reader.unsigned();
  const found: { uuid?: string; number?: bigint; tag?: string; committed?: bigint; original?: bigint; bytes?: bigint } =
    {};
  let last = -1;
  while (reader.position() < size) {
    const id = Number(reader.unsigned());
    if (id <= last) throw new Error('the fields are not in order');
    last = id;
    if (id === fields.uuid) found.uuid = formatUuid(reader.bytes(UUID_BYTES), 0);
    else if (id === fields.number) found.number = reader.signed();
    else if (id === fields.tag) found.tag = reader.text(TAG_LENGTH_MAX);
    else if (id === fields.committed) found.committed = reader.unsigned();
    else if (id === fields.original) found.original = reader.unsigned();
    else if (id === fields.bytes) found.bytes = reader.unsigned();
    else if (id > fields.bytes)
      break; // versions of servers, tickets, what comes later
    else reader.unsigned();
  }
  const { uuid, number, tag = '', committed, bytes } = found;
  if (uuid === undefined || number === undefined || committed === undefined || bytes === undefined) {
    throw new Error('a field of the GTID is missing');
  }
  if (tag !== '' && !tagPattern.test(tag)) throw new Error('the tag is none');
  const committedAtMicros = checkMicros(committed);
  return {
    key: tag === '' ? uuid : `${uuid}:${tag}`,
    number: checkNumber(number),
    committedAtMicros,
    originalCommittedAtMicros: found.original === undefined ? committedAtMicros : checkMicros(found.original),
    transactionBytes: checkSafe(bytes, 'length of the transaction'),
  };
}

/**
 * PREVIOUS_GTIDS_LOG_EVENT, both formats: with tags the first number holds the format in its first and last byte, and
 * each uuid is followed by a tag.
 */
export function readPreviousGtids(body: Buffer): string {
  const format = body.readUInt8(7);
  if (format > 1) throw new Error(`the format of the previous GTIDs is ${format}`);
  const count = format === 1 ? Number(body.readUIntLE(1, 6)) : checkSafe(body.readBigUInt64LE(0), 'number of uuids');
  const parts: string[] = [];
  let intervals = 0;
  let at = 8;
  for (let index = 0; index < count; index++) {
    let key = formatUuid(body, at);
    at += UUID_BYTES;
    if (format === 1) {
      const reader = createVarlenReader(body.subarray(at));
      const tag = reader.text(TAG_LENGTH_MAX);
      if (tag !== '' && !tagPattern.test(tag)) throw new Error('a tag is none');
      if (tag !== '') key += `:${tag}`;
      at += reader.position();
    }
    const length = checkSafe(body.readBigUInt64LE(at), 'number of intervals');
    at += 8;
    intervals += length;
    if (intervals > GTID_INTERVALS_MAX)
      throw new Error(`the previous GTIDs have more than ${GTID_INTERVALS_MAX} intervals`);
    for (let nth = 0; nth < length; nth++) {
      parts.push(`${key}:${body.readBigUInt64LE(at)}-${body.readBigUInt64LE(at + 8) - 1n}`);
      at += 16;
    }
  }
  return compactGtidSet(parseGtidSet(parts.join(',')));
}

/**
 * MySQL's variable-length integers: as many one bits at the low end of the first byte as further bytes follow, then a
 * zero bit, then the number, low byte first. The sign is the lowest bit.
 */
function createVarlenReader(body: Buffer) {
  let at = 0;
  const unsigned = (): bigint => {
    const first = body.readUInt8(at);
    if (first === 0xff) {
      at += 9;
      return body.readBigUInt64LE(at - 8);
    }
    let more = 0;
    while (((first >> more) & 1) === 1) more += 1;
    let value = 0n;
    for (let index = more; index >= 0; index--) value = (value << 8n) | BigInt(body.readUInt8(at + index));
    at += more + 1;
    return value >> BigInt(more + 1);
  };
  return {
    position: () => at,
    unsigned,
    signed: () => {
      const value = unsigned();
      return (value & 1n) === 0n ? value >> 1n : -(value >> 1n) - 1n;
    },
    bytes: (length: number) => Buffer.from(Array.from({ length }, () => Number(unsigned() & 0xffn))),
    text: (lengthMax: number) => {
      const length = Number(unsigned());
      if (length > lengthMax || at + length > body.length) throw new Error('a text is too long');
      at += length;
      return body.toString('latin1', at - length, at);
    },
  };
}

function formatUuid(bytes: Buffer, at: number): string {
  if (at + UUID_BYTES > bytes.length) throw new Error('a uuid is cut off');
  const hex = bytes.toString('hex', at, at + UUID_BYTES);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

function checkNumber(number: bigint): bigint {
  if (number < 1n || number > NUMBER_MAX) throw new Error(`the number of a GTID is ${number}`);
  return number;
}

function checkMicros(micros: bigint): number {
  return checkSafe(micros, 'time of the commit');
}

function checkSafe(value: bigint, what: string): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new Error(`the ${what} is ${value}`);
  return Number(value);
}
