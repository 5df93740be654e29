/** The end of a cluster whose volumes are retained, in the simulated world: kills, losses, and who may read it. */
import { afterEach, describe, expect, test, vi } from 'vitest';
import { parseGtidSet } from '../../src/cluster/gtid-set.ts';
import type { Origin } from '../../src/cluster/recovery.ts';
import { createGtidTest } from '../../src/cluster/recovery.ts';
import { openBackup } from '../../src/store/backups.ts';
import { listBundles } from '../../src/store/bundles.ts';
import { getCluster, insertCluster, markClusterDeleted, readClusterSecrets } from '../../src/store/clusters.ts';
import { purgeCluster, retainCluster } from '../../src/store/retained.ts';
import type { Transaction } from '../simulation/mysql.ts';
import { createScenario, type Scenario } from './scenario.ts';

let scenario: Scenario;
afterEach(() => {
  const { violations } = scenario.simulation.world.checks;
  scenario.stop();
  expect(violations).toEqual([]);
});

const ordinals = [0, 1, 2];
const world = () => scenario.simulation.world;
const runs = () => ordinals.filter((ordinal) => world().findMember(scenario.clusterId, ordinal) !== null);
const retained = async () => (await scenario.cluster()).retained;
const reserved = () => listBundles(world().store, { clusterId: scenario.clusterId, states: ['reserved'] });

/** A complete backup as far as rows go, of a long-ago set. */
async function retain(ordinal = 1): Promise<string> {
  const { store } = world();
  const { clusterId } = scenario;
  const id = world().newId();
  await openBackup(store, { id, clusterId, ordinal, requestedBy: 'a person' });
  const set =
    "UPDATE backup SET state = 'complete', gtid_set = '', bytes = 1, ended_at = 1, open_key = NULL WHERE id = ?";
  store.db.prepare(set).run(id);
  await retainCluster(store, clusterId, 'a person');
  scenario.wake();
  return id;
}

/** All that clients get an OK for from now on. */
function listen(): () => Promise<string[]> {
  const told: Transaction[] = [];
  const { checks } = world();
  const before = checks.onAcknowledged;
  vi.spyOn(checks, 'onAcknowledged').mockImplementation((clusterId, transaction) => {
    told.push(transaction);
    before(clusterId, transaction);
  });
  return async () => {
    const isWithin = createGtidTest(parseGtidSet((await retained())!.within!));
    expect(told.length).toBeGreaterThan(10);
    return told.map(({ key, n }) => `${key}:${n}`).filter((gtid) => !isWithin(gtid));
  };
}

const untilDown = (withinMs = 120_000) =>
  scenario.until('no task', async () => (await retained())?.downAt !== undefined, withinMs);

async function copyFrom(backup: string, until: Origin['until'] = { kind: 'backup' }): Promise<string> {
  const { store, newId } = world();
  const { clusterId } = scenario;
  const { spec } = await getCluster(store, clusterId);
  const id = newId();
  const origin: Origin = {
    ...{ clusterId, cluster: 'orders', until, within: '', maxBytesPerSec: null },
    backup: { id: backup, ordinal: 1, bytes: 1, gtidSet: '', endedAt: 1 },
  };
  await insertCluster(store, {
    ...{ id, origin, secrets: await readClusterSecrets(store, clusterId) },
    spec: { ...spec, name: 'heir', members: 1, durability: 'async' },
    members: [{ ordinal: 0, incarnation: newId(), serverUuid: newId() }],
  });
  simulationWake(id);
  return id;
}
const simulationWake = (id: string) => scenario.simulation.active()?.controller.wake(id);

