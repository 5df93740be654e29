/**
 * The archive on a backup volume: `archive/<server_uuid>/binlog.NNNNNN`, beside each closed one its sidecar
 * `binlog.NNNNNN.json`. A directory belongs to one server_uuid, so one to one history: after a trim or a rebuild the
 * member writes into another one. What has another name is not ours and is left alone.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { lstat, open, readdir, rename, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { z } from 'zod';
import type { Segment } from '../channel/transfer.ts';
import { createBinlogWalker, IN_USE_FLAG, IN_USE_OFFSET, walkBinaryLog } from '../mysql/binlog-events.ts';
import { isMissing, readIfThere, syncDirectory, writeDurable } from './durable.ts';
import type { Volume } from './volumes.ts';

const SIDECAR_VERSION = 1;
export const segmentName = /^binlog\.\d{6,10}$/;
export const segmentUuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
/** The first event of a log stands in it: server id, time, version. Two logs never have the same. */
const IDENTITY_BYTES = 120;

const sidecarSchema = z.object({
  version: z.literal(SIDECAR_VERSION),
  serverUuid: z.string().regex(segmentUuid),
  name: z.string().regex(segmentName),
  ordinal: z.number().int(),
  incarnation: z.string(),
  bytes: z.number().int().min(4),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  /** All that the server had in logs before this one. */
  previousGtids: z.string(),
  /** Those in the file. */
  gtidSet: z.string(),
  /** First and last commit, in milliseconds, by the clock of the server that issued it; null: no transaction. */
  firstAt: z.number().nullable(),
  lastAt: z.number().nullable(),
});
export type Sidecar = z.infer<typeof sidecarSchema>;
export type SegmentId = Pick<Segment, 'serverUuid' | 'name'>;

export const archiveOf = (volume: Volume): string => join(volume.path, 'archive');

export function pathOf(volume: Volume, { serverUuid, name }: SegmentId): string {
  return join(archiveOf(volume), serverUuid, name);
}

/** Directories of the archive: server_uuids. */
export async function listArchives(volume: Volume): Promise<string[]> {
  const entries = await readdir(archiveOf(volume), { withFileTypes: true }).catch((error: unknown) => {
    if (isMissing(error)) return [];
    throw error;
  });
  return entries.filter((entry) => entry.isDirectory() && segmentUuid.test(entry.name)).map(({ name }) => name);
}

export interface ArchivedFile {
  readonly serverUuid: string;
  readonly name: string;
  readonly bytes: number;
  /** Null: there is none that can be read. */
  readonly sidecar: Sidecar | null;
}

/** Every binary log in the archive, in order of directory and number, by names, sizes and sidecars alone. */
export async function listFiles(volume: Volume): Promise<ArchivedFile[]> {
  const found: ArchivedFile[] = [];
  for (const serverUuid of (await listArchives(volume)).sort()) {
    const names = (await readdir(join(archiveOf(volume), serverUuid))).filter((name) => segmentName.test(name));
    for (const name of names.sort(byNumber)) {
      const stat = await lstat(pathOf(volume, { serverUuid, name })).catch((error: unknown) => {
        if (isMissing(error)) return null; // it expired just now
        throw error;
      });
      if (!stat?.isFile()) continue;
      found.push({ serverUuid, name, bytes: stat.size, sidecar: await findSidecar(volume, { serverUuid, name }) });
    }
  }
  return found;
}

/** As a donor tells them. Of a log that is not sealed, which still grows or was cut off by a crash, the file is walked. */
export async function listSegments(volume: Volume, signal: AbortSignal): Promise<Segment[]> {
  const segments: Segment[] = [];
  for (const { sidecar, ...file } of await listFiles(volume)) {
    signal.throwIfAborted();
    if (sidecar?.bytes !== file.bytes) segments.push(await walkSegment(volume, file, signal));
    else {
      const { version: _, ordinal: __, incarnation: ___, ...segment } = sidecar;
      segments.push(segment);
    }
  }
  return segments;
}

/** A file that cannot be read as a log ends with what of it can be; whoever uses it looks at the checksums. */
async function walkSegment(volume: Volume, which: SegmentId, signal: AbortSignal): Promise<Segment> {
  const { serverUuid, name } = which;
  const times = createTimes();
  const walker = createBinlogWalker({
    name,
    isVerified: false,
    onTransaction: ({ originalCommittedAtMicros }) => times.add(originalCommittedAtMicros),
  });
  try {
    for await (const chunk of createReadStream(pathOf(volume, which), { highWaterMark: HASH_BYTES, signal })) {
      walker.push(chunk as Buffer);
    }
  } catch (error) {
    signal.throwIfAborted();
    if (!walker.head && !isMissing(error)) throw error;
  }
  const previousGtids = walker.head?.previousGtids ?? '';
  const gtidSet = walker.head ? walker.gtidSet() : '';
  return { serverUuid, name, bytes: walker.transactionsEnd, sha256: null, previousGtids, gtidSet, ...times.read() };
}

/** `<server_uuid>/binlog.NNNNNN` of every binary log in the archive. */
export async function listNames(volume: Volume): Promise<string[]> {
  const found: string[] = [];
  for (const serverUuid of await listArchives(volume)) {
    const names = (await readdir(join(archiveOf(volume), serverUuid))).filter((name) => segmentName.test(name));
    found.push(...names.map((name) => `${serverUuid}/${name}`));
  }
  return found;
}

/** `binlog.999999` comes before `binlog.1000000`. */
export function byNumber(left: string, right: string): number {
  return numberOf(left) - numberOf(right);
}

export function numberOf(name: string): number {
  return Number(basename(name).slice('binlog.'.length));
}

