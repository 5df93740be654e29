/**
 * The donor's end of a transfer: backups and archive of this member's backup volume, and its tails, for whoever has a token
 * that the scheduler shared. Rules:
 * - Nothing is read but sealed backups, the archive and tails: ids and names by pattern, paths resolved, links refused.
 * - Bytes are sent from an offset (`Range: bytes=N-`), throttled here, with one piece in memory.
 * - The recipient checks what it gets: this end adds no checksum of its own.
 */
import { constants } from 'node:fs';
import { type FileHandle, open, realpath } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join, sep } from 'node:path';
import { TRANSFER_PATH } from '../channel/transfer.ts';
import type { Clock } from '../clock.ts';
import { errors, Refusal } from '../errors.ts';
import type { Logger } from '../log.ts';
import { archiveOf, listSegments, segmentName, segmentUuid } from './archive-segments.ts';
import { isMissing } from './durable.ts';
import type { BackupKeys } from './encryption.ts';
import { dataOf, findManifest, names, placeOf } from './manifest.ts';
import { type OpenBackup, openBackup, readFilesText } from './open-backup.ts';
import { type Packed, packedOf, placeOfPacked, unpack } from './packing.ts';
import { passBuffer } from './passing-buffers.ts';
import type { Share } from './shares.ts';
import { readTails } from './tails.ts';
import type { Throttle } from './throttle.ts';
import type { Volume } from './volumes.ts';

const PIECE_BYTES = 256 * 1024;
/** At once, over all shares: the rest of the control server's connections is for commands. */
const TRANSFERS_MAX = 16;
/** A recipient that takes nothing for this long is dropped. */
const STALL_MS = 60_000;

export interface TransferServer {
  /** Answers a request below /v1/transfer/ whose token was found. Never rejects. */
  serve(request: IncomingMessage, response: ServerResponse, share: Share): Promise<void>;
}

export function createTransferServer(deps: {
  readonly clock: Clock;
  readonly log: Logger;
  /** Of encrypted backups, which are sent as what comes out of them. */
  readonly keys: BackupKeys;
  /** Null while there is none, or it is not ours. */
  findVolume(): Volume | null;
  /** Where tails may lie; none while they are not ours. */
  findTailVolumes(): readonly Volume[];
}): TransferServer {
  const { clock, log } = deps;
  let running = 0;
  return {
    async serve(request, response, share) {
      const ended = new AbortController();
      response.on('error', () => {});
      response.on('close', () => ended.abort(new Error('the recipient went away')));
      running += 1;
      try {
        if (running > TRANSFERS_MAX) throw new Refusal('BUSY', `${TRANSFERS_MAX} transfers run`);
        const asked = parse(request);
        if (asked.kind === 'tail') {
          await using file = await openBelow(await placeOfTail(deps.findTailVolumes(), asked));
          const { throttle } = share;
          return await sendFile({ file, from: readFrom(request), response, throttle, clock, ended: ended.signal });
        }
        const volume = deps.findVolume();
        if (!volume) throw new Refusal('NO_BACKUP_VOLUME', 'this member has no backup volume');
        if (asked.kind === 'archive') {
          const segments = await listSegments(volume, ended.signal);
          sendJson(response, 200, { version: 1, segments });
          return;
        }
        const place = await placeOfFile(volume, asked, deps.keys);
        if ('text' in place) return sendText(response, readFrom(request), place.text);
        await using file = await openBelow(place);
        const { throttle } = share;
        const sending = { file, from: readFrom(request), response, throttle, clock, ended: ended.signal };
        await (place.packed ? sendUnpacked(place.packed, sending) : sendFile(sending));
      } catch (error) {
        if (ended.signal.aborted) return;
        if (!(error instanceof Refusal)) log.warn({ err: error, url: request.url }, 'a transfer failed');
        refuse(response, error);
      } finally {
        running -= 1;
      }
    },
  };
}

type Asked =
  | { readonly kind: 'archive' }
  | { readonly kind: 'segment'; readonly serverUuid: string; readonly name: string }
  | { readonly kind: 'tail'; readonly tailId: string; readonly name: string }
  | { readonly kind: 'manifest'; readonly backupId: string }
  | { readonly kind: 'files'; readonly backupId: string }
  | { readonly kind: 'data' | 'stored'; readonly backupId: string; readonly path: string };

