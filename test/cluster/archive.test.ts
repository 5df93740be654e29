/** Spans, gaps, purging and retention of the archive: properties over random histories, and what people will ask. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  BEHIND_GRACE_MS,
  chooseExpired,
  choosePurge,
  findCoverage,
  findHolds,
  findSpans,
  type LogSegment,
  noRpo,
  type PurgeInput,
  defaultArchivePolicy as policy,
  stepRpo,
} from '../../src/cluster/archive.ts';
import { isGtidSubset, parseGtidSet, subtractGtidSets, unionGtidSets } from '../../src/cluster/gtid-set.ts';

const a = '00000000-0000-4000-8000-00000000000a';
const b = '00000000-0000-4000-8000-00000000000b';
const range = (first: number, last: number, uuid = a) => (last < first ? '' : `${uuid}:${first}-${last}`);
const hour = 3_600_000;

/** Logs of one server: each holds the next few transactions of `a`. */
function history(counts: readonly number[], serverUuid = a): (LogSegment & { bytes: number })[] {
  let done = 0;
  return counts.map((count, index) => {
    const first = done + 1;
    done += count;
    const name = `binlog.${String(index + 1).padStart(6, '0')}`;
    const previousGtids = range(1, first - 1);
    const lastAt = count === 0 ? null : done * 1000;
    const firstAt = count === 0 ? null : first * 1000;
    return { serverUuid, name, previousGtids, gtidSet: range(first, done), firstAt, lastAt, bytes: 100 + count };
  });
}
const counts = fc.array(fc.nat({ max: 4 }), { minLength: 1, maxLength: 12 });

test('logs without a hole are one span; each hole begins another, and nothing is made up or lost', () => {
  fc.assert(
    fc.property(counts, fc.array(fc.nat({ max: 11 }), { maxLength: 4 }), (sizes, lost) => {
      const all = history(sizes);
      const kept = all.filter((_, index) => !lost.includes(index));

      const spans = findSpans(kept.toReversed());

      const union = unionGtidSets(...spans.map(({ gtidSet }) => parseGtidSet(gtidSet)));
      expect(union).toEqual(unionGtidSets(...kept.map(({ gtidSet }) => parseGtidSet(gtidSet))));
      const acknowledged = parseGtidSet(
        range(
          1,
          sizes.reduce((sum, size) => sum + size, 0),
        ),
      );
      if (kept.length === all.length) expect(spans).toHaveLength(1);
      for (const { fromGtids, gtidSet } of spans) {
        // Applied on what comes before, a span leaves no hole.
        const after = unionGtidSets(parseGtidSet(fromGtids), parseGtidSet(gtidSet));
        expect(after.lines.get(a)?.length ?? 0).toBeLessThanOrEqual(1);
        expect(isGtidSubset(after, acknowledged)).toBe(true);
      }
    }),
  );
});

test('what is missing is exactly what is acknowledged, after the start, and in no span', () => {
  fc.assert(
    fc.property(counts, fc.array(fc.nat({ max: 11 }), { maxLength: 4 }), fc.nat({ max: 5 }), (sizes, lost, more) => {
      const all = history(sizes);
      const spans = findSpans(all.filter((_, index) => !lost.includes(index)));
      const total = sizes.reduce((sum, size) => sum + size, 0);
      const acknowledged = range(1, total + more);

      const { start, missing, gap } = findCoverage({ spans, acknowledged, from: '' });

      const archived = unionGtidSets(...spans.map(({ gtidSet }) => parseGtidSet(gtidSet)));
      expect(start).toBe('');
      expect(parseGtidSet(missing)).toEqual(subtractGtidSets(parseGtidSet(acknowledged), archived));
      // What came after the last archived log is on its way, not a gap.
      expect(isGtidSubset(parseGtidSet(gap), parseGtidSet(missing))).toBe(true);
      if (lost.length === 0) expect(gap).toBe('');
    }),
  );
});

test('a gap that another member still has in its archive is none', () => {
  const all = history([3, 3, 3]);
  const own = [all[0]!, all[2]!];
  const other = { ...all[1]!, serverUuid: b };

  expect(findCoverage({ spans: findSpans(own), acknowledged: range(1, 9), from: '' }).gap).toBe(range(4, 6));
  expect(findCoverage({ spans: findSpans([...own, other]), acknowledged: range(1, 9), from: '' }).gap).toBe('');
});

