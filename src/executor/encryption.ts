/**
 * How a file of an encrypted backup is sealed. The construction is STREAM (Hoang, Reyhanitabar, Rogaway, Vizár 2015) in
 * the form of Tink's AES-GCM-HKDF streaming, with a header of our own; docs/backup.md has it byte by byte:
 * - `header`: magic with the version (8), salt (32), nonce prefix (7). The file's key is HKDF-SHA256 of the cluster's key
 *   and the salt, for one place alone (`context`: backup and path): a file in another one's place opens nothing.
 * - Segments of 32 KB, each AES-256-GCM with its own tag; its nonce is prefix, number, and whether it is the last. One
 *   that was changed, moved, left out or added does not open, nor does a file that was cut.
 * Plain bytes come out only behind their tag; one segment is in memory.
 */
import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes, timingSafeEqual } from 'node:crypto';
import { Refusal } from '../errors.ts';

const KEY_BYTES = 32;
const MAGIC = Buffer.from('SLVENC1\n');
const SALT_BYTES = 32;
const PREFIX_BYTES = 7;
const HEADER_BYTES = MAGIC.length + SALT_BYTES + PREFIX_BYTES;
/** Each is new memory until it is collected. */
const SEGMENT_BYTES = 32 * 1024;
const TAG_BYTES = 16;
const CIPHER = 'aes-256-gcm';
const options = { authTagLength: TAG_BYTES };

/** Keys by their id. Whatever needs one that is not there is refused with BACKUP_KEY_UNKNOWN. */
export type BackupKeys = ReadonlyMap<string, Buffer>;

/** Hex, as the scheduler and people hand it over. Throws BAD_REQUEST. */
export function parseKey(hex: string): Buffer {
  if (!/^[0-9a-f]{64}$/i.test(hex)) throw new Refusal('BAD_REQUEST', `a key of backups is ${KEY_BYTES} bytes in hex`);
  return Buffer.from(hex, 'hex');
}

const derive = (key: Buffer, salt: Buffer, info: string) => Buffer.from(hkdfSync('sha256', key, salt, info, KEY_BYTES));
const fileKey = (key: Buffer, salt: Buffer, context: string) => derive(key, salt, `selvedge backup file 1\n${context}`);

/** A last segment differs in its nonce. Throws past 2^32 segments: 128 TB. */
function nonceOf(prefix: Buffer, index: number, isLast: boolean): Buffer {
  const nonce = Buffer.alloc(PREFIX_BYTES + 5);
  prefix.copy(nonce);
  nonce.writeUInt32BE(index, PREFIX_BYTES);
  nonce[PREFIX_BYTES + 4] = isLast ? 1 : 0;
  return nonce;
}

/** Sealed bytes of the plain ones that `source` gives. `context` names the place of the file. */
export async function* encrypt(source: AsyncIterable<Buffer>, key: Buffer, context: string): AsyncGenerator<Buffer> {
  const [salt, prefix] = [randomBytes(SALT_BYTES), randomBytes(PREFIX_BYTES)];
  yield Buffer.concat([MAGIC, salt, prefix]);
  const own = fileKey(key, salt, context);
  let index = 0;
  for await (const { bytes, isLast } of segmentsOf(source, SEGMENT_BYTES)) {
    const cipher = createCipheriv(CIPHER, own, nonceOf(prefix, index, isLast), options);
    yield Buffer.concat([cipher.update(bytes), cipher.final(), cipher.getAuthTag()]);
    index += 1;
  }
}

/** Plain bytes of sealed ones. Throws BACKUP_DAMAGED at the first that is not what was sealed in this place. */
export async function* decrypt(source: AsyncIterable<Buffer>, key: Buffer, context: string): AsyncGenerator<Buffer> {
  const { header, rest } = await takeHeader(source, context);
  const prefix = header.subarray(MAGIC.length + SALT_BYTES);
  const own = fileKey(key, header.subarray(MAGIC.length, MAGIC.length + SALT_BYTES), context);
  let index = 0;
  for await (const { bytes, isLast } of segmentsOf(rest, SEGMENT_BYTES + TAG_BYTES)) {
    yield openSegment(bytes, own, nonceOf(prefix, index, isLast), `segment ${index} of ${context}`);
    index += 1;
  }
}

function openSegment(sealed: Buffer, key: Buffer, nonce: Buffer, what: string): Buffer {
  const end = sealed.length - TAG_BYTES;
  if (end < 0) throw new Refusal('BACKUP_DAMAGED', `${what} is cut`);
  try {
    const decipher = createDecipheriv(CIPHER, key, nonce, options);
    decipher.setAuthTag(sealed.subarray(end));
    const plain = decipher.update(sealed.subarray(0, end));
    decipher.final();
    return plain;
  } catch {
    throw new Refusal('BACKUP_DAMAGED', `${what} does not open: it was changed, cut or moved`);
  }
}

async function takeHeader(source: AsyncIterable<Buffer>, context: string) {
  const chunks = source[Symbol.asyncIterator]();
  let seen: Buffer = Buffer.alloc(0);
  while (seen.length < HEADER_BYTES) {
    const next = await chunks.next();
    if (next.done) break;
    seen = Buffer.concat([seen, next.value]);
  }
  const header = seen.subarray(0, HEADER_BYTES);
  if (header.length < HEADER_BYTES || !header.subarray(0, MAGIC.length).equals(MAGIC)) {
    await chunks.return?.();
    throw new Refusal('BACKUP_DAMAGED', `${context} is not sealed in a way that this version knows`);
  }
  const rest = async function* (): AsyncGenerator<Buffer> {
    try {
      yield seen.subarray(HEADER_BYTES);
      for (let next = await chunks.next(); !next.done; next = await chunks.next()) yield next.value;
    } finally {
      await chunks.return?.();
    }
  };
  return { header, rest: rest() };
}

/** Whole ones, and one last, which may be empty when there is no other. Their memory is used again: keep none. */
async function* segmentsOf(
  source: AsyncIterable<Buffer>,
  size: number,
): AsyncGenerator<{ readonly bytes: Buffer; readonly isLast: boolean }> {
  const segment = Buffer.allocUnsafeSlow(size);
  let filled = 0;
  for await (const chunk of source) {
    for (let at = 0; at < chunk.length; ) {
      if (filled === size) {
        yield { bytes: segment, isLast: false };
        filled = 0;
      }
      const count = chunk.copy(segment, filled, at);
      filled += count;
      at += count;
    }
  }
  yield { bytes: segment.subarray(0, filled), isLast: true };
}

/** Of a text that stays readable: hex, under a key of its own. */
export function macOf(key: Buffer, text: string): string {
  return createHmac('sha256', derive(key, Buffer.alloc(0), 'selvedge backup manifest 1'))
    .update(text)
    .digest('hex');
}

export function isMacOf(key: Buffer, text: string, mac: string): boolean {
  const [given, expected] = [Buffer.from(mac), Buffer.from(macOf(key, text))];
  return given.length === expected.length && timingSafeEqual(given, expected);
}
