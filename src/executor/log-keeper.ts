/**
 * Purges binary logs, expires archived ones, by the rules of cluster/archive.ts, and has the others checked. What the cluster needs of them the
 * control plane tells (`keepLogs`); while it is away nothing goes but what the data volume has no room for.
 */
import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import type { Command, Status } from '../channel/protocol.ts';
import { delay } from '../clock.ts';
import { chooseExpired, choosePurge, defaultArchivePolicy, type SourceLog } from '../cluster/archive.ts';
import { compactGtidSet, parseGtidSet, subtractGtidSets } from '../cluster/gtid-set.ts';
import { listBinaryLogs } from '../mysql/binlog.ts';
import { type BinlogHead, readBinlogHead } from '../mysql/binlog-events.ts';
import { type ArchiveChecker, startArchiveChecker } from './archive-check.ts';
import { isMissing } from './durable.ts';
import { openSession } from './instance.ts';
import type { MemberContext } from './member-context.ts';
import { measureVolume } from './volumes.ts';

const LOOK_MS = 10_000;
/** What the control plane told last is of no use any more after this. */
const HOLD_MS = 10 * 60_000;
const MIB = 1024 * 1024;

type KeepLogs = Extract<Command, { kind: 'keepLogs' }>;
type Hold = Pick<KeepLogs, 'executedByAll' | 'backups' | 'policy'>;

export interface LogKeeper {
  /** What the cluster needs; looks at once. */
  take(command: KeepLogs): void;
  /** Null before the first look at a running instance. */
  status(): NonNullable<Status['logs']> | null;
  close(): Promise<void>;
}

/** Before the volumes were looked at. */
export const noLogKeeper: LogKeeper = { take: () => {}, status: () => null, close: async () => {} };

export function startLogKeeper(context: MemberContext): LogKeeper {
  return new Running(context);
}

class Running implements LogKeeper {
  readonly #context: MemberContext;
  readonly #end = new AbortController();
  readonly #ended: Promise<void>;
  readonly #checker: ArchiveChecker;
  readonly #heads = new Map<string, { readonly stamp: string; readonly head: BinlogHead }>();
  #hold: { readonly at: number; readonly of: Hold } | null = null;
  #nap = new AbortController();
  #told: NonNullable<Status['logs']> | null = null;
  #behindSince: number | null = null;
  #forcedAt: number | null = null;
  #cutAt: number | null = null;

  constructor(context: MemberContext) {
    this.#context = context;
    this.#checker = startArchiveChecker(context);
    this.#ended = this.#run();
  }

  take({ executedByAll, backups, policy, maxBytesPerSec = null }: KeepLogs): void {
    this.#context.archive.setRate(maxBytesPerSec);
    this.#hold = { at: this.#context.clock.now(), of: { executedByAll, backups, policy } };
    this.#nap.abort();
  }

  status() {
    return this.#told;
  }

