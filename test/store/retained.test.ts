import { afterEach, expect, test } from 'vitest';
import type { Origin } from '../../src/cluster/recovery.ts';
import { closeBackup, openBackup } from '../../src/store/backups.ts';
import { readClusterFacts } from '../../src/store/cluster-facts.ts';
import {
  commitPrimary,
  findCluster,
  getCluster,
  insertCluster,
  markClusterDeleted,
  readClusterSecrets,
} from '../../src/store/clusters.ts';
import { listEvents } from '../../src/store/events.ts';
import { openFailover } from '../../src/store/failovers.ts';
import { lead } from '../../src/store/leadership.ts';
import { getMember, listMembers, markInitialised } from '../../src/store/members.ts';
import { openRebuild } from '../../src/store/rebuilds.ts';
import { purgeCluster, recordRetained, retainCluster } from '../../src/store/retained.ts';
import type { Leader } from '../../src/store/rows.ts';
import type { Store } from '../../src/store/store.ts';
import { openVerification } from '../../src/store/verifications.ts';
import { aCluster, aRule, aSpec, cleanUp, newId, testStore } from './helper.ts';

afterEach(cleanUp);

interface World {
  readonly store: Store;
  readonly leader: Leader;
  readonly clusterId: string;
  readonly backupId: string;
}

/** A cluster with a primary and one complete backup, on member 1. */
async function aWorld(): Promise<World> {
  const store = await testStore();
  const leader = await lead(store, 'tester');
  const { id: clusterId } = await aCluster(store);
  await commitPrimary(store, leader, { clusterId, fromEpoch: 0, toEpoch: 1, primary: 0, rule: aRule(1) });
  const backupId = newId();
  await openBackup(store, { id: backupId, clusterId, ordinal: 1, requestedBy: 'tester', leader });
  await closeBackup(store, leader, backupId, { state: 'complete', gtidSet: 'a:1-10', bytes: 100 });
  return { store, leader, clusterId, backupId };
}

async function aCopy({ store, clusterId, backupId }: World, name = 'heir'): Promise<string> {
  const id = newId();
  const backup = { id: backupId, ordinal: 1, bytes: 100, gtidSet: 'a:1-10', endedAt: 1 };
  const origin: Origin = {
    ...{ clusterId, cluster: 'orders', backup, until: { kind: 'backup' }, within: 'a:1-20', maxBytesPerSec: null },
  };
  const secrets = await readClusterSecrets(store, clusterId);
  const members = [{ ordinal: 0, incarnation: newId(), serverUuid: newId() }];
  await insertCluster(store, { id, spec: aSpec(name, 1), secrets, members, origin });
  return id;
}

async function fill({ store, leader }: World, clusterId: string): Promise<void> {
  const { incarnation } = await getMember(store, clusterId, 0);
  await markInitialised(store, leader, { clusterId, ordinal: 0, incarnation, at: 1 });
}

test('what is kept: rows, secrets, backups, name and members; nothing new begins on it', async () => {
  const { store, leader, clusterId, backupId } = await aWorld();
  const secrets = await readClusterSecrets(store, clusterId);
  const open = newId();
  await openBackup(store, { id: open, clusterId, ordinal: 2, requestedBy: 'tester', leader });
  const verification = newId();
  await openVerification(store, { id: verification, backupId, requestedBy: 'tester' });

  const row = await retainCluster(store, clusterId, 'anna');

  expect(row).toMatchObject({ desired: 'retained', deletedAt: null, retained: { requestedBy: 'anna' } });
  expect(row.retained).not.toHaveProperty('within');
  expect(await retainCluster(store, clusterId, 'berta')).toEqual(row);
  expect((await findCluster(store, 'orders'))?.id).toBe(clusterId);
  expect(await readClusterSecrets(store, clusterId)).toEqual(secrets);
  expect((await listMembers(store, clusterId)).map(({ desired }) => desired)).toEqual([
    'present',
    'present',
    'present',
  ]);
  const facts = await readClusterFacts(store, clusterId);
  expect(facts.keptBackups).toMatchObject([{ id: backupId, state: 'complete' }]);
  expect(facts.newestBackups).toContainEqual(expect.objectContaining({ id: open, code: 'CLUSTER_RETAINED' }));
  expect(facts.verifications).toMatchObject([{ id: verification, state: 'failed', code: 'CLUSTER_RETAINED' }]);
  const refused = { code: 'CLUSTER_RETAINED' };
  const backup = { id: newId(), clusterId, ordinal: 0, requestedBy: 'tester', leader };
  await expect(openBackup(store, backup)).rejects.toMatchObject(refused);
  const failover = {
    id: newId(),
    clusterId,
    kind: 'failover',
    reason: 'r',
    requestedBy: 'automation',
    leader,
  } as const;
  await expect(openFailover(store, failover)).rejects.toMatchObject(refused);
  await expect(markClusterDeleted(store, clusterId)).rejects.toMatchObject(refused);
  const told = (await listEvents(store, {})).filter(({ kind }) => kind === 'cluster.retaining');
  expect(told).toMatchObject([{ data: { by: 'anna' } }]);
});

