import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { backupPolicyDefault } from '../../src/cluster/backup-policy.ts';
import { setBundleState } from '../../src/store/bundles.ts';
import {
  commitPrimary,
  findCluster,
  getCluster,
  insertCluster,
  listClusters,
  markClusterDeleted,
  readClusterSecrets,
  setActivated,
  setBackupPolicy,
  setClusterGone,
  storeRule,
} from '../../src/store/clusters.ts';
import { listEvents } from '../../src/store/events.ts';
import { closeFailover, openFailover } from '../../src/store/failovers.ts';
import { lead } from '../../src/store/leadership.ts';
import * as members from '../../src/store/members.ts';
import { aBundle, aCluster, aRule, aSpec, cleanUp, newId, someSecrets, testDirectory, testStore } from './helper.ts';

afterEach(cleanUp);

test('a cluster is stored with its members, and inserting it again changes nothing', async () => {
  const store = await testStore();
  const input = {
    id: newId(),
    spec: aSpec(),
    secrets: someSecrets,
    members: [{ ordinal: 0, incarnation: newId(), serverUuid: newId() }],
  };

  const cluster = await insertCluster(store, input);
  const again = await insertCluster(store, input);

  expect(again).toEqual(cluster);
  expect(cluster).toMatchObject({ name: 'orders', desired: 'present', epoch: 0, primary: null, rule: null });
  expect(await members.listMembers(store, cluster.id)).toHaveLength(1);
  expect((await listEvents(store)).map((event) => event.kind)).toEqual(['cluster.created']);
});

test('a taken name is refused and leaves no half-made cluster', async () => {
  const store = await testStore();
  await aCluster(store);

  await expect(aCluster(store)).rejects.toMatchObject({ code: 'NAME_TAKEN' });

  expect(await listClusters(store)).toHaveLength(1);
  expect(store.db.prepare('SELECT COUNT(*) AS n FROM member').get()).toMatchObject({ n: 3 });
});

test('a policy that asks for encryption gives the cluster one key, for ever, and no other does', async () => {
  const store = await testStore();
  const { id } = await aCluster(store);
  const set = (encrypt: 'none' | 'aes-256-gcm') => setBackupPolicy(store, id, { ...backupPolicyDefault, encrypt });
  const keyNow = async () => (await readClusterSecrets(store, id)).backupKey;

  await set('none');
  expect(await keyNow()).toBeUndefined();
  await set('aes-256-gcm');
  const key = await keyNow();
  expect(key).toMatch(/^[0-9a-f]{64}$/);
  for (const encrypt of ['aes-256-gcm', 'none', 'aes-256-gcm'] as const) await set(encrypt);

  expect(await keyNow()).toBe(key);
  expect(await readClusterSecrets(store, id)).toEqual({ ...someSecrets, backupKey: key });
  expect(JSON.stringify(store.db.prepare('SELECT * FROM cluster').all())).not.toContain(key);
  const other = await aCluster(store, 'stock');
  await setBackupPolicy(store, other.id, { ...backupPolicyDefault, encrypt: 'aes-256-gcm' });
  expect((await readClusterSecrets(store, other.id)).backupKey).not.toBe(key);
});

test('server ids differ over all clusters and are never used twice', async () => {
  const store = await testStore();
  const leader = await lead(store, 'a');
  const one = await aCluster(store, 'one');
  const two = await aCluster(store, 'two');

  const ids = [...(await members.listMembers(store, one.id)), ...(await members.listMembers(store, two.id))].map(
    (member) => member.serverId,
  );
  ids.push(await members.nextServerId(store, leader), await members.nextServerId(store, leader));

  expect(new Set(ids).size).toBe(8);
});

test('a deleted cluster keeps its name until nothing is left, and its row for ever', async () => {
  const store = await testStore();
  const leader = await lead(store, 'a');
  const { id } = await aCluster(store);
  const bundle = await aBundle(store, leader, id);
  await markClusterDeleted(store, id);
  await markClusterDeleted(store, id);
  expect((await members.listMembers(store, id)).map((member) => member.desired)).toEqual(['gone', 'gone', 'gone']);
  await expect(aCluster(store)).rejects.toMatchObject({ code: 'NAME_TAKEN' });
  await expect(setClusterGone(store, leader, id, 5)).rejects.toThrow('still has reservations');

  await setBundleState(store, leader, bundle.id, 'released');
  const gone = [await setClusterGone(store, leader, id, 5), await setClusterGone(store, leader, id, 6)];

  expect(gone).toEqual([true, false]);
  expect(await findCluster(store, 'orders')).toBeNull();
  expect(await findCluster(store, id)).toMatchObject({ deletedAt: 5 });
  expect((await aCluster(store)).id).not.toBe(id);
  expect(await listClusters(store)).toHaveLength(1);
  expect(await listClusters(store, { includeDeleted: true })).toHaveLength(2);
  expect((await listEvents(store, { cluster: id })).map((event) => event.kind)).toEqual([
    'cluster.created',
    'cluster.deleting',
  ]);
});

