import { expect, test } from 'vitest';
import { isAutomationOn, mayFailOver } from '../../src/controller/automation.ts';
import { isInPlace, proofOfEnd } from '../../src/controller/gather.ts';
import { compareWithPrimary } from '../../src/controller/joining.ts';
import { planChange, rehearse } from '../../src/controller/plan.ts';
import { aMember, aView, gtids } from './view.ts';

const dead = { kind: 'dead', proof: 'reaped', detail: 'SIGKILL' } as const;
const alive = { kind: 'alive', note: null } as const;

test('a failover is planned to the member that holds most, with every step', () => {
  const behind = aMember(1, { gtidExecuted: gtids(7) });

  const plan = planChange(aView([aMember(0), behind, aMember(2)]), dead, { kind: 'failover' });

  expect(plan.candidate).toBe(2);
  expect(plan.steps.map(({ name, member }) => `${name} ${member}`)).toEqual([
    'fence 0',
    'freeze 1',
    'freeze 2',
    'catch up 2',
    'commit null',
    'repoint 0',
    'repoint 1',
    'promote 2',
  ]);
});

test('a living primary is not failed over unless it is forced', () => {
  expect(planChange(aView(), alive, { kind: 'failover' }).refusal?.code).toBe('PRIMARY_HEALTHY');
  expect(planChange(aView(), alive, { kind: 'failover', force: true }).refusal).toBeNull();
});

test('with too few voters reached a failover is refused, and the rehearsal says so before', () => {
  const lost = aMember(2, {}, { isConnected: false });
  const view = aView([aMember(0), aMember(1), lost]);

  expect(planChange(view, dead, { kind: 'failover' }).refusal?.code).toBe('PROMOTION_UNSAFE');
  expect(rehearse(view)).toMatchObject({ candidate: null, refusal: { code: 'PROMOTION_UNSAFE' } });
  expect(rehearse(aView())).toMatchObject({ candidate: 1, refusal: null, couldLose: 0 });
});

test('with too few voters reached it says whether the logs of the dead primary could prove more', () => {
  const lost = aMember(2, {}, { isConnected: false });
  const outlook = (primary: ReturnType<typeof aMember>, other: ReturnType<typeof aMember>) =>
    rehearse(aView([primary, other, lost]))?.refusal;

  const whole = outlook(aMember(0), aMember(1));
  expect(whole?.facts).toMatchObject({ postMortem: { candidate: 1 } });
  expect(whole?.message).toContain(
    'its binary logs are read if mysqld alone has ended and its executor lives (member 0)',
  );
  expect(whole?.message).toContain('member 1 follows if it holds all that is in them, as it does by the last statuses');
  const behind = outlook(aMember(0), aMember(1, { gtidExecuted: gtids(7), gtidReceived: '' }));
  expect(behind?.facts).toMatchObject({ postMortem: { candidate: null } });
  expect(behind?.message).toContain('nobody who is reached holds all of that by the last statuses');
  const ended = outlook(aMember(0, { instance: 'held', gtidExecuted: '' }), aMember(1));
  expect(ended?.message).toContain('who holds all that is in them may follow');
  for (const closed of [
    outlook(aMember(0, {}, { isConnected: false }), aMember(1)),
    outlook(aMember(0, { incarnation: 'another' }), aMember(1)),
    outlook(aMember(0), aMember(1, {}, { isConnected: false })),
  ])
    expect(closed?.facts).not.toHaveProperty('postMortem');
});

test('a member that shall never be the primary is passed over, after somebody caught up from it', () => {
  const members = [aMember(0), aMember(1, { gtidExecuted: gtids(7) }), aMember(2)];

  const plan = planChange(aView(members, { preferences: { 2: 'never' } }), dead, { kind: 'failover' });

  expect(plan.candidate).toBe(1);
  expect(plan.steps).toContainEqual({ name: 'follow', member: 1, what: 'catch up from member 2, who holds most' });
});

