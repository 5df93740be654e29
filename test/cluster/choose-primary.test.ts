import { describe, expect, test } from 'vitest';
import type { ChooseInput } from '../../src/cluster/choose-primary.ts';
import { choosePrimary } from '../../src/cluster/choose-primary.ts';
import { errors } from '../../src/errors.ts';
import { gtids, gtidsOf, member, rule } from './rules.ts';

const choose = (change: Partial<ChooseInput>) =>
  choosePrimary({
    rule: rule(3, 1),
    reached: [member(1, 5), member(2, 5)],
    lastKnownPrimaryGtid: gtids(4),
    isLastKnownFinal: false,
    preferences: [],
    ...change,
  });
const ordinal = (choice: ReturnType<typeof choose>) => (choice.kind === 'chosen' ? choice.ordinal : choice.code);
const stopped = (number: number, count: number) => ({ ...member(number, count), isApplierRunning: false });

describe('chosen', () => {
  test('the voter that holds all the others hold, and it has to apply all that it received', () => {
    const choice = choose({ reached: [member(1, 4), member(2, 6)] });

    expect(choice).toEqual({ kind: 'chosen', ordinal: 2, catchUpTo: gtids(6), warnings: [] });
  });

  test('sets come before preferences, preferences before ordinals', () => {
    expect(ordinal(choose({ reached: [member(1, 4), member(2, 6)], preferences: [1] }))).toBe(2);
    expect(ordinal(choose({ preferences: [2] }))).toBe(2);
    expect(ordinal(choose({}))).toBe(1);
  });

  test('the requested candidate when it is as far as the best', () => {
    expect(ordinal(choose({ candidate: 2 }))).toBe(2);
  });

  test('a voter whose applier runs is taken before an equal one whose applier stands', () => {
    expect(ordinal(choose({ reached: [stopped(1, 5), member(2, 5)] }))).toBe(2);
  });

  test('with the demoted primary reached one complete replica is enough', () => {
    expect(ordinal(choose({ reached: [member(0, 5), member(2, 5)] }))).toBe(2);
  });

  test('too few acknowledgers left: chosen, and said before writes block', () => {
    const choice = choose({ rule: rule(2, 1), reached: [member(1, 5)] });

    expect(choice).toMatchObject({ kind: 'chosen', ordinal: 1, warnings: [{ kind: 'WritesBlocked' }] });
  });

  test('a demoted primary counts as one who can acknowledge', () => {
    const choice = choose({ rule: rule(2, 1), reached: [member(0, 5), member(1, 5)] });

    expect(choice).toMatchObject({ kind: 'chosen', ordinal: 1, warnings: [] });
  });
});

describe('refused', () => {
  test('too few voters reached', () => {
    expect(ordinal(choose({ reached: [member(1, 5)] }))).toBe('PROMOTION_UNSAFE');
  });

  test('nobody has what the primary was seen to have', () => {
    expect(choose({ lastKnownPrimaryGtid: gtids(9) })).toMatchObject({
      code: 'PROMOTION_UNSAFE',
      facts: { missing: gtids(9).replace(':1-9', ':6-9') },
    });
  });

  test('sets that are not ordered', () => {
    const reached = [
      { ...member(1, 0), gtid: gtidsOf([1, 2, 3, 4, 5]) },
      { ...member(2, 0), gtid: gtidsOf([1, 2, 3, 4, 6]) },
    ];

    expect(choose({ reached })).toMatchObject({
      code: 'GTID_DIVERGED',
      facts: { lacks: { 1: gtidsOf([6]), 2: gtidsOf([5]) } },
    });
  });

  test('the requested candidate lacks something', () => {
    expect(choose({ reached: [member(1, 4), member(2, 6)], candidate: 1 })).toMatchObject({
      code: 'CANDIDATE_BEHIND',
      facts: { lacks: { 1: gtids(6).replace(':1-6', ':5-6') } },
    });
  });

  test('the old primary has more than any replica', () => {
    expect(ordinal(choose({ reached: [member(0, 6), member(1, 5)] }))).toBe('CANDIDATE_BEHIND');
  });

  test('the best voter does not apply and no other is as far', () => {
    expect(ordinal(choose({ reached: [member(1, 5), stopped(2, 6)] }))).toBe('NO_CANDIDATE');
    expect(ordinal(choose({ reached: [member(0, 5)] }))).toBe('NO_CANDIDATE');
  });

  test('a requested candidate that is the primary, not reached, or does not apply', () => {
    for (const candidate of [0, 2, 7])
      expect(ordinal(choose({ reached: [member(0, 5), member(1, 5), stopped(2, 5)], candidate }))).toBe(
        'CANDIDATE_UNFIT',
      );
  });

  test('without acknowledgements, unless the primary was demoted', () => {
    expect(ordinal(choose({ rule: rule(3, 0) }))).toBe('PROMOTION_UNSAFE');
    expect(ordinal(choose({ rule: rule(3, 0), lastKnownPrimaryGtid: gtids(5), isLastKnownFinal: true }))).toBe(1);
  });
});

