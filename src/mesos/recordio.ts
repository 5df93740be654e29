/**
 * RecordIO framing of Mesos' event streams: `<length in bytes, decimal>\n<bytes>`, repeated, nothing in between.
 * HTTP chunks do not align with records, so everything counts bytes, never characters.
 */

/** 10k offers are 10 to 30 MB of JSON. */
const MAX_RECORD_BYTES = 64 * 1024 * 1024;
const MAX_HEADER_DIGITS = 10;
const NEWLINE = 0x0a;

/** The stream cannot be read on: close it and subscribe again. */
export class RecordError extends Error {
  constructor(problem: string) {
    super(problem);
    this.name = 'RecordError';
  }
}

export function encodeRecord(body: string | Buffer): Buffer {
  const bytes = typeof body === 'string' ? Buffer.from(body, 'utf8') : body;
  return Buffer.concat([Buffer.from(`${bytes.length}\n`, 'ascii'), bytes]);
}

export interface RecordDecoder {
  /** Records completed by this chunk, in order. Throws RecordError; the decoder is then of no further use. */
  push(chunk: Buffer): Buffer[];
  /** A stream that ends in the middle of a record was cut. */
  readonly isMidRecord: boolean;
}

export function createRecordDecoder(maxBytes = MAX_RECORD_BYTES): RecordDecoder {
  let header = '';
  let missing = -1; // bytes still missing of the body; -1 while reading the header
  let pieces: Buffer[] = [];
  let broken: RecordError | null = null;

  const fail = (problem: string): never => {
    broken = new RecordError(problem);
    throw broken;
  };

  const readHeader = (chunk: Buffer, from: number): number => {
    const end = chunk.indexOf(NEWLINE, from);
    // Not beyond the limit: a hostile header must not be copied whole.
    const stop = Math.min(end === -1 ? chunk.length : end, from + MAX_HEADER_DIGITS + 1);
    header += chunk.toString('latin1', from, stop);
    if (!/^\d*$/.test(header) || header.length > MAX_HEADER_DIGITS) fail('Record header is not a length');
    if (end === -1) return chunk.length;
    if (header === '') fail('Record header is empty');
    missing = Number(header);
    header = '';
    if (missing > maxBytes) fail(`Record of ${missing} bytes is over the limit of ${maxBytes}`);
    return end + 1;
  };

  return {
    push(chunk) {
      if (broken) throw broken;
      const records: Buffer[] = [];
      let at = 0;
      while (at < chunk.length || missing === 0) {
        if (missing === -1) {
          at = readHeader(chunk, at);
          continue;
        }
        const piece = chunk.subarray(at, at + missing);
        pieces.push(piece);
        at += piece.length;
        missing -= piece.length;
        if (missing > 0) continue;
        records.push(pieces.length === 1 ? piece : Buffer.concat(pieces));
        pieces = [];
        missing = -1;
      }
      return records;
    },
    get isMidRecord() {
      return missing !== -1 || header !== '';
    },
  };
}
