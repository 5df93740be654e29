import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ObservedVoters, VoterStep } from '../../src/cluster/voter-steps.ts';
import { nextVoterStep } from '../../src/cluster/voter-steps.ts';
import { rule, voter } from './rules.ts';
import { VoterWorld } from './voter-world.ts';

type Acknowledges = ObservedVoters['members'][number]['acknowledges'];

/** Members 1, 2, …: whether they acknowledge; all have caught up. */
const observe = (primaryK: number | null, ...acknowledges: Acknowledges[]): ObservedVoters => ({
  primaryK,
  members: acknowledges.map((one, index) => ({ ...voter(index + 1), acknowledges: one, isCaughtUp: true })),
});
const want = (k: number, ...ordinals: number[]) => ({ k, replicas: ordinals.map(voter) });
const shape = (step: VoterStep) => {
  if (step.kind === 'storeRule') return ['store', step.rule.k, ...step.rule.voters.map((one) => one.ordinal)];
  if (step.kind === 'setVoter') return [step.isVoter ? 'on' : 'off', step.ordinal];
  if (step.kind === 'setAcknowledgements') return ['k', step.k, step.thenRule?.k, step.thenRule?.voters.length];
  return ['none', ...step.waitingFor];
};

describe('nextVoterStep', () => {
  test('nothing to do', () => {
    expect(shape(nextVoterStep(rule(3, 1), want(1, 1, 2), observe(1, 'yes', 'yes')))).toEqual(['none']);
  });

  test('without a writable primary nothing moves', () => {
    expect(shape(nextVoterStep(rule(3, 1), want(0), observe(null, 'yes')))).toEqual(['none', 'a writable primary']);
  });

  test('a voter is stored before it acknowledges', () => {
    const one = rule(2, 1);

    expect(shape(nextVoterStep(one, want(1, 1, 2), observe(1, 'yes', 'no')))).toEqual(['store', 1, 0, 1, 2]);
    expect(shape(nextVoterStep(rule(3, 1), want(1, 1, 2), observe(1, 'yes', 'no')))).toEqual(['on', 2]);
  });

  test('a voter leaves only after its acknowledging ended and a barrier reached enough of the others', () => {
    const next = (two: Acknowledges) => shape(nextVoterStep(rule(3, 1), want(1, 1), observe(1, 'yes', two)));

    expect(next('yes')).toEqual(['off', 2]);
    expect(next('no')).toEqual(['k', 1, 1, 2]);
    expect(next('unknown')).toEqual(['none', 'proof that member 2 acknowledges no more, so that it can leave']);
  });

  test('a voter whose host restarted leaves when its new self acknowledges nothing', () => {
    const restarted = (two: Acknowledges): ObservedVoters => {
      const { members, primaryK } = observe(1, 'yes', two);
      return { primaryK, members: members.map((one) => ({ ...one, bootId: one.ordinal === 2 ? 'new' : 'old' })) };
    };
    const before = { ...rule(3, 1), voters: rule(3, 1).voters.map((one) => ({ ...one, bootId: 'old' })) };
    const next = (two: Acknowledges) => shape(nextVoterStep(before, want(1, 1), restarted(two)));

    expect(next('no')).toEqual(['k', 1, 1, 2]);
    expect(next('yes')).toEqual(['off', 2]);
    expect(next('unknown')[0]).toBe('none');
  });

  test('a voter whose host restarted, and that acknowledges again, takes its place behind a barrier', () => {
    const boots = (bootId: string) => (one: { readonly ordinal: number }) =>
      one.ordinal === 0 ? { ...voter(0) } : { ...voter(one.ordinal), bootId };
    const before = { ...rule(3, 1), voters: rule(3, 1).voters.map(boots('old')) };
    const wanted = { k: 1, replicas: [voter(1), voter(2)].map(boots('new')) };
    const next = (isCaughtUp: boolean, one: Acknowledges = 'yes') => {
      const { members, primaryK } = observe(1, one, one);
      const known = members.map((member) => ({ ...member, bootId: 'new', isCaughtUp }));
      return nextVoterStep(before, wanted, { primaryK, members: known });
    };

    const step = next(true);
    expect(step).toMatchObject({ kind: 'setAcknowledgements', k: 1, holder: 1 });
    const voters = step.kind === 'setAcknowledgements' ? step.thenRule?.voters : [];
    expect(voters?.map(({ bootId }) => bootId)).toEqual([undefined, 'new', 'old']);
    expect(next(false).kind).toBe('none');
    expect(next(true, 'unknown').kind).toBe('none');
  });

  test('a voter without whom too few acknowledge stays', () => {
    const step = nextVoterStep(rule(2, 1), want(1), observe(1, 'yes'));

    expect(step).toMatchObject({ kind: 'none' });
    expect(shape(step)[1]).toContain('1 acknowledging voters beside member 1 (are 0)');
  });

  test('k is raised in MySQL first, and lowered in the store first', () => {
    expect(shape(nextVoterStep(rule(3, 0), want(1, 1, 2), observe(0, 'yes', 'yes')))).toEqual(['k', 1, 1, 3]);
    expect(shape(nextVoterStep(rule(3, 1), want(0, 1, 2), observe(1, 'yes', 'yes')))).toEqual(['store', 0, 0, 1, 2]);
    expect(shape(nextVoterStep(rule(3, 0), want(0, 1, 2), observe(1, 'yes', 'yes')))).toEqual([
      'k',
      0,
      undefined,
      undefined,
    ]);
  });

  test('k is raised no further than voters acknowledge, and not lowered because they are missing', () => {
    expect(shape(nextVoterStep(rule(5, 0), want(2, 1, 2, 3, 4), observe(0, 'yes')))[1]).toBe(1);
    expect(nextVoterStep(rule(5, 2), want(2, 1, 2, 3, 4), observe(2)).kind).toBe('none');
  });

  test('a stranger that acknowledges becomes a voter before anything else', () => {
    expect(shape(nextVoterStep(rule(2, 1), want(1, 1), observe(1, 'yes', 'yes')))).toEqual(['store', 1, 0, 1, 2]);
  });

  describe('boot ids and flushing', () => {
    const boot = (ordinal: number, bootId = 'now') => ({ ...voter(ordinal), bootId });
    const sees = (flushes: boolean | undefined, change: object = {}): ObservedVoters => ({
      primaryK: 1,
      members: [
        { ...boot(1), acknowledges: 'yes', isCaughtUp: true, flushes },
        { ...boot(2), acknowledges: 'yes', isCaughtUp: true, flushes, ...change },
      ],
    });
    const of = (one: object, two: object) => ({
      ...rule(3, 1),
      voters: [boot(0), { ...voter(1), ...one }, { ...voter(2), ...two }],
    });
    const now = { bootId: 'now' };
    const next = (from: ReturnType<typeof of>, ackFlush: 'os' | 'disk', seen: ObservedVoters) =>
      nextVoterStep(from, { k: 1, replicas: [boot(1), boot(2)], ackFlush }, seen);
    const bootIds = (step: VoterStep) =>
      step.kind === 'storeRule' ? step.rule.voters.map(({ bootId }) => bootId) : step;

    test('a host that was restarted is another voter: it takes its place after a barrier of the others, or when it holds everything again', () => {
      const from = of(now, { bootId: 'before' });
      const away = { acknowledges: 'no', holdsAll: false } as const;

      expect(next(from, 'os', sees(false, away))).toMatchObject({ kind: 'setAcknowledgements', k: 1 });
      const { members, primaryK } = sees(false, { ...away, holdsAll: true });
      const stands = { primaryK, members: members.map((one) => ({ ...one, isCaughtUp: one.ordinal === 2 })) };
      expect(next(from, 'os', stands), 'a barrier would wait for ever').toMatchObject({ holder: 2 });
      const alone = (change: object): ObservedVoters => ({
        primaryK: 1,
        members: sees(false, change).members.map((one) =>
          one.ordinal === 1 ? { ...one, acknowledges: 'unknown' } : one,
        ),
      });
      expect(shape(next(from, 'os', alone(away)))).toContain('member 2 to hold everything again');
      const step = next(from, 'os', alone({ ...away, holdsAll: true }));
      expect(bootIds(step)).toEqual(['now', 'now', 'now']);
      expect(step).toMatchObject({ holder: 2 });
      const again = next(from, 'os', alone({ holdsAll: true }));
      expect(again).toMatchObject({ kind: 'setAcknowledgements', k: 1, holder: 2 });
    });

    test('os to disk: flushed first, counted after it said so; one that cannot say so keeps its boot id', () => {
      expect(next(of(now, now), 'disk', sees(false))).toMatchObject({
        kind: 'setVoter',
        ordinal: 1,
        isVoter: true,
        ackFlush: 'disk',
      });
      expect(bootIds(next(of(now, now), 'disk', sees(true)))).toEqual(['now', undefined, 'now']);
      expect(bootIds(next(of({}, now), 'disk', sees(true)))).toEqual(['now', undefined, undefined]);
      expect(shape(next(of({}, {}), 'disk', sees(true)))).toEqual(['none']);
      expect(shape(next(of(now, now), 'disk', sees(undefined)))).toEqual([
        'none',
        'word of member 1 that it flushes',
        'word of member 2 that it flushes',
      ]);
    });

    test('disk to os: the boot id is stored first, then flushing ends', () => {
      expect(bootIds(next(of({}, now), 'os', sees(true)))).toEqual(['now', 'now', 'now']);
      expect(next(of(now, now), 'os', sees(true))).toMatchObject({ kind: 'setVoter', ordinal: 1, ackFlush: 'os' });
      expect(shape(next(of(now, now), 'os', sees(false)))).toEqual(['none']);
    });

    test('a voter that flushes stays one over a restart of its host, and is told to flush before it acknowledges', () => {
      const wanted = { k: 1, replicas: [boot(1), boot(2, 'later')], ackFlush: 'disk' as const };
      const step = nextVoterStep(of({}, {}), wanted, sees(true, { bootId: 'later', acknowledges: 'no' }));

      expect(step).toMatchObject({ kind: 'setVoter', ordinal: 2, isVoter: true, ackFlush: 'disk' });
    });

    test('one that the rule counts on and that does not flush makes the rule say so first', () => {
      expect(bootIds(next(of({}, now), 'disk', sees(false)))).toEqual(['now', 'now', 'now']);
    });
  });

  test('a primary that waits for less than the rule says makes the rule say less', () => {
    expect(shape(nextVoterStep(rule(3, 1), want(1, 1, 2), observe(0, 'yes', 'yes')))).toEqual(['store', 0, 0, 1, 2]);
  });
});

