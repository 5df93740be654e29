/**
 * What lies in the archive of a backup volume: `archive/<server_uuid>/binlog.NNNNNN`, with a sidecar `.json` beside each
 * log that is closed. Of a log without one, which still grows or was cut off by a crash, the file itself is walked.
 */
import { createReadStream } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type Segment, segmentSchema } from '../channel/transfer.ts';
import { createBinlogWalker } from '../mysql/binlog-events.ts';
import { isMissing, readIfThere } from './durable.ts';

export const segmentUuid = /^[0-9a-f-]{36}$/;
export const segmentName = /^binlog\.\d{6,10}$/;
const READ_BYTES = 256 * 1024;

export const archiveOf = (volumePath: string) => join(volumePath, 'archive');

/** Every log of the archive, by server and name. A file that cannot be read as a log ends with what of it can be. */
export async function listSegments(volumePath: string, signal: AbortSignal): Promise<Segment[]> {
  const segments: Segment[] = [];
  for (const serverUuid of (await namesIn(archiveOf(volumePath))).filter((name) => segmentUuid.test(name))) {
    const directory = join(archiveOf(volumePath), serverUuid);
    for (const name of (await namesIn(directory)).filter((each) => segmentName.test(each))) {
      signal.throwIfAborted();
      segments.push(
        (await readSidecar(directory, name)) ?? (await walkSegment({ directory, serverUuid, name, signal })),
      );
    }
  }
  return segments;
}

async function readSidecar(directory: string, name: string): Promise<Segment | null> {
  const text = await readIfThere(join(directory, `${name}.json`));
  if (text === null) return null;
  try {
    const segment = segmentSchema.parse(JSON.parse(text));
    return segment.name === name ? segment : null;
  } catch {
    return null;
  }
}

interface Place {
  readonly directory: string;
  readonly serverUuid: string;
  readonly name: string;
  readonly signal: AbortSignal;
}

async function walkSegment({ directory, serverUuid, name, signal }: Place): Promise<Segment> {
  let firstAt: number | null = null;
  let lastAt: number | null = null;
  const walker = createBinlogWalker({
    name,
    isVerified: false, // whoever uses it looks at the checksums
    onTransaction: ({ originalCommittedAtMicros }) => {
      lastAt = Math.floor(originalCommittedAtMicros / 1000);
      firstAt ??= lastAt;
    },
  });
  try {
    for await (const chunk of createReadStream(join(directory, name), { highWaterMark: READ_BYTES, signal })) {
      walker.push(chunk as Buffer);
    }
  } catch (error) {
    signal.throwIfAborted();
    if (!walker.head && !isMissing(error)) throw error;
  }
  const previousGtids = walker.head?.previousGtids ?? '';
  const gtidSet = walker.head ? walker.gtidSet() : '';
  return { serverUuid, name, bytes: walker.transactionsEnd, sha256: null, previousGtids, gtidSet, firstAt, lastAt };
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return (await readdir(directory)).sort();
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}
