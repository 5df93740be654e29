import { afterEach, expect, test } from 'vitest';
import * as backups from '../../src/store/backups.ts';
import * as bundles from '../../src/store/bundles.ts';
import { markClusterDeleted } from '../../src/store/clusters.ts';
import { addEvent, listEvents } from '../../src/store/events.ts';
import * as failovers from '../../src/store/failovers.ts';
import * as launches from '../../src/store/launches.ts';
import { lead } from '../../src/store/leadership.ts';
import { getMember } from '../../src/store/members.ts';
import * as rebuilds from '../../src/store/rebuilds.ts';
import { aBundle, aCluster, cleanUp, newId, someBundle, testClock, testStore } from './helper.ts';

afterEach(cleanUp);

async function world() {
  const clock = testClock();
  const store = await testStore(':memory:', clock);
  const leader = await lead(store, 'a');
  const { id: clusterId } = await aCluster(store);
  return { clock, store, leader, clusterId };
}
const byTest = { reason: 'test', requestedBy: 'test' };

test('an intended bundle is the member’s, is stored once, and comes back as it went in', async () => {
  const { store, leader, clusterId } = await world();
  const bundle = await aBundle(store, leader, clusterId);

  expect(await bundles.insertBundle(store, leader, { ...bundle, hostname: 'other' })).toEqual(bundle);

  expect(bundle).toMatchObject({ state: 'intended', bundle: someBundle, lastSeenAt: null });
  expect((await getMember(store, clusterId, 0)).bundleId).toBe(bundle.id);
  await expect(aBundle(store, leader, clusterId)).rejects.toThrow('has reservation');
});

test('a bundle only goes forward and leaves its member when it is released', async () => {
  const { store, leader, clusterId } = await world();
  const { id } = await aBundle(store, leader, clusterId);
  const set = (state: 'intended' | 'reserved' | 'releasing' | 'released', reason?: string) =>
    bundles.setBundleState(store, leader, id, state, reason);

  expect(await set('reserved')).toBe(true);
  expect(await set('reserved')).toBe(false);
  expect(await set('releasing', 'deleted by a person')).toBe(true);
  expect(await set('reserved')).toBe(false);
  expect((await getMember(store, clusterId, 0)).bundleId).toBe(id);
  expect(await set('released')).toBe(true);
  expect(await set('released')).toBe(false);

  expect(await bundles.getBundle(store, id)).toMatchObject({
    state: 'released',
    releaseReason: 'deleted by a person',
    releasedAt: store.clock.now(),
  });
  expect((await getMember(store, clusterId, 0)).bundleId).toBeNull();
});

test('a late release of an old attempt does not take the new bundle from its member', async () => {
  const { store, leader, clusterId } = await world();
  const old = await aBundle(store, leader, clusterId);
  await bundles.setBundleState(store, leader, old.id, 'releasing', 'aborted');
  const current = await aBundle(store, leader, clusterId);

  await bundles.setBundleState(store, leader, old.id, 'released');

  expect((await getMember(store, clusterId, 0)).bundleId).toBe(current.id);
});

test('a bundle follows its volumes to an agent with another id', async () => {
  const { store, leader, clusterId } = await world();
  const { id } = await aBundle(store, leader, clusterId);
  const place = { agentId: 'agent-9', hostname: 'nine.example', ip: '127.0.0.19' };

  await bundles.setBundleAgent(store, leader, { id, ...place });
  await bundles.setBundleAgent(store, leader, { id, ...place });

  expect(await bundles.getBundle(store, id)).toMatchObject({ state: 'intended', ...place });
});

test('bundles are listed by cluster and state; being seen is written once a minute', async () => {
  const { store, leader, clusterId } = await world();
  const one = await aBundle(store, leader, clusterId, 0);
  const two = await aBundle(store, leader, clusterId, 1);
  await bundles.setBundleState(store, leader, two.id, 'reserved');

  expect((await bundles.listBundles(store)).map(({ id }) => id)).toEqual([one.id, two.id]);
  expect(await bundles.listBundles(store, { clusterId: 'other' })).toEqual([]);
  expect((await bundles.listBundles(store, { clusterId, states: ['reserved'] })).map(({ id }) => id)).toEqual([two.id]);
  expect(await bundles.touchBundle(store, leader, one.id, 100_000)).toBe(true);
  expect(await bundles.touchBundle(store, leader, one.id, 160_000)).toBe(false);
  expect(await bundles.touchBundle(store, leader, one.id, 160_001)).toBe(true);
  expect(await bundles.findBundle(store, 'none')).toBeNull();
  await expect(bundles.getBundle(store, 'none')).rejects.toMatchObject({ code: 'NOT_FOUND' });
});

