/**
 * Tails: what a crashed primary had logged and nobody acknowledged, kept for people before it is cut off.
 * `tails/<id>/` on the backup volume, on the data volume when there is none: `tail.binlog` (a binary log that
 * mysqlbinlog reads), `tail.sql` (the same as text, with rows), `manifest.json` last. Never removed by us.
 */
import { constants } from 'node:fs';
import { type FileHandle, open, readdir, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { decodeRows, type Tail } from '../mysql/binlog.ts';
import { isMissing, makeDirectory, readIfThere, renameDurable, syncDirectory, writeDurable } from './durable.ts';
import { hashFile } from './manifest.ts';
import type { MemberContext, TailEntry } from './member-context.ts';
import type { Volume } from './volumes.ts';

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
  files: z.array(file),
});

type FoundTail = Extract<Tail, { kind: 'tail' }>;

/**
 * Saves the tail under the incarnation's id, durable. A full backup volume is no reason to lose it: then it goes beside
 * the data. Throws when it can be kept nowhere; nothing of the binary log was changed then.
 */
export async function saveTail(context: MemberContext, tail: FoundTail, signal: AbortSignal): Promise<void> {
  const { data, backup } = context.volumes!;
  const id = context.marker!.incarnation;
  if (backup && context.backupMarker) {
    try {
      return await saveTo(context, backup, { id, tail, signal });
    } catch (error) {
      signal.throwIfAborted();
      context.log.warn({ err: error }, 'the tail cannot be kept on the backup volume: it goes beside the data');
    }
  }
  await saveTo(context, data, { id, tail, signal });
}

interface Save {
  readonly id: string;
  readonly tail: FoundTail;
  readonly signal: AbortSignal;
}

async function saveTo(context: MemberContext, volume: Volume, { id, tail, signal }: Save): Promise<void> {
  const final = join(volume.path, 'tails', id);
  const partial = `${final}${PARTIAL}`;
  await makeDirectory(join(volume.path, 'tails'));
  await rm(partial, { recursive: true, force: true });
  await makeDirectory(partial);
  try {
    const raw = join(partial, 'tail.binlog');
    await copyTail(tail, raw, signal);
    const isTextWhole = await writeText(context, raw, join(partial, 'tail.sql'), signal);
    const files = [];
    for (const name of ['tail.binlog', 'tail.sql']) {
      files.push({ name, ...(await hashFile(join(partial, name), signal)) });
    }
    const { installation, cluster, clusterName, ordinal } = context.plan;
    const { incarnation, serverUuid } = context.marker!;
    const { gtidSet, transactions, position, bytes } = tail;
    const manifest: z.infer<typeof manifestSchema> = {
      ...{ version: 1, id, installation, cluster, clusterName, ordinal, incarnation, serverUuid },
      ...{ epoch: context.state.get().epoch, gtidSet, transactions, binaryLog: basename(tail.path), position, bytes },
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

/** The head of the log (format description, previous GTIDs) and the tail, as one binary log. */
async function copyTail(tail: FoundTail, target: string, signal: AbortSignal): Promise<void> {
  await using from = await open(tail.path, 'r');
  await using to = await open(target, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
  await copyRange(from, to, { start: 0, end: tail.headBytes, signal });
  await copyRange(from, to, { start: tail.position, end: tail.position + tail.bytes, signal });
  await to.sync();
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
async function writeText(context: MemberContext, raw: string, target: string, signal: AbortSignal): Promise<boolean> {
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
  await decodeRows(raw, options, (line) => {
    const text = Buffer.from(`${line}\n`, 'latin1');
    bytes += text.length;
    if (bytes > MAX_TEXT_BYTES) throw full;
    buffered.push(text);
    if (buffered.length >= 1000) flush();
  }).catch((error: unknown) => {
    if (error !== full) throw error;
    isWhole = false;
    buffered.push(Buffer.from('# the text is cut here; tail.binlog is whole\n'));
  });
  flush();
  await last;
  await to.sync();
  return isWhole;
}

/** Tails on both volumes, oldest first, at most the newest twenty. What cannot be read is passed over. */
export async function refreshTails(context: MemberContext): Promise<void> {
  const found: TailEntry[] = [];
  for (const volume of [context.volumes?.data, context.volumes?.backup]) {
    if (!volume) continue;
    const root = join(volume.path, 'tails');
    const names = await readdir(root).catch((error: unknown) => {
      if (isMissing(error)) return [];
      throw error;
    });
    for (const name of names) {
      if (name.endsWith(PARTIAL)) continue;
      const text = await readIfThere(join(root, name, 'manifest.json')).catch(() => null);
      const manifest = text === null ? null : parseManifest(text);
      if (manifest?.id === name) found.push(pick(manifest));
    }
  }
  context.tails = found.sort((a, b) => a.at - b.at).slice(-MAX_LISTED);
}

function parseManifest(text: string): z.infer<typeof manifestSchema> | null {
  try {
    return manifestSchema.parse(JSON.parse(text));
  } catch {
    return null;
  }
}

function pick({ id, gtidSet, bytes, at }: z.infer<typeof manifestSchema>): TailEntry {
  return { id, gtidSet, bytes, at };
}

/** Cuts the log and flushes it and its directory. Twice is the same. */
export async function cutLog(path: string, position: number): Promise<void> {
  await using log = await open(path, 'r+');
  if ((await log.stat()).size > position) await log.truncate(position);
  await log.sync();
  await syncDirectory(join(path, '..'));
}
