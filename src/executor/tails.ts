/**
 * Tails: what only this member had, kept for people before it is cut off or filled anew. `tails/<id>/` on the backup
 * volume, on the data volume when there is none: `tail.binlog` (a binary log that mysqlbinlog reads; `tail-2.binlog`
 * and so on when it stood in several), `tail.sql` (the same as text, with rows), relay logs as they were when some of it
 * was only received, `manifest.json` last. How long they are kept: tail-retention.ts.
 */
import { constants } from 'node:fs';
import { type FileHandle, open, readdir, rm, stat, statfs } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { decodeRows, type Tail } from '../mysql/binlog.ts';
import type { LogPart } from '../mysql/lacking.ts';
import { isMissing, makeDirectory, readIfThere, renameDurable, syncDirectory, writeDurable } from './durable.ts';
import { hashFile } from './manifest.ts';
import type { MemberContext, TailEntry } from './member-context.ts';
import { measureVolume, type Volume } from './volumes.ts';

const COPY_BYTES = 1024 * 1024;
/** Of text; the binary log beside it is whole in any case. */
const MAX_TEXT_BYTES = 64 * 1024 * 1024;
const DECODE_TIMEOUT_MS = 5 * 60_000;
/** Every status carries them. */
const MAX_LISTED = 20;
const PARTIAL = '.partial';

const file = z.object({ name: z.string(), bytes: z.number(), sha256: z.string() });
const manifestSchema = z.object({
  version: z.literal(1),
  id: z.string(),
  installation: z.string(),
  cluster: z.string(),
  clusterName: z.string(),
  ordinal: z.number().int(),
  incarnation: z.string(),
  serverUuid: z.string(),
  epoch: z.number().int(),
  gtidSet: z.string(),
  transactions: z.number().int(),
  /** Of the log that was cut. */
  binaryLog: z.string(),
  position: z.number().int(),
  bytes: z.number(),
  at: z.number(),
  isTextWhole: z.boolean(),
  /** Absent: it was cut off. */
  reason: z.enum(['cut', 'rebuilt']).optional(),
  files: z.array(file),
});

type FoundTail = Extract<Tail, { kind: 'tail' }>;
type Manifest = z.infer<typeof manifestSchema>;

/** What is to be kept, under an id of its own. */
export interface Leftover {
  readonly id: string;
  readonly parts: readonly LogPart[];
  /** Relay logs, whole. */
  readonly wholeFiles: readonly string[];
  readonly about: Pick<Manifest, 'gtidSet' | 'transactions' | 'binaryLog' | 'position' | 'bytes' | 'reason'>;
}

/**
 * Saves the tail under the incarnation's id, durable. A full backup volume is no reason to lose it: then it goes beside
 * the data. Throws when it can be kept nowhere; nothing of the binary log was changed then.
 */
export async function saveTail(context: MemberContext, tail: FoundTail, signal: AbortSignal): Promise<void> {
  const { path, headBytes, position, bytes, gtidSet, transactions } = tail;
  const parts = [{ path, headBytes, ranges: [{ start: position, end: position + bytes }] }];
  const about = { gtidSet, transactions, binaryLog: basename(path), position, bytes, reason: 'cut' } as const;
  await saveAnywhere(context, { id: context.marker!.incarnation, parts, wholeFiles: [], about }, signal);
}

/** As `saveTail`, of anything. */
export async function saveAnywhere(context: MemberContext, leftover: Leftover, signal: AbortSignal): Promise<void> {
  const { data, backup } = context.volumes!;
  if (backup && context.backupMarker) {
    try {
      return await saveTo(context, backup, leftover, signal);
    } catch (error) {
      signal.throwIfAborted();
      context.log.warn({ err: error }, 'the tail cannot be kept on the backup volume: it goes beside the data');
    }
  }
  await saveTo(context, data, leftover, signal);
}

async function saveTo(context: MemberContext, volume: Volume, leftover: Leftover, signal: AbortSignal): Promise<void> {
  const { id, parts, wholeFiles, about } = leftover;
  await requireRoomFor(volume, leftover);
  const final = join(volume.path, 'tails', id);
  const partial = `${final}${PARTIAL}`;
  await makeDirectory(join(volume.path, 'tails'));
  await rm(partial, { recursive: true, force: true });
  await makeDirectory(partial);
  try {
    const names = parts.map((_, index) => (index === 0 ? 'tail.binlog' : `tail-${index + 1}.binlog`));
    for (const [index, part] of parts.entries()) await copyPart(part, join(partial, names[index]!), signal);
    for (const path of wholeFiles) await copyWhole(path, join(partial, basename(path)), signal);
    const raws = names.map((name) => join(partial, name));
    const isTextWhole = await writeText(context, raws, join(partial, 'tail.sql'), signal);
    const files = [];
    for (const name of [...names, 'tail.sql', ...wholeFiles.map((path) => basename(path))]) {
      files.push({ name, ...(await hashFile(join(partial, name), signal)) });
    }
    const { installation, cluster, clusterName, ordinal } = context.plan;
    const { incarnation, serverUuid } = context.marker!;
    const manifest: Manifest = {
      ...{ version: 1, id, installation, cluster, clusterName, ordinal, incarnation, serverUuid },
      ...{ epoch: context.state.get().epoch, ...about },
      ...{ at: context.clock.now(), isTextWhole, files },
    };
    await writeDurable(join(partial, 'manifest.json'), `${JSON.stringify(manifest, null, 2)}\n`);
    await rm(final, { recursive: true, force: true }); // of an earlier try: the log is still whole
    await renameDurable(partial, final);
  } catch (error) {
    await rm(partial, { recursive: true, force: true }).catch(() => {});
    throw error;
  }
}

