import { expect, test } from 'vitest';
import { findHeir, type Heir, isNever, preferred } from '../../src/cluster/preferences.ts';

const uuid = '11111111-1111-1111-1111-111111111111';
const heir = (ordinal: number, until: number, change: Partial<Heir> = {}): Heir => ({
  ordinal,
  gtid: `${uuid}:1-${until}`,
  isApplierRunning: true,
  ...change,
});

test('preferred members come lowest first, never ones are told apart', () => {
  const preferences = { 2: 'prefer', 0: 'prefer', 1: 'never' } as const;

  expect(preferred(preferences)).toEqual([0, 2]);
  expect([0, 1, 2, 3].map((ordinal) => isNever(preferences, ordinal))).toEqual([false, true, false, false]);
});

test('the heir of a member that shall never be the primary lacks least', () => {
  const best = heir(1, 10);

  expect(findHeir([heir(0, 7), best, heir(2, 9)], best, { 1: 'never' })).toBe(2);
  expect(findHeir([heir(0, 7), best, heir(2, 9)], best, { 1: 'never', 0: 'prefer' })).toBe(0);
});

test('nobody inherits whose applier stands, who holds errant transactions, or who may never either', () => {
  const best = heir(1, 10);
  const errant = heir(3, 10, { gtid: `${uuid}:1-11` });

  expect(
    findHeir([best, heir(0, 9, { isApplierRunning: false }), errant, heir(2, 9)], best, { 1: 'never', 2: 'never' }),
  ).toBeNull();
});