function parse({ method, url }: IncomingMessage): Asked {
  const at = new URL(url ?? '', 'https://executor');
  // Decoding may throw; a name that was decoded holds what it holds and goes through its pattern below.
  const parts = at.pathname.slice(TRANSFER_PATH.length).split('/').map(decode);
  const [kind, first = '', second = '', ...more] = parts;
  if (method !== 'GET' || more.length > 0) throw unknown();
  if (kind === 'archive' && parts.length === 1) return { kind };
  if (kind === 'archive' && segmentUuid.test(first) && segmentName.test(second)) {
    return { kind: 'segment', serverUuid: first, name: second };
  }
  if (kind === 'tails' && tailName.test(first) && tailName.test(second))
    return { kind: 'tail', tailId: first, name: second };
  if (kind !== 'backups') throw unknown();
  if (second === 'manifest.json') return { kind: 'manifest', backupId: first };
  if (second === 'files.json') return { kind: 'files', backupId: first };
  const path = at.searchParams.get('path');
  if ((second === 'data' || second === 'stored') && path !== null) return { kind: second, backupId: first, path };
  throw unknown();
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw unknown();
  }
}

/** A single name; that it is in a manifest is what counts. */
const tailName = /^[0-9A-Za-z][0-9A-Za-z._-]{0,127}$/;

/** Only what the manifest of a whole tail names. */
async function placeOfTail(
  volumes: readonly Volume[],
  { tailId, name }: Extract<Asked, { kind: 'tail' }>,
): Promise<Below> {
  for (const volume of volumes) {
    const found = (await readTails(volume)).find(({ id }) => id === tailId);
    if (!found?.files.some((file) => file.name === name)) continue;
    const root = join(volume.path, 'tails', tailId);
    return { root, path: join(root, name) };
  }
  throw unknown();
}

const unknown = () => new Refusal('NOT_FOUND', 'there is no such path');

interface Below {
  readonly root: string;
  readonly path: string;
  /** It is sent as what comes out of it. */
  readonly packed?: { readonly in: Packed; readonly path: string };
}

/** Besides packed files, what is asked for as it is stored. */
const storedNames = new Set<string>([names.mac, names.sealedFiles]);

async function placeOfFile(
  volume: Volume,
  asked: Exclude<Asked, { kind: 'archive' | 'tail' }>,
  keys: BackupKeys,
): Promise<Below | { readonly text: string }> {
  if (asked.kind === 'segment') {
    return { root: archiveOf(volume), path: join(archiveOf(volume), asked.serverUuid, asked.name) };
  }
  const { final } = placeOf(volume, asked.backupId);
  const manifest = await findManifest(final);
  if (manifest?.id !== asked.backupId) {
    throw new Refusal('BACKUP_DAMAGED', `there is no complete backup ${asked.backupId}`);
  }
  if (asked.kind === 'manifest') return { root: final, path: join(final, names.manifest) };
  if (asked.kind === 'files') return placeOfList(final, keys);
  if (asked.path.includes('\0') || asked.path.split('/').some((part) => part === '' || part === '.' || part === '..')) {
    throw new Refusal('BAD_REQUEST', 'the path is not that of a file of a backup');
  }
  if (asked.kind === 'stored') {
    if (storedNames.has(asked.path)) return { root: final, path: join(final, asked.path) };
    return { root: packedOf(final), path: join(packedOf(final), asked.path) };
  }
  const { packed } = await getBackup(final, keys);
  if (!packed) return { root: dataOf(final), path: join(dataOf(final), asked.path) };
  const path = placeOfPacked(packed, asked.path);
  return { root: packedOf(final), path, packed: { in: packed, path: asked.path } };
}

async function placeOfList(directory: string, keys: BackupKeys): Promise<Below | { readonly text: string }> {
  const backup = await getBackup(directory, keys);
  if (!backup.packed?.key) return { root: directory, path: join(directory, names.files) };
  const text = await readFilesText(backup);
  if (text === null) throw unknown();
  return { text };
}

async function getBackup(directory: string, keys: BackupKeys): Promise<OpenBackup> {
  const backup = await openBackup(directory, keys);
  if (backup) return backup;
  throw new Refusal('BACKUP_DAMAGED', 'the manifest of the backup cannot be read any more');
}

