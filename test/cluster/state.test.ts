import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { MemberFacts, StateFacts } from '../../src/cluster/state.ts';
import { conditionTypes, deriveState } from '../../src/cluster/state.ts';
import { rule } from './rules.ts';
import { sampleSpec } from './samples.ts';

const member = (ordinal: number, change: Partial<MemberFacts> = {}): MemberFacts => ({
  ordinal,
  role: ordinal === 0 ? 'primary' : 'replica',
  isLive: true,
  isServing: true,
  isInitialised: true,
  waitingForResources: null,
  refusal: null,
  troubles: [],
  ...change,
});
const healthy: StateFacts = {
  spec: sampleSpec(),
  desired: 'present',
  deletedAt: null,
  epoch: 1,
  primary: 0,
  isActivated: true,
  isPrimaryWritable: true,
  isPrimaryCommitting: true,
  rule: rule(3, 1),
  members: [member(0), member(1), member(2)],
  openFailover: null,
  failoverRefusal: null,
  commitWaits: null,
  rehearsalRefusal: null,
  suspicion: null,
  isAutomationOff: false,
  cooldownUntil: null,
  durabilityBroken: null,
  previous: [],
  now: 1000,
};
const without = (ordinal: number, change: Partial<MemberFacts> = {}) =>
  healthy.members.map((one) => (one.ordinal === ordinal ? { ...one, isServing: false, ...change } : one));
const derive = (change: Partial<StateFacts> = {}) => {
  const { state, conditions } = deriveState({ ...healthy, ...change });
  return [state, ...conditions.map((one) => `${one.type}/${one.reason}: ${one.message}`)];
};
const failover = { kind: 'failover', startedAt: 900 } as const;

test('what people should know before the next incident stands beside the state', () => {
  const conditions = derive({
    rehearsalRefusal: { code: 'PROMOTION_UNSAFE', message: '1 of 2 voters reached' },
    suspicion: 'its executor is silent',
    isAutomationOff: true,
    cooldownUntil: 61_000,
    durabilityBroken: '2 transactions were committed without acknowledgement',
  });

  expect(conditions).toEqual([
    'ready',
    'Ready/AllServe: All 3 members serve, member 0 takes writes',
    'DurabilityBroken/Audit: 2 transactions were committed without acknowledgement',
    'PrimarySuspected/NoProof: its executor is silent',
    'FailoverUnsafe/PROMOTION_UNSAFE: If the primary died now, nobody would follow: 1 of 2 voters reached',
    'AutomationOff/AskedFor: A dead primary is started again; no other one is chosen by itself',
    'FailoverCooldown/LatelyFailedOver: No automatic failover for 60 s, or until a person releases it',
  ]);
});

test('blocked writes say since when, and what would free them', () => {
  const blocked = (connectedVoters: number) =>
    derive({ isPrimaryCommitting: false, commitWaits: { forMs: 7000, connectedVoters } })[1];

  expect(blocked(0)).toContain('for 7 s now; 1 more of the voters must come back, or a person lowers the durability');
  expect(blocked(1)).toContain('for 7 s now; the voters are connected: look at their disks and errors');
});

test('blocked writes name the voters that are away, and what frees a primary that does not take writes', () => {
  const members = without(1);
  const blocked = (facts: Partial<StateFacts>) => derive({ members, ...facts })[1];

  expect(blocked({ isPrimaryCommitting: false, commitWaits: { forMs: 7000, connectedVoters: 0 } })).toContain(
    'must come back (not serving: 1), or a person lowers',
  );
  expect(blocked({ isPrimaryWritable: false })).toContain(
    'waits for 1 acknowledgements; voters that come back free it',
  );
  const gone = members.map((member) => ({ ...member, isLive: member.ordinal !== 0 }));
  expect(blocked({ isPrimaryWritable: false, members: gone })).toContain('it goes on when its host is back');
  const failoverRefusal = { code: 'PROMOTION_UNSAFE', message: 'too few' };
  expect(blocked({ isPrimaryWritable: false, members: gone, failoverRefusal })).toContain(
    'else nobody else may follow (PROMOTION_UNSAFE)',
  );
});