test('it is refused without a backup, and while something decides about members', async () => {
  const store = await testStore();
  const bare = await aCluster(store);
  await expect(retainCluster(store, bare.id, 'anna')).rejects.toMatchObject({ code: 'NO_BACKUP' });
  const world = await aWorld();
  const input = { id: newId(), clusterId: world.clusterId, ordinal: 2, incarnation: newId(), serverUuid: newId() };
  await openRebuild(world.store, { ...input, reason: 'r', requestedBy: 'anna' });

  const retaining = retainCluster(world.store, world.clusterId, 'anna');

  await expect(retaining).rejects.toMatchObject({ code: 'OPERATION_OPEN', facts: { id: input.id } });
  expect((await getCluster(world.store, world.clusterId)).desired).toBe('present');
});

test('facts of its end are written once', async () => {
  const { store, leader, clusterId } = await aWorld();
  await retainCluster(store, clusterId, 'anna');

  expect(await recordRetained(store, leader, clusterId, { within: 'a:1-20', isExact: true })).toBe(true);
  expect(await recordRetained(store, leader, clusterId, { within: 'a:1-5', isExact: false })).toBe(true);

  expect((await getCluster(store, clusterId)).retained).toMatchObject({ within: 'a:1-20', isExact: true });
  await purgeCluster(store, clusterId, 'anna');
  expect(await recordRetained(store, leader, clusterId, { downAt: 5 })).toBe(false);
});

test('a purge is the deletion of every cluster; of one that is in use it is refused', async () => {
  const { store, clusterId } = await aWorld();
  await expect(purgeCluster(store, clusterId, 'anna')).rejects.toMatchObject({ code: 'NOT_RETAINED' });
  await retainCluster(store, clusterId, 'anna');

  const purged = await purgeCluster(store, clusterId, 'anna');

  expect(purged.desired).toBe('deleted');
  expect(await purgeCluster(store, clusterId, 'berta')).toEqual(purged);
  expect((await listMembers(store, clusterId)).map(({ desired }) => desired)).toEqual(['gone', 'gone', 'gone']);
  await expect(retainCluster(store, clusterId, 'anna')).rejects.toMatchObject({ code: 'CLUSTER_DELETING' });
});

test('while a copy is filled its source is neither deleted, retained nor purged', async () => {
  const world = await aWorld();
  const { store, clusterId } = world;
  const first = await aCopy(world);
  const refused = { code: 'COPY_OPEN', facts: { copy: 'heir' } };
  await expect(markClusterDeleted(store, clusterId)).rejects.toMatchObject(refused);
  await expect(retainCluster(store, clusterId, 'anna')).rejects.toMatchObject(refused);
  await fill(world, first);
  await retainCluster(store, clusterId, 'anna');
  expect((await readClusterFacts(store, clusterId)).copies).toEqual([]);
  const second = await aCopy(world, 'second');
  const { copies } = await readClusterFacts(store, clusterId);
  expect(copies).toMatchObject([{ clusterId: second, name: 'second', origin: { clusterId } }]);
  await expect(purgeCluster(store, clusterId, 'anna')).rejects.toMatchObject({ code: 'COPY_OPEN' });

  await markClusterDeleted(store, second);

  expect((await readClusterFacts(store, clusterId)).copies).toEqual([]);
  await purgeCluster(store, clusterId, 'anna');
  await expect(aCopy(world, 'third')).rejects.toMatchObject({ code: 'CLUSTER_DELETING' });
});
