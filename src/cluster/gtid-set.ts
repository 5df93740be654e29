/**
 * Sets of global transaction ids, as MySQL 9.x reads and prints them: `uuid:1-22:ctl:1-3,\nuuid2:5`. A tag (here
 * `ctl`) opens a number line of its own, so the key of a line is `uuid` or `uuid:tag`.
 * Sets are values: every function returns a new one or one of its arguments. Within a line the intervals are sorted,
 * disjoint and not adjacent; a line without intervals does not exist; so equal sets print alike.
 * Numbers are bigint because MySQL's go to 2^63 - 2.
 * https://dev.mysql.com/doc/refman/9.7/en/replication-gtids-concepts.html
 */

/** Both ends belong to it. */
interface Interval {
  readonly first: bigint;
  readonly last: bigint;
}

/** Opaque: use the functions of this file. */
export interface GtidSet {
  /** Sorted by key; code unit order is MySQL's order of uuid, then tag, the untagged line first. */
  readonly lines: ReadonlyMap<string, readonly Interval[]>;
}

export const GTID_TEXT_LENGTH_MAX = 4 * 1024 * 1024;
export const GTID_INTERVALS_MAX = 100_000;
const GTID_NUMBER_MAX = 2n ** 63n - 2n;

export const emptyGtidSet: GtidSet = { lines: new Map() };

const uuidToken = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(?![0-9a-z_-])/y;
const tagToken = /[a-z_][a-z0-9_]{0,31}(?![a-z0-9_])/y;
/** More than 19 digits are never valid: this bounds the work of BigInt. Leading zeros do not count. */
const intervalToken = /0*([0-9]{1,19})(?:\s*-\s*0*([0-9]{1,19}))?(?![0-9a-z_])/y;
const colonToken = /\s*:\s*/y;
/** MySQL takes several commas in a row for one, and commas at both ends. */
const separatorToken = /[\s,]*,[\s,]*/y;

/**
 * Reads what MySQL prints, in any case and with white space and empty parts between tokens as MySQL itself allows.
 * Stricter than MySQL where it silently drops something: a uuid without numbers, a tag without numbers and a range
 * that runs backwards are errors. Throws an Error that names the place.
 */
export function parseGtidSet(text: string): GtidSet {
  if (text.length > PARSED_TEXT_LENGTH_MAX) return parse(text);
  const known = parsed.get(text);
  if (known) return known;
  const set = parse(text);
  if (parsed.size >= PARSED_MAX) parsed.clear();
  parsed.set(text, set);
  return set;
}

/** One look at a cluster compares the same few texts many times. */
const PARSED_MAX = 500;
const PARSED_TEXT_LENGTH_MAX = 4096;
const parsed = new Map<string, GtidSet>();

function parse(text: string): GtidSet {
  if (text.length > GTID_TEXT_LENGTH_MAX)
    throw new Error(`GTID set is too long: ${text.length} characters, at most ${GTID_TEXT_LENGTH_MAX}`);
  const source = text.trim().toLowerCase();
  const reader = createReader(source);
  const found = new Map<string, Interval[]>();
  let intervals = 0;

  reader.take(/[\s,]*/y);
  while (!reader.isAtEnd()) {
    const uuid = reader.take(uuidToken)?.[0] ?? reader.fail('a uuid');
    let key = uuid;
    let isOpen = true; // a uuid or a tag that has no numbers yet
    while (reader.take(colonToken)) {
      const numbers = reader.take(intervalToken);
      if (numbers) {
        if (++intervals > GTID_INTERVALS_MAX) throw new Error(`GTID set has more than ${GTID_INTERVALS_MAX} intervals`);
        const line = found.get(key) ?? [];
        line.push(toInterval(numbers[1]!, numbers[2]));
        found.set(key, line);
        isOpen = false;
      } else {
        if (isOpen && key !== uuid) reader.fail('numbers after a tag');
        const tag = reader.take(tagToken)?.[0] ?? reader.fail('numbers or a tag');
        key = `${uuid}:${tag}`;
        isOpen = true;
      }
    }
    if (isOpen) reader.fail('numbers');
    if (!reader.take(separatorToken) && !reader.isAtEnd()) reader.fail('a comma or the end');
  }
  return fromLines([...found].map(([key, line]) => [key, normalise(line)]));
}

/** MySQL's own canonical text, `,\n` between uuids; '' for the empty set. */
export function formatGtidSet(set: GtidSet): string {
  let text = '';
  let lastUuid = '';
  for (const [key, line] of set.lines) {
    const uuid = key.slice(0, 36);
    if (uuid !== lastUuid) text += `${text === '' ? '' : ',\n'}${key}`;
    else text += key.slice(36);
    for (const { first, last } of line) text += first === last ? `:${first}` : `:${first}-${last}`;
    lastUuid = uuid;
  }
  return text;
}

/** The same in one line without white space, as it is stored and sent. */
export function compactGtidSet(set: GtidSet): string {
  return formatGtidSet(set).replaceAll('\n', '');
}