describe('a loss that a person accepts', () => {
  const unsafe = { rule: rule(3, 0), lastKnownPrimaryGtid: gtids(7) };
  const statementOf = (choice: ReturnType<typeof choose>) =>
    choice.kind === 'refused' ? String(choice.facts['lossStatement']) : '';

  test('the refusal states what would be lost', () => {
    expect(statementOf(choose(unsafe))).toMatch(
      /^Promoting member 1 after epoch 3: 2 transactions .*:6-7; writes that/,
    );
  });

  test('quoting the statement goes on, with the loss as a warning', () => {
    const acceptedLoss = statementOf(choose(unsafe));

    expect(choose({ ...unsafe, acceptedLoss })).toMatchObject({
      kind: 'chosen',
      ordinal: 1,
      warnings: [{ kind: 'DataLossAccepted' }],
    });
  });

  test('a statement of other facts is refused', () => {
    const acceptedLoss = statementOf(choose(unsafe));

    expect(ordinal(choose({ ...unsafe, lastKnownPrimaryGtid: gtids(8), acceptedLoss }))).toBe('LOSS_CHANGED');
  });

  test('sets that are not ordered are not merged: the one that lacks least is taken, and the rest is told as lost', () => {
    const reached = [
      { ...member(1, 0), gtid: gtidsOf([1, 2]) },
      { ...member(2, 0), gtid: gtidsOf([1, 8, 9]) },
    ];
    const acceptedLoss = statementOf(choose({ ...unsafe, lastKnownPrimaryGtid: gtids(2), reached }));

    expect(acceptedLoss).toMatch(
      /^Promoting member 2 .*: 1 transactions that the primary was seen to have are lost: .*:2;/,
    );
    expect(ordinal(choose({ ...unsafe, lastKnownPrimaryGtid: gtids(2), reached, acceptedLoss }))).toBe(2);
    const asked = { ...unsafe, lastKnownPrimaryGtid: gtids(2), reached, candidate: 1 };
    expect(statementOf(choose(asked))).toContain(
      'nothing that the primary was seen to have is lost; 2 more that member 2 has are lost',
    );
  });
});

describe('a loss when nobody counts', () => {
  const voters = [0, 1, 2].map((number) => ({ ordinal: number, incarnation: `i${number}`, bootId: 'before' }));
  const rebooted = (number: number, count: number) => ({ ...member(number, count), bootId: 'after' });
  const lost = {
    rule: { ...rule(3, 1), voters },
    reached: [rebooted(1, 5), rebooted(2, 6)],
    lastKnownPrimaryGtid: gtids(8),
  };
  const refusal = (change: Partial<ChooseInput>) => {
    const choice = choose({ ...lost, ...change });
    if (choice.kind !== 'refused') throw new Error('it was chosen');
    return choice;
  };
  const statementOf = (change: Partial<ChooseInput>) => String(refusal(change).facts['lossStatement']);

  test('all hosts were restarted: who lacks least may be promoted, and the statement says what is not known', () => {
    const acceptedLoss = statementOf({});

    expect(acceptedLoss).toBe(
      `Promoting member 2 after epoch 3: 2 transactions that the primary was seen to have are lost: ${gtidsOf([7, 8]).replace('7:8', '7-8')}; ` +
        'member 2 may lack what it once had: its host was restarted since it became a voter; ' +
        'writes that member 0 acknowledged and no reached member has are lost as well.',
    );
    expect(choose({ ...lost, acceptedLoss })).toMatchObject({ kind: 'chosen', ordinal: 2, catchUpTo: gtids(6) });
  });

  test('whoever is asked for, filled anew or never a voter, with the reason why it does not count', () => {
    const reached = [{ ...rebooted(1, 5), incarnation: 'new' }, rebooted(3, 4)];

    expect(statementOf({ reached })).toContain('member 1 may lack what it once had: it was filled anew');
    expect(statementOf({ reached, candidate: 3 })).toContain('member 3 may lack what it once had: it was no voter');
    expect(statementOf({ reached })).toContain('what member 2 has is not known');
    expect(
      ordinal(choose({ ...lost, reached, candidate: 3, acceptedLoss: statementOf({ reached, candidate: 3 }) })),
    ).toBe(3);
    expect(refusal({ reached, candidate: 2 }).code).toBe('CANDIDATE_UNFIT');
    expect(refusal({ reached, candidate: 0 }).code).toBe('CANDIDATE_UNFIT');
  });

  test('the statement does not hang on the order in which members answer or became voters', () => {
    const five = { rule: { ...rule(5, 2), voters: [...rule(5, 2).voters].reverse() }, lastKnownPrimaryGtid: '' };
    const reached = [member(2, 0), member(1, 3)];

    expect(statementOf({ ...five, reached })).toBe(statementOf({ ...five, reached: [...reached].reverse() }));
    expect(statementOf({ ...five, reached })).toContain('what member 3, 4 has is not known');
  });

  test('nobody who applies, nobody to promote: no statement', () => {
    expect(statementOf({ reached: [{ ...rebooted(1, 5), isApplierRunning: false }] })).toBe('undefined');
    expect(statementOf({ reached: [] })).toBe('undefined');
  });

  test('another set by then is another loss', () => {
    const acceptedLoss = statementOf({});

    expect(refusal({ acceptedLoss, reached: [rebooted(2, 6)] }).code).toBe('LOSS_CHANGED');
  });
});