describe('its end', () => {
  test('everything acknowledged is known, tasks end, volumes stay; a purge takes them', async () => {
    scenario = await createScenario({ hasClients: true });
    const findLost = listen();
    await scenario.run(5000);
    const before = await reserved();

    await retain();
    await untilDown();

    expect(await findLost()).toEqual([]);
    expect(await retained()).toMatchObject({ isExact: true });
    await scenario.until('no process', () => runs().length === 0);
    await scenario.restartControlPlane();
    await scenario.run(1_500_000);
    expect(runs()).toEqual([]);
    const after = await reserved();
    expect(after.map(({ id }) => id)).toEqual(before.map(({ id }) => id));
    // Of an agent that is there what is reserved is on offer again and again: by that a copy knows that it is.
    for (const { lastSeenAt } of after) expect(world().time.now() - lastSeenAt!).toBeLessThan(300_000);
    expect(await scenario.failovers()).toHaveLength(1);
    await purgeCluster(world().store, scenario.clusterId, 'a person');
    scenario.wake();
    await scenario.until('gone', async () => (await scenario.cluster()).deletedAt !== null);
    expect(await reserved()).toEqual([]);
  });

  test.each(Array.from({ length: 12 }, (_, count) => count + 1))(
    'the control plane dies at its commit %i from then on, again and again',
    async (count) => {
      scenario = await createScenario({ hasClients: true, seed: count });
      const findLost = listen();
      await scenario.run(2000);
      await retain();
      for (const when of ['before', 'after', 'after'] as const) {
        await scenario.strike({ kind: 'killAtCommit', count, when });
        await scenario.run(3000);
      }
      await untilDown();

      expect(await findLost()).toEqual([]);
      await scenario.until('no process', () => runs().length === 0);
    },
  );

  test('a primary that is not reached: what replicas received counts, and its task ends when it is back', async () => {
    scenario = await createScenario({ hasClients: true });
    const findLost = listen();
    await scenario.run(5000);
    await scenario.strike({ kind: 'isolate', target: 0, ms: 200_000 });

    await retain();
    await scenario.until('the end of mysqld', async () => (await retained())?.endedAt !== undefined, 150_000);

    expect(await findLost()).toEqual([]);
    expect(await retained()).toMatchObject({ isExact: false });
    await scenario.until('the others to end', () => runs().every((ordinal) => ordinal === 0));
    await untilDown(300_000);
    await scenario.until('no process', () => runs().length === 0);
    expect(await findLost()).toEqual([]);
  });

  test('a single member whose mysqld has died: all that it logged counts', async () => {
    scenario = await createScenario({ hasClients: true, members: 1 });
    const findLost = listen();
    await scenario.run(5000);
    await scenario.strike({ kind: 'killMysqld', target: 0 });

    await retain(0);
    await untilDown(150_000);

    expect(await findLost()).toEqual([]);
    expect(await retained()).toMatchObject({ isExact: false });
  });

  test('it may be purged before it has ended', async () => {
    scenario = await createScenario({ hasClients: true });
    await scenario.run(2000);
    await retain();
    await scenario.run(5);

    await purgeCluster(world().store, scenario.clusterId, 'a person');
    scenario.wake();

    await scenario.until('gone', async () => (await scenario.cluster()).deletedAt !== null);
    expect(await reserved()).toEqual([]);
    await scenario.run(3000);
    expect(scenario.simulation.active()!.controller.machines()).toEqual([]);
  });
});

describe('a copy of it', () => {
  test('launches executors without mysqld, over restarts; they end with the copy', async () => {
    scenario = await createScenario();
    const backup = await retain();
    await untilDown();

    const copy = await copyFrom(backup);
    await scenario.until('the holder', () => runs().length > 0);
    await scenario.restartControlPlane();
    await scenario.run(30_000);

    expect(runs()).toEqual([1]);
    expect(scenario.member(1)).toMatchObject({ phase: 'none', instance: null });
    await scenario.strike({ kind: 'killExecutor', target: 1 });
    await scenario.until('the holder again', () => runs().includes(1));
    await markClusterDeleted(world().store, copy);
    simulationWake(copy);
    await scenario.until('nobody', () => runs().length === 0);
    expect(await reserved()).toHaveLength(3);
  });

  test('a host that came back as another agent is still where the volumes are', async () => {
    scenario = await createScenario();
    const backup = await retain();
    await untilDown();
    const before = (await reserved()).find(({ ordinal }) => ordinal === 1)!;
    await scenario.strike({ kind: 'rebootHost', target: 1, keepsId: false });
    await scenario.run(60_000);

    await copyFrom(backup);

    await scenario.until('the holder', () => runs().includes(1), 200_000);
    expect(scenario.member(1)).toMatchObject({ phase: 'none', instance: null });
    const after = (await reserved()).find(({ ordinal }) => ordinal === 1)!;
    expect(after).toMatchObject({ id: before.id, bundle: before.bundle });
    expect(after.agentId).not.toBe(before.agentId);
  });

  test('up to a moment reads every archive', async () => {
    scenario = await createScenario();
    const backup = await retain();
    await untilDown();

    await copyFrom(backup, { kind: 'at', atMs: 5 });

    await scenario.until('all', () => runs().length === 3);
    expect(ordinals.map((ordinal) => scenario.member(ordinal).instance)).toEqual([null, null, null]);
  });

  test('while the agent of the backup is away it is told so; it goes on when the agent is back', async () => {
    scenario = await createScenario();
    const backup = await retain();
    await untilDown();
    await scenario.strike({ kind: 'killAgent', target: 1, ms: 400_000 });
    await scenario.run(1000);

    await copyFrom(backup);

    const refusals = async () =>
      (await scenario.events('member.refused'))
        .filter(({ cluster }) => cluster === 'heir')
        .map(({ data }) => data['code']);
    await scenario.until('a refusal', async () => (await refusals()).length > 0, 300_000);
    expect(await refusals()).toEqual(['HOLDER_AWAY']);
    // The modelled executors know no copies: that it is refused shows that it was sent.
    await scenario.until('the copy to be sent', async () => (await refusals()).includes('NOT_RUNNING'), 900_000);
    expect(runs()).toEqual([1]);
  });
});
