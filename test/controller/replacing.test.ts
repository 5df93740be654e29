/** Another backup volume in place of one that is gone for good, in the simulated world: the core of the real Mesos. */
import { afterEach, expect, test } from 'vitest';
import { describeLoss } from '../../src/controller/lost-volumes.ts';
import { killSeat, startSeat } from '../../src/mesos/local/core/cluster.ts';
import type { Resource } from '../../src/mesos/types.ts';
import { listBackups } from '../../src/store/backups.ts';
import { markClusterDeleted } from '../../src/store/clusters.ts';
import { openReplacement } from '../../src/store/replacements.ts';
import { createScenario, type Scenario } from './scenario.ts';

let scenario: Scenario;
afterEach(() => scenario?.stop());

const world = () => scenario.simulation.world;
const bundleOf = (ordinal: number) => scenario.view().members[ordinal]!.bundle!;
const loss = (ordinal: number) => {
  const view = scenario.view();
  return describeLoss(view, view.members[ordinal]!, world().time.now());
};
const replace = async (ordinal: number) => {
  await openReplacement(world().store, {
    ...{ clusterId: scenario.clusterId, ordinal, requestedBy: 'a person', reason: 'it is broken' },
  });
  scenario.wake();
};
const isVolumeOf =
  (ordinal: number) =>
  ({ disk }: Resource) =>
    disk?.persistence?.id === bundleOf(ordinal).bundle.backup?.persistenceId;
const isPath = ({ disk }: Resource) => disk?.source?.type === 'PATH';

/** The agent is there again, and has no more what `isGone` names. */
function loseDisks(ordinal: number, isGone: (resource: Resource) => boolean): Resource[] {
  const { mesos } = world();
  const executor = world().findMember(scenario.clusterId, ordinal)!;
  const key = mesos.agentKeys.find((one) => mesos.hostOf(one) === executor.host)!;
  executor.member?.instanceKilled();
  mesos.killExecutor(executor);
  killSeat(mesos.cluster, key);
  const checkpoint = mesos.checkpoint(key)!;
  const lost = checkpoint.total.filter(isGone);
  checkpoint.total = checkpoint.total.filter((resource) => !isGone(resource));
  world().time.after(1000, () => startSeat(mesos.cluster, key));
  return lost;
}

/** Another volume, taken and filled, beside the same data; nothing else of the member has changed. */
async function isReplaced(ordinal: number, before: ReturnType<typeof bundleOf>): Promise<void> {
  await scenario.until('a new backup', async () =>
    (await listBackups(world().store, scenario.clusterId)).some(
      (row) => row.ordinal === ordinal && row.requestedBy === 'automation' && row.state === 'complete',
    ),
  );
  await scenario.untilHealthy();
  const { id, bundle, agentId } = bundleOf(ordinal);
  expect({ id, agentId }).toEqual({ id: before.id, agentId: before.agentId });
  expect(bundle.data).toMatchObject(before.bundle.data);
  expect(bundle.backup?.persistenceId).not.toBe(before.bundle.backup?.persistenceId);
  expect(bundle.backup).not.toHaveProperty('replacing');
  expect(bundle.backup).not.toHaveProperty('isNew');
  expect(scenario.member(ordinal).options.backup?.marker?.persistenceId).toBe(bundle.backup?.persistenceId);
  expect(await scenario.rebuilds()).toEqual([]);
  expect(loss(ordinal)).toBe(null);
  world().checks.checkPrimaries();
  expect(world().checks.violations).toEqual([]);
}

test('of a member that runs: ended in its turn, the old volume destroyed, the data untouched', async () => {
  scenario = await createScenario({ hasClients: true });
  const before = bundleOf(1);
  const { marker } = scenario.member(1).options.data!;
  await replace(1);
  await isReplaced(1, before);

  expect(scenario.member(1).options.data?.marker).toEqual(marker);
  const left = world()
    .disks.volumes()
    .map(({ path }) => path);
  expect(left.filter((path) => path.includes(before.bundle.backup!.persistenceId))).toEqual([]);
  expect((await scenario.cluster()).epoch).toBe(1);
  expect(await scenario.events('backup.replacing')).toHaveLength(1);
});

