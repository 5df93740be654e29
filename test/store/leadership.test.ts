import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { closeBackup, openBackup } from '../../src/store/backups.ts';
import { insertBundle, setBundleAgent, setBundlePlace, setBundleState, touchBundle } from '../../src/store/bundles.ts';
import { commitPrimary, setActivated, setClusterGone, storeRule } from '../../src/store/clusters.ts';
import { closeFailover, openFailover, recordFailover } from '../../src/store/failovers.ts';
import { insertLaunch, updateTask } from '../../src/store/launches.ts';
import { getFrameworkId, lead, setFrameworkId } from '../../src/store/leadership.ts';
import * as members from '../../src/store/members.ts';
import { closeRebuild, openRebuild, setRebuild } from '../../src/store/rebuilds.ts';
import type { Leader } from '../../src/store/rows.ts';
import { aBundle, aCluster, aRule, cleanUp, newId, someBundle, testDirectory, testStore } from './helper.ts';

afterEach(cleanUp);

test('everything that an older leader tries to change is refused, by whichever connection', async () => {
  const path = join(testDirectory(), 'store.db');
  const store = await testStore(path);
  const newer = await testStore(path);
  const old = await lead(store, 'old');
  const { id: clusterId } = await aCluster(store);
  const key = { clusterId, ordinal: 0 };
  const bundle = await aBundle(store, old, clusterId);
  const launch = { taskId: 't', ...key, bundleId: bundle.id, agentId: 'a', token: 'x' };
  await insertLaunch(store, old, launch);
  const { id: failover } = await openFailover(store, { id: newId(), ...key, kind: 'first', ...byTest });
  const { id: backup } = await openBackup(store, { id: newId(), ...key, ...byTest });
  const rebuildInput = { id: newId(), ...key, ...byTest, incarnation: newId(), serverUuid: newId() };
  const { id: rebuild } = await openRebuild(store, rebuildInput);

  await lead(newer, 'new');

  const dumpBefore = dump();
  const refused = await Promise.allSettled(allChanges(old));
  expect(refused.filter((result) => result.status === 'fulfilled')).toEqual([]);
  for (const result of refused) expect(result).toMatchObject({ reason: { code: 'STALE_LEADER' } });
  expect(dump()).toEqual(dumpBefore);

  function allChanges(leader: Leader): Promise<unknown>[] {
    const rule = aRule(1);
    return [
      setFrameworkId(store, leader, 'f'),
      setClusterGone(store, leader, clusterId, 1),
      commitPrimary(store, leader, { clusterId, fromEpoch: 0, toEpoch: 1, primary: 0, rule }),
      storeRule(store, leader, { clusterId, epoch: 1, fromVersion: 0, rule }),
      setActivated(store, leader, clusterId, 1, 1),
      members.setMemberBundle(store, leader, { ...key, bundleId: null }),
      members.setMemberTask(store, leader, { ...key, taskId: null }),
      members.markInitialised(store, leader, { ...key, incarnation: 'x', at: 1 }),
      members.forgetInitialised(store, leader, key),
      members.setMemberIncarnation(store, leader, { ...key, incarnation: 'x', serverUuid: 'y', serverId: 99 }),
      members.setMemberPhase(store, leader, { ...key, phase: 'x' }),
      members.setMemberFailure(store, leader, { ...key, failures: 1, retryAt: 1 }),
      members.nextServerId(store, leader),
      insertBundle(store, leader, { ...bundle, id: newId(), bundle: someBundle }),
      setBundleState(store, leader, bundle.id, 'released'),
      setBundleAgent(store, leader, { id: bundle.id, agentId: 'x', hostname: 'y', ip: 'z' }),
      setBundlePlace(store, leader, bundle.id, { place: '1.1', backup: null }),
      touchBundle(store, leader, bundle.id, 5),
      insertLaunch(store, leader, { ...launch, taskId: 'u' }),
      updateTask(store, leader, { taskId: 't', state: 'TASK_LOST', reason: null, message: null }),
      openFailover(store, { id: newId(), ...key, kind: 'failover', ...byTest, leader }),
      recordFailover(store, leader, failover, { toPrimary: 1 }),
      closeFailover(store, leader, failover, 'done'),
      openBackup(store, { id: newId(), ...key, ...byTest, leader }),
      closeBackup(store, leader, backup, { state: 'failed' }),
      openRebuild(store, { ...rebuildInput, leader }),
      setRebuild(store, leader, rebuild, { attempts: 3 }),
      closeRebuild(store, leader, rebuild, { state: 'done' }),
    ];
  }

  function dump(): unknown[] {
    const tables = ['setting', 'sequence', 'cluster', 'member', 'bundle', 'launch', 'failover', 'backup', 'rebuild'];
    return tables.map((table) => store.db.prepare(`SELECT * FROM ${table}`).all());
  }
});

const byTest = { reason: 'test', requestedBy: 'test' };

test('the framework id is null until it is set, and may be set twice', async () => {
  const store = await testStore();
  const leader = await lead(store, 'a');
  expect(await getFrameworkId(store)).toBeNull();

  await setFrameworkId(store, leader, 'f-1');
  await setFrameworkId(store, leader, 'f-1');

  expect(await getFrameworkId(store)).toBe('f-1');
});
