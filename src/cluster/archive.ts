/**
 * What an archive of binary logs covers, and what may be thrown away. Rules:
 * - A span is an unbroken run of logs of one server_uuid: whoever holds `fromGtids` and applies the span holds both.
 * - Gaps are told from the sets alone: a transaction that a living member or a backup knows of, that is newer than the
 *   oldest start, and that no span holds.
 * - A binary log is purged when it is archived here and every member that is expected back has executed it; pressure
 *   shortens the time that it is kept beyond that; past the caps nobody is waited for any more, since a volume that
 *   runs full stops the primary.
 * - An archived log that a kept backup needs to go forward goes only when the archive's share of its volume is used up.
 */
import {
  compactGtidSet,
  type GtidSet,
  hasCommonGtids,
  isGtidSetEmpty,
  isGtidSubset,
  parseGtidSet,
  subtractGtidSets,
  unionGtidSets,
} from './gtid-set.ts';

/** What is kept how long, while no policy of the cluster says otherwise. */
export const defaultArchivePolicy: ArchivePolicy = {
  // So the backup of last night can be brought up to date from them.
  logKeepMs: 26 * 3_600_000,
  logShare: 0.2,
  logShareMax: 0.4,
  absentMaxMs: 72 * 3_600_000,
  archiveKeepMs: 7 * 24 * 3_600_000,
  archiveShare: 0.3,
};

/** Shares are parts of a volume, from 0 to 1. */
export interface ArchivePolicy {
  /** A purgeable binary log stays so long on the data volume, unless room is needed. */
  readonly logKeepMs: number;
  /** Binary logs that take more than this are purged as soon as they may. */
  readonly logShare: number;
  /** Past this nobody is waited for: an absent member will be rebuilt. */
  readonly logShareMax: number;
  /** Who is absent for longer holds no binary logs any more: it will be rebuilt. */
  readonly absentMaxMs: number;
  /** An archived log older than this goes, unless a kept backup needs it. */
  readonly archiveKeepMs: number;
  /** The archive takes no more than this of the backup volume. */
  readonly archiveShare: number;
}

export interface ArchiveSpan {
  readonly serverUuid: string;
  /** All that the server had before the span. Without white space. */
  readonly fromGtids: string;
  readonly gtidSet: string;
  /** UTC milliseconds of the first and last commit; null: no transaction in it. */
  readonly firstAt: number | null;
  readonly lastAt: number | null;
}

export interface LogSegment extends Omit<ArchiveSpan, 'fromGtids'> {
  /** `binlog.NNNNNN` */
  readonly name: string;
  readonly previousGtids: string;
}

const least = (a: number | null, b: number | null) => (a === null || b === null ? (a ?? b) : Math.min(a, b));
const greatest = (a: number | null, b: number | null) => (a === null || b === null ? (a ?? b) : Math.max(a, b));

/** Unbroken runs, in order of server_uuid and number. A log that is missing in between begins another span. */
export function findSpans(segments: readonly LogSegment[]): ArchiveSpan[] {
  const spans: ArchiveSpan[] = [];
  let known: GtidSet | null = null;
  for (const segment of segments.toSorted(bySequence)) {
    const last = spans.at(-1);
    const own = parseGtidSet(segment.gtidSet);
    const previous = parseGtidSet(segment.previousGtids);
    if (last && known && last.serverUuid === segment.serverUuid && isGtidSubset(previous, known)) {
      known = unionGtidSets(known, own);
      spans[spans.length - 1] = {
        ...last,
        gtidSet: compactGtidSet(unionGtidSets(parseGtidSet(last.gtidSet), own)),
        firstAt: least(last.firstAt, segment.firstAt),
        lastAt: greatest(last.lastAt, segment.lastAt),
      };
      continue;
    }
    known = unionGtidSets(previous, own);
    const { serverUuid, previousGtids: fromGtids, gtidSet, firstAt, lastAt } = segment;
    spans.push({ serverUuid, fromGtids, gtidSet, firstAt, lastAt });
  }
  return spans;
}

/** In order of server_uuid and number. */
export function bySequence(a: LogSegment, b: LogSegment): number {
  if (a.serverUuid !== b.serverUuid) return a.serverUuid < b.serverUuid ? -1 : 1;
  return numberOf(a.name) - numberOf(b.name);
}

const numberOf = (name: string): number => Number(name.slice(name.lastIndexOf('.') + 1));

export interface CoverageInput {
  /** Of all members. */
  readonly spans: readonly ArchiveSpan[];
  /** What the cluster acknowledged: the executed set of the primary. */
  readonly acknowledged: string;
  /** Set of the oldest kept backup; null: there is none, then the archive reaches back to its own oldest start. */
  readonly from: string | null;
}

export interface Coverage {
  /** Where the archive can go forward from: the backup, or the smallest start of a span. Null: there is nothing. */
  readonly start: string | null;
  /** Acknowledged, after the start, and in no archive. '' when all is archived. */
  readonly missing: string;
  /** Of the missing, what lies before something that is archived: a hole, not what is still on its way. */
  readonly gap: string;
}

