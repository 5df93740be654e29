/**
 * How a state of the past is reached: from which backup, by which archived logs, and which transactions belong to it.
 * Rules:
 * - A backup serves only when all that it holds was acknowledged (`within`) and lies before the target.
 * - Logs are applied in an order in which each begins with nothing that is missing; whose archive they are from does not
 *   matter, since what is executed already is skipped.
 * - A target time cuts in the order of the log: everything before the first transaction whose commit, by the clock of the
 *   server that issued it, was later. So a later one never gets in because a clock was set back.
 * - A target set is reached exactly, or refused.
 */
import {
  compactGtidSet,
  type GtidSet,
  isGtidSetEmpty,
  isGtidSubset,
  parseGtidSet,
  subtractGtidSets,
  unionGtidSets,
} from './gtid-set.ts';

export type Until =
  /** The backup as it is. */
  | { readonly kind: 'backup' }
  /** UTC milliseconds; a transaction committed in that very millisecond is in. */
  | { readonly kind: 'at'; readonly atMs: number }
  /** The whole set, as `gtidExecuted` shows it. */
  | { readonly kind: 'gtid'; readonly gtidSet: string };

/** From what a cluster was copied; chosen when it was asked for, and stored with it. */
export interface Origin {
  readonly clusterId: string;
  /** Name of the source at that time. */
  readonly cluster: string;
  readonly backup: {
    readonly id: string;
    readonly ordinal: number;
    readonly bytes: number;
    readonly gtidSet: string;
    readonly endedAt: number;
  };
  readonly until: Until;
  /** What the source had acknowledged when it was asked for: nothing else gets into the copy. */
  readonly within: string;
  /** Of each donor; null: as fast as it goes. */
  readonly maxBytesPerSec: number | null;
}

/** Beside a backup, in the data volume that it is copied into: redo logs, logs that are applied, some growth. */
export const copyRoomMb = 320;

export interface BackupOption {
  readonly id: string;
  /** Ordinal of the member on whose volume it lies. */
  readonly ordinal: number;
  readonly gtidSet: string;
  readonly bytes: number;
  /** UTC milliseconds by that member's clock. */
  readonly endedAt: number;
  readonly isBad: boolean;
  /** Its executor can be asked for it now. */
  readonly isReachable: boolean;
}

export type BackupChoice =
  | { readonly kind: 'chosen'; readonly backup: BackupOption }
  | {
      readonly kind: 'refused';
      readonly code: 'NO_BACKUP' | 'BACKUP_DAMAGED' | 'TARGET_BEFORE_BACKUP' | 'BACKUP_NOT_ACKNOWLEDGED';
      readonly message: string;
    };

/**
 * The newest backup from which the target can be reached: least is left to apply then. One that can be read now is
 * preferred. `backupId`: this one or none.
 */
export function chooseBackup(
  backups: readonly BackupOption[],
  wanted: { readonly until: Until; readonly within: string; readonly backupId?: string | undefined },
): BackupChoice {
  const { until, backupId } = wanted;
  const asked = backupId === undefined ? backups : backups.filter(({ id }) => id === backupId);
  if (asked.length === 0) {
    return refuse(
      'NO_BACKUP',
      backupId === undefined ? 'there is no complete backup' : `there is no backup ${backupId}`,
    );
  }
  const good = asked.filter(({ isBad }) => !isBad);
  if (good.length === 0) return refuse('BACKUP_DAMAGED', 'every backup that could serve is marked bad');
  const within = parseGtidSet(wanted.within);
  const acknowledged = good.filter(({ gtidSet }) => isGtidSubset(parseGtidSet(gtidSet), within));
  if (acknowledged.length === 0) {
    return refuse(
      'BACKUP_NOT_ACKNOWLEDGED',
      'every backup that could serve holds what the cluster has not acknowledged',
    );
  }
  const before = acknowledged.filter((backup) => isBefore(backup, until));
  if (before.length === 0)
    return refuse('TARGET_BEFORE_BACKUP', 'every backup that could serve is later than the target');
  const reachable = before.filter(({ isReachable }) => isReachable);
  const [backup] = (reachable.length > 0 ? reachable : before).toSorted((a, b) => b.endedAt - a.endedAt);
  return { kind: 'chosen', backup: backup! };
}

function isBefore({ endedAt, gtidSet }: BackupOption, until: Until): boolean {
  switch (until.kind) {
    case 'backup':
      return true;
    // What it holds was committed while it was taken: it may hold a transaction of any moment before its end.
    case 'at':
      return endedAt <= until.atMs;
    case 'gtid':
      return isGtidSubset(parseGtidSet(gtidSet), parseGtidSet(until.gtidSet));
  }
}

function refuse(code: Extract<BackupChoice, { kind: 'refused' }>['code'], message: string): BackupChoice {
  return { kind: 'refused', code, message };
}

/** An archived log, and whose archive it is in. */
export interface LogOption {
  readonly ordinal: number;
  readonly serverUuid: string;
  readonly name: string;
  readonly bytes: number;
  readonly previousGtids: string;
  readonly gtidSet: string;
}

