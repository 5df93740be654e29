/**
 * Fills a gap in this member's archive from another member's: closed logs are fetched whole, compared with the donor's
 * SHA-256, read event by event, and only then get their name. In the background, one at a time. Rules:
 * - It gives way to long work, and never takes the room that the archive needs to go on.
 * - A log that is here already is left alone. What an interrupted refill left of a file is gone on with by the next one.
 * - A crash between the name and the sidecar leaves a file that the archiver reads and seals by itself.
 */
import { dirname } from 'node:path';
import type { Command, CommandResult, Status } from '../channel/protocol.ts';
import {
  archiveIndexSchema,
  createTransferClient,
  type Segment,
  type TransferClient,
  transferPaths,
} from '../channel/transfer.ts';
import { delay } from '../clock.ts';
import { chooseSegments } from '../cluster/refill.ts';
import { Refusal } from '../errors.ts';
import { partialOf, pathOf, readSegment, removePartials } from './archive-segments.ts';
import { describe } from './command-queue.ts';
import { downloadFile } from './download.ts';
import { makeDirectory, renameDurable } from './durable.ts';
import { requireIdle } from './long-work.ts';
import { type MemberContext, reasonOf } from './member-context.ts';
import { measureVolume, type Volume } from './volumes.ts';

/** What the donor closed a moment ago is sealed within seconds. */
const SEAL_WAIT_MS = 20_000;
const LOOK_MS = 500;
/** Of the archive's share: past it the next logs of the member would push out what was fetched. */
const FILL_SHARE = 0.8;
/** Of the volume: a full one ends the archive itself. */
const VOLUME_SHARE = 0.9;
const MIB = 1024 * 1024;

type RefillArchive = Extract<Command, { kind: 'refillArchive' }>;
export type RefillStatus = NonNullable<NonNullable<Status['archive']>['refill']>;
type Filled = Segment & { readonly sha256: string };

export interface Refiller {
  /** Begins and answers at once. Throws BUSY, NO_BACKUP_VOLUME. */
  begin(command: RefillArchive): CommandResult;
  status(): RefillStatus | null;
  /** Other long work goes first: what runs fails with SUPERSEDED, and is asked for anew later. */
  giveWay(kind: string): void;
  /** Ends what runs. Never throws. */
  close(): Promise<void>;
}

/** Before the volumes were looked at. */
export const noRefiller: Refiller = {
  begin: () => {
    throw new Refusal('NOT_RUNNING', 'the volumes were not looked at yet');
  },
  status: () => null,
  giveWay: () => {},
  close: async () => {},
};

export function startRefiller(context: MemberContext): Refiller {
  let told: RefillStatus | null = null;
  let running: { readonly abort: AbortController; readonly ended: Promise<void> } | null = null;

  const tell = (change: Partial<RefillStatus>) => {
    told = { ...told!, ...change };
    context.changed();
  };

  const count = (bytes: number) => {
    told = { ...told!, doneBytes: told!.doneBytes + bytes };
  };

  const run = async (command: RefillArchive, abort: AbortController) => {
    try {
      await refill(context, command, { signal: abort.signal, tell, count, read: () => told! });
      tell({ outcome: 'done' });
    } catch (error) {
      context.log.warn({ err: error, donor: command.donor.ordinal }, 'the archive was not refilled');
      const { code } = reasonOf(error, 'ARCHIVE_FAILED');
      tell({ outcome: 'failed', code, message: describe(error) });
    } finally {
      running = null;
      context.wakeScheduler();
    }
  };

  return {
    begin(command) {
      requireIdle(context);
      if (running) throw new Refusal('BUSY', 'the archive is being refilled', { commandId: told?.commandId });
      if (!context.archive.status()) throw new Refusal('NO_BACKUP_VOLUME', 'this member has no archive now');
      const abort = new AbortController();
      const none = { doneBytes: 0, totalBytes: null, segments: 0, code: null, message: null };
      told = { commandId: command.id, donor: command.donor.ordinal, ...none, outcome: 'running' };
      running = { abort, ended: run(command, abort) };
      return { outcome: 'accepted' };
    },
    status: () => told,
    giveWay: (kind) => running?.abort.abort(new Refusal('SUPERSEDED', `a ${kind} goes first`)),
    async close() {
      running?.abort.abort(new Refusal('SUPERSEDED', 'the task ends'));
      await running?.ended;
    },
  };
}

