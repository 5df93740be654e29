/** The judges of the fire find what they are there for. */
import { describe, expect, test } from 'vitest';
import { findAnomaly, type RegisterOperation } from '../simulation/register.ts';
import { findEpochFaults, type Holding } from './epochs.ts';

const read = (from: number, to: number, value: string): RegisterOperation => ({ kind: 'read', from, to, value });
const set = (from: number, to: number, expected: string, value: string): RegisterOperation => ({
  kind: 'set',
  from,
  to,
  expected,
  value,
});
const maybe = (from: number, expected: string, value: string): RegisterOperation => ({
  kind: 'maybe',
  from,
  expected,
  value,
});

describe('the register', () => {
  test('what happened at once may have happened in either order', () => {
    expect(findAnomaly([set(0, 10, '', 'a'), read(5, 6, ''), read(5, 6, 'a'), read(11, 12, 'a')])).toBeNull();
  });

  test('a read of the past after a newer write was acknowledged', () => {
    expect(findAnomaly([set(0, 1, '', 'a'), set(2, 3, 'a', 'b'), read(4, 5, 'a')])).toMatch(/read of 'a'.*after/);
  });

  test('a read that goes back behind another read', () => {
    expect(findAnomaly([set(0, 9, '', 'a'), read(1, 2, 'a'), read(3, 4, '')])).toMatch(/after read of 'a'/);
  });

  test('an acknowledged write that another one replaced unseen', () => {
    expect(findAnomaly([set(0, 1, '', 'a'), set(2, 3, '', 'b')])).toMatch(/one write was lost/);
  });

  test('a value that nobody wrote', () => {
    expect(findAnomaly([read(0, 1, 'z')])).toMatch(/never written/);
  });

  test('a write of unknown outcome may be seen at any time later, or never', () => {
    const history = [maybe(0, '', 'a'), read(5, 6, ''), read(8, 9, 'a'), set(10, 11, 'a', 'c')];
    expect(findAnomaly(history)).toBeNull();
    expect(findAnomaly([maybe(0, '', 'a'), set(5, 6, '', 'b'), read(7, 8, 'b')])).toBeNull();
  });

  test('a write of unknown outcome does not vanish again once it was seen', () => {
    expect(findAnomaly([maybe(0, '', 'a'), read(5, 6, 'a'), read(7, 8, '')])).not.toBeNull();
  });
});

describe('the epochs', () => {
  const run = (serverUuid: string, tag = 'selvedge') => ({ serverUuid, tag, transactions: 3 });
  const epochs = [
    { epoch: 1, member: 0, serverUuid: 'a' },
    { epoch: 2, member: 1, serverUuid: 'b' },
    { epoch: 3, member: 0, serverUuid: 'c' },
  ];
  const whole: Holding = { ordinal: 0, epochs, runs: [run('a'), run('b'), run('c')] };

  test('one run for each epoch; a member that was filled anew has the end of them', () => {
    expect(findEpochFaults([whole, { ordinal: 1, epochs, runs: [run('b', ''), run('c')] }], [])).toEqual([]);
  });

  test('logs that begin in the middle of the first epoch have no row of it', () => {
    const late: Holding = { ordinal: 1, epochs, runs: [run('a', ''), run('b'), run('c')] };
    expect(findEpochFaults([whole, { ...late, beginsLate: true }], [])).toEqual([]);
    expect(findEpochFaults([whole, late], []).join()).toMatch(/a began without its epoch row/);
  });

  test('a primary of the past that wrote on', () => {
    const faults = findEpochFaults([{ ...whole, runs: [run('a'), run('b'), run('a'), run('c')] }], []);
    expect(faults.join()).toMatch(/the binary logs of member 0/);
  });

  test('a primary whose first transaction is not its epoch row', () => {
    expect(findEpochFaults([{ ...whole, runs: [run('a'), run('b', ''), run('c')] }], []).join()).toMatch(
      /b began without its epoch row/,
    );
  });

  test('members that tell different stories', () => {
    expect(findEpochFaults([whole, { ...whole, ordinal: 1, epochs: epochs.slice(1) }], []).join()).toMatch(
      /member 1 has other epoch rows/,
    );
  });
});