/**
 * What the archives of a cluster lack. `gap`: those of `missing` that an archived log names among its previous GTIDs,
 * so they were logged before it.
 */
export function findCoverage({ spans, acknowledged, from }: CoverageInput): Coverage {
  const start = from ?? findOldestStart(spans);
  if (start === null) return { start: null, missing: compactGtidSet(parseGtidSet(acknowledged)), gap: '' };
  const archived = unionGtidSets(...spans.map(({ gtidSet }) => parseGtidSet(gtidSet)));
  const missing = subtractGtidSets(subtractGtidSets(parseGtidSet(acknowledged), parseGtidSet(start)), archived);
  if (isGtidSetEmpty(missing)) return { start, missing: '', gap: '' };
  const before = unionGtidSets(...spans.map(({ fromGtids }) => parseGtidSet(fromGtids)));
  const later = subtractGtidSets(missing, before);
  return { start, missing: compactGtidSet(missing), gap: compactGtidSet(subtractGtidSets(missing, later)) };
}

/** The start that is contained in all others; where they differ, what they have in common. */
function findOldestStart(spans: readonly ArchiveSpan[]): string | null {
  let oldest: GtidSet | null = null;
  for (const { fromGtids } of spans) {
    const set = parseGtidSet(fromGtids);
    oldest = oldest === null ? set : subtractGtidSets(oldest, subtractGtidSets(oldest, set));
  }
  return oldest && compactGtidSet(oldest);
}

export interface SourceLog {
  readonly name: string;
  readonly bytes: number;
  /** Sealed in the archive, or there is no archive to wait for. */
  readonly isArchived: boolean;
  /** Its transactions; null: not known, then it is purged only past the caps. */
  readonly gtidSet: string | null;
  /** UTC milliseconds of its last commit; null: none. */
  readonly lastAt: number | null;
}

export interface PurgeInput {
  /** Oldest first, the one that is written to last. */
  readonly logs: readonly SourceLog[];
  /** What every member that is expected back has executed; null: not known. */
  readonly executedByAll: string | null;
  readonly volume: { readonly totalBytes: number; readonly usedBytes: number };
  readonly policy: ArchivePolicy;
  readonly now: number;
  /** Since when logs that are not archived stand in the way past the caps; null: they do not, or nobody was told. */
  readonly behindToldAt: number | null;
}

export interface PurgeChoice {
  /** The first log that stays; null: none goes. As PURGE BINARY LOGS TO takes it. */
  readonly keepFrom: string | null;
  /** A member that lacks what goes was waited for: it will be rebuilt. */
  readonly isForced: boolean;
  /** A log that is not archived stands in the way of the caps: tell, and purge it after a while. */
  readonly isBehind: boolean;
}

/** After it was told that unarchived logs stand in the way, they are kept so long still. */
export const BEHIND_GRACE_MS = 5 * 60_000;
/** A data volume fuller than this is in danger whatever takes the room. */
const DANGER_SHARE = 0.9;
/** Nothing is waited for any more. */
const LAST_RESORT_SHARE = 0.97;

/** Which binary logs of a member go, oldest first without a hole. The one that is written to stays. */
export function choosePurge(input: PurgeInput): PurgeChoice {
  const { logs, policy, volume, now, behindToldAt } = input;
  const executedByAll = input.executedByAll === null ? null : parseGtidSet(input.executedByAll);
  let bytes = logs.reduce((sum, log) => sum + log.bytes, 0);
  let used = volume.usedBytes;
  let keepFrom: string | null = null;
  let isForced = false;
  for (const [index, log] of logs.slice(0, -1).entries()) {
    const isWanted = bytes > policy.logShare * volume.totalBytes;
    const isPressing = bytes > policy.logShareMax * volume.totalBytes || used > DANGER_SHARE * volume.totalBytes;
    const isExecuted =
      executedByAll !== null && log.gtidSet !== null && isGtidSubset(parseGtidSet(log.gtidSet), executedByAll);
    const isOld = log.lastAt === null || now - log.lastAt > policy.logKeepMs;
    if (!log.isArchived) {
      if (!isPressing) break;
      const isGraceOver = behindToldAt !== null && now - behindToldAt > BEHIND_GRACE_MS;
      if (!isGraceOver && used <= LAST_RESORT_SHARE * volume.totalBytes) return { keepFrom, isForced, isBehind: true };
    }
    if (!isPressing && !(isExecuted && (isOld || isWanted))) break;
    if (!isExecuted) isForced = true;
    keepFrom = logs[index + 1]!.name;
    bytes -= log.bytes;
    used -= log.bytes;
  }
  return { keepFrom, isForced, isBehind: false };
}

export interface Holder {
  readonly ordinal: number;
  /** Executed or received for good; null: not known, then it holds everything. */
  readonly executed: string | null;
  /** For how long it was not seen running; 0: it runs. */
  readonly absentMs: number;
}

/**
 * What may be purged as far as the members go, and who is not waited for any more. `executedByAll` null: somebody who
 * is expected back never said what it holds.
 */