test('a primary that hangs is told with its proof, and what becomes of it', () => {
  const hang = 'its heartbeat commit hangs for 9000 ms, and not for an acknowledgement';
  const blocked = (facts: Partial<StateFacts>) => derive({ isPrimaryCommitting: false, hang, ...facts })[1];

  expect(blocked({})).toBe(
    `WritesBlocked/PrimaryHangs: Member 0, the primary, hangs: ${hang}; another member takes over when it is safe`,
  );
  expect(blocked({ isAutomationOff: true })).toContain('automation is off: writes wait until a person asks');
  expect(blocked({ cooldownUntil: 61_000 })).toContain('a cooldown runs: writes wait for its end');
});

describe('each state with its conditions', () => {
  test.each<[string, Partial<StateFacts>, string[]]>([
    ['all serve', {}, ['ready', 'Ready/AllServe: All 3 members serve, member 0 takes writes']],
    ['nothing is left', { desired: 'deleted', deletedAt: 5, openFailover: failover }, ['deleted']],
    [
      'a person asked to delete',
      { desired: 'deleted', openFailover: failover, isPrimaryWritable: false },
      ['deleting', 'Deleting/AskedFor: 3 members are being released'],
    ],
    [
      'a person asked to delete it and to keep its volumes',
      {
        desired: 'retained',
        isPrimaryWritable: false,
        retained: { isDown: false, isWhole: true, message: 'writes are being ended' },
      },
      ['retaining', 'Retained/AskedFor: writes are being ended'],
    ],
    [
      'only its volumes are left',
      { desired: 'retained', retained: { isDown: true, isWhole: false, message: 'in no archive: a:5' } },
      ['retained', 'Retained/NotWhole: in no archive: a:5'],
    ],
    [
      'no primary yet, one member waits',
      {
        epoch: 0,
        primary: null,
        isActivated: false,
        isPrimaryWritable: false,
        rule: null,
        members: [member(0), member(1), ...without(2, { waitingForResources: '1 cpus wanted, 0.5 offered' }).slice(2)],
      },
      ['creating', 'WaitingForResources/NoOfferFits: member 2: 1 cpus wanted, 0.5 offered'],
    ],
    [
      'the first primary is being made',
      { isActivated: false, openFailover: { ...failover, kind: 'first' } },
      ['creating'],
    ],
    [
      'the last replica never had data',
      { members: without(2, { isInitialised: false }), rule: rule(2, 0) },
      ['creating'],
    ],
    [
      'a failover is open',
      { openFailover: failover },
      ['failing-over', 'FailingOver/Failover: The primary is being changed'],
    ],
    [
      'a switchover is open',
      { openFailover: { ...failover, kind: 'switchover' } },
      ['failing-over', 'FailingOver/Switchover: The primary is being changed'],
    ],
    [
      'the primary is down and the failover was refused',
      {
        isPrimaryWritable: false,
        members: without(0, { isLive: false }),
        failoverRefusal: { code: 'PROMOTION_UNSAFE', message: '1 of 2 reached' },
      },
      [
        'blocked',
        'WritesBlocked/PrimaryNotWritable: The primary, member 0, does not take writes: its task does not run; it goes on when its host is back, else nobody else may follow (PROMOTION_UNSAFE)',
        'FailoverRefused/PROMOTION_UNSAFE: 1 of 2 reached',
        'Degraded/FewerMembers: 2 of 3 members serve: not 0 (away)',
      ],
    ],
    [
      'commits wait for acknowledgements',
      { isPrimaryCommitting: false },
      ['blocked', 'WritesBlocked/CommitsWait: Commits on member 0 do not complete; each waits for 1 acknowledgements'],
    ],
    [
      'a later epoch was never activated',
      { epoch: 2, isActivated: false, isPrimaryWritable: false },
      [
        'blocked',
        'WritesBlocked/PrimaryNotWritable: The primary, member 0, does not take writes: it is not reached, starts, or waits for 1 acknowledgements; voters that come back free it, or a person who lowers the durability',
      ],
    ],
    [
      'a replica is refused',
      { members: without(1, { refusal: { code: 'VOLUME_NOT_OURS', message: 'The volume is empty' } }) },
      [
        'degraded',
        'Degraded/FewerMembers: 2 of 3 members serve: not 1 (joins)',
        'MemberRefused/VOLUME_NOT_OURS: member 1: The volume is empty (VOLUME_NOT_OURS)',
      ],
    ],
    [
      'k is lower than asked for',
      { rule: rule(3, 0) },
      [
        'ready',
        'Ready/AllServe: All 3 members serve, member 0 takes writes',
        'DurabilityReduced/TooFewVoters: Commits wait for 0 acknowledgements, 1 are asked for',
      ],
    ],
  ])('%s', (_what, change, expected) => {
    expect(derive(change)).toEqual(expected);
  });
});