test('a cluster that is to be kept is never gone', async () => {
  const store = await testStore();
  const leader = await lead(store, 'a');
  const { id } = await aCluster(store);

  await expect(setClusterGone(store, leader, id, 5)).rejects.toThrow('to be kept');
});

test('of two changes of the primary from one epoch exactly one wins', async () => {
  const path = join(testDirectory(), 'store.db');
  const [one, two] = [await testStore(path), await testStore(path)];
  const leader = await lead(one, 'a');
  const { id: clusterId } = await aCluster(one);
  const change = (primary: number) => ({
    clusterId,
    fromEpoch: 0,
    toEpoch: 1,
    primary,
    rule: aRule(1, { primary }),
  });

  const results = await Promise.all([commitPrimary(one, leader, change(1)), commitPrimary(two, leader, change(2))]);

  expect(results.filter(Boolean)).toHaveLength(1);
  expect((await getCluster(one, clusterId)).primary).toBe(results[0] ? 1 : 2);
});

test('the commit point may run twice, also after activation', async () => {
  const store = await testStore();
  const leader = await lead(store, 'a');
  const { id: clusterId } = await aCluster(store);
  const change = { clusterId, fromEpoch: 0, toEpoch: 1, primary: 0, rule: aRule(1) };

  expect(await commitPrimary(store, leader, change)).toBe(true);
  expect(await setActivated(store, leader, clusterId, 1, 7)).toBe(true);
  expect(await setActivated(store, leader, clusterId, 1, 8)).toBe(false);
  expect(await commitPrimary(store, leader, change)).toBe(true);

  expect(await getCluster(store, clusterId)).toMatchObject({ epoch: 1, primary: 0, activatedAt: 7, rule: aRule(1) });
});

test('a new primary is not activated by the one before', async () => {
  const store = await testStore();
  const leader = await lead(store, 'a');
  const { id: clusterId } = await aCluster(store);
  await commitPrimary(store, leader, { clusterId, fromEpoch: 0, toEpoch: 1, primary: 0, rule: aRule(1) });
  await setActivated(store, leader, clusterId, 1, 7);

  const rule = aRule(2, { primary: 1 });
  await commitPrimary(store, leader, { clusterId, fromEpoch: 1, toEpoch: 2, primary: 1, rule });

  expect(await setActivated(store, leader, clusterId, 1, 8)).toBe(false);
  expect(await getCluster(store, clusterId)).toMatchObject({ epoch: 2, primary: 1, activatedAt: null });
});

test('a rule changes by compare-and-set on its version, within its epoch', async () => {
  const store = await testStore();
  const leader = await lead(store, 'a');
  const { id: clusterId } = await aCluster(store);
  await commitPrimary(store, leader, { clusterId, fromEpoch: 0, toEpoch: 1, primary: 0, rule: aRule(1) });
  const set = (fromVersion: number, rule = aRule(1, { version: fromVersion + 1, k: 2 })) =>
    storeRule(store, leader, { clusterId, epoch: rule.epoch, fromVersion, rule });

  expect(await set(1)).toBe(true);
  expect(await set(1)).toBe(true);
  expect(await set(1, aRule(1, { version: 2, k: 0 }))).toBe(false);
  expect(await set(5)).toBe(false);
  expect(await set(2, aRule(3, { version: 3 }))).toBe(false);

  expect((await getCluster(store, clusterId)).rule).toEqual(aRule(1, { version: 2, k: 2 }));
});