async function aLaunch({ store, leader, clusterId }: Awaited<ReturnType<typeof world>>, taskId = 't') {
  const bundle = (await bundles.listBundles(store, { clusterId }))[0] ?? (await aBundle(store, leader, clusterId));
  const input = { taskId, clusterId, ordinal: 0, bundleId: bundle.id, agentId: 'agent-1', token: 'launch-token' };
  return launches.insertLaunch(store, leader, input);
}
const update = (state: string, more: Partial<launches.TaskUpdate> = {}) => ({
  taskId: 't',
  state,
  reason: null,
  message: null,
  ...more,
});

test('a launch is stored once, its token only encrypted', async () => {
  const all = await world();
  const launch = await aLaunch(all);

  expect(await aLaunch(all)).toEqual(launch);

  expect(launch).toMatchObject({ token: 'launch-token', taskState: 'INTENDED', endedAt: null });
  expect(JSON.stringify(all.store.db.prepare('SELECT * FROM launch').all())).not.toContain('launch-token');
  expect((await getMember(all.store, all.clusterId, 0)).taskId).toBe('t');
  expect(await launches.findLaunch(all.store, 'unknown')).toBeNull();
});

test('a member has one launch that did not end', async () => {
  const all = await world();
  await aLaunch(all);
  await expect(aLaunch(all, 'u')).rejects.toThrow('has launch t');
  expect((await getMember(all.store, all.clusterId, 0)).taskId).toBe('t');

  await launches.updateTask(all.store, all.leader, update('TASK_FAILED', { endedAt: 9 }));

  await aLaunch(all, 'u');
  expect((await getMember(all.store, all.clusterId, 0)).taskId).toBe('u');
});

test('the first word about a data volume’s place counts', async () => {
  const { store, leader, clusterId } = await world();
  const { id } = await aBundle(store, leader, clusterId);
  const set = (place: string, beside: string | null) => {
    const backup = beside === null ? null : { place: beside, isOwnDevice: false };
    return bundles.setBundlePlace(store, leader, id, { place, backup });
  };

  expect(await set('12.5', null)).toBe('12.5');
  expect(await set('12.5', '20.1')).toBe('12.5');
  expect(await set('13.6', '21.2')).toBe('12.5');

  const { bundle } = await bundles.getBundle(store, id);
  expect(bundle.data).toMatchObject({ persistenceId: 'data-1', place: '12.5' });
  expect(bundle.backup?.place, 'that beside the data volume which is to be filled').toBe('20.1');
});

test('late and repeated task updates change nothing', async () => {
  const all = await world();
  await aLaunch(all);
  const { store, leader } = all;
  const set = (state: string, more?: Partial<launches.TaskUpdate>) =>
    launches.updateTask(store, leader, update(state, more));

  expect(await set('TASK_STARTING', { fingerprint: 'aa' })).toBe(true);
  expect(await set('TASK_STARTING', { fingerprint: 'aa' })).toBe(false);
  expect(await set('TASK_RUNNING')).toBe(true);
  expect(await set('TASK_STARTING', { fingerprint: 'bb' })).toBe(false);
  expect(await set('TASK_UNREACHABLE')).toBe(true);
  expect(await set('TASK_RUNNING', { fingerprint: 'bb' })).toBe(true);
  expect(await set('TASK_FAILED', { message: 'exit 1', endedAt: 9 })).toBe(true);
  expect(await set('TASK_FAILED', { message: 'exit 1', endedAt: 10 })).toBe(false);
  expect(await set('TASK_RUNNING')).toBe(false);

  expect(await launches.getLaunch(store, 't')).toMatchObject({
    taskState: 'TASK_FAILED',
    taskMessage: 'exit 1',
    fingerprint: 'aa',
    endedAt: 9,
  });
});

