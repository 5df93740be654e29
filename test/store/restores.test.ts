import { afterEach, expect, test } from 'vitest';
import { openBackup } from '../../src/store/backups.ts';
import { commitPrimary, getCluster, markClusterDeleted } from '../../src/store/clusters.ts';
import { openFailover } from '../../src/store/failovers.ts';
import { lead } from '../../src/store/leadership.ts';
import { getMember } from '../../src/store/members.ts';
import { listOpenRebuilds, openRebuild } from '../../src/store/rebuilds.ts';
import {
  beginFencing,
  closeRestore,
  commitRestore,
  findOpenRestore,
  getRestore,
  openRestore,
  recordFilled,
  recordRestore,
} from '../../src/store/restores.ts';
import type { Leader } from '../../src/store/rows.ts';
import type { Store } from '../../src/store/store.ts';
import { aCluster, aRule, cleanUp, newId, testStore } from './helper.ts';

afterEach(cleanUp);

const until = { kind: 'at', atMs: 5 } as const;
const backup = { id: 'a-backup', ordinal: 1, bytes: 10, gtidSet: '', endedAt: 4 };

async function world() {
  const store = await testStore();
  const leader: Leader = await lead(store, 'here');
  const { id: clusterId } = await aCluster(store);
  await commitPrimary(store, leader, { clusterId, fromEpoch: 0, toEpoch: 1, primary: 0, rule: aRule(1) });
  return { store, leader, clusterId };
}

const open = (store: Store, clusterId: string, id = newId()) =>
  openRestore(store, {
    ...{ id, clusterId, requestedBy: 'a person', ordinal: 1, isForced: false },
    origin: { clusterId, cluster: 'orders', backup, until, within: '', maxBytesPerSec: null },
    ...{ incarnation: newId(), serverUuid: newId(), safetyBackupId: newId() },
  });

const aRebuild = (clusterId: string) => ({
  ...{ id: newId(), clusterId, ordinal: 2, reason: 'r', requestedBy: 'x' },
  ...{ incarnation: newId(), serverUuid: newId() },
});
const aFailover = (clusterId: string) =>
  ({ id: newId(), clusterId, kind: 'failover', reason: 'r', requestedBy: 'x' }) as const;
const busy = { code: 'OPERATION_OPEN' };

test('a restore is opened once, and not beside other work', async () => {
  const { store, clusterId } = await world();
  const row = await open(store, clusterId);
  expect(await open(store, clusterId, row.id)).toEqual(row);
  await expect(open(store, clusterId)).rejects.toMatchObject(busy);
  expect(await findOpenRestore(store, clusterId)).toEqual(row);

  const other = await world();
  const rebuild = await openRebuild(other.store, aRebuild(other.clusterId));
  await expect(open(other.store, other.clusterId)).rejects.toMatchObject({ ...busy, facts: { id: rebuild.id } });

  const third = await world();
  await markClusterDeleted(third.store, third.clusterId);
  await expect(open(third.store, third.clusterId)).rejects.toMatchObject({ code: 'CLUSTER_DELETING' });
});

test('a cluster that is being created is not restored', async () => {
  const store = await testStore();
  const { id } = await aCluster(store);
  await expect(open(store, id)).rejects.toMatchObject({ code: 'NO_PRIMARY' });
});

test('it waits for other work, and is alone from the fence to its epoch', async () => {
  const { store, leader, clusterId } = await world();
  const { id, incarnation, serverUuid } = await open(store, clusterId);
  const failover = await openFailover(store, aFailover(clusterId));
  expect(await beginFencing(store, leader, id)).toBe(false);
  store.db.exec(`UPDATE failover SET outcome = 'done', open_key = NULL WHERE id = '${failover.id}'`);

  expect(await beginFencing(store, leader, id)).toBe(true);
  expect(await beginFencing(store, leader, id)).toBe(true);
  await expect(openFailover(store, aFailover(clusterId))).rejects.toMatchObject(busy);
  await expect(openRebuild(store, aRebuild(clusterId))).rejects.toMatchObject(busy);
  const aBackup = { id: newId(), clusterId, ordinal: 0, requestedBy: 'x' };
  await expect(openBackup(store, aBackup)).rejects.toMatchObject(busy);

  const step = { name: 'filled', at: 1 };
  await recordFilled(store, leader, id, { facts: { gtidSet: 'g' }, step });
  expect(await getMember(store, clusterId, 1)).toMatchObject({ incarnation, serverUuid });
  const rule = { epoch: 2, version: 1, primary: 1, voters: [{ ordinal: 1, incarnation }], k: 0, base: 'g' };
  const commit = { id, rule, rebuilds: [aRebuild(clusterId)], step: { name: 'committed', at: 2 } };
  expect(await commitRestore(store, leader, commit)).toBe(true);
  expect(await commitRestore(store, leader, commit)).toBe(false);
  expect(await getCluster(store, clusterId)).toMatchObject({ epoch: 2, primary: 1, rule, activatedAt: null });
  expect(await listOpenRebuilds(store, clusterId)).toHaveLength(1);
  expect(await openFailover(store, aFailover(clusterId))).toMatchObject({ outcome: 'open' });

  await recordRestore(store, leader, id, { facts: { held: 'h' } });
  expect(await getRestore(store, id)).toMatchObject({ facts: { gtidSet: 'g', held: 'h' }, fromEpoch: 1 });
  expect(await closeRestore(store, leader, id, { state: 'done' })).toBe(true);
  expect(await closeRestore(store, leader, id, { state: 'refused', code: 'ABORTED' })).toBe(false);
  expect(await getRestore(store, id)).toMatchObject({ state: 'done', code: null });
});

test('an older leader changes nothing', async () => {
  const { store, leader, clusterId } = await world();
  const { id } = await open(store, clusterId);
  await lead(store, 'there');
  await expect(beginFencing(store, leader, id)).rejects.toMatchObject({ code: 'STALE_LEADER' });
  await expect(recordRestore(store, leader, id, { attempts: 1 })).rejects.toMatchObject({ code: 'STALE_LEADER' });
});
