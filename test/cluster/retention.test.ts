import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { chooseExpired, chooseForRoom, findLastGood, type KeptBackup } from '../../src/cluster/retention.ts';

const day = 86_400_000;
const now = 1000 * day;

function aBackup(id: string, daysAgo: number, rest: Partial<KeptBackup> = {}): KeptBackup {
  const base = { bytes: 100, verifiedAt: null, isBad: false, isInUse: false };
  return { id, endedAt: now - daysAgo * day, ...base, ...rest };
}

const backupsArbitrary = fc
  .array(
    fc.record({
      daysAgo: fc.integer({ min: 0, max: 40 }),
      bytes: fc.integer({ min: 1, max: 1000 }),
      isVerified: fc.boolean(),
      isBad: fc.boolean(),
      isInUse: fc.boolean(),
    }),
    { maxLength: 12 },
  )
  .map((list) =>
    list.map(({ daysAgo, isVerified, ...rest }, index) =>
      aBackup(`b${index}`, daysAgo, { ...rest, verifiedAt: isVerified ? now - daysAgo * day : null }),
    ),
  );
const keepArbitrary = fc.record({
  keepCount: fc.integer({ min: 1, max: 5 }),
  keepDays: fc.integer({ min: 0, max: 20 }),
});

describe('whatever there is and whatever the policy says', () => {
  test('the last good one and what is in use never go', () => {
    fc.assert(
      fc.property(backupsArbitrary, keepArbitrary, fc.nat(5000), (backups, keep, missing) => {
        const gone = [...chooseExpired(backups, keep, now), ...(chooseForRoom(backups, keep, missing) ?? [])];

        expect(gone).not.toContain(findLastGood(backups));
        for (const backup of backups.filter(({ isInUse }) => isInUse)) expect(gone).not.toContain(backup.id);
      }),
    );
  });

  test('a verified one is left as long as there is one', () => {
    fc.assert(
      fc.property(backupsArbitrary, keepArbitrary, fc.nat(5000), (backups, keep, missing) => {
        const isGood = (one: KeptBackup) => one.verifiedAt !== null && !one.isBad;
        const gone = new Set([...chooseExpired(backups, keep, now), ...(chooseForRoom(backups, keep, missing) ?? [])]);

        const left = backups.filter(({ id }) => !gone.has(id));

        expect(left.some(isGood)).toBe(backups.some(isGood));
      }),
    );
  });

  test('age leaves the newest good ones, as many as are kept', () => {
    fc.assert(
      fc.property(backupsArbitrary, keepArbitrary, (backups, keep) => {
        const gone = new Set(chooseExpired(backups, keep, now));
        const good = backups.filter(({ isBad }) => !isBad).sort((one, other) => other.endedAt - one.endedAt);

        const goneGood = good.filter(({ id }) => gone.has(id));

        expect(good.length - goneGood.length).toBeGreaterThanOrEqual(Math.min(keep.keepCount, good.length));
        const left = backups.filter(({ id }) => !gone.has(id));
        expect(chooseExpired(left, keep, now)).toEqual([]);
      }),
    );
  });

  test('what goes for room is enough, and without its last one it is not', () => {
    fc.assert(
      fc.property(backupsArbitrary, keepArbitrary, fc.integer({ min: 1, max: 5000 }), (backups, keep, missing) => {
        const gone = chooseForRoom(backups, keep, missing);
        if (gone === null) return;
        const sizes = gone.map((id) => backups.find((one) => one.id === id)!.bytes);
        const sum = sizes.reduce((total, bytes) => total + bytes, 0);

        expect(sum).toBeGreaterThanOrEqual(missing);
        expect(sum - sizes.at(-1)!).toBeLessThan(missing);
      }),
    );
  });
});

test('bad ones go first for room, then the oldest beyond the policy', () => {
  const backups = [
    aBackup('old', 5),
    aBackup('older', 6),
    aBackup('verified', 4, { verifiedAt: now }),
    aBackup('bad', 1, { isBad: true }),
  ];

  expect(chooseForRoom(backups, { keepCount: 1, keepDays: 7 }, 250)).toEqual(['bad', 'older', 'old']);
});

test('nothing goes when all of it would not be enough', () => {
  expect(chooseForRoom([aBackup('a', 3), aBackup('b', 2)], { keepCount: 1, keepDays: 7 }, 500)).toBeNull();
});

test('a bad one goes once a newer one was verified', () => {
  const bad = aBackup('bad', 2, { isBad: true });

  expect(chooseExpired([bad, aBackup('new', 1)], { keepCount: 2, keepDays: 7 }, now)).toEqual([]);
  expect(chooseExpired([bad, aBackup('new', 1, { verifiedAt: now })], { keepCount: 2, keepDays: 7 }, now)).toEqual([
    'bad',
  ]);
});

test('those beyond the count stay for their days', () => {
  const backups = [aBackup('a', 1), aBackup('b', 3), aBackup('c', 8)];

  expect(chooseExpired(backups, { keepCount: 1, keepDays: 7 }, now)).toEqual(['c']);
});