describe('in a small world', () => {
  const action = fc.oneof(
    fc.record({ kind: fc.constant('step' as const), a: fc.nat(0x7fff), b: fc.nat(3) }),
    fc.record({
      kind: fc.constantFrom('commit' as const, 'deliver' as const, 'deliver' as const, 'want' as const),
      a: fc.nat(31),
      b: fc.nat(4),
    }),
    fc.record({ kind: fc.constantFrom('restart' as const, 'rebuild' as const), a: fc.nat(31), b: fc.nat(4) }),
    fc.record({
      kind: fc.constantFrom('reboot' as const, 'flush' as const, 'tell' as const),
      a: fc.nat(31),
      b: fc.nat(4),
    }),
    fc.record({ kind: fc.constantFrom('failover' as const, 'switchover' as const), a: fc.nat(31), b: fc.nat(4) }),
    fc.record({ kind: fc.constant('settle' as const), a: fc.constant(0), b: fc.constant(0) }),
  );

  function act(world: VoterWorld, { kind, a, b }: { kind: string; a: number; b: number }): void {
    const ordinal = a % world.members.length;
    if (kind === 'step') world.step(a & (a >> 3), b === 0);
    if (kind === 'commit') world.commit();
    if (kind === 'deliver') world.deliver(ordinal, b + 1);
    if (kind === 'want') world.want(a, b % world.members.length, world.wanted.ackFlush);
    if (kind === 'flush') world.want(31, b % world.members.length, a & 1 ? 'disk' : 'os');
    if (kind === 'restart') world.restart(ordinal);
    if (kind === 'reboot') world.reboot(ordinal);
    if (kind === 'tell') world.tell(ordinal);
    if (kind === 'rebuild') world.rebuild(ordinal);
    if (kind === 'failover') world.failover(a);
    if (kind === 'switchover') world.switchover(ordinal);
    if (kind === 'settle') for (let count = 0; count < 30 && world.step(0, false) !== 'none'; count++);
  }

  test('guarantee 1: a promotion called safe has every acknowledged transaction, whatever happened before', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 5 }), fc.array(action, { maxLength: 60 }), (count, actions) => {
        const world = new VoterWorld(count);
        world.want(31, Math.floor(count / 2));
        for (const one of actions) {
          act(world, one);
          expect(world.findLoss()).toBeNull();
        }

        // Not by refusing everything: once all are well again, the next primary is there to be had.
        world.want(31, Math.floor(count / 2));
        for (const ordinal of world.replicas()) world.deliver(ordinal, world.log.length);
        act(world, { kind: 'settle', a: 0, b: 0 });
        const before = world.promotions;
        world.failover(31);
        expect(world.promotions).toBe(before + 1);
      }),
      { numRuns: 200 },
    );
  });

  test('with ackFlush disk a restart of every host, all at once, leaves all that a promotion needs', () => {
    fc.assert(
      fc.property(fc.integer({ min: 3, max: 5 }), fc.array(action, { maxLength: 30 }), (count, actions) => {
        const world = new VoterWorld(count);
        for (const one of actions) act(world, one);
        const k = Math.floor(count / 2);
        world.want(31, k, 'disk');
        for (const ordinal of world.replicas()) world.deliver(ordinal, world.log.length);
        for (let steps = 0; steps < 80 && world.step(0, false) !== 'none'; steps++);
        world.commit();
        for (const ordinal of world.replicas().slice(0, k)) world.deliver(ordinal, 99);
        for (const ordinal of world.replicas()) world.reboot(ordinal);

        expect(world.isSafeWithAll()).toBe(true);
        expect(world.findLoss()).toBeNull();
      }),
    );
  });

  test('left alone, steps end with all wanted voters acknowledging and k as wanted', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 5 }), fc.nat(31), (count, bits) => {
        const world = new VoterWorld(count);
        for (const wanted of [31, bits, 31]) {
          world.want(wanted, 0);
          const ackFlush = wanted === bits ? 'disk' : 'os';
          world.want(wanted, Math.min(Math.floor(count / 2), world.wanted.replicas.length), ackFlush);
          let steps = 0;
          while (world.step(0, false) !== 'none' && steps < 60) steps++;

          expect(steps).toBeLessThan(60);
          expect(world.rule.k).toBe(world.wanted.k);
          expect(world.primaryK).toBe(world.wanted.k);
          expect(world.rule.voters).toHaveLength(world.wanted.replicas.length + 1);
          const flushed = world.rule.voters.filter(({ ordinal, bootId }) => ordinal !== 0 && bootId === undefined);
          expect(flushed).toHaveLength(ackFlush === 'disk' ? world.wanted.replicas.length : 0);
        }
      }),
    );
  });
});