test('a condition that lasts keeps its beginning, a new one begins now', () => {
  const degraded = { ...healthy, members: without(1) };
  const before = deriveState(degraded).conditions;

  const later = deriveState({ ...degraded, isPrimaryCommitting: false, previous: before, now: 2000 }).conditions;

  expect(later.map((one) => [one.type, one.since])).toEqual([
    ['WritesBlocked', 2000],
    ['Degraded', 1000],
  ]);
});

test('any facts give one state, no condition twice, and Ready exactly when it is ready', () => {
  const maybe = fc.boolean();
  const anyMember = fc.record({
    ordinal: fc.nat(4),
    role: fc.constantFrom('primary' as const, 'replica' as const, 'none' as const),
    isLive: maybe,
    isServing: maybe,
    isInitialised: maybe,
    waitingForResources: fc.option(fc.string()),
    refusal: fc.option(fc.record({ code: fc.string(), message: fc.string() })),
    troubles: fc.array(fc.record({ code: fc.constant('ApplierError' as const), message: fc.string() }), {
      maxLength: 2,
    }),
  });
  const anyFacts = fc.record({
    spec: fc.integer({ min: 1, max: 9 }).map((members) => sampleSpec({ members })),
    desired: fc.constantFrom('present' as const, 'deleted' as const),
    deletedAt: fc.option(fc.nat()),
    epoch: fc.nat(3),
    primary: fc.option(fc.nat(4)),
    isActivated: maybe,
    isPrimaryWritable: maybe,
    isPrimaryCommitting: maybe,
    rule: fc.option(fc.constant(rule(3, 1))),
    members: fc.array(anyMember, { maxLength: 5 }),
    openFailover: fc.option(
      fc.record({
        kind: fc.constantFrom('first' as const, 'failover' as const, 'switchover' as const),
        startedAt: fc.nat(),
      }),
    ),
    failoverRefusal: fc.option(fc.record({ code: fc.string(), message: fc.string() })),
    commitWaits: fc.option(fc.record({ forMs: fc.nat(), connectedVoters: fc.nat(4) })),
    rehearsalRefusal: fc.option(fc.record({ code: fc.string(), message: fc.string() })),
    suspicion: fc.option(fc.string()),
    isAutomationOff: maybe,
    cooldownUntil: fc.option(fc.nat()),
    durabilityBroken: fc.option(fc.string()),
    previous: fc.constant([]),
    now: fc.nat(),
  });
  const states = ['creating', 'ready', 'degraded', 'failing-over', 'blocked', 'deleting', 'deleted'];

  fc.assert(
    fc.property(anyFacts, (facts) => {
      const { state, conditions } = deriveState(facts);
      const types = conditions.map((one) => one.type);

      expect(states).toContain(state);
      expect(new Set(types).size).toBe(types.length);
      expect(types.filter((type) => !(conditionTypes as readonly string[]).includes(type))).toEqual([]);
      expect(types.includes('Ready')).toBe(state === 'ready');
    }),
    { numRuns: 500 },
  );
});
