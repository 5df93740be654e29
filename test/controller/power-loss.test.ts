/** All hosts lose power at once and come back, or do not. Guarantee 1 with both kinds of acknowledgement. */
import { afterEach, expect, test } from 'vitest';
import { replicaVoters } from '../../src/cluster/voters.ts';
import { setDurability } from '../../src/store/clusters.ts';
import { openFailover } from '../../src/store/failovers.ts';
import type { FaultBody } from '../simulation/faults.ts';
import { createScenario, type Scenario, type ScenarioOptions } from './scenario.ts';

let scenario: Scenario;
afterEach(() => scenario?.stop());

const forLong = 10 * 60_000;

/** Commits of a team on the primary, acknowledged, and in the relay logs of replicas that apply nothing for a while. */
async function begin(options: ScenarioOptions) {
  scenario = await createScenario(options);
  const { primary, epoch } = await scenario.cluster();
  const replicas = [0, 1, 2].filter((ordinal) => ordinal !== primary);
  await scenario.strike(...replicas.map((target): FaultBody => ({ kind: 'slowApplier', target, ms: 30_000 })));
  const { instance } = scenario.member(primary!);
  const outcomes: string[] = [];
  for (let n = 0; n < 20; n += 1)
    instance!.write({ kind: 'write', epoch, value: `${n}`, isOurs: false }, (outcome) => void outcomes.push(outcome));
  await scenario.until('acknowledged', () => outcomes.length === 20);
  expect(new Set(outcomes)).toEqual(new Set(['ok']));
  return { primary: primary!, epoch, written: scenario.member(primary!).instance!.data.held };
}

const flushed = async () => {
  const { rule } = await scenario.cluster();
  return replicaVoters(rule!).filter(({ bootId }) => bootId === undefined).length;
};
const boots = () => scenario.view().members.map(({ status }) => status?.bootId);

test('everything down at once and back: the primary goes on in its own epoch, nobody types anything', async () => {
  const { primary, epoch, written } = await begin({});
  const before = boots();

  await scenario.strike({ kind: 'rebootAll' });
  await scenario.run(5000);
  await scenario.until('writes again', async () => {
    await scenario.run(500);
    if (!scenario.isWritable(primary)) return false;
    // A commit that replicas received before they acknowledged is covered by the next one.
    let isAcknowledged = false;
    scenario.member(primary).instance!.write({ kind: 'write', epoch, value: 'after', isOurs: false }, (outcome) => {
      isAcknowledged = outcome === 'ok';
    });
    await scenario.run(500);
    return isAcknowledged;
  });
  await scenario.untilHealthy();

  expect(boots().every((bootId, ordinal) => bootId !== before[ordinal])).toBe(true);
  expect(await scenario.cluster()).toMatchObject({ primary, epoch });
  expect([...written].every((id) => scenario.member(primary).instance!.data.held.has(id))).toBe(true);
  const { rule } = await scenario.cluster();
  expect(replicaVoters(rule!).map(({ bootId }) => bootId)).toEqual(
    replicaVoters(rule!).map(({ ordinal }) => boots()[ordinal]),
  );
});

test('os: the primary does not come back: refused, for its voters may have forgotten; a person may accept that', async () => {
  const { primary, epoch } = await begin({});
  await scenario.strike({ kind: 'rebootAll' }, { kind: 'isolate', target: primary, ms: forLong });

  await scenario.until('a refusal', async () => (await scenario.failovers())[0]?.outcome === 'refused', 120_000);

  const [{ refusal }] = (await scenario.failovers()) as [Awaited<ReturnType<Scenario['failovers']>>[number]];
  expect(refusal).toMatchObject({ code: 'PROMOTION_UNSAFE', facts: { reached: [] } });
  expect(refusal?.facts?.['lossStatement']).toMatch(/may lack what it once had: its host was restarted/);
  const { world } = scenario.simulation;
  await setDurability(world.store, scenario.clusterId, { durability: 'async' });
  await scenario.until(
    'accepted',
    async () => {
      const [newest] = await scenario.failovers();
      const acceptedLoss = String(newest?.refusal?.facts?.['lossStatement']);
      if (newest?.outcome === 'open') return false;
      const id = world.newId();
      const { clusterId } = scenario;
      const asked = { id, clusterId, kind: 'failover', reason: 'it burnt', requestedBy: 'a person' } as const;
      await openFailover(world.store, { ...asked, options: { acceptedLoss } });
      scenario.wake();
      await scenario.until(
        'an end',
        async () => (await scenario.failovers()).find((one) => one.id === id)?.outcome !== 'open',
      );
      return (await scenario.cluster()).epoch > epoch;
    },
    120_000,
  );
  const { primary: next } = await scenario.cluster();
  await scenario.until('writes', () => scenario.isWritable(next!));
});

test('disk: the primary does not come back: its voters kept what they acknowledged, and one of them follows', async () => {
  const { primary, epoch, written } = await begin({ ackFlush: 'disk' });
  expect(await flushed()).toBe(2);

  await scenario.strike({ kind: 'rebootAll' }, { kind: 'isolate', target: primary, ms: forLong });

  await scenario.until('another primary', async () => (await scenario.cluster()).epoch > epoch, 120_000);
  const { primary: next } = await scenario.cluster();
  await scenario.until('writes', () => scenario.isWritable(next!), 120_000);
  const { held } = scenario.member(next!).instance!.data;
  expect([...written].every((id) => held.has(id))).toBe(true);
});

test('os to disk and back, on a cluster that runs: the rule counts on it only after it is so', async () => {
  scenario = await createScenario();
  const { store } = scenario.simulation.world;
  const ask = async (ackFlush: 'os' | 'disk') => {
    await setDurability(store, scenario.clusterId, { ackFlush });
    scenario.wake();
  };
  const isFlushing = () => scenario.view().members.filter(({ status }) => status?.flushesRelayLog).length;

  await ask('disk');
  await scenario.until('both flush', async () => {
    const counted = await flushed();
    const { data } = scenario.member(1).instance!;
    expect(counted === 2 && !data.flushesRelay).toBe(false);
    return counted === 2;
  });
  await ask('os');
  await scenario.until('nobody flushes', async () => (await flushed()) === 0 && isFlushing() === 0);
  await scenario.untilHealthy();
});
