/**
 * The archive of binary logs: mirrors this member's own logs, as they grow, to its backup volume. It reads files, so it
 * goes on while mysqld is down, needs no login and no dump thread, and never stands in the way of a commit. Rules:
 * - Nothing that goes wrong here ends anything else: it is told in the status, and tried again with a growing pause.
 * - One damaged log does not hold up the others.
 * - A log belongs to the directory of the server_uuid under which it was first archived, told by its first event: a trim
 *   goes on in the old directory until mysqld writes a log of its new identity.
 * - While the data volume is being filled nothing is mirrored: those are not this member's logs.
 */
import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import type { Status } from '../channel/protocol.ts';
import type { Segment } from '../channel/transfer.ts';
import { delay } from '../clock.ts';
import { type ArchiveSpan, findSpans } from '../cluster/archive.ts';
import { Refusal } from '../errors.ts';
import { listBinaryLogs } from '../mysql/binlog.ts';
import { createLogCopy, type LogCopy } from './archive-copy.ts';
import {
  type ArchivedFile,
  listFiles,
  listNames,
  pathOf,
  putAside,
  readIdentity,
  readSegment,
  removePartials,
  removeSegment,
  removeSidecar,
  type SegmentId,
  writeSidecar,
} from './archive-segments.ts';
import { isMissing } from './durable.ts';
import { watchBackupVolume } from './lost-backup.ts';
import type { MemberContext, Reason } from './member-context.ts';
import { createThrottle, type Throttle } from './throttle.ts';
import type { Volume } from './volumes.ts';

const LOOK_MS = 200;
/** Copied bytes are made durable at least as often. */
const SYNC_MS = 1_000;
/** Closed logs do not change; whether one did is looked at seldom. */
const CLOSED_MS = 10_000;
const PAUSES_MS = { first: 500, max: 30_000 } as const;
/** At the end of a task, for what mysqld wrote last. */
const LAST_LOOK_MS = 10_000;

export type ArchiveStatus = NonNullable<Status['archive']>;

export interface Archiver {
  /** Null: nothing is archived, there is no backup volume (of ours). */
  status(): ArchiveStatus | null;
  /** What is durable in the archive, sealed logs and those that grow. */
  segments(): readonly Segment[];
  /** Sealed ones. */
  sealed(): readonly Segment[];
  /** The closed log of the data directory is in the archive, or was and has gone by its age: it may be purged. */
  isDone(path: string): boolean;
  /** Removes a sealed segment for good: it is not copied again though its source may be there still. */
  expire(which: SegmentId): Promise<void>;
  /** Puts aside a sealed segment whose bytes are not what was sealed; it is copied again if its source is there. */
  reject(which: SegmentId): Promise<void>;
  /** A log of this name is here, is being copied, or was here and has gone by its age. */
  holds(which: SegmentId): boolean;
  /** Seals a file that was put into the archive whole, from another member's, and durable. */
  adopt(segment: Segment): Promise<void>;
  /** `null`: as fast as it goes. */
  setRate(maxBytesPerSec: number | null): void;
  /** The backup volume is another one now, or was lost: what was there counts no more. */
  forget(): void;
  /** One more look at everything, then no more. Never throws. */
  close(): Promise<void>;
}

/** Begins at once, and goes on until it is closed. */
export function startArchiver(context: MemberContext): Archiver {
  return new Running(context);
}

/** Before the volumes were looked at. */
export const noArchiver: Archiver = {
  status: () => null,
  segments: () => [],
  sealed: () => [],
  isDone: () => false,
  expire: async () => {},
  reject: async () => {},
  holds: () => false,
  adopt: async () => {},
  setRate: () => {},
  forget: () => {},
  close: async () => {},
};

const keyOf = ({ serverUuid, name }: SegmentId): string => `${serverUuid}/${name}`;

class Running implements Archiver {
  readonly #context: MemberContext;
  readonly #abort = new AbortController();
  readonly #ended: Promise<void>;
  #throttle: Throttle;
  #rate: number | null = null;
  /** Sealed segments by key. */
  readonly #sealed = new Map<string, Segment>();
  readonly #expired = new Set<string>();
  /** Logs that are being copied, by key. */
  readonly #copies = new Map<string, LogCopy>();
  /** Which segment a log of the data directory is, by path; `stamp` tells a file from another of its name. */
  readonly #places = new Map<string, { readonly stamp: string; readonly id: SegmentId }>();
  /** Files of the archive that are not sealed: null until they were looked for. */
  #unsealed: Map<string, ArchivedFile> | null = null;
  /** What is known is that of another volume. */
  #isStale = false;
  #lastIndex = '';
  #closedAt = Number.NEGATIVE_INFINITY;
  #syncedAt = Number.NEGATIVE_INFINITY;
  #archivedAt: number | null = null;
  #error: Reason | null = null;
  /** Of the logs of the data directory, as of the last look. */
  readonly #sizes = new Map<string, number>();
  #spans: { readonly of: string; readonly spans: readonly ArchiveSpan[] } = { of: '', spans: [] };