test('the agent has the volume no more: the member waits, and comes back when a person has said so', async () => {
  scenario = await createScenario({ hasClients: true });
  const before = bundleOf(1);
  loseDisks(1, isVolumeOf(1));
  await scenario.run(60_000);
  expect(scenario.view().members[1]?.isLive).toBe(false);
  await replace(1);
  await isReplaced(1, before);
});

test('no disk fits: it says what is asked for, and goes on once there is one', async () => {
  scenario = await createScenario({ hasClients: true });
  const before = bundleOf(2);
  const lost = loseDisks(2, (resource) => isVolumeOf(2)(resource) || (isPath(resource) && !resource.disk?.persistence));
  await replace(2);
  await scenario.run(60_000);
  expect(loss(2)).toContain('waits for 1024 MB on a path disk');
  expect(scenario.view().members[2]?.isLive).toBe(false);

  const { mesos } = world();
  const key = mesos.agentKeys.find((one) => mesos.cluster.seats.get(one)?.core?.checkpoint.agentId === before.agentId)!;
  killSeat(mesos.cluster, key);
  const checkpoint = mesos.checkpoint(key)!;
  checkpoint.total = [...checkpoint.total, ...lost.filter((resource) => !resource.disk?.persistence)];
  startSeat(mesos.cluster, key);
  await isReplaced(2, before);
});

test.each(Array.from({ length: 16 }, (_, index) => index + 1))(
  'the control plane dies at the %ith change on the way: it goes on',
  async (count) => {
    scenario = await createScenario({ hasClients: true, seed: count });
    const before = bundleOf(1);
    await replace(1);
    await scenario.strike({ kind: 'killAtCommit', count, when: count % 2 === 0 ? 'before' : 'after' });
    await isReplaced(1, before);
  },
);

test.each([1, 2, 3, 4, 5, 6])('and at the %ith call or command of Mesos and executors', async (count) => {
  scenario = await createScenario({ hasClients: true, seed: count });
  const before = bundleOf(1);
  await replace(1);
  await scenario.strike({ kind: 'killAtCall', count, when: count % 2 === 0 ? 'before' : 'after' });
  await scenario.strike({ kind: 'killAtCommand', count: count + 4, when: 'after' });
  await isReplaced(1, before);
});

test('a cluster is deleted while the volume that is gone is waited for: everything else is given back', async () => {
  scenario = await createScenario({ hasClients: true });
  loseDisks(1, (resource) => isVolumeOf(1)(resource) || (isPath(resource) && !resource.disk?.persistence));
  await replace(1);
  await scenario.run(20_000);
  await markClusterDeleted(world().store, scenario.clusterId);
  scenario.wake();
  await scenario.until('its end', async () => (await scenario.cluster()).deletedAt !== null, 120_000);

  const left = world().mesos.agentKeys.flatMap((key) => world().mesos.checkpoint(key)?.total ?? []);
  expect(left.filter(({ reservations }) => (reservations ?? []).length > 0)).toEqual([]);
});

test.each(['ACCEPT', 'KILL'])('a lost %s is made good', async (type) => {
  scenario = await createScenario({ hasClients: true });
  const before = bundleOf(1);
  await scenario.strike({ kind: 'loseCall', type });
  await replace(1);
  await isReplaced(1, before);
});

test('refused for the primary, for a second member, and without a backup volume', async () => {
  scenario = await createScenario({ hasClients: true });
  await expect(replace(0)).rejects.toMatchObject({ code: 'IS_PRIMARY' });
  await expect(replace(7)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  await replace(1);
  await replace(1);
  await expect(replace(2)).rejects.toMatchObject({ code: 'OPERATION_OPEN' });
  scenario.stop();
  scenario = await createScenario({ hasBackup: false });
  await expect(replace(1)).rejects.toMatchObject({ code: 'NO_BACKUP_VOLUME' });
});