test('a gap before the oldest backup does not matter', () => {
  const all = history([3, 3, 3]);
  const coverage = findCoverage({ spans: findSpans([all[0]!, all[2]!]), acknowledged: range(1, 9), from: range(1, 7) });

  expect(coverage).toEqual({ start: range(1, 7), missing: '', gap: '' });
});

const megabyte = 1_000_000;
const purge = (changes: Partial<PurgeInput> = {}): PurgeInput => ({
  logs: [1, 2, 3, 4].map((nth) => ({
    name: `binlog.00000${nth}`,
    bytes: megabyte,
    isArchived: true,
    gtidSet: range(nth * 10, nth * 10 + 9),
    lastAt: nth * hour,
  })),
  executedByAll: range(1, 29),
  volume: { totalBytes: 1000 * megabyte, usedBytes: 100 * megabyte },
  policy,
  now: 1000 * hour,
  behindToldAt: null,
  ...changes,
});

test('a log goes when it is archived, executed by all and old enough', () => {
  expect(choosePurge(purge())).toEqual({ keepFrom: 'binlog.000003', isForced: false, isBehind: false });
});

test('nothing goes before all who are expected back have it, or before it is archived, or too young', () => {
  const notArchived = purge().logs.map((log, index) => ({ ...log, isArchived: index > 0 }));

  expect(choosePurge(purge({ executedByAll: null })).keepFrom).toBeNull();
  expect(choosePurge(purge({ executedByAll: range(1, 15) })).keepFrom).toBeNull();
  expect(choosePurge(purge({ logs: notArchived }))).toEqual({ keepFrom: null, isForced: false, isBehind: false });
  expect(choosePurge(purge({ now: 27 * hour })).keepFrom).toBeNull();
});

test('past the share nobody is waited for, and a primary never runs full', () => {
  const volume = { totalBytes: 8 * megabyte, usedBytes: 5 * megabyte };

  expect(choosePurge(purge({ volume, executedByAll: range(1, 5) }))).toEqual({
    keepFrom: 'binlog.000002',
    isForced: true,
    isBehind: false,
  });
});

test('what is not archived is told before it is purged, and waited for until the volume is full', () => {
  const logs = purge().logs.map((log) => ({ ...log, isArchived: false }));
  const volume = { totalBytes: 8 * megabyte, usedBytes: 5 * megabyte };
  const behind = purge({ logs, volume });

  expect(choosePurge(behind)).toMatchObject({ keepFrom: null, isBehind: true });
  expect(choosePurge({ ...behind, behindToldAt: behind.now - 1000 })).toMatchObject({ keepFrom: null, isBehind: true });
  const told = { ...behind, behindToldAt: behind.now - BEHIND_GRACE_MS - 1 };
  expect(choosePurge(told)).toMatchObject({ keepFrom: 'binlog.000002', isBehind: false });
  const full = { ...behind, volume: { totalBytes: 8 * megabyte, usedBytes: 7.9 * megabyte } };
  expect(choosePurge(full).keepFrom).not.toBeNull();
});

test('the log that is written to never goes, and no hole is left, whatever the facts are', () => {
  const log = fc.record({
    bytes: fc.nat({ max: 5 * megabyte }),
    isArchived: fc.boolean(),
    gtidSet: fc.option(fc.nat({ max: 90 }).map((first) => range(first + 1, first + 5))),
    lastAt: fc.option(fc.nat({ max: 2000 * hour })),
  });
  const facts = fc.record({
    logs: fc.array(log, { maxLength: 8 }),
    executed: fc.option(fc.nat({ max: 100 })),
    used: fc.nat({ max: 10 }),
    told: fc.option(fc.nat({ max: 1000 * hour })),
  });
  fc.assert(
    fc.property(facts, ({ logs, executed, used, told }) => {
      const input = purge({
        logs: logs.map((each, index) => ({ ...each, name: `binlog.00000${index}` })),
        executedByAll: executed === null ? null : range(1, executed),
        volume: { totalBytes: 10 * megabyte, usedBytes: used * megabyte },
        behindToldAt: told,
      });

      const { keepFrom, isForced, isBehind } = choosePurge(input);

      const gone = keepFrom === null ? 0 : input.logs.findIndex(({ name }) => name === keepFrom);
      expect(gone).toBeLessThan(Math.max(1, logs.length));
      const isGraceOver = told !== null && input.now - told > BEHIND_GRACE_MS;
      if (used <= 9 && !isGraceOver) expect(input.logs.slice(0, gone).every(({ isArchived }) => isArchived)).toBe(true);
      const all = parseGtidSet(input.executedByAll ?? '');
      const isCovered = input.logs
        .slice(0, gone)
        .every(({ gtidSet }) => gtidSet !== null && isGtidSubset(parseGtidSet(gtidSet), all));
      if (!isForced) expect(gone === 0 || (executed !== null && isCovered)).toBe(true);
      if (isBehind) expect(input.logs[gone]!.isArchived).toBe(false);
    }),
  );
});

