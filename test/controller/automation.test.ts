/** What happens by itself and what does not: automation off and until, the cooldown, flapping. */
import { afterEach, describe, expect, test } from 'vitest';
import { cooldownMs } from '../../src/controller/automation.ts';
import { setAutomation, setCooldown } from '../../src/store/clusters.ts';
import { openRebuild } from '../../src/store/rebuilds.ts';
import { createScenario, type Scenario } from './scenario.ts';

let scenario: Scenario;
afterEach(() => scenario?.stop());

const switchOff = (until: number | null = null) =>
  setAutomation(scenario.simulation.world.store, scenario.clusterId, { mode: 'off', until });
const now = () => scenario.simulation.world.time.now();
const failovers = async () => (await scenario.failovers()).filter(({ kind }) => kind === 'failover');
const untilEpoch = (epoch: number) =>
  scenario.until(`epoch ${epoch}`, async () => {
    const cluster = await scenario.cluster();
    return cluster.epoch >= epoch && cluster.activatedAt !== null;
  });

describe('while automation is off', () => {
  test.each(['killMysqld', 'killExecutor'] as const)(
    '%s: a dead primary is started again in its own epoch',
    async (kind) => {
      scenario = await createScenario();
      await switchOff();
      await scenario.strike({ kind, target: 'primary' });
      await scenario.until('its end', () => !scenario.isWritable(0));

      await scenario.untilHealthy();

      expect(await scenario.cluster()).toMatchObject({ epoch: 1, primary: 0 });
      expect(await failovers()).toEqual([]);
    },
  );

  test('a primary that is silent stays the primary, however long', async () => {
    scenario = await createScenario();
    await switchOff();
    await scenario.strike({ kind: 'isolate', target: 'primary', ms: 120_000 });
    await scenario.run(110_000);

    expect(await failovers()).toEqual([]);
    await scenario.untilHealthy();
    expect(await scenario.cluster()).toMatchObject({ epoch: 1, primary: 0 });
  });

  describe.each(['stopMysqld', 'hangDisk'] as const)('%s of the primary', (kind) => {
    const verdict = () => scenario.simulation.active()!.controller.verdict(scenario.clusterId);

    /** It is known to hang, and nothing came of it. */
    async function hang(): Promise<void> {
      scenario = await createScenario();
      await switchOff();
      await scenario.strike({ kind, target: 'primary', ms: 300_000 });
      await scenario.until('a proof', () => verdict()?.kind === 'dead', 15_000);
      await scenario.run(60_000);
      expect(await failovers()).toEqual([]);
      expect(await scenario.cluster()).toMatchObject({ epoch: 1, primary: 0 });
      expect(scenario.member(0).phase).toBe('running');
    }

    test('nobody follows; a failover by hand needs no force and works at once', async () => {
      await hang();
      const askedAt = now();
      await scenario.change('failover');
      await untilEpoch(2);

      expect(now() - askedAt).toBeLessThan(15_000);
      expect(await failovers()).toMatchObject([{ outcome: 'done', requestedBy: 'a person' }]);
    });

    test('nobody follows; automation that is switched on acts', async () => {
      await hang();
      await setAutomation(scenario.simulation.world.store, scenario.clusterId, { mode: 'on', until: null });
      scenario.wake();
      const switchedAt = now();
      await untilEpoch(2);

      expect(now() - switchedAt).toBeLessThan(15_000);
      expect(await failovers()).toMatchObject([{ outcome: 'done', requestedBy: 'automation' }]);
    });
  });

  test('replicas that crash come back, and voters follow', async () => {
    scenario = await createScenario({ hasClients: true });
    await switchOff();
    await scenario.strike({ kind: 'killMysqld', target: 1 }, { kind: 'killExecutor', target: 2 });

    await scenario.untilHealthy();

    const { rule } = await scenario.cluster();
    expect(rule?.voters.map(({ ordinal }) => ordinal).sort()).toEqual([0, 1, 2]);
  });

  test('a failover that is open goes on to its end', async () => {
    scenario = await createScenario();
    await scenario.strike({ kind: 'killMysqld', target: 'primary' });
    await scenario.until('a failover', async () => (await failovers())[0]?.outcome === 'open');
    await switchOff();

    await untilEpoch(2);
  });

  test('a person may fail over; the held primary waits for their rebuild, which trims it', async () => {
    scenario = await createScenario();
    const { newId, store } = scenario.simulation.world;
    await switchOff();
    await scenario.change('failover', { force: true });
    await untilEpoch(2);
    await scenario.run(60_000);

    expect(scenario.member(0).phase).toBe('held');
    expect(await scenario.rebuilds()).toEqual([]);

    const { clusterId } = scenario;
    const asked = { reason: 'asked for', requestedBy: 'a person', incarnation: newId(), serverUuid: newId() };
    await openRebuild(store, { id: newId(), clusterId, ordinal: 0, ...asked });
    scenario.wake();
    await scenario.untilHealthy();
    expect(await scenario.rebuilds()).toMatchObject([{ way: 'trim', state: 'done' }]);
  });

  test('a replica that lost its data is filled anew', async () => {
    scenario = await createScenario();
    await switchOff();
    loseData(2);

    await scenario.until('a rebuild', async () => (await scenario.rebuilds()).length > 0);
    await scenario.untilHealthy();
  });
});