interface ParsedLog {
  readonly own: GtidSet;
  readonly previous: GtidSet;
}
const parsed = new WeakMap<LogOption, ParsedLog>();
/** A thousand logs are looked at a thousand times. */
function parseLog(log: LogOption): ParsedLog {
  const known = parsed.get(log);
  if (known) return known;
  const sets = { own: parseGtidSet(log.gtidSet), previous: parseGtidSet(log.previousGtids) };
  parsed.set(log, sets);
  return sets;
}

interface Candidate<T> {
  readonly log: T;
  readonly gain: GtidSet;
}

/**
 * The log to apply next on what is executed, towards `wanted`; null when none leads further. The one that follows
 * `after` in the same archive is preferred: the others were left because they overlap.
 */
export function chooseNextLog<T extends LogOption>(
  logs: readonly T[],
  state: { readonly executed: GtidSet; readonly wanted: GtidSet; readonly after?: LogOption | undefined },
): T | null {
  const { executed, wanted, after } = state;
  const missing = subtractGtidSets(wanted, executed);
  if (isGtidSetEmpty(missing)) return null;
  const candidates: Candidate<T>[] = [];
  for (const log of logs) {
    const { own, previous } = parseLog(log);
    const gain = intersect(own, missing);
    if (isGtidSetEmpty(gain)) continue;
    // What is not wanted need not be there: a tail that nobody acknowledged.
    if (!isGtidSetEmpty(intersect(previous, missing))) continue;
    candidates.push({ log, gain });
  }
  const isSameArchive = ({ log }: Candidate<T>) =>
    log.ordinal === after?.ordinal && log.serverUuid === after.serverUuid && isLater(log.name, after.name);
  const following = candidates.filter(isSameArchive).toSorted((a, b) => (isLater(b.log.name, a.log.name) ? -1 : 1))[0];
  if (following) return following.log;
  // Most of all is won by the one that no other one contains; else the smallest file.
  const best = candidates.find(({ gain }) => candidates.every((other) => isGtidSubset(other.gain, gain)));
  return (best ?? candidates.toSorted((a, b) => a.log.bytes - b.log.bytes)[0])?.log ?? null;
}

/** Logs in the order in which they would be applied, and what of `wanted` they do not reach. */
export function planLogs<T extends LogOption>(
  logs: readonly T[],
  from: { readonly executed: string; readonly wanted: string },
): { readonly logs: readonly T[]; readonly missing: string } {
  const wanted = parseGtidSet(from.wanted);
  let executed = parseGtidSet(from.executed);
  const chosen: T[] = [];
  let left = [...logs];
  for (;;) {
    const next = chooseNextLog(left, { executed, wanted, after: chosen.at(-1) });
    if (!next) break;
    chosen.push(next);
    left = left.filter((log) => log !== next);
    executed = unionGtidSets(executed, intersect(parseLog(next).own, wanted));
  }
  return { logs: chosen, missing: compactGtidSet(subtractGtidSets(wanted, executed)) };
}

/** `binlog.1000000` follows `binlog.999999`. */
function isLater(name: string, other: string): boolean {
  return name.length === other.length ? name > other : name.length > other.length;
}

function intersect(left: GtidSet, right: GtidSet): GtidSet {
  return subtractGtidSets(left, subtractGtidSets(left, right));
}

/** Whether a single transaction (`uuid:5` or `uuid:tag:5`) is in the set; fast enough to ask for each of a log. */
export function createGtidTest(set: GtidSet): (gtid: string) => boolean {
  return (gtid) => {
    const colon = gtid.lastIndexOf(':');
    const line = set.lines.get(gtid.slice(0, colon)) ?? [];
    const number = BigInt(gtid.slice(colon + 1));
    let low = 0;
    let high = line.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (line[middle]!.last < number) low = middle + 1;
      else high = middle;
    }
    return low < line.length && line[low]!.first <= number;
  };
}

/** What becomes of one transaction of a log that is applied. */
export type Verdict = 'in' | 'out' | 'stop';

/**
 * Judges the transactions of a log in its order. `stop`: this one and everything after it, in this log and all others,
 * is later than the target. Throws nothing; `held` (what the backup holds) is in already and is not asked for again.
 */
export function createJudge(options: {
  readonly until: Until;
  readonly within: string;
}): (transaction: { readonly gtid: string; readonly originalCommittedAtMicros: number }) => Verdict {
  const { until } = options;
  const isAcknowledged = createGtidTest(parseGtidSet(options.within));
  if (until.kind === 'gtid') {
    const isWanted = createGtidTest(parseGtidSet(until.gtidSet));
    return ({ gtid }) => (isWanted(gtid) && isAcknowledged(gtid) ? 'in' : 'out');
  }
  const endMicros = until.kind === 'at' ? (until.atMs + 1) * 1000 : Number.NEGATIVE_INFINITY;
  return ({ gtid, originalCommittedAtMicros }) => {
    if (!isAcknowledged(gtid)) return 'out';
    return originalCommittedAtMicros < endMicros ? 'in' : 'stop';
  };
}