/** Small, and asked for as a whole. */
function sendText(response: ServerResponse, from: number, text: string): void {
  if (from > 0) throw new Refusal('BAD_REQUEST', 'the list of an encrypted backup is sent as a whole');
  response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': Buffer.byteLength(text) });
  response.end(text);
}

/** A regular file below `root`, no link in between: a backup never holds one. */
async function openBelow({ root, path }: Below): Promise<FileHandle> {
  try {
    const [realRoot, real] = await Promise.all([realpath(root), realpath(path)]);
    if (real !== join(realRoot, path.slice(root.length)) || !real.startsWith(realRoot + sep)) throw unknown();
    const file = await open(real, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    if ((await file.stat()).isFile()) return file;
    await file.close();
    throw unknown();
  } catch (error) {
    if (isMissing(error)) throw unknown();
    throw error;
  }
}

/** First byte asked for; only `bytes=N-` is understood. */
function readFrom({ headers: { range } }: IncomingMessage): number {
  if (range === undefined) return 0;
  const [, from] = /^bytes=(\d{1,15})-$/.exec(range) ?? [];
  if (from === undefined) throw new Refusal('BAD_REQUEST', 'only a range `bytes=N-` is understood');
  return Number(from);
}

interface Sending {
  readonly file: FileHandle;
  readonly from: number;
  readonly response: ServerResponse;
  readonly throttle: Throttle;
  readonly clock: Clock;
  /** Aborts when the recipient is gone. */
  readonly ended: AbortSignal;
}

async function sendFile({ file, from, response, throttle, clock, ended }: Sending): Promise<void> {
  const { size } = await file.stat();
  if (from > size) throw new Refusal('BAD_REQUEST', `the file has ${size} bytes`);
  const head = { 'content-type': 'application/octet-stream', 'content-length': size - from };
  if (from === 0) response.writeHead(200, head);
  else response.writeHead(206, { ...head, 'content-range': `bytes ${from}-${size - 1}/${size}` });
  // The head goes out before the first piece, which may wait for its turn.
  response.flushHeaders();
  const piece = Buffer.allocUnsafe(throttle.portion(PIECE_BYTES));
  for (let at = from; at < size; ) {
    await throttle.take(Math.min(piece.length, size - at), ended);
    const { bytesRead } = await file.read(piece, 0, Math.min(piece.length, size - at), at);
    // Cut while it was sent: the recipient sees an answer that is too short and asks anew.
    if (bytesRead === 0) return void response.destroy();
    await write(response, piece.subarray(0, bytesRead), clock);
    passBuffer(bytesRead);
    at += bytesRead;
  }
  response.end();
}

/** Without a length: the recipient knows it. What lies before the offset is unpacked and left out. */
async function sendUnpacked(
  { in: packed, path }: NonNullable<Below['packed']>,
  { from, response, throttle, clock, ended }: Sending,
): Promise<void> {
  response.writeHead(from === 0 ? 200 : 206, { 'content-type': 'application/octet-stream' });
  response.flushHeaders();
  const most = throttle.portion(PIECE_BYTES);
  for await (const chunk of unpack(packed, path, { from, signal: ended })) {
    for (let at = 0; at < chunk.length; at += most) {
      const piece = chunk.subarray(at, at + most);
      await throttle.take(piece.length, ended);
      await write(response, piece, clock);
    }
  }
  response.end();
}

/** The piece was handed to the kernel when this resolves: its memory may be used again. */
function write(response: ServerResponse, piece: Buffer, clock: Clock): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = clock.setTimeout(() => {
      response.destroy();
      reject(new Error(`the recipient took nothing for ${STALL_MS} ms`));
    }, STALL_MS);
    response.write(piece, (error) => {
      clock.clearTimeout(timer);
      if (error) reject(error);
      else resolve();
    });
  });
}

function refuse(response: ServerResponse, error: unknown): void {
  if (response.headersSent) response.destroy();
  else if (!(error instanceof Refusal)) sendJson(response, 500, { code: 'INTERNAL' });
  else sendJson(response, errors[error.code].status, { code: error.code, message: error.message });
}

function sendJson(response: ServerResponse, status: number, body: unknown): void {
  const text = JSON.stringify(body);
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) });
  response.end(text);
}