/** As when somebody removed the files: mysqld ends, and does not start again. */
function loseData(ordinal: number): void {
  const { world } = scenario.simulation;
  for (const volume of world.disks.volumes()) {
    if (volume.marker?.ordinal === ordinal && volume.data && volume.marker.fill === 'filled') volume.data = null;
  }
  scenario.member(ordinal).instanceKilled();
}

describe('automation that is off until a time', () => {
  test('comes back by itself and then fails over', async () => {
    scenario = await createScenario();
    const until = now() + 40_000;
    await switchOff(until);
    await scenario.strike({ kind: 'isolate', target: 'primary', ms: 300_000 });
    await untilEpoch(2);

    expect(now()).toBeGreaterThanOrEqual(until);
    expect(now()).toBeLessThan(until + 3000);
  });

  test('a restarted control plane still waits for it', async () => {
    scenario = await createScenario();
    await switchOff(now() + 60_000);
    await scenario.restartControlPlane();
    await scenario.strike({ kind: 'killMysqld', target: 'primary' });
    await scenario.until('its end', () => !scenario.isWritable(0));

    await scenario.untilHealthy();

    expect(await failovers()).toEqual([]);
  });
});

describe('the cooldown', () => {
  /** An automatic failover to epoch 2, healthy again. */
  async function failOver(): Promise<void> {
    scenario = await createScenario();
    await scenario.strike({ kind: 'killMysqld', target: 'primary' });
    await untilEpoch(2);
    await scenario.untilHealthy();
  }

  /** Answers the epoch afterwards. */
  async function killPrimary(): Promise<number> {
    const { primary } = await scenario.cluster();
    await scenario.strike({ kind: 'killMysqld', target: 'primary' });
    await scenario.until('its end', () => !scenario.isWritable(primary!));
    await scenario.untilHealthy();
    return (await scenario.cluster()).epoch;
  }

  test('begins with an automatic failover and keeps the next one off', async () => {
    await failOver();

    expect((await scenario.cluster()).cooldownUntil).toBeGreaterThan(now() + cooldownMs - 30_000);
    expect(await killPrimary()).toBe(2);
  });

  test('ends when the cluster was whole for its whole length', async () => {
    await failOver();
    await scenario.run(cooldownMs + 10_000);

    expect((await scenario.cluster()).cooldownUntil).toBeNull();
    expect(await killPrimary()).toBe(3);
  });

  test('is pushed on while the cluster is not whole', async () => {
    await failOver();
    const { primary } = await scenario.cluster();
    const replica = [0, 1, 2].find((ordinal) => ordinal !== primary)!;
    await scenario.strike({ kind: 'isolate', target: replica, ms: cooldownMs });
    await scenario.run(cooldownMs + 10_000);

    expect((await scenario.cluster()).cooldownUntil).toBeGreaterThan(now() + cooldownMs / 2);
    await scenario.untilHealthy();
    expect(await killPrimary()).toBe(2);
  });

  test('is released by hand', async () => {
    await failOver();
    await setCooldown(scenario.simulation.world.store, null, scenario.clusterId, null);

    expect(await killPrimary()).toBe(3);
  });

  test('survives a restart of the control plane', async () => {
    await failOver();
    await scenario.restartControlPlane();
    await scenario.untilHealthy();

    expect(await killPrimary()).toBe(2);
  });

  test('does not begin with what a person asks for', async () => {
    scenario = await createScenario();
    await scenario.change('switchover');
    await untilEpoch(2);
    await scenario.untilHealthy();

    expect((await scenario.cluster()).cooldownUntil).toBeNull();
    expect(await killPrimary()).toBe(3);
  });

  test('a primary that dies again and again changes once', async () => {
    scenario = await createScenario();
    for (let count = 0; count < 12; count += 1) {
      await scenario.strike({ kind: 'killMysqld', target: 'primary' });
      await scenario.run(7000);
    }

    await scenario.untilHealthy();

    expect((await scenario.cluster()).epoch).toBe(2);
    expect(await failovers()).toHaveLength(1);
  });
});