async function findSidecar(volume: Volume, which: SegmentId): Promise<Sidecar | null> {
  const text = await readIfThere(`${pathOf(volume, which)}.json`).catch(() => null);
  if (text === null) return null;
  try {
    const sidecar = sidecarSchema.parse(JSON.parse(text));
    return sidecar.name === which.name && sidecar.serverUuid === which.serverUuid ? sidecar : null;
  } catch {
    return null;
  }
}

/** Seals a segment: from now on the file is not written to. The file itself must be durable before. */
export async function writeSidecar(volume: Volume, sidecar: Omit<Sidecar, 'version'>): Promise<void> {
  const whole = sidecarSchema.parse({ version: SIDECAR_VERSION, ...sidecar });
  await writeDurable(`${pathOf(volume, sidecar)}.json`, `${JSON.stringify(whole, null, 2)}\n`);
}

export async function removeSidecar(volume: Volume, which: SegmentId): Promise<void> {
  await rm(`${pathOf(volume, which)}.json`, { force: true });
  await syncDirectory(join(archiveOf(volume), which.serverUuid));
}

/** Removes a segment, its sidecar first: a file without one is looked at anew, a sidecar without its file is not. */
export async function removeSegment(volume: Volume, which: SegmentId): Promise<void> {
  await removeSidecar(volume, which);
  await rm(pathOf(volume, which), { force: true });
}

const partialName = /^binlog\.\d{6,10}\.partial$/;

/** Where a log is gathered that comes from another member's archive. */
export function partialOf(volume: Volume, which: SegmentId): string {
  return `${pathOf(volume, which)}.partial`;
}

/** Removes what is left of logs that were never fetched whole, but for those that are still wanted. */
export async function removePartials(volume: Volume, wanted: readonly SegmentId[]): Promise<void> {
  const kept = new Set(wanted.map((which) => partialOf(volume, which)));
  for (const serverUuid of await listArchives(volume)) {
    const directory = join(archiveOf(volume), serverUuid);
    for (const name of (await readdir(directory)).filter((each) => partialName.test(each))) {
      if (!kept.has(join(directory, name))) await rm(join(directory, name), { force: true });
    }
  }
}

/** Puts a file aside that does not hold what it should: it counts for nothing, and a person may look at it. */
export async function putAside(volume: Volume, which: SegmentId): Promise<void> {
  await removeSidecar(volume, which);
  const path = pathOf(volume, which);
  await rename(path, `${path}.damaged`);
  await syncDirectory(join(archiveOf(volume), which.serverUuid));
}

/**
 * Reads a whole file of the archive: what its sidecar should say. Every event's checksum is compared. `bytes` ends with
 * the last whole transaction. Throws BINLOG_UNREADABLE when it is no whole log.
 */
export async function readSegment(
  volume: Volume,
  which: SegmentId,
  signal: AbortSignal,
): Promise<Omit<Sidecar, 'version' | 'ordinal' | 'incarnation'>> {
  const times = createTimes();
  const path = pathOf(volume, which);
  const { head, wholeEnd, gtidSet } = await walkBinaryLog(path, {
    signal,
    onTransaction: ({ originalCommittedAtMicros }) => times.add(originalCommittedAtMicros),
  });
  const sha256 = await hashStart(path, wholeEnd, signal);
  const { serverUuid, name } = which;
  return {
    ...{ serverUuid, name, bytes: wholeEnd, sha256, previousGtids: head.previousGtids, gtidSet },
    ...times.read(),
  };
}

const HASH_BYTES = 256 * 1024;

/** SHA-256 (hex) of the first `bytes` of a file; `take` waits for the turn of so many. Throws when it is shorter. */
export async function hashStart(
  path: string,
  bytes: number,
  signal: AbortSignal,
  take: (bytes: number, signal: AbortSignal) => Promise<void> = async () => {},
): Promise<string> {
  const hash = createHash('sha256');
  const buffer = Buffer.allocUnsafe(HASH_BYTES);
  await using file = await open(path, 'r');
  for (let at = 0; at < bytes; ) {
    signal.throwIfAborted();
    await take(Math.min(HASH_BYTES, bytes - at), signal);
    const { bytesRead } = await file.read(buffer, 0, Math.min(HASH_BYTES, bytes - at), at);
    if (bytesRead === 0) throw new Error(`${basename(path)} is shorter than ${bytes} bytes`);
    hash.update(buffer.subarray(0, bytesRead));
    at += bytesRead;
  }
  return hash.digest('hex');
}

/** First and last commit of what is added, in milliseconds. Clocks are set back: so smallest and greatest. */
export function createTimes() {
  let firstAt: number | null = null;
  let lastAt: number | null = null;
  return {
    add(micros: number) {
      const ms = Math.floor(micros / 1000);
      if (firstAt === null || ms < firstAt) firstAt = ms;
      if (lastAt === null || ms > lastAt) lastAt = ms;
    },
    read: () => ({ firstAt, lastAt }),
  };
}

/** What tells one log from every other, of its first bytes; null when it has not got them yet. */
export async function readIdentity(path: string): Promise<string | null> {
  await using file = await open(path, 'r');
  const { buffer, bytesRead } = await file.read(Buffer.alloc(IDENTITY_BYTES), 0, IDENTITY_BYTES, 0);
  if (bytesRead < IDENTITY_BYTES) return null;
  clearInUse(buffer, 0);
  return buffer.toString('base64');
}

/**
 * An open log carries a flag in its first event, which mysqld clears when it closes the log. The archive holds every
 * log as it is closed: so no byte that was copied changes later. `at`: where in the file the bytes begin.
 */
export function clearInUse(bytes: Buffer, at: number): void {
  const index = IN_USE_OFFSET - at;
  if (index >= 0 && index < bytes.length) bytes[index]! &= ~IN_USE_FLAG;
}
