/**
 * From the set that a backup holds to the target, by archived binary logs of any donors: fetched a portion at a time,
 * walked (each event's checksum is compared), cut at the boundary of a transaction, applied as relay logs. Rules:
 * - Nothing is applied that does not belong to the target: not what nobody acknowledged, not what came later.
 * - A log begins with nothing missing (cluster/recovery.ts); a hole that no archive fills is a refusal, not a skip.
 */
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, rename, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { archiveIndexSchema, type Segment, type TransferClient, transferPaths } from '../channel/transfer.ts';
import { type Clock, delay } from '../clock.ts';
import {
  countGtids,
  formatGtidSet,
  type GtidSet,
  isGtidSetEmpty,
  parseGtidSet,
  subtractGtidSets,
  unionGtidSets,
} from '../cluster/gtid-set.ts';
import {
  chooseNextLog,
  createGtidTest,
  createJudge,
  type LogOption,
  planLogs,
  type Until,
} from '../cluster/recovery.ts';
import { Refusal } from '../errors.ts';
import { type BinlogTransaction, walkBinaryLog } from '../mysql/binlog-events.ts';
import type { Session } from '../mysql/connection.ts';
import { readGtids, stripGtids } from '../mysql/gtid.ts';
import { createGtidCollector } from '../mysql/gtid-collector.ts';
import { endApplying, relayLogIndex, relayLogName, requireApplying, startApplying } from '../mysql/relay-logs.ts';
import { downloadFile } from './download.ts';

/** Logs on disk at a time, besides the last one; and what one channel applies. */
const PORTION_BYTES = 256 * 1024 * 1024;
const LOOK_MS = 100;
/** One transaction may take long; hours without one are a fault. */
const STALL_MS = 2 * 3600_000;
/** What the cluster committed a moment ago is archived within a second or two. */
const ARCHIVE_WAIT_MS = 15_000;
const ARCHIVE_LOOK_MS = 500;

export interface Target {
  readonly until: Until;
  /** What the cluster acknowledged. */
  readonly within: string;
}

/** One donor's archive. */
export interface Archive {
  readonly ordinal: number;
  readonly client: TransferClient;
}

type Log = LogOption & Segment;

const formatPlain = (set: GtidSet): string => stripGtids(formatGtidSet(set));

/** Every log of every archive that can be read. A donor that does not answer has none. */
async function listLogs(archives: readonly Archive[], signal: AbortSignal): Promise<Log[]> {
  const lists = await Promise.all(
    archives.map(async ({ ordinal, client }) => {
      try {
        const { segments } = await client.readJson(transferPaths.archive(), archiveIndexSchema, signal);
        return segments.map((segment) => ({ ...segment, ordinal }));
      } catch (error) {
        signal.throwIfAborted();
        if (error instanceof Refusal && error.code === 'TRANSFER_REFUSED') throw error;
        return [];
      }
    }),
  );
  return lists.flat();
}

/**
 * Bytes of logs that will be applied, by what the archives hold now: for progress, before anything is fetched. Throws
 * TARGET_NOT_REACHED when a set cannot be reached by them, also after some waiting; of a time that is known only later.
 */
export async function estimateLogs(
  archives: readonly Archive[],
  from: { readonly executed: string; readonly target: Target; readonly clock: Clock; readonly signal: AbortSignal },
): Promise<number> {
  const { target, clock, signal, executed } = from;
  const { until } = target;
  if (until.kind === 'backup') return 0;
  const since = clock.now();
  for (;;) {
    const logs = await listLogs(archives, signal);
    if (until.kind === 'at') {
      const earlier = logs.filter(({ firstAt }) => firstAt === null || firstAt <= until.atMs);
      return sumBytes(planLogs(earlier, { executed, wanted: target.within }).logs);
    }
    const plan = planLogs(logs, { executed, wanted: until.gtidSet });
    if (plan.missing === '') return sumBytes(plan.logs);
    if (clock.now() - since > ARCHIVE_WAIT_MS) throw notReached(plan.missing);
    await delay(clock, ARCHIVE_LOOK_MS, signal);
  }
}

const sumBytes = (logs: readonly Log[]): number => logs.reduce((sum, { bytes }) => sum + bytes, 0);

function notReached(missing: string): Refusal {
  return new Refusal('TARGET_NOT_REACHED', `no archive holds what comes next: ${missing.slice(0, 500)}`, { missing });
}