  constructor(context: MemberContext) {
    this.#context = context;
    this.#throttle = createThrottle(context.clock, null);
    this.#ended = this.#run();
  }

  status(): ArchiveStatus | null {
    const { volumes, backupMarker, refusal } = this.#context;
    if (!volumes?.backup || !backupMarker || refusal || this.#unsealed === null || this.#isStale) return null;
    const segments = this.segments();
    return {
      spans: [...this.#findSpans(segments)],
      bytes: segments.reduce((sum, { bytes }) => sum + bytes, 0),
      pendingBytes: this.#pendingBytes(),
      archivedAt: this.#archivedAt,
      error: this.#error,
    };
  }

  segments(): readonly Segment[] {
    const open = [...this.#copies.values()].flatMap(({ segment }) => (segment ? [segment] : []));
    return [...this.#sealed.values(), ...open];
  }

  sealed(): readonly Segment[] {
    return [...this.#sealed.values()];
  }

  isDone(path: string): boolean {
    const place = this.#places.get(path);
    return place !== undefined && (this.#sealed.has(keyOf(place.id)) || this.#expired.has(keyOf(place.id)));
  }

  async expire(which: SegmentId): Promise<void> {
    const volume = this.#context.volumes?.backup;
    if (!volume) return;
    this.#expired.add(keyOf(which));
    this.#sealed.delete(keyOf(which));
    await removeSegment(volume, which);
  }

  async reject(which: SegmentId): Promise<void> {
    const volume = this.#context.volumes?.backup;
    if (!volume || !this.#sealed.delete(keyOf(which))) return;
    this.#context.log.error({ ...which }, 'an archived binary log is damaged and was put aside');
    await putAside(volume, which);
    this.#closedAt = Number.NEGATIVE_INFINITY;
  }

  holds(which: SegmentId): boolean {
    const key = keyOf(which);
    if (this.#sealed.has(key) || this.#expired.has(key) || this.#copies.has(key)) return true;
    return this.#unsealed?.has(key) || [...this.#places.values()].some(({ id }) => keyOf(id) === key);
  }

  async adopt(segment: Segment): Promise<void> {
    const volume = this.#context.volumes?.backup;
    if (!volume || segment.sha256 === null) return;
    await writeSidecar(volume, { ...segment, sha256: segment.sha256, ...this.#whose() });
    this.#sealed.set(keyOf(segment), pick(segment));
  }

  setRate(maxBytesPerSec: number | null): void {
    if (maxBytesPerSec === this.#rate) return;
    this.#rate = maxBytesPerSec;
    this.#throttle = createThrottle(this.#context.clock, maxBytesPerSec);
  }

  forget(): void {
    this.#isStale = true;
  }

  /** Not while a look goes on: the next one begins with it. */
  #clear(): void {
    this.#sealed.clear();
    this.#expired.clear();
    this.#copies.clear();
    this.#unsealed = null;
    this.#lastIndex = '';
    this.#closedAt = Number.NEGATIVE_INFINITY;
    this.#archivedAt = null;
    this.#isStale = false;
  }

  async close(): Promise<void> {
    this.#abort.abort(new Refusal('SUPERSEDED', 'the task ends'));
    await this.#ended;
    const { clock } = this.#context;
    const last = new AbortController();
    const timer = clock.setTimeout(
      () => last.abort(new Refusal('TIMED_OUT', 'the last look took too long')),
      LAST_LOOK_MS,
    );
    this.setRate(null);
    await this.#look(last.signal, true).catch(() => {});
    clock.clearTimeout(timer);
  }

  async #run(): Promise<void> {
    const { clock, log } = this.#context;
    const { signal } = this.#abort;
    let pauseMs: number = LOOK_MS;
    while (!signal.aborted) {
      try {
        await this.#look(signal, false);
        pauseMs = LOOK_MS;
      } catch (error) {
        if (signal.aborted) return;
        const reason = reasonOf(error);
        if (this.#error?.message !== reason.message) log.warn({ err: error }, 'the archive of binary logs is held up');
        this.#error = reason;
        pauseMs = Math.min(Math.max(pauseMs * 2, PAUSES_MS.first), PAUSES_MS.max);
      }
      await delay(clock, pauseMs, signal).catch(() => {});
    }
  }

  /** Throws the first error that it met, after it did all that could be done. */
  async #look(signal: AbortSignal, isLast: boolean): Promise<void> {
    await watchBackupVolume(this.#context);
    if (this.#isStale) this.#clear();
    const { volumes, refusal, backupMarker, marker, clock } = this.#context;
    const volume = volumes?.backup;
    if (!volume || refusal || !backupMarker) return;
    if (this.#unsealed === null) await this.#takeOver(volume);
    // A filling that goes on writes logs of nobody. What was there before is gone.
    const isOurs = marker !== null && marker.fill === 'filled';
    const paths = isOurs ? await findLogs(this.#context.paths.dataDir) : [];
    const errors: unknown[] = [];
    const attempt = async (work: () => Promise<unknown>) => {
      try {
        await work();
      } catch (error) {
        signal.throwIfAborted();
        errors.push(error);
      }
    };
    const index = paths.join('\n');
    const isDue = isLast || index !== this.#lastIndex || clock.now() - this.#closedAt > CLOSED_MS;
    const startedAt = clock.now();
    this.#forgetPlaces(paths);
    for (const path of isDue ? paths : paths.slice(-1)) this.#sizes.set(path, (await stat(path)).size);
    for (const path of isDue ? paths.slice(0, -1) : []) await attempt(() => this.#mirrorClosed(volume, path, signal));
    const current = paths.at(-1);
    if (current !== undefined) await attempt(() => this.#mirror(volume, current, signal));
    if (isLast || clock.now() - this.#syncedAt >= SYNC_MS) await attempt(() => this.#sync());
    if (isDue && isOurs) await attempt(() => this.#sealOrphans(volume, signal));
    if (isDue) await attempt(() => this.#forgetMissing(volume));
    if (errors.length > 0) throw errors[0];
    this.#lastIndex = index;
    if (isDue) this.#closedAt = clock.now();
    this.#error = null;
    if (this.#pendingBytes() === 0) this.#archivedAt = startedAt;
  }

  /** What earlier executors left: sealed by their size, the rest is looked at as it comes up. */
  async #takeOver(volume: Volume): Promise<void> {
    const unsealed = new Map<string, ArchivedFile>();
    for (const file of await listFiles(volume)) {
      if (file.sidecar?.bytes === file.bytes) this.#sealed.set(keyOf(file), pick(file.sidecar));
      else unsealed.set(keyOf(file), file);
    }
    await removePartials(volume, []);
    this.#unsealed = unsealed;
  }

  /** What somebody removed is not claimed any more: it is a gap, which may be filled from another member's archive. */
  async #forgetMissing(volume: Volume): Promise<void> {
    const candidates = [...this.#sealed.values()];
    const there = new Set(await listNames(volume));
    for (const segment of candidates) {
      if (there.has(keyOf(segment)) || this.#sealed.get(keyOf(segment)) !== segment) continue;
      this.#context.log.error({ ...segment }, 'an archived binary log is gone');
      this.#sealed.delete(keyOf(segment));
    }
  }

  /** Which segment a log is; null while its first event is not there yet. */
  async #placeOf(volume: Volume, path: string): Promise<SegmentId | null> {
    const { ino, birthtimeMs } = await stat(path);
    const stamp = `${ino} ${birthtimeMs}`;
    const known = this.#places.get(path);
    if (known?.stamp === stamp) return known.id;
    const identity = await readIdentity(path);
    if (identity === null) return null;
    const { marker } = this.#context;
    // Between the cut of a trim and its end mysqld runs under its new identity already.
    const { serverUuid } = marker!.trim?.phase === 'cut' ? marker!.trim : marker!;
    const name = basename(path);
    const archived = [...this.#sealed.values(), ...this.#unsealed!.values()].filter((file) => file.name === name);
    let id: SegmentId = { serverUuid, name };
    for (const file of archived) {
      const found = await readIdentity(pathOf(volume, file));
      if (found === identity) id = { serverUuid: file.serverUuid, name };
      else if (found !== null && file.serverUuid === serverUuid) {
        throw new Refusal('ARCHIVE_FAILED', `the archive of ${serverUuid} has another ${name} already`);
      }
    }
    this.#places.set(path, { stamp, id });
    return id;
  }

  #forgetPlaces(paths: readonly string[]): void {
    for (const path of this.#places.keys()) if (!paths.includes(path)) this.#places.delete(path);
    for (const path of this.#sizes.keys()) if (!paths.includes(path)) this.#sizes.delete(path);
  }

  async #mirrorClosed(volume: Volume, path: string, signal: AbortSignal): Promise<void> {
    const id = await this.#placeOf(volume, path);
    if (!id) throw new Refusal('BINLOG_UNREADABLE', `binary log ${basename(path)} ends in its first event`);
    if (this.#expired.has(keyOf(id))) return;
    const { size } = await stat(path);
    const sealed = this.#sealed.get(keyOf(id));
    if (sealed?.bytes === size) {
      const archived = await stat(pathOf(volume, id)).catch(nullWhenMissing);
      if (archived?.size === size) return;
    }
    const copy = await this.#mirror(volume, path, signal);
    if (!copy) return;
    if (!copy.isWhole) throw new Refusal('BINLOG_UNREADABLE', `binary log ${id.name} ends amid an event`);
    await copy.sync();
    await this.#seal(volume, id, copy);
  }

  async #mirror(volume: Volume, path: string, signal: AbortSignal): Promise<LogCopy | null> {
    const id = await this.#placeOf(volume, path);
    if (!id) return null;
    const key = keyOf(id);
    if (this.#sealed.has(key)) {
      // It was closed once, and has another size now: after a trim, or a damage. It is compared from its first byte.
      await removeSidecar(volume, id);
      this.#sealed.delete(key);
    }
    this.#unsealed!.delete(key);
    let copy = this.#copies.get(key);
    if (copy?.source !== path) {
      copy = createLogCopy({ source: path, target: pathOf(volume, id), ...id });
      this.#copies.set(key, copy);
    }
    await copy.advance({ signal, take: (bytes) => this.#throttle.take(bytes, signal) });
    return copy;
  }

  async #seal(volume: Volume, id: SegmentId, copy: LogCopy): Promise<void> {
    const { segment } = copy;
    if (!segment) throw new Refusal('BINLOG_UNREADABLE', `binary log ${id.name} has no previous GTIDs`);
    const sealed = { ...segment, sha256: copy.sha256() };
    await writeSidecar(volume, { ...sealed, ...this.#whose() });
    this.#sealed.set(keyOf(id), sealed);
    this.#copies.delete(keyOf(id));
  }

  #whose() {
    return { ordinal: this.#context.plan.ordinal, incarnation: this.#context.marker!.incarnation };
  }

  async #sync(): Promise<void> {
    for (const copy of this.#copies.values()) await copy.sync();
    this.#syncedAt = this.#context.clock.now();
  }

  /** Files whose log is gone from the data directory before they were sealed: read whole, then sealed or put aside. */
  async #sealOrphans(volume: Volume, signal: AbortSignal): Promise<void> {
    const inUse = new Set([...this.#places.values()].map(({ id }) => keyOf(id)));
    for (const [key, copy] of this.#copies) {
      if (inUse.has(key)) continue;
      this.#copies.delete(key);
      if (copy.segment) this.#unsealed!.set(key, { ...copy.segment, sidecar: null });
    }
    for (const [key, file] of this.#unsealed!) {
      try {
        const segment = await readSegment(volume, file, signal);
        await writeSidecar(volume, { ...segment, ...this.#whose() });
        this.#sealed.set(key, segment);
      } catch (error) {
        signal.throwIfAborted();
        if (!(error instanceof Refusal)) throw error;
        this.#context.log.error({ err: error, ...file }, 'a file of the archive is damaged and was put aside');
        await putAside(volume, file);
      }
      this.#unsealed!.delete(key);
    }
  }

  #pendingBytes(): number {
    let pending = 0;
    for (const [path, size] of this.#sizes) {
      const place = this.#places.get(path);
      const key = place ? keyOf(place.id) : '';
      if (this.#sealed.has(key) || this.#expired.has(key)) continue;
      pending += Math.max(0, size - (this.#copies.get(key)?.segment?.bytes ?? 0));
    }
    return pending;
  }

  #findSpans(segments: readonly Segment[]): readonly ArchiveSpan[] {
    const of = segments.map((segment) => `${keyOf(segment)} ${segment.bytes}`).join();
    if (of !== this.#spans.of) this.#spans = { of, spans: findSpans(segments) };
    return this.#spans.spans;
  }
}

async function findLogs(dataDir: string): Promise<string[]> {
  try {
    return await listBinaryLogs(dataDir);
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}

function pick({ serverUuid, name, bytes, sha256, previousGtids, gtidSet, firstAt, lastAt }: Segment): Segment {
  return { serverUuid, name, bytes, sha256, previousGtids, gtidSet, firstAt, lastAt };
}

function nullWhenMissing(error: unknown): null {
  if (isMissing(error)) return null;
  throw error;
}

function reasonOf(error: unknown): Reason {
  if (error instanceof Refusal) return { code: error.code, message: error.message };
  return { code: 'ARCHIVE_FAILED', message: `the archive cannot be written: ${(error as Error).message}` };
}