test('live launches are those that have not ended', async () => {
  const all = await world();
  await aLaunch(all, 't');
  await launches.updateTask(all.store, all.leader, update('TASK_KILLED', { endedAt: 9 }));
  all.clock.advance(1);
  await aLaunch(all, 'u');

  expect((await launches.listLiveLaunches(all.store)).map(({ taskId }) => taskId)).toEqual(['u']);
  expect((await launches.listLaunches(all.store, all.clusterId)).map(({ taskId }) => taskId)).toEqual(['t', 'u']);
});

test('the newest failover is the one that was opened last, in one millisecond and when the clock is set back', async () => {
  const { clock, store, leader, clusterId } = await world();
  const opened: string[] = [];
  for (const passedMs of [0, 0, 5000, -3_600_000, 1]) {
    clock.advance(passedMs);
    const input = { id: newId(), clusterId, kind: 'failover' as const, ...byTest };
    const { id } = await failovers.openFailover(store, input);
    await failovers.closeFailover(store, leader, id, 'refused');
    opened.unshift(id);

    expect((await failovers.findNewestFailover(store, clusterId))?.id).toBe(id);
  }

  expect((await failovers.listFailovers(store, clusterId)).map(({ id }) => id)).toEqual(opened);
});

test('one failover is open at a time; what it records is kept until it is closed', async () => {
  const { store, leader, clusterId } = await world();
  const input = { id: newId(), clusterId, kind: 'failover' as const, ...byTest, candidate: 1 };
  const failover = await failovers.openFailover(store, input);
  expect(await failovers.openFailover(store, input)).toEqual(failover);
  const second = failovers.openFailover(store, { ...input, id: newId() });
  await expect(second).rejects.toMatchObject({ code: 'OPERATION_OPEN', facts: { id: failover.id } });

  const step = { name: 'fenced', at: 5 };
  const fence = { layer: 'executor' as const, detail: 'reaped', at: 5 };
  for (let round = 0; round < 2; round++) {
    await failovers.recordFailover(store, leader, failover.id, { facts: { fence }, step });
    await failovers.recordFailover(store, leader, failover.id, { facts: { chosen: 1 }, toPrimary: 1 });
  }
  expect(await failovers.findOpenFailover(store, clusterId)).toMatchObject({
    facts: { fence, chosen: 1 },
    steps: [step],
    toPrimary: 1,
  });

  const refusal = { code: 'X', message: 'because' };
  expect(await failovers.closeFailover(store, leader, failover.id, 'refused', refusal)).toBe(true);
  expect(await failovers.closeFailover(store, leader, failover.id, 'done')).toBe(false);
  expect(await failovers.recordFailover(store, leader, failover.id, { toPrimary: 2 })).toBe(false);

  expect(await failovers.getFailover(store, failover.id)).toMatchObject({ outcome: 'refused', refusal, toPrimary: 1 });
  expect(await failovers.findOpenFailover(store, clusterId)).toBeNull();
  await failovers.openFailover(store, { ...input, id: newId() });
  expect(await failovers.listFailovers(store, clusterId)).toHaveLength(2);
});

test('a failover is refused when the caller believes in another primary or epoch, or the cluster goes', async () => {
  const { store, clusterId } = await world();
  const open = async (more: object) =>
    failovers.openFailover(store, { id: newId(), clusterId, kind: 'failover', ...byTest, ...more });

  await expect(open({ ifPrimary: 1 })).rejects.toMatchObject({ code: 'PRECONDITION' });
  await expect(open({ ifEpoch: 1 })).rejects.toMatchObject({ code: 'PRECONDITION' });
  await expect(open({ clusterId: 'none' })).rejects.toMatchObject({ code: 'NOT_FOUND' });
  await markClusterDeleted(store, clusterId);
  await expect(open({})).rejects.toMatchObject({ code: 'CLUSTER_DELETING' });
  expect(await failovers.listFailovers(store, clusterId)).toEqual([]);
});

