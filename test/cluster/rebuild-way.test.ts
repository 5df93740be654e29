import { expect, test } from 'vitest';
import { defaultRates, estimateWays, type RebuildFacts } from '../../src/cluster/rebuild-way.ts';

const uuid = '11111111-1111-1111-1111-111111111111';
const facts = (change: Partial<RebuildFacts> = {}): RebuildFacts => ({
  executed: `${uuid}:1-1000`,
  purged: '',
  dataBytes: 10e9,
  backups: [],
  donors: [2, 0],
  rates: defaultRates,
  ...change,
});
const backup = (id: string, last: number, bytes = 10e9) => ({ id, gtidSet: `${uuid}:1-${last}`, bytes });
const ways = (change: Partial<RebuildFacts>) => estimateWays(facts(change)).map(({ way }) => way);

test('without a backup: CLONE from the first donor', () => {
  expect(estimateWays(facts())).toEqual([{ way: 'clone:2', copyBytes: 10e9, toApply: 0, estimateMs: 106_000 }]);
});

test('the own backup costs no network and is sooner', () => {
  expect(estimateWays(facts({ backups: [backup('a', 400)] }))[0]).toEqual({
    way: 'backup:a',
    copyBytes: 10e9,
    toApply: 600,
    estimateMs: 54_400,
  });
});

test('a backup with much to apply after it loses against CLONE', () => {
  const executed = `${uuid}:1-10000000`;
  expect(ways({ executed, backups: [backup('old', 400)] })).toEqual(['clone:2', 'backup:old']);
});

test('of several backups the newest wins, unless it is much larger', () => {
  expect(ways({ backups: [backup('old', 100), backup('new', 900)] })[0]).toBe('backup:new');
  expect(ways({ backups: [backup('small', 100, 1e9), backup('large', 900)] })[0]).toBe('backup:small');
});

test('a backup with a transaction that the primary lacks does not serve', () => {
  expect(ways({ backups: [backup('errant', 1001)] })).toEqual(['clone:2']);
});

test('a backup whose logs the primary has purged does not serve', () => {
  expect(ways({ purged: `${uuid}:1-500`, backups: [backup('old', 400), backup('new', 600)] })).toEqual([
    'backup:new',
    'clone:2',
  ]);
});

test('nobody to clone from and no backup: no way', () => {
  expect(ways({ donors: [] })).toEqual([]);
});

test('measured rates decide', () => {
  const rates = { diskBytes: 20e6, networkBytes: 1e9, applied: 1500 };
  expect(ways({ rates, backups: [backup('a', 1000)] })).toEqual(['clone:2', 'backup:a']);
});