  async close(): Promise<void> {
    this.#end.abort();
    this.#nap.abort();
    await Promise.all([this.#ended, this.#checker.close()]);
  }

  async #run(): Promise<void> {
    const { clock, log } = this.#context;
    while (!this.#end.signal.aborted) {
      try {
        await this.#look();
      } catch (error) {
        log.warn({ err: error }, 'binary logs could not be looked after');
      }
      await delay(clock, LOOK_MS, this.#nap.signal).catch(() => {});
      if (this.#nap.signal.aborted) this.#nap = new AbortController();
    }
  }

  async #look(): Promise<void> {
    const { clock, volumes, phase, instance, marker } = this.#context;
    if (!volumes || phase !== 'running' || !instance || marker?.fill !== 'filled') return;
    const now = clock.now();
    const isFresh = this.#hold !== null && now - this.#hold.at < HOLD_MS;
    const hold: Hold = isFresh ? this.#hold!.of : { executedByAll: null, backups: [], policy: defaultArchivePolicy };
    const logs = await this.#readLogs();
    const { totalMb, usedMb } = await measureVolume(volumes.data);
    const choice = choosePurge({
      logs,
      executedByAll: hold.executedByAll,
      volume: { totalBytes: totalMb * MIB, usedBytes: usedMb * MIB },
      policy: hold.policy,
      now,
      behindToldAt: this.#behindSince,
    });
    this.#behindSince = choice.isBehind ? (this.#behindSince ?? now) : null;
    if (choice.keepFrom !== null) await this.#purge(choice.keepFrom, choice.isForced);
    if (volumes.backup && this.#context.backupMarker && isFresh) await this.#expire(hold, now);
    this.#told = {
      bytes: logs.reduce((sum, { bytes }) => sum + bytes, 0),
      behindSince: this.#behindSince,
      forcedAt: this.#forcedAt,
      cutAt: this.#cutAt,
    };
  }

  /** A log's transactions are what the next one calls previous and itself does not. */
  async #readLogs(): Promise<SourceLog[]> {
    const { paths, volumes, archive } = this.#context;
    const names = await listBinaryLogs(paths.dataDir);
    const heads = await Promise.all(names.map((path) => this.#readHead(path)));
    const logs: SourceLog[] = [];
    for (const [index, path] of names.entries()) {
      const found = await stat(path).catch((error: unknown) => {
        if (isMissing(error)) return null;
        throw error;
      });
      const [own, next] = [heads[index], heads[index + 1]];
      logs.push({
        name: basename(path),
        bytes: found?.size ?? 0,
        isArchived: !volumes?.backup || archive.isDone(path),
        gtidSet: own && next ? subtract(next.previousGtids, own.previousGtids) : null,
        lastAt: found?.mtimeMs ?? null,
      });
    }
    for (const path of this.#heads.keys()) if (!names.includes(path)) this.#heads.delete(path);
    return logs;
  }

  /** Null when it cannot be read: such a log is purged only past the caps. */
  async #readHead(path: string): Promise<BinlogHead | null> {
    try {
      const { ino, birthtimeMs } = await stat(path);
      const stamp = `${ino} ${birthtimeMs}`;
      const known = this.#heads.get(path);
      if (known?.stamp === stamp) return known.head;
      const head = await readBinlogHead(path);
      if (head) this.#heads.set(path, { stamp, head });
      return head;
    } catch (error) {
      this.#context.log.warn({ err: error }, 'the head of a binary log cannot be read');
      return null;
    }
  }

  async #purge(keepFrom: string, isForced: boolean): Promise<void> {
    const { clock, log, paths } = this.#context;
    const session = await openSession({ socketPath: paths.socket, clock });
    try {
      await session.query('PURGE BINARY LOGS TO ?', [keepFrom]);
    } finally {
      await session.close();
    }
    if (isForced) this.#forcedAt = clock.now();
    const facts = { keepFrom, isForced };
    if (isForced)
      log.warn(facts, 'binary logs were purged that an absent member needed: the volume has no room for them');
    else log.info(facts, 'binary logs were purged');
  }

  async #expire({ backups, policy }: Hold, now: number): Promise<void> {
    const { archive, volumes, log } = this.#context;
    const segments = archive.sealed();
    const openBytes =
      archive.segments().reduce((sum, { bytes }) => sum + bytes, 0) -
      segments.reduce((sum, { bytes }) => sum + bytes, 0);
    const { totalMb } = await measureVolume(volumes!.backup!);
    const own = this.#context.backups.flatMap(({ gtidSet, isBad }) => (isBad ? [] : [gtidSet]));
    const choice = chooseExpired({
      ...{ segments, openBytes, volumeBytes: totalMb * MIB, policy, now },
      backups: [...new Set([...backups, ...own])],
    });
    if (choice.isForced) this.#cutAt = now;
    for (const { serverUuid, name } of choice.expired) {
      log.info({ serverUuid, name, isForced: choice.isForced }, 'an archived binary log expired');
      await archive.expire({ serverUuid, name });
    }
  }
}

function subtract(from: string, what: string): string {
  return compactGtidSet(subtractGtidSets(parseGtidSet(from), parseGtidSet(what)));
}