export interface ReplayOptions {
  readonly archives: readonly Archive[];
  readonly target: Target;
  /** What the backup holds. */
  readonly executed: string;
  /** Of the instance that the logs are applied to; nobody else can reach it. */
  readonly session: Session;
  readonly dataDir: string;
  /** For logs that are being fetched; on the file system of `dataDir`. */
  readonly workDir: string;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  step(name: string): void;
  /** Bytes of logs that were applied, as they are. */
  onBytes(count: number): void;
}

/**
 * Applies logs until the target is reached; answers the set that the instance must hold then. Throws TARGET_NOT_REACHED
 * with what is missing, TARGET_BEFORE_BACKUP when the backup holds something later, APPLY_FAILED with MySQL's words.
 */
export async function replayLogs(options: ReplayOptions): Promise<string> {
  const { target, workDir } = options;
  if (target.until.kind === 'backup') return options.executed;
  await rm(workDir, { recursive: true, force: true });
  await mkdir(workDir, { mode: 0o750 });
  const replay = createReplay(options);
  try {
    while (await replay.next());
    await replay.flush();
    return replay.executed();
  } finally {
    await rm(workDir, { recursive: true, force: true });
  }
}

function createReplay(options: ReplayOptions) {
  const { target, clock, signal } = options;
  const { until } = target;
  const wanted = parseGtidSet(until.kind === 'gtid' ? until.gtidSet : target.within);
  const judge = createJudge(target);
  const isHeld = createGtidTest(parseGtidSet(options.executed));
  let executed = parseGtidSet(options.executed);
  let logs: Log[] = [];
  let after: Log | undefined;
  let portion: Prepared[] = [];
  let portions = 0;
  let isStopped = false;
  let waitsSince: number | null = null;

  const choose = async (): Promise<Log | null> => {
    const missing = subtractGtidSets(wanted, executed);
    if (isStopped || isGtidSetEmpty(missing)) return null;
    for (;;) {
      const next = chooseNextLog(logs, { executed, wanted, after });
      if (next) return next;
      waitsSince ??= clock.now();
      logs = await listLogs(options.archives, signal);
      const found = chooseNextLog(logs, { executed, wanted, after });
      if (found) return found;
      if (clock.now() - waitsSince > ARCHIVE_WAIT_MS) {
        throw notReached(formatPlain(missing));
      }
      await delay(clock, ARCHIVE_LOOK_MS, signal);
    }
  };

  const flush = async () => {
    if (portion.length === 0) return;
    portions += 1;
    options.step('applying logs');
    await applyPortion(options, { channel: `c${portions}`, files: portion, until: executed });
    portion = [];
  };

  return {
    executed: () => formatPlain(executed),
    flush,
    /** False when there is nothing more to fetch. */
    async next(): Promise<boolean> {
      const log = await choose();
      if (!log) return false;
      if (portion.length === 0) options.step('fetching logs');
      const prepared = await prepareLog(options, log, { judge, isHeld, number: portion.length + 1 });
      const before = executed;
      executed = unionGtidSets(executed, parseGtidSet(prepared.gtidSet));
      isStopped = prepared.isStopped;
      // A log whose list promised more than it held would be chosen for ever.
      logs = logs.filter((each) => each !== log);
      after = log;
      if (isGtidSetEmpty(subtractGtidSets(executed, before))) {
        await rm(prepared.path, { force: true });
        options.onBytes(log.bytes);
        return true;
      }
      waitsSince = null;
      portion.push(prepared);
      if (portion.reduce((sum, { bytes }) => sum + bytes, 0) >= PORTION_BYTES) await flush();
      return true;
    },
  };
}

interface Prepared {
  readonly path: string;
  readonly bytes: number;
  /** Of the segment as it was fetched, for progress. */
  readonly segmentBytes: number;
  /** Transactions that it will apply. */
  readonly gtidSet: string;
  /** The target ends in this log. */
  readonly isStopped: boolean;
}

interface Judging {
  readonly judge: ReturnType<typeof createJudge>;
  readonly isHeld: (gtid: string) => boolean;
  readonly number: number;
}

interface Range {
  from: number;
  to: number;
}