describe('the final set of the old primary, from its binary logs', () => {
  const final = { isLastKnownFinal: true, lastKnownPrimaryGtid: gtids(5) };

  test('one survivor that holds all of it is enough, whatever it forgot before', () => {
    const voters = [0, 1, 2].map((number) => ({ ordinal: number, incarnation: `i${number}`, bootId: 'before' }));

    expect(ordinal(choose({ ...final, reached: [member(2, 5)] }))).toBe(2);
    expect(
      ordinal(choose({ ...final, rule: { ...rule(3, 1), voters }, reached: [{ ...member(2, 5), bootId: 'after' }] })),
    ).toBe(2);
    expect(ordinal(choose({ ...final, rule: rule(3, 0), reached: [member(1, 4), member(2, 5)] }))).toBe(2);
  });

  test('who has a heartbeat more is taken: it could not follow who lacks it', () => {
    const after = { bootId: 'after' };
    const more = { ...member(2, 5), ...after, gtid: `${gtids(5)}:selvedge:1-7` };
    const less = { ...member(1, 5), ...after, gtid: `${gtids(5)}:selvedge:1-6` };
    const voters = [0, 1, 2].map((number) => ({ ordinal: number, incarnation: `i${number}`, bootId: 'before' }));
    const facts = { ...final, rule: { ...rule(3, 1), voters }, preferences: [1] };

    expect(ordinal(choose({ ...facts, reached: [less, more] }))).toBe(2);
    expect(choose({ ...facts, candidate: 1, reached: [less, more] })).toMatchObject({
      code: 'CANDIDATE_BEHIND',
      message: 'Member 1 lacks transactions that member 2 has',
    });
    expect(ordinal(choose({ ...facts, reached: [less, { ...more, isApplierRunning: false }] }))).toBe(1);
  });

  test('a survivor that lacks something of it is refused, and the loss is exactly that', () => {
    const choice = choose({ ...final, reached: [member(2, 4)] });

    expect(choice).toMatchObject({ code: 'PROMOTION_UNSAFE', facts: { isFinal: true, missing: gtidsOf([5]) } });
    expect(choice).toMatchObject({
      message: 'No reached member has 1 transactions that the binary logs of member 0 hold',
      facts: { lossStatement: expect.stringMatching(/: 1 transactions .* are lost: .*:5; .*nothing else is lost$/) },
    });
  });

  test('a member that is no voter may follow too, one with more than the primary ever had may not', () => {
    const stranger = { ...member(7, 0), gtid: gtidsOf([1, 2, 3, 4, 5, 9]) };

    expect(ordinal(choose({ ...final, reached: [member(7, 5)] }))).toBe(7);
    expect(choose({ ...final, reached: [member(2, 4), stranger] })).toMatchObject({
      code: 'PROMOTION_UNSAFE',
      facts: { missing: gtidsOf([5]) },
    });
  });
});

test('every code of a refusal is in the catalogue of errors', () => {
  const codes = [
    'PROMOTION_UNSAFE',
    'NO_CANDIDATE',
    'CANDIDATE_UNFIT',
    'CANDIDATE_BEHIND',
    'GTID_DIVERGED',
    'LOSS_CHANGED',
  ];

  expect(Object.keys(errors)).toEqual(expect.arrayContaining(codes));
});
