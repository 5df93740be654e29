/** Gaps in archives that other archives fill: properties over random losses. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { findSpans, type LogSegment } from '../../src/cluster/archive.ts';
import { hasCommonGtids, parseGtidSet } from '../../src/cluster/gtid-set.ts';
import { chooseSegments, findOwnGap, findRefill, type RefillMember } from '../../src/cluster/refill.ts';

const issuer = '00000000-0000-4000-8000-00000000000a';
const uuidOf = (ordinal: number) => `00000000-0000-4000-8000-00000000000${ordinal}`;
const range = (first: number, last: number) => (last < first ? '' : `${issuer}:${first}-${last}`);

interface Log extends LogSegment {
  readonly sha256: string | null;
}

/** Logs of one member: each member closes its own at other places. The last one is open. */
function history(ordinal: number, counts: readonly number[]): Log[] {
  let done = 0;
  return counts.map((count, index) => {
    const first = done + 1;
    done += count;
    return {
      serverUuid: uuidOf(ordinal),
      name: `binlog.${String(index + 1).padStart(6, '0')}`,
      previousGtids: range(1, first - 1),
      gtidSet: range(first, done),
      ...{ firstAt: first * 1000, lastAt: done * 1000 },
      sha256: index === counts.length - 1 ? null : 'ab',
    };
  });
}

/** Always 24 transactions, and one more in the log that is open. */
const whole = 24;
const cuts = fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 8 }).map((sizes) => {
  const counts: number[] = [];
  for (const size of sizes) {
    const left = whole - counts.reduce((sum, each) => sum + each, 0);
    if (left > 0) counts.push(Math.min(size, left));
  }
  const left = whole - counts.reduce((sum, each) => sum + each, 0);
  return [...counts, ...(left > 0 ? [left] : []), 1];
});
const worlds = fc.tuple(
  fc.array(cuts, { minLength: 2, maxLength: 4 }),
  fc.array(fc.tuple(fc.nat({ max: 3 }), fc.nat({ max: 8 })), { maxLength: 10 }),
  fc.nat({ max: 10 }),
);
const acknowledged = range(1, whole + 1);
const keyOf = ({ serverUuid, name }: Log) => `${serverUuid}/${name}`;

const asMember = (logs: readonly Log[], ordinal: number, backup: number): RefillMember => ({
  ...{ ordinal, isPrimary: ordinal === 0, isReachable: true, mayFetch: true },
  spans: findSpans(logs),
  from: range(1, backup),
});

test('refills end, and after them nobody lacks what a closed log of another one held; nothing is fetched twice', () => {
  fc.assert(
    fc.property(worlds, ([counts, lost, backup]) => {
      const archives = counts.map((sizes, ordinal) =>
        history(ordinal, sizes).filter(
          ({ sha256 }, index) => sha256 === null || !lost.some(([who, nth]) => who === ordinal && nth === index),
        ),
      );
      const asked = new Set<string>();
      const members = () => archives.map((logs, ordinal) => asMember(logs, ordinal, backup));
      for (;;) {
        const refill = findRefill(members(), acknowledged, (who, donor) => !asked.has(`${who} ${donor}`));
        if (!refill) break;
        asked.add(`${refill.ordinal} ${refill.donor}`);
        const own = archives[refill.ordinal]!;
        const held = new Set(own.map(keyOf));
        const { segments } = chooseSegments(archives[refill.donor]!, {
          wanted: refill.gtidSet,
          isHeld: (segment) => held.has(keyOf(segment)),
        });
        for (const segment of segments) {
          expect(segment.sha256).not.toBeNull();
          expect(held.has(keyOf(segment))).toBe(false);
          held.add(keyOf(segment));
          own.push(segment);
        }
      }
      const closed = archives.flat().filter(({ sha256 }) => sha256 !== null);
      for (const member of members()) {
        const gap = parseGtidSet(findOwnGap(member, acknowledged));
        for (const { gtidSet } of closed) expect(hasCommonGtids(gap, parseGtidSet(gtidSet))).toBe(false);
      }
    }),
    { numRuns: 100 },
  );
});

test('what is chosen and what is left are together what was wanted', () => {
  const [, second, third] = history(1, [4, 4, 4, 4, 1]) as [Log, Log, Log];
  const offered = history(1, [4, 4, 4, 4, 1]);

  const all = chooseSegments(offered, { wanted: range(6, 10), isHeld: () => false });
  expect(all).toEqual({ segments: [second, third], left: '' });
  const some = chooseSegments(offered, { wanted: range(6, 17), isHeld: ({ name }) => name === third.name });
  expect(some.segments.map(({ name }) => name)).toEqual(['binlog.000002', 'binlog.000004']);
  // 9 to 12 is in the one that is here already, 17 in the one that is still open.
  expect(some.left).toBe(`${issuer}:9-12:17`);
});

test('a replica is asked rather than the primary, unless the primary has more', () => {
  const logs = history(0, [8, 8, 8, 1]);
  const lacking = logs.filter((_, index) => index !== 1);
  const ask = (primary: readonly Log[], replica: readonly Log[]) =>
    findRefill([asMember(primary, 0, 0), asMember(lacking, 1, 0), asMember(replica, 2, 0)], acknowledged);

  expect(ask(logs, logs)).toEqual({ ordinal: 1, donor: 2, gtidSet: range(9, 16) });
  expect(ask(logs, lacking)).toMatchObject({ ordinal: 1, donor: 0 });
  expect(ask(lacking, lacking)).toBeNull();
});

test('without a backup, without room, or away: nothing is fetched', () => {
  const logs = history(0, [8, 8, 8, 1]);
  const member = asMember(
    logs.filter((_, index) => index !== 1),
    1,
    0,
  );
  const ask = (change: Partial<RefillMember>, donor: Partial<RefillMember> = {}) =>
    findRefill(
      [
        { ...asMember(logs, 0, 0), ...donor },
        { ...member, ...change },
      ],
      acknowledged,
    );

  expect(ask({})).not.toBeNull();
  expect(ask({ from: null })).toBeNull();
  expect(ask({ from: range(1, 16) })).toBeNull();
  expect(ask({ mayFetch: false })).toBeNull();
  expect(ask({ isReachable: false })).toBeNull();
  expect(ask({}, { isReachable: false })).toBeNull();
});
