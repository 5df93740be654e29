import { describe, expect, test } from 'vitest';
import type { VoterRule } from '../../src/cluster/types.ts';
import {
  acknowledgements,
  countedVoters,
  firstRule,
  isPromotionSafe,
  promotionNeeds,
  ruleAfterPromotion,
} from '../../src/cluster/voters.ts';
import { gtids, member, rule, voter } from './rules.ts';

const check = (
  stored: VoterRule,
  reached: Parameters<typeof isPromotionSafe>[1],
  lastKnown = '',
  isLastKnownFinal = false,
) => {
  const safety = isPromotionSafe(stored, reached, { lastKnownPrimaryGtid: lastKnown, isLastKnownFinal });
  return safety.safe ? safety.by : safety.facts['reason'];
};

test.each([
  [1, 'majority', 0],
  [1, 'one', 0],
  [2, 'async', 0],
  [2, 'majority', 1],
  [3, 'majority', 1],
  [4, 'majority', 2],
  [5, 'majority', 2],
  [7, 'majority', 3],
  [5, 'one', 1],
  [5, 'async', 0],
] as const)('%i members with %s wait for %i acknowledgements', (members, durability, k) => {
  expect(acknowledgements(members, durability)).toBe(k);
});

test.each([
  [3, 1, 2],
  [5, 2, 3],
  [4, 2, 2],
  [2, 1, 1],
  [5, 1, 4],
])('with %i voters and k = %i a promotion needs %i replicas', (members, k, count) => {
  expect(promotionNeeds(rule(members, k))).toMatchObject({ kind: 'voters', count });
});

describe('isPromotionSafe', () => {
  test('three voters, k = 1: both replicas are needed', () => {
    expect(check(rule(3, 1), [member(1, 5), member(2, 3)])).toBe('voters');
    expect(check(rule(3, 1), [member(1, 5)])).toBe('too-few-voters');
  });

  test('the old primary with its set satisfies it alone', () => {
    expect(check(rule(3, 1), [member(0, 7)])).toBe('primary');
    expect(check(rule(3, 0), [member(0, 7)])).toBe('primary');
  });

  test('without acknowledgements replicas are not enough, however many, unless the last set is final', () => {
    const reached = [member(1, 5), member(2, 5)];

    expect(check(rule(3, 0), reached, gtids(5))).toBe('no-acknowledgements');
    expect(check(rule(3, 0), reached, gtids(5), true)).toBe('final-set');
    expect(check(rule(3, 0), reached, gtids(6), true)).toBe('last-known-missing');
  });

  test('what the primary was seen to have must be covered although enough were reached', () => {
    expect(check(rule(3, 1), [member(1, 5), member(2, 3)], gtids(6))).toBe('last-known-missing');
  });

  test('what the primary held when it was chosen must be covered although nothing newer is known', () => {
    expect(check({ ...rule(3, 1), base: gtids(4) }, [member(1, 3), member(2, 3)])).toBe('last-known-missing');
    expect(check({ ...rule(3, 1), base: gtids(4) }, [member(1, 3), member(2, 4)])).toBe('voters');
    expect(check({ ...rule(3, 1), base: 'nonsense' }, [member(1, 3), member(2, 4)])).toBe('unreadable');
  });

  test('a member counts once, with its own incarnation, its memory and a readable set', () => {
    const good = member(1, 5);

    expect(check(rule(3, 1), [good, good])).toBe('too-few-voters');
    expect(check(rule(3, 1), [good, { ...member(2, 5), incarnation: 'other' }])).toBe('too-few-voters');
    expect(check(rule(3, 1), [good, { ...member(2, 5), hasLostMemory: true }])).toBe('too-few-voters');
    expect(check(rule(3, 1), [good, { ...member(2, 5), gtid: 'NULL' }])).toBe('too-few-voters');
    expect(check(rule(3, 1), [good, member(7, 5)])).toBe('too-few-voters');
    expect(check(rule(3, 1), [good, member(2, 5)], 'nonsense')).toBe('unreadable');
  });

  test('the refusal tells the numbers', () => {
    const safety = isPromotionSafe(rule(5, 2), [member(1, 5), member(4, 5)], {
      lastKnownPrimaryGtid: '',
      isLastKnownFinal: false,
    });

    expect(safety).toMatchObject({
      code: 'PROMOTION_UNSAFE',
      message: '2 of 4 replica voters reached, 3 needed to have every acknowledged transaction',
      facts: { needed: 3, reached: [1, 4], voters: [1, 2, 3, 4], k: 2 },
    });
  });
});

describe('rules', () => {
  test('the first rule waits for no more acknowledgements than there are replicas', () => {
    const primary = { ordinal: 2, incarnation: 'i2' };
    const input = { epoch: 1, primary, members: 3, durability: 'majority' as const };

    expect(firstRule({ ...input, replicas: [] })).toEqual({
      epoch: 1,
      version: 1,
      primary: 2,
      voters: [primary],
      k: 0,
    });
    expect(firstRule({ ...input, replicas: [{ ordinal: 0, incarnation: 'i0' }] }).k).toBe(1);
  });

  test('after a failover the old primary is no voter, after a switchover it stays one', () => {
    const promoted = (isPrimaryDemoted: boolean) => ruleAfterPromotion(rule(3, 1), { chosen: 2, isPrimaryDemoted });

    expect(promoted(false)).toMatchObject({ epoch: 4, version: 1, primary: 2, k: 1 });
    expect(promoted(false).voters.map((voter) => voter.ordinal)).toEqual([1, 2]);
    expect(promoted(true).voters.map((voter) => voter.ordinal)).toEqual([0, 1, 2]);
  });

  test('what the chosen member holds becomes the base', () => {
    const change = { chosen: 2, isPrimaryDemoted: false };
    const next = ruleAfterPromotion(rule(3, 1), { ...change, held: gtids(9) });

    expect(next.base).toBe(gtids(9));
    expect(ruleAfterPromotion({ ...next, voters: rule(3, 1).voters, primary: 0 }, change).base).toBe(gtids(9));
  });

  test('a voter without a boot id counts over a restart of its host, one with it does not', () => {
    const of = (bootId: string | undefined) => ({
      ...rule(3, 1),
      voters: rule(3, 1).voters.map((one) => ({ ...one, bootId })),
    });
    const reached = [1, 2].map((ordinal) => ({ ...member(ordinal, 5), bootId: 'later' }));

    expect(countedVoters(of('before'), reached)).toEqual([]);
    expect(countedVoters(of('later'), reached)).toHaveLength(2);
    expect(countedVoters(of(undefined), reached)).toHaveLength(2);
  });

  test('who is no voter cannot be the next primary', () => {
    const as = { ordinal: 3, incarnation: 'i3', bootId: 'now' };
    const other = ruleAfterPromotion(rule(3, 1), { chosen: 3, isPrimaryDemoted: false, as, kMax: 0 });
    expect(other).toMatchObject({ primary: 3, k: 0, voters: [voter(1), voter(2), as] });
    expect(() => ruleAfterPromotion(rule(3, 1), { chosen: 3, isPrimaryDemoted: true })).toThrow('no voter');
    expect(() => ruleAfterPromotion(rule(3, 1), { chosen: 0, isPrimaryDemoted: false })).toThrow('no voter');
  });
});