interface Handle {
  readonly signal: AbortSignal;
  tell(change: Partial<RefillStatus>): void;
  /** Bytes that came; told with the next status. */
  count(bytes: number): void;
  read(): RefillStatus;
}

async function refill(context: MemberContext, command: RefillArchive, handle: Handle): Promise<void> {
  const { clock, volumes } = context;
  const volume = volumes!.backup!;
  const client = createTransferClient(command.donor, clock);
  try {
    const segments = await findOffered(context, { client, wanted: command.gtidSet, handle });
    await removePartials(volume, segments);
    handle.tell({ totalBytes: segments.reduce((sum, { bytes }) => sum + bytes, 0) });
    for (const segment of segments) {
      handle.signal.throwIfAborted();
      await requireRoom(context, volume, { bytes: segment.bytes, shareMax: command.shareMax });
      await fetchSegment(context, { client, volume, segment, handle });
    }
  } finally {
    client.close();
  }
}

interface Asking {
  readonly client: TransferClient;
  readonly wanted: string;
  readonly handle: Handle;
}

/** Asks again for a while when something is missing: the donor may be about to seal it. */
async function findOffered(context: MemberContext, { client, wanted, handle }: Asking): Promise<readonly Filled[]> {
  const { clock, archive } = context;
  const since = clock.now();
  for (;;) {
    handle.signal.throwIfAborted();
    const { segments: offered } = await client.readJson(transferPaths.archive(), archiveIndexSchema, handle.signal);
    const { segments, left } = chooseSegments(offered, { wanted, isHeld: (segment) => archive.holds(segment) });
    if (left === '' || clock.now() - since > SEAL_WAIT_MS) {
      return segments.flatMap((segment) => (segment.sha256 === null ? [] : [{ ...segment, sha256: segment.sha256 }]));
    }
    await delay(clock, LOOK_MS, handle.signal);
  }
}

async function requireRoom(
  { archive }: MemberContext,
  volume: Volume,
  { bytes, shareMax }: { readonly bytes: number; readonly shareMax: number },
): Promise<void> {
  const { totalMb, usedMb } = await measureVolume(volume);
  const archiveBytes = (archive.status()?.bytes ?? 0) + bytes;
  const isTooMuch = archiveBytes > FILL_SHARE * shareMax * totalMb * MIB;
  if (!isTooMuch && usedMb * MIB + bytes <= VOLUME_SHARE * totalMb * MIB) return;
  throw new Refusal('ARCHIVE_FAILED', `there is no room for a log of ${Math.ceil(bytes / MIB)} MB in the archive`);
}

interface Fetching {
  readonly client: TransferClient;
  readonly volume: Volume;
  readonly segment: Filled;
  readonly handle: Handle;
}

async function fetchSegment(context: MemberContext, { client, volume, segment, handle }: Fetching): Promise<void> {
  const { clock, archive } = context;
  const { signal } = handle;
  const { bytes, sha256, name, serverUuid } = segment;
  const target = partialOf(volume, segment);
  await makeDirectory(dirname(target));
  await downloadFile({
    ...{ client, clock, signal, target, bytes, sha256 },
    path: transferPaths.segment(segment),
    onBytes: handle.count,
  });
  // What its sets are is read from the log itself: restores are planned by them.
  const found = await readSegment(volume, { serverUuid, name: `${name}.partial` }, signal);
  if (found.bytes !== bytes || found.sha256 !== sha256) {
    throw new Refusal('BINLOG_UNREADABLE', `the donor's ${name} of ${serverUuid} ends amid an event`);
  }
  if (archive.holds(segment)) return;
  await renameDurable(target, pathOf(volume, segment));
  await archive.adopt({ ...found, name });
  handle.tell({ segments: handle.read().segments + 1 });
}