test('a switchover looks before it touches anything', () => {
  const refusals = [
    [aMember(1, { lagMs: 60_000 }), '60 s behind'],
    [aMember(1, { gtidPurged: gtids(11) }), 'logs that member 0 needs'],
    [aMember(1, { incarnation: 'another' }), 'no voter'],
    [aMember(1, { replication: null }), 'applier does not run'],
    [aMember(1, {}, { isConnected: false }), 'not reached'],
  ] as const;

  for (const [member, why] of refusals) {
    const plan = planChange(aView([aMember(0), member, aMember(2)]), alive, { kind: 'switchover', candidate: 1 });
    expect(plan.refusal?.code, why).toBe('CANDIDATE_NOT_READY');
    expect(plan.refusal?.message).toContain(why);
  }
  expect(planChange(aView(), alive, { kind: 'switchover' }).candidate).toBe(1);
  expect(planChange(aView(undefined, { preferences: { 2: 'prefer' } }), alive, { kind: 'switchover' }).candidate).toBe(
    2,
  );
});

test('a switchover waits for who has written for longer than the pause, unless it is forced', () => {
  const longestTransaction = { session: 42, user: 'team', startedMsAgo: 9000 };
  const view = aView([aMember(0, { longestTransaction }), aMember(1), aMember(2)]);

  const plan = planChange(view, alive, { kind: 'switchover' });
  const longer = planChange(view, alive, { kind: 'switchover', maxPauseMs: 20_000 });
  const forced = planChange(view, alive, { kind: 'switchover', force: true });

  expect(plan.refusal).toMatchObject({ code: 'LONG_TRANSACTION', facts: { session: 42, user: 'team', forMs: 9000 } });
  expect(longer).toMatchObject({ refusal: null, warnings: [] });
  expect(forced).toMatchObject({ refusal: null, warnings: [expect.stringContaining('session 42')] });
});

test('a new primary needs as many acknowledgers as its commits wait for', () => {
  const rule = {
    epoch: 1,
    version: 1,
    primary: 0,
    k: 2,
    voters: [0, 1, 2].map((ordinal) => ({ ordinal, incarnation: `incarnation-${ordinal}` })),
  };
  const members = [aMember(0), aMember(1), aMember(2, {}, { isConnected: false })];

  const plan = planChange(aView(members, { rule }), alive, { kind: 'switchover', candidate: 1 });

  expect(plan.refusal?.message).toContain('only 1 of the other voters are reached, and its commits wait for 2');
});

test('automation is on, off, or on again from a time; a cooldown keeps the next failover off', () => {
  const { cluster } = aView();

  expect(isAutomationOn({ ...cluster, automation: 'off' }, 10)).toBe(false);
  expect(isAutomationOn({ ...cluster, automation: 'off', automationUntil: 5 }, 10)).toBe(true);
  expect(mayFailOver({ ...cluster, cooldownUntil: 11 }, 10)).toBe(false);
  expect(mayFailOver({ ...cluster, cooldownUntil: 10 }, 10)).toBe(true);
});

test('who compares with the primary is a subset, errant, or needs what was purged', () => {
  const primary = { gtidExecuted: gtids(10), gtidPurged: gtids(4), serverUuid: '00000009-0000-4000-8000-000000000000' };

  expect(compareWithPrimary({ gtidExecuted: gtids(8), gtidReceived: gtids(10) }, primary).kind).toBe('subset');
  expect(compareWithPrimary({ gtidExecuted: gtids(11), gtidReceived: '' }, primary)).toEqual({
    kind: 'errant',
    gtids: `${gtids(11).replace('1-11', '11')}`,
  });
  expect(compareWithPrimary({ gtidExecuted: gtids(2), gtidReceived: '' }, primary).kind).toBe('purged');
});

test('a lost connection is no proof of an end; a held instance and an ended container are', () => {
  const ended = aMember(0).launch!;

  expect(proofOfEnd(aMember(0, { instance: 'held' }, { isConnected: false }))).toBeNull();
  expect(proofOfEnd(aMember(0, { instance: 'held' }))?.layer).toBe('executor');
  expect(proofOfEnd(aMember(0, {}, { launch: { ...ended, endedAt: 5 } }))?.layer).toBe('mesos');
});

test('a replica is in its place while it follows the primary of this epoch', () => {
  const view = aView();
  const strayed = aMember(1, { replication: { ...view.members[1]!.status!.replication!, sourceHost: '10.0.0.99' } });

  expect(view.members.map((member) => isInPlace(view, member))).toEqual([true, true, true]);
  expect(isInPlace(view, strayed)).toBe(false);
  expect(isInPlace(view, aMember(0, { epoch: 0 }))).toBe(false);
});