export function unionGtidSets(...sets: readonly GtidSet[]): GtidSet {
  const all = new Map<string, Interval[]>();
  for (const set of sets) {
    for (const [key, line] of set.lines) {
      all.set(key, (all.get(key) ?? []).concat(line));
    }
  }
  return fromLines([...all].map(([key, line]) => [key, normalise(line)]));
}

/** What is in `from` and not in `what`, as GTID_SUBTRACT(from, what). */
export function subtractGtidSets(from: GtidSet, what: GtidSet): GtidSet {
  const lines: [string, readonly Interval[]][] = [];
  for (const [key, line] of from.lines) lines.push([key, subtractLine(line, what.lines.get(key) ?? [])]);
  return fromLines(lines);
}

/** Is everything of `inner` in `outer`? As GTID_SUBSET(inner, outer). */
export function isGtidSubset(inner: GtidSet, outer: GtidSet): boolean {
  for (const [key, line] of inner.lines) {
    const cover = outer.lines.get(key);
    if (!cover || subtractLine(line, cover).length > 0) return false;
  }
  return true;
}

/** Tag of the control plane's own commits (heartbeats, epoch rows, barriers). No tenant may use it. */
export const ownGtidTag = 'selvedge';

/** Without the lines of this tag, whichever server issued them. */
export function withoutGtidTag(set: GtidSet, tag: string): GtidSet {
  return fromLines([...set.lines].filter(([key]) => key.slice(37) !== tag));
}

/** Only the lines of this tag, whichever server issued them. */
export function onlyGtidTag(set: GtidSet, tag: string): GtidSet {
  return fromLines([...set.lines].filter(([key]) => key.slice(37) === tag));
}

/** Each GTID by itself, as text. */
export function* eachGtid(set: GtidSet): Generator<string> {
  for (const [key, line] of set.lines)
    for (const { first, last } of line) for (let n = first; n <= last; n++) yield `${key}:${n}`;
}

/** Have they at least one GTID in common? */
export function hasCommonGtids(left: GtidSet, right: GtidSet): boolean {
  for (const [key, line] of left.lines) {
    const other = right.lines.get(key) ?? [];
    let index = 0;
    for (const interval of line) {
      while (index < other.length && other[index]!.last < interval.first) index++;
      if (index < other.length && other[index]!.first <= interval.last) return true;
    }
  }
  return false;
}

export function isGtidSetEmpty(set: GtidSet): boolean {
  return set.lines.size === 0;
}

export function areGtidSetsEqual(left: GtidSet, right: GtidSet): boolean {
  return formatGtidSet(left) === formatGtidSet(right);
}

/** Number of transactions in the set. */
export function countGtids(set: GtidSet): bigint {
  let count = 0n;
  for (const line of set.lines.values()) for (const { first, last } of line) count += last - first + 1n;
  return count;
}

function createReader(source: string) {
  let position = 0;
  return {
    isAtEnd: () => position === source.length,
    take(token: RegExp): RegExpExecArray | null {
      token.lastIndex = position;
      const match = token.exec(source);
      if (match) position += match[0].length;
      return match;
    },
    fail(expected: string): never {
      const rest = JSON.stringify(source.slice(position, position + 20));
      throw new Error(`GTID set is malformed at character ${position}: expected ${expected}, found ${rest}`);
    },
  };
}

function toInterval(firstText: string, lastText: string | undefined): Interval {
  const first = BigInt(firstText);
  const last = lastText === undefined ? first : BigInt(lastText);
  if (first < 1n || last > GTID_NUMBER_MAX)
    throw new Error(`GTID numbers go from 1 to ${GTID_NUMBER_MAX}, found ${first}-${last}`);
  if (last < first) throw new Error(`GTID range ${first}-${last} runs backwards`);
  return { first, last };
}

/** Sorts and merges what overlaps or touches. */
function normalise(line: Interval[]): readonly Interval[] {
  line.sort((a, b) => (a.first < b.first ? -1 : a.first > b.first ? 1 : 0));
  const merged: Interval[] = [];
  for (const interval of line) {
    const before = merged.at(-1);
    if (!before || interval.first > before.last + 1n) merged.push(interval);
    else if (interval.last > before.last) merged[merged.length - 1] = { first: before.first, last: interval.last };
  }
  return merged;
}

/** Both normal; so is the result. One pass over both. */
function subtractLine(line: readonly Interval[], cut: readonly Interval[]): readonly Interval[] {
  const rest: Interval[] = [];
  let index = 0;
  for (const { first, last } of line) {
    let start = first;
    while (index < cut.length && cut[index]!.last < start) index++;
    // The last cut may reach into the next interval: look ahead without moving `index`.
    for (let ahead = index; ahead < cut.length && cut[ahead]!.first <= last; ahead++) {
      if (cut[ahead]!.first > start) rest.push({ first: start, last: cut[ahead]!.first - 1n });
      start = cut[ahead]!.last + 1n;
      index = ahead;
    }
    if (start <= last) rest.push({ first: start, last });
  }
  return rest;
}

function fromLines(lines: readonly (readonly [string, readonly Interval[]])[]): GtidSet {
  const filled = lines.filter(([, line]) => line.length > 0);
  return { lines: new Map(filled.toSorted(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))) };
}
