import { expect, test } from 'vitest';
import { findFilling, findTroubles, type MemberSigns } from '../../src/cluster/troubles.ts';

const healthy: MemberSigns = {
  isReplica: true,
  receiver: 'on',
  receiverError: '',
  applier: 'on',
  applierError: '',
  lagMs: 300,
  probeFailing: null,
};

const table: readonly [string, Partial<MemberSigns>, string[]][] = [
  ['a healthy replica', {}, []],
  ['an applier that stopped', { applier: 'off', applierError: 'Duplicate entry' }, ['ApplierError']],
  ['an applier that is stuck', { lagMs: 90_000 }, ['ApplierStuck']],
  ['a receiver that cannot connect', { receiver: 'connecting', receiverError: 'Access denied' }, ['ReceiverError']],
  ['an old error of a receiver that is on again', { receiverError: 'lost connection' }, []],
  ['too many connections', { probeFailing: { forMs: 9000, message: 'Too many connections' } }, ['NotAnswering']],
  ['a probe that has just begun to fail', { probeFailing: { forMs: 900, message: 'timeout' } }, []],
  ['a primary is not judged as a replica', { isReplica: false, applierError: 'old', lagMs: 90_000 }, []],
];

for (const [name, change, expected] of table) {
  test(`${name}: ${expected.join(', ') || 'no trouble'}`, () => {
    expect(findTroubles({ ...healthy, ...change }).map(({ code }) => code)).toEqual(expected);
  });
}

test('a volume that fills is told from 90 % on, and until it is below 87 %', () => {
  const tell = (usedMb: number, wasFilling: boolean) =>
    findFilling([{ name: 'data', totalMb: 1000, usedMb, wasFilling }]).map(({ code, volume }) => [code, volume]);

  expect(tell(899, false)).toEqual([]);
  expect(tell(900, false)).toEqual([['VolumeFilling', 'data']]);
  expect(tell(870, true)).toEqual([['VolumeFilling', 'data']]);
  expect(tell(869, true)).toEqual([]);
});