export function findHolds(
  holders: readonly Holder[],
  policy: Pick<ArchivePolicy, 'absentMaxMs'>,
): { readonly executedByAll: string | null; readonly writtenOff: readonly number[] } {
  const writtenOff = holders.filter(({ absentMs }) => absentMs > policy.absentMaxMs).map(({ ordinal }) => ordinal);
  let common: GtidSet | null = null;
  for (const { ordinal, executed } of holders) {
    if (writtenOff.includes(ordinal)) continue;
    if (executed === null) return { executedByAll: null, writtenOff };
    const set = parseGtidSet(executed);
    common = common === null ? set : subtractGtidSets(common, subtractGtidSets(common, set));
  }
  return { executedByAll: common && compactGtidSet(common), writtenOff };
}

export interface RetentionInput {
  /** Sealed ones. */
  readonly segments: readonly (LogSegment & { readonly bytes: number })[];
  /** Of logs that are still written to. */
  readonly openBytes: number;
  readonly volumeBytes: number;
  /** Sets of the backups that are kept, of any member. */
  readonly backups: readonly string[];
  readonly policy: ArchivePolicy;
  readonly now: number;
}

/** Which archived logs go, oldest first, and whether one of them was needed by a kept backup. */
export function chooseExpired(input: RetentionInput): { readonly expired: LogSegment[]; readonly isForced: boolean } {
  const { policy, now } = input;
  const backups = input.backups.map(parseGtidSet);
  const isNeeded = (segment: LogSegment) => {
    const set = parseGtidSet(segment.gtidSet);
    return backups.some((backup) => !isGtidSubset(set, backup));
  };
  let bytes = input.openBytes + input.segments.reduce((sum, segment) => sum + segment.bytes, 0);
  const capBytes = policy.archiveShare * input.volumeBytes;
  const expired = new Set<LogSegment>();
  const drop = (segment: LogSegment & { readonly bytes: number }) => {
    expired.add(segment);
    bytes -= segment.bytes;
  };
  const ages = agesOf(input.segments, now);
  const byAge = input.segments.toSorted((a, b) => ages.get(a)! - ages.get(b)! || bySequence(a, b));
  const broken = new Set<string>();
  for (const segment of byAge) {
    // Later logs of a server_uuid are of no use without the ones before: a needed one keeps those behind it too.
    const isKept = broken.has(segment.serverUuid) || isNeeded(segment);
    if (isKept) broken.add(segment.serverUuid);
    else if (now - ages.get(segment)! > policy.archiveKeepMs) drop(segment);
  }
  for (const segment of byAge) if (bytes > capBytes && !expired.has(segment) && !isNeeded(segment)) drop(segment);
  let isForced = false;
  for (const segment of byAge) {
    if (bytes <= capBytes || expired.has(segment)) continue;
    drop(segment);
    isForced = true;
  }
  return { expired: [...expired].toSorted(bySequence), isForced };
}

/** Last commits; a log without transactions is as old as the one after it, the newest as young as can be. */
function agesOf<T extends LogSegment>(segments: readonly T[], now: number): ReadonlyMap<T, number> {
  const ages = new Map<T, number>();
  let next: T | null = null;
  for (const segment of segments.toSorted(bySequence).toReversed()) {
    const isFollowed = next?.serverUuid === segment.serverUuid;
    ages.set(segment, segment.lastAt ?? (isFollowed ? ages.get(next!)! : now));
    next = segment;
  }
  return ages;
}

/** Seen at `at`: acknowledged then. Oldest first. */
export interface RpoState {
  readonly samples: readonly { readonly at: number; readonly acknowledged: string }[];
}

export const noRpo: RpoState = { samples: [] };
const RPO_SAMPLES_MAX = 120;

/**
 * Remembers what was acknowledged when, until it is archived. The answer's `rpoMs` is the age of the oldest
 * acknowledged transaction that is in no archive, as seen from here: never more than a look too small.
 */
export function stepRpo(
  state: RpoState,
  seen: {
    readonly now: number;
    readonly acknowledged: string;
    readonly missing: string;
    readonly archivedUntil: number | null;
  },
): { readonly state: RpoState; readonly rpoMs: number } {
  if (seen.missing === '') return { state: noRpo, rpoMs: 0 };
  const missing = parseGtidSet(seen.missing);
  const first = { at: Math.min(seen.now, seen.archivedUntil ?? seen.now), acknowledged: seen.acknowledged };
  const open = state.samples.filter(({ acknowledged }) => hasCommonGtids(parseGtidSet(acknowledged), missing));
  const last = open.at(-1);
  let samples = open.length === 0 ? [first] : open;
  if (last && last.acknowledged !== seen.acknowledged)
    samples = [...open, { at: seen.now, acknowledged: seen.acknowledged }];
  // The oldest stays: it is the answer. Of the rest every second one goes.
  if (samples.length > RPO_SAMPLES_MAX) samples = samples.filter((_, index) => index % 2 === 0);
  return { state: { samples }, rpoMs: Math.max(0, seen.now - samples[0]!.at) };
}