/** Fetches one log and leaves of it what belongs to the target. */
async function prepareLog(options: ReplayOptions, log: Log, judging: Judging): Promise<Prepared> {
  const { archives, workDir, clock, signal, target } = options;
  const { client } = archives.find(({ ordinal }) => ordinal === log.ordinal)!;
  const path = join(workDir, `${judging.number}`);
  await rm(path, { force: true });
  const { bytes, sha256 } = log;
  const download = { client, clock, signal, path: transferPaths.segment(log), target: path, bytes };
  await downloadFile({ ...download, sha256, onBytes: () => {} });
  const gtids = createGtidCollector();
  const kept: Range[] = [];
  let isWhole = true;
  let isStopped = false;
  const onTransaction = (transaction: BinlogTransaction) => {
    if (isStopped) return;
    const verdict = judging.judge(transaction);
    if (verdict === 'stop' && judging.isHeld(transaction.gtid)) throw laterThan(target, transaction);
    isStopped = verdict === 'stop';
    if (verdict !== 'in') {
      isWhole = false;
      return;
    }
    const { gtid, position, endPosition } = transaction;
    const colon = gtid.lastIndexOf(':');
    gtids.add(gtid.slice(0, colon), BigInt(gtid.slice(colon + 1)));
    const last = kept.at(-1);
    if (last?.to === position) last.to = endPosition;
    else kept.push({ from: position, to: endPosition });
  };
  const walked = await walkBinaryLog(path, { signal, onTransaction });
  if (isWhole) {
    // A whole transaction is never cut off by the archive; what follows the last one is nobody's.
    await truncate(path, Math.max(walked.transactionsEnd, walked.head.headBytes));
  } else await keepRanges(path, [{ from: 0, to: walked.head.headBytes }, ...kept], signal);
  return { path, bytes: (await stat(path)).size, segmentBytes: bytes, gtidSet: gtids.text(), isStopped };
}

function laterThan(target: Target, { gtid, originalCommittedAtMicros }: BinlogTransaction): Refusal {
  const at = new Date(originalCommittedAtMicros / 1000).toISOString();
  const message = `the backup holds ${gtid}, which was committed at ${at}: choose an older one`;
  return new Refusal('TARGET_BEFORE_BACKUP', message, { gtid, at, until: target.until });
}

/** Leaves only these bytes of a file. Positions within events are those of the old file; no applier looks at them. */
async function keepRanges(path: string, ranges: readonly Range[], signal: AbortSignal): Promise<void> {
  const shorter = `${path}.cut`;
  await rm(shorter, { force: true });
  for (const { from, to } of ranges) {
    const input = createReadStream(path, { start: from, end: to - 1 });
    await pipeline(input, createWriteStream(shorter, { flags: 'a', mode: 0o640 }), { signal });
  }
  await rename(shorter, path);
}

interface Portion {
  readonly channel: string;
  readonly files: readonly Prepared[];
  /** Executed when the portion is applied. */
  readonly until: GtidSet;
}

async function applyPortion(options: ReplayOptions, { channel, files, until }: Portion): Promise<void> {
  const { session, dataDir, clock, signal } = options;
  for (const [index, { path }] of files.entries()) {
    await rename(path, join(dataDir, relayLogName(channel, index + 1)));
  }
  const { name, text } = relayLogIndex(channel, files.length);
  await writeFile(join(dataDir, name), text, { mode: 0o640 });
  const total = files.reduce((sum, { segmentBytes }) => sum + segmentBytes, 0);
  const begun = await readMissing(session, until);
  let told = 0;
  let missing = begun;
  await startApplying(session, channel);
  for (let movedAt = clock.now(); missing > 0n; ) {
    await delay(clock, LOOK_MS, signal);
    const now = await readMissing(session, until);
    if (now < missing) movedAt = clock.now();
    missing = now;
    const done = Number(((begun - missing) * BigInt(total)) / begun);
    options.onBytes(done - told);
    told = done;
    if (missing === 0n) break;
    await requireApplying(session, channel);
    if (clock.now() - movedAt > STALL_MS) throw new Refusal('TIMED_OUT', 'applying archived logs does not go on');
  }
  await endApplying(session, channel);
}

async function readMissing(session: Session, until: GtidSet): Promise<bigint> {
  const { executed } = await readGtids(session);
  return countGtids(subtractGtidSets(until, parseGtidSet(executed)));
}