test('one backup a member is open, others may run beside it', async () => {
  const { store, leader, clusterId } = await world();
  const input = { id: newId(), clusterId, ordinal: 1, ...byTest };
  const backup = await backups.openBackup(store, input);
  expect(await backups.openBackup(store, input)).toEqual(backup);
  await expect(backups.openBackup(store, { ...input, id: newId() })).rejects.toMatchObject({ code: 'OPERATION_OPEN' });
  const other = await backups.openBackup(store, { ...input, id: newId(), ordinal: 2 });

  const result = { state: 'complete' as const, gtidSet: 'a:1-5', bytes: 12 };
  expect(await backups.closeBackup(store, leader, backup.id, result)).toBe(true);
  expect(await backups.closeBackup(store, leader, backup.id, { state: 'failed' })).toBe(false);

  expect(await backups.getBackup(store, backup.id)).toMatchObject(result);
  expect((await backups.listOpenBackups(store, clusterId)).map(({ id }) => id)).toEqual([other.id]);
  expect(await backups.listBackups(store, clusterId)).toHaveLength(2);
  await backups.openBackup(store, { ...input, id: newId() });
});

test('nothing new begins on a cluster that is to go', async () => {
  const { store, clusterId } = await world();
  await markClusterDeleted(store, clusterId, 'someone');

  const input = { id: newId(), clusterId, ordinal: 1, ...byTest };
  const identity = { incarnation: newId(), serverUuid: newId() };

  await expect(backups.openBackup(store, input)).rejects.toMatchObject({ code: 'CLUSTER_DELETING' });
  await expect(rebuilds.openRebuild(store, { ...input, ...identity })).rejects.toMatchObject({
    code: 'CLUSTER_DELETING',
  });
  expect((await listEvents(store)).at(-1)).toMatchObject({ kind: 'cluster.deleting', data: { by: 'someone' } });
});

test('a rebuild chooses its identity once', async () => {
  const { store, leader, clusterId } = await world();
  const input = { id: newId(), clusterId, ordinal: 1, ...byTest, incarnation: newId(), serverUuid: newId() };
  const rebuild = await rebuilds.openRebuild(store, input);
  expect(await rebuilds.openRebuild(store, { ...input, incarnation: newId() })).toEqual(rebuild);
  expect(rebuild.serverId).toBe(4);
  const second = rebuilds.openRebuild(store, { ...input, id: newId() });
  await expect(second).rejects.toMatchObject({ code: 'OPERATION_OPEN' });

  expect(await rebuilds.setRebuild(store, leader, rebuild.id, { way: 'clone:0', attempts: 1 })).toBe(true);
  expect(await rebuilds.setRebuild(store, leader, rebuild.id, { attempts: 2 })).toBe(true);
  expect(await rebuilds.closeRebuild(store, leader, rebuild.id, { state: 'done' })).toBe(true);
  expect(await rebuilds.closeRebuild(store, leader, rebuild.id, { state: 'failed' })).toBe(false);
  expect(await rebuilds.setRebuild(store, leader, rebuild.id, { attempts: 9 })).toBe(false);

  expect(await rebuilds.getRebuild(store, rebuild.id)).toMatchObject({ state: 'done', way: 'clone:0', attempts: 2 });
  expect(await rebuilds.listOpenRebuilds(store, clusterId)).toEqual([]);
  expect(await rebuilds.listRebuilds(store, clusterId)).toHaveLength(1);
});

test('events are read in order, from a point on, of one cluster, or the newest', async () => {
  const { store, clusterId } = await world();
  for (let index = 0; index < 5; index++)
    await addEvent(store, { kind: 'member.lost', clusterId, cluster: 'orders', ordinal: index });
  await addEvent(store, { kind: 'leader.elected', data: { token: 1 } });

  const seqs = async (query: object) => (await listEvents(store, query)).map(({ seq }) => seq);

  expect(await seqs({})).toEqual([1, 2, 3, 4, 5, 6, 7]);
  expect(await seqs({ after: 4 })).toEqual([5, 6, 7]);
  expect(await seqs({ after: 2, limit: 2 })).toEqual([3, 4]);
  expect(await seqs({ limit: 2 })).toEqual([6, 7]);
  expect(await seqs({ after: 0, cluster: 'orders', limit: 3 })).toEqual([1, 2, 3]);
  expect((await listEvents(store, { after: 6 }))[0]).toMatchObject({
    kind: 'leader.elected',
    message: 'This process leads',
    data: { token: 1 },
  });
});
