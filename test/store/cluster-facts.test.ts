import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { type ClusterFacts, readClusterFacts } from '../../src/store/cluster-facts.ts';
import { markClusterDeleted } from '../../src/store/clusters.ts';
import { lead } from '../../src/store/leadership.ts';
import { setMemberPhase } from '../../src/store/members.ts';
import { transaction } from '../../src/store/store.ts';
import { aCluster, cleanUp, newId, testDirectory, testStore } from './helper.ts';

afterEach(cleanUp);

const phases = ({ members }: ClusterFacts) => members.map(({ member }) => member.phase);

test('reads the rows once while nothing is written', async () => {
  const store = await testStore();
  const { id } = await aCluster(store);

  const first = await readClusterFacts(store, id);

  expect(await readClusterFacts(store, id)).toBe(first);
  expect(first).toMatchObject({ cluster: { id }, openFailover: null, keptBackups: [], openRebuilds: [] });
});

test('shows a change by its own connection at once', async () => {
  const store = await testStore();
  const { id } = await aCluster(store);
  const leader = await lead(store, 'tester');
  await readClusterFacts(store, id);

  await setMemberPhase(store, leader, { clusterId: id, ordinal: 1, phase: 'joining' });

  expect(phases(await readClusterFacts(store, id))).toEqual(['new', 'joining', 'new']);
});

test('shows a change by another process at once', async () => {
  const path = join(testDirectory(), 'store.db');
  const [store, other] = [await testStore(path), await testStore(path)];
  const { id } = await aCluster(store);
  await readClusterFacts(store, id);

  await markClusterDeleted(other, id);

  expect((await readClusterFacts(store, id)).cluster.desired).toBe('deleted');
});

test('never shows what was rolled back', async () => {
  const store = await testStore();
  const { id } = await aCluster(store);
  const seen: Promise<ClusterFacts>[] = [];

  await transaction(store, () => {
    store.db.prepare("UPDATE member SET phase = 'half'").run();
    seen.push(readClusterFacts(store, id));
    throw new Error('no');
  }).catch(() => {});

  await seen[0];
  expect(phases(await readClusterFacts(store, id))).toEqual(['new', 'new', 'new']);
});

test('a refusal is not remembered', async () => {
  const store = await testStore();
  const id = newId();

  await expect(readClusterFacts(store, id)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  await expect(readClusterFacts(store, id)).rejects.toMatchObject({ code: 'NOT_FOUND' });
});