test('who is absent for too long holds nothing, who never spoke holds everything', () => {
  const living = { ordinal: 0, executed: range(1, 90), absentMs: 0 };
  const absent = { ordinal: 1, executed: range(1, 50), absentMs: hour };
  const gone = { ordinal: 2, executed: range(1, 10), absentMs: policy.absentMaxMs + 1 };

  expect(findHolds([living, absent, gone], policy)).toEqual({ executedByAll: range(1, 50), writtenOff: [2] });
  expect(findHolds([living, { ...absent, executed: null }], policy).executedByAll).toBeNull();
  expect(findHolds([living, { ...gone, executed: null }], policy).executedByAll).toBe(range(1, 90));
});

test('the archive keeps what the oldest kept backup needs, unless its share is used up', () => {
  const segments = history([10, 10, 10, 10]);
  const input = { segments, openBytes: 0, volumeBytes: 10_000, backups: [range(1, 20)], policy, now: 1e12 };

  expect(chooseExpired(input).expired.map(({ name }) => name)).toEqual(['binlog.000001', 'binlog.000002']);
  const small = { ...input, volumeBytes: 500 };
  expect(chooseExpired(small)).toMatchObject({ isForced: true });
  expect(chooseExpired(small).expired).toHaveLength(3);
  expect(chooseExpired({ ...input, now: 41_000 }).expired).toEqual([]);
});

test('a log without transactions is no older than the one after it', () => {
  const segments = history([10, 0, 10, 0]);
  const input = {
    segments,
    openBytes: 0,
    volumeBytes: 10_000,
    backups: [],
    policy,
    now: 20_000 + policy.archiveKeepMs,
  };

  expect(chooseExpired(input).expired.map(({ name }) => name)).toEqual(['binlog.000001']);
});

test('retention ends within its share or with an empty archive, and never takes needed logs without being forced', () => {
  fc.assert(
    fc.property(
      counts,
      fc.nat({ max: 3000 }),
      fc.nat({ max: 40 }),
      fc.boolean(),
      (sizes, volumeBytes, backup, isOld) => {
        const segments = history(sizes);
        const backups = [range(1, backup)];
        const now = isOld ? 1e12 : 50_000;

        const { expired, isForced } = chooseExpired({ segments, openBytes: 0, volumeBytes, backups, policy, now });

        const kept = segments.filter((segment) => !expired.includes(segment));
        const bytes = kept.reduce((sum, segment) => sum + segment.bytes, 0);
        expect(bytes <= policy.archiveShare * volumeBytes || kept.length === 0).toBe(true);
        const set = parseGtidSet(backups[0]!);
        const isNeeded = (segment: LogSegment) => !isGtidSubset(parseGtidSet(segment.gtidSet), set);
        if (!isForced) expect(expired.some(isNeeded)).toBe(false);
      },
    ),
  );
});

test('the RPO is the age of the oldest acknowledged transaction that is in no archive', () => {
  const see = (state: typeof noRpo, now: number, acknowledged: number, archived: number) =>
    stepRpo(state, {
      now,
      acknowledged: range(1, acknowledged),
      missing: range(archived + 1, acknowledged),
      archivedUntil: null,
    });

  const one = see(noRpo, 1000, 10, 10);
  const two = see(one.state, 2000, 20, 10);
  const three = see(two.state, 5000, 30, 10);
  const four = see(three.state, 6000, 30, 25);
  const five = see(four.state, 7000, 30, 30);

  expect([one, two, three, four, five].map(({ rpoMs }) => rpoMs)).toEqual([0, 0, 3000, 1000, 0]);
});