/** What stays free on a volume beside what is saved. */
const ROOM_BYTES = 32 * 1024 * 1024;

/** Before anything is written: a volume that is filled to the brim helps nobody. The text is bounded by its limit. */
async function requireRoomFor(volume: Volume, { parts, wholeFiles }: Leftover): Promise<void> {
  const ofParts = parts.map(({ headBytes, ranges }) =>
    ranges.reduce((sum, { start, end }) => sum + end - start, headBytes),
  );
  const ofFiles = await Promise.all(wholeFiles.map(async (path) => (await stat(path)).size));
  const rawBytes = [...ofParts, ...ofFiles].reduce((sum, bytes) => sum + bytes, 0);
  const neededBytes = rawBytes + Math.min(MAX_TEXT_BYTES, rawBytes * 4);
  const [{ totalMb, usedMb }, fs] = await Promise.all([measureVolume(volume), statfs(volume.path)]);
  const freeBytes = Math.min((totalMb - usedMb) * 1024 * 1024, fs.bavail * fs.bsize) - ROOM_BYTES;
  if (neededBytes > freeBytes)
    throw new Error(`${neededBytes} bytes are needed, and ${Math.max(0, freeBytes)} are free`);
}

/** The head of the log (format description, previous GTIDs) and the parts, as one binary log. */
async function copyPart({ path, headBytes, ranges }: LogPart, target: string, signal: AbortSignal): Promise<void> {
  await using from = await open(path, 'r');
  await using to = await open(target, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
  await copyRange(from, to, { start: 0, end: headBytes, signal });
  for (const range of ranges) await copyRange(from, to, { ...range, signal });
  await to.sync();
}

async function copyWhole(path: string, target: string, signal: AbortSignal): Promise<void> {
  const { size } = await stat(path);
  await copyPart({ path, headBytes: 0, ranges: [{ start: 0, end: size }] }, target, signal);
}

async function copyRange(
  from: FileHandle,
  to: FileHandle,
  { start, end, signal }: { readonly start: number; readonly end: number; readonly signal: AbortSignal },
): Promise<void> {
  const buffer = Buffer.alloc(Math.min(COPY_BYTES, end - start));
  for (let at = start; at < end; ) {
    signal.throwIfAborted();
    const { bytesRead } = await from.read(buffer, 0, Math.min(buffer.length, end - at), at);
    if (bytesRead === 0) throw new Error('the binary log became shorter while it was read');
    await to.writeFile(buffer.subarray(0, bytesRead));
    at += bytesRead;
  }
}

/** False when the text was cut at its limit. */
async function writeText(
  context: MemberContext,
  raws: readonly string[],
  target: string,
  signal: AbortSignal,
): Promise<boolean> {
  const distribution = await context.findDistribution();
  await using to = await open(target, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
  const full = new Error('the text is long enough');
  let buffered: Buffer[] = [];
  let bytes = 0;
  let last: Promise<void> = Promise.resolve();
  const flush = () => {
    const chunk = Buffer.concat(buffered);
    buffered = [];
    last = last.then(() => to.writeFile(chunk));
    last.catch(() => {}); // awaited below
  };
  let isWhole = true;
  const options = { distribution, clock: context.clock, signal, timeoutMs: DECODE_TIMEOUT_MS };
  const take = (line: string) => {
    const text = Buffer.from(`${line}\n`, 'latin1');
    bytes += text.length;
    if (bytes > MAX_TEXT_BYTES) throw full;
    buffered.push(text);
    if (buffered.length >= 1000) flush();
  };
  try {
    for (const raw of raws) await decodeRows(raw, options, take);
  } catch (error) {
    if (error !== full) throw error;
    isWhole = false;
    buffered.push(Buffer.from('# the text is cut here; the binary logs are whole\n'));
  }
  flush();
  await last;
  await to.sync();
  return isWhole;
}

/** Tails on both volumes, oldest first, at most the newest twenty. What cannot be read is passed over. */
export async function refreshTails(context: MemberContext): Promise<void> {
  const found: TailEntry[] = [];
  for (const place of ['data', 'backup'] as const) {
    const volume = context.volumes?.[place];
    if (volume) found.push(...(await readTails(volume)).map((manifest) => pick(manifest, place)));
  }
  context.tails = found.sort((a, b) => a.at - b.at).slice(-MAX_LISTED);
}

/** All of a volume, in no order. What cannot be read is passed over. */
export async function readTails(volume: Volume): Promise<Manifest[]> {
  const root = join(volume.path, 'tails');
  const names = await readdir(root).catch((error: unknown) => {
    if (isMissing(error)) return [];
    throw error;
  });
  const found: Manifest[] = [];
  for (const name of names) {
    if (name.endsWith(PARTIAL)) continue;
    const text = await readIfThere(join(root, name, 'manifest.json')).catch(() => null);
    const manifest = text === null ? null : parseManifest(text);
    if (manifest?.id === name) found.push(manifest);
  }
  return found;
}

function parseManifest(text: string): Manifest | null {
  try {
    return manifestSchema.parse(JSON.parse(text));
  } catch {
    return null;
  }
}

function pick(manifest: Manifest, place: 'data' | 'backup'): TailEntry {
  const { id, gtidSet, bytes, at, transactions, reason = 'cut' } = manifest;
  const files = manifest.files.map((one) => ({ name: one.name, bytes: one.bytes }));
  return { id, gtidSet, bytes, at, transactions, reason, place, files };
}

/** Cuts the log and flushes it and its directory. Twice is the same. */
export async function cutLog(path: string, position: number): Promise<void> {
  await using log = await open(path, 'r+');
  if ((await log.stat()).size > position) await log.truncate(position);
  await log.sync();
  await syncDirectory(join(path, '..'));
}