test('a rule that cannot be is a fault', async () => {
  const store = await testStore();
  const leader = await lead(store, 'a');
  const { id: clusterId } = await aCluster(store);
  const commit = async (rule = aRule(1), toEpoch = 1) =>
    commitPrimary(store, leader, { clusterId, fromEpoch: 0, toEpoch, primary: 0, rule });

  await expect(commit(aRule(1, { k: -1 }))).rejects.toThrow('is negative');
  await expect(commit(aRule(1, { primary: 5 }))).rejects.toThrow('not among the voters');
  await expect(commit(aRule(2), 2)).rejects.toThrow('does not follow');
  await expect(commit(aRule(2), 1)).rejects.toThrow('another epoch');
});

test('an incarnation is initialised once, and a rebuilt one never', async () => {
  const store = await testStore();
  const leader = await lead(store, 'a');
  const { id: clusterId } = await aCluster(store);
  const key = { clusterId, ordinal: 1 };
  const { incarnation } = await members.getMember(store, clusterId, 1);

  expect(await members.markInitialised(store, leader, { ...key, incarnation: 'another', at: 3 })).toBe(false);
  expect(await members.markInitialised(store, leader, { ...key, incarnation, at: 4 })).toBe(true);
  expect(await members.markInitialised(store, leader, { ...key, incarnation, at: 5 })).toBe(false);
  const rebuilt = { ...key, incarnation: 'new', serverUuid: 'uuid', serverId: 77 };
  await members.setMemberIncarnation(store, leader, rebuilt);
  await members.setMemberIncarnation(store, leader, rebuilt);

  expect(await members.getMember(store, clusterId, 1)).toMatchObject({ ...rebuilt, initialisedAt: 4 });
});

test('a rebuild of a member that was never initialised forbids to initialise it empty', async () => {
  const store = await testStore();
  const leader = await lead(store, 'a');
  const { id: clusterId } = await aCluster(store);
  const key = { clusterId, ordinal: 1 };

  await members.setMemberIncarnation(store, leader, { ...key, incarnation: 'new', serverUuid: 'u', serverId: 77 });

  expect((await members.getMember(store, clusterId, 1)).initialisedAt).not.toBeNull();
});

test('a filling may be forgotten before there is a primary, and never later', async () => {
  const store = await testStore();
  const leader = await lead(store, 'a');
  const { id: clusterId } = await aCluster(store);
  const key = { clusterId, ordinal: 1 };
  const { incarnation } = await members.getMember(store, clusterId, 1);
  const fill = () => members.markInitialised(store, leader, { ...key, incarnation, at: 4 });

  await fill();
  expect(await members.forgetInitialised(store, leader, key)).toBe(true);
  expect(await members.forgetInitialised(store, leader, key)).toBe(false);
  expect(await members.getMember(store, clusterId, 1)).toMatchObject({ incarnation, initialisedAt: null });

  await fill();
  const asked = { reason: 'asked for', requestedBy: 'a test' };
  const { id } = await openFailover(store, { id: newId(), clusterId, kind: 'first', ...asked });
  expect(await members.forgetInitialised(store, leader, key), 'a primary is being chosen').toBe(false);
  await closeFailover(store, leader, id, 'done');
  await commitPrimary(store, leader, { clusterId, fromEpoch: 0, toEpoch: 1, primary: 0, rule: aRule(1) });
  expect(await members.forgetInitialised(store, leader, key), 'there was a primary').toBe(false);
  expect((await members.getMember(store, clusterId, 1)).initialisedAt).toBe(4);
});

test('phase and failures of a member can be set twice; an unknown member is refused', async () => {
  const store = await testStore();
  const leader = await lead(store, 'a');
  const { id: clusterId } = await aCluster(store);
  const key = { clusterId, ordinal: 2 };
  for (let round = 0; round < 2; round++) {
    await members.setMemberPhase(store, leader, { ...key, phase: 'joining' });
    await members.setMemberFailure(store, leader, { ...key, failures: 3, retryAt: 99 });
    await members.setMemberTask(store, leader, { ...key, taskId: 't' });
    await members.setMemberBundle(store, leader, { ...key, bundleId: 'b' });
  }

  expect(await members.getMember(store, clusterId, 2)).toMatchObject({
    phase: 'joining',
    failures: 3,
    retryAt: 99,
    taskId: 't',
    bundleId: 'b',
  });
  const unknown = members.setMemberPhase(store, leader, { clusterId, ordinal: 9, phase: 'x' });
  await expect(unknown).rejects.toMatchObject({ code: 'NOT_FOUND' });
  await expect(members.getMember(store, clusterId, 9)).rejects.toMatchObject({ code: 'NOT_FOUND' });
});
