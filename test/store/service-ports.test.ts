import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, expect, test } from 'vitest';
import { insertCluster, listClusters, markClusterDeleted, setClusterGone } from '../../src/store/clusters.ts';
import { lead } from '../../src/store/leadership.ts';
import { openStore, type Store } from '../../src/store/store.ts';
import { aCluster, aSpec, cleanUp, newId, someSecrets, sqlDir, testClock, testDirectory, testKey } from './helper.ts';

const stores: Store[] = [];
afterEach(() => {
  for (const store of stores.splice(0)) store.close();
  cleanUp();
});

async function aStore(servicePorts = { begin: 20_000, end: 20_002 }, path = ':memory:'): Promise<Store> {
  const store = await openStore({ path, key: testKey, clock: testClock(), newId, sqlDir, servicePorts });
  stores.push(store);
  return store;
}

async function removeCluster(store: Store, id: string): Promise<void> {
  await markClusterDeleted(store, id);
  await setClusterGone(store, await lead(store, 'test'), id, 5);
}

test('every cluster has a port of its own, and the same one for life', async () => {
  const store = await aStore();

  const [one, two] = [await aCluster(store, 'one'), await aCluster(store, 'two')];
  const again = await insertCluster(store, { id: one.id, spec: aSpec('one'), secrets: someSecrets, members: [] });

  expect([one.servicePort, two.servicePort, again.servicePort]).toEqual([20_000, 20_001, 20_000]);
});

test('a port is given again only after all others of the range', async () => {
  const store = await aStore();
  const one = await aCluster(store, 'one');
  await aCluster(store, 'two');
  await removeCluster(store, one.id);

  const three = await aCluster(store, 'three');
  const four = await aCluster(store, 'four');

  expect(three.servicePort).toBe(20_002);
  expect(four.servicePort).toBe(20_000);
  expect((await listClusters(store, { includeDeleted: true })).find(({ id }) => id === one.id)?.servicePort).toBeNull();
});

test('without a free port a cluster is refused, and the sequence goes on when one is free again', async () => {
  const store = await aStore();
  const [one] = [await aCluster(store, 'a'), await aCluster(store, 'b'), await aCluster(store, 'c')];

  await expect(aCluster(store, 'd')).rejects.toMatchObject({ code: 'NO_SERVICE_PORT' });
  await removeCluster(store, one.id);

  expect((await aCluster(store, 'd')).servicePort).toBe(one.servicePort);
});

test('clusters from before get their port when the store is opened', async () => {
  const path = join(testDirectory(), 'store.db');
  const before = await aStore(undefined, path);
  await aCluster(before, 'one');
  before.close();
  const db = new DatabaseSync(path);
  db.exec('UPDATE cluster SET service_port = NULL');
  db.close();

  const after = await aStore({ begin: 30_000, end: 30_009 }, path);

  const [one] = await listClusters(after);
  expect(one?.servicePort).toBeGreaterThanOrEqual(30_000);
  after.close();
  const again = await aStore({ begin: 30_000, end: 30_009 }, path);
  expect((await listClusters(again))[0]?.servicePort).toBe(one?.servicePort);
});
