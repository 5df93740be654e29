import { afterEach, expect, test } from 'vitest';
import { type BackupPolicy, backupPolicyDefault } from '../../src/cluster/backup-policy.ts';
import { listBackups, openBackup, openRemoval } from '../../src/store/backups.ts';
import { setBackupPolicy } from '../../src/store/clusters.ts';
import type { BackupRow } from '../../src/store/rows.ts';
import { run } from '../../src/store/sql.ts';
import { listNewestVerifications } from '../../src/store/verifications.ts';
import { createScenario, type Scenario } from './scenario.ts';

let scenario: Scenario;
afterEach(() => scenario?.stop());

const minuteMs = 60_000;
const store = () => scenario.simulation.world.store;
const rows = (): Promise<BackupRow[]> => listBackups(store(), scenario.clusterId);
const inState = async (state: BackupRow['state']) => (await rows()).filter((row) => row.state === state);
const setPolicy = (policy: Partial<BackupPolicy>) =>
  setBackupPolicy(store(), scenario.clusterId, { ...backupPolicyDefault, jitterSeconds: 0, ...policy });

async function takeBackup(ordinal: number): Promise<string> {
  const id = scenario.simulation.world.newId();
  await openBackup(store(), { id, clusterId: scenario.clusterId, ordinal, requestedBy: 'a person' });
  scenario.wake();
  await scenario.until('the backup', async () => (await inState('complete')).some((row) => row.id === id));
  return id;
}

const verified = async () => (await rows()).filter(({ verifiedAt }) => verifiedAt !== null);

test('a run backs up every member once, one after the other, and each is verified', async () => {
  scenario = await createScenario({ seed: 11 });
  await setPolicy({ schedule: '*/10 * * * *', keepCount: 5 });
  let most = 0;

  await scenario.until(
    'all three',
    async () => {
      most = Math.max(most, (await inState('open')).length);
      return (await verified()).length === 3;
    },
    15 * minuteMs,
  );

  const found = await rows();
  expect(found.map(({ ordinal }) => ordinal).sort()).toEqual([0, 1, 2]);
  expect(new Set(found.map(({ dueAt }) => dueAt)).size).toBe(1);
  expect(found.every(({ requestedBy, state }) => requestedBy === 'schedule' && state === 'complete')).toBe(true);
  expect(most).toBe(1);
  expect(scenario.view().cluster.primary).toBe(found.at(0)?.ordinal);
}, 60_000);

test('runs that were missed while the control plane was away come once', async () => {
  scenario = await createScenario({ seed: 12, members: 1 });
  await setPolicy({ schedule: '* * * * *', keepCount: 50 });
  await scenario.until('the first', async () => (await inState('complete')).length === 1, 3 * minuteMs);
  const plane = scenario.simulation.active()!;
  plane.controller.stop();

  await scenario.run(5 * minuteMs);
  expect(await rows()).toHaveLength(1);
  await scenario.restartControlPlane();
  await scenario.until('the next', async () => (await inState('complete')).length === 2, 30_000);

  const [last, first] = await rows();
  expect(last!.dueAt! - first!.dueAt!).toBeGreaterThanOrEqual(4 * minuteMs);
}, 60_000);

test('one replica is backed up when the policy says so', async () => {
  scenario = await createScenario({ seed: 13 });
  await setPolicy({ schedule: '*/5 * * * *', members: 'replica' });

  await scenario.until('the backup', async () => (await verified()).length === 1, 8 * minuteMs);

  const found = await rows();
  expect(found).toHaveLength(1);
  expect(found[0]!.ordinal).not.toBe(scenario.view().cluster.primary);
}, 60_000);

test('backups beyond the policy go, and the last verified one stays', async () => {
  scenario = await createScenario({ seed: 14, members: 1 });
  await setPolicy({ schedule: null, keepCount: 1, keepDays: 0 });
  const first = await takeBackup(0);
  await scenario.until('verified', async () => (await verified()).length === 1);
  const second = await takeBackup(0);

  await scenario.until('the first is gone', async () => (await inState('removed')).length === 1, minuteMs);

  expect(await inState('removed')).toMatchObject([{ id: first, removalReason: 'the policy keeps it no longer' }]);
  expect(
    scenario
      .member(0)
      .status()
      .backups.map(({ id }) => id),
  ).toEqual([second]);
  await expect(openRemoval(store(), { id: second, reason: 'by hand', isForced: false })).rejects.toMatchObject({
    code: 'BACKUP_LAST_VERIFIED',
  });
  await openRemoval(store(), { id: second, reason: 'by hand', isForced: true });
  await scenario.until('both are gone', async () => (await inState('removed')).length === 2, minuteMs);
  expect(scenario.member(0).status().backups).toEqual([]);
}, 60_000);

test('a volume without room loses the oldest beyond the policy, and never the last verified one', async () => {
  scenario = await createScenario({ seed: 17, members: 1 });
  await setPolicy({ schedule: null, keepCount: 2, keepDays: 30 });
  const volume = scenario.member(0).options.backup!;
  const first = await takeBackup(0);
  await scenario.until('verified', async () => (await verified()).length === 1);
  const second = await takeBackup(0);
  await scenario.until('both verified', async () => (await verified()).length === 2);
  volume.backupsMax = 2;

  const third = await takeBackup(0);

  expect(await inState('removed')).toMatchObject([{ id: first, removalReason: 'a new backup needs the room' }]);
  expect(volume.backups.map(({ id }) => id)).toEqual([second, third]);
  volume.backupsMax = 1;
  const id = scenario.simulation.world.newId();
  await openBackup(store(), { id, clusterId: scenario.clusterId, ordinal: 0, requestedBy: 'a person' });
  scenario.wake();
  await scenario.until('refused', async () => (await inState('failed')).length === 1);
  expect(await inState('failed')).toMatchObject([{ id, code: 'BACKUP_NO_SPACE' }]);
  expect(volume.backups).toHaveLength(2);
}, 60_000);

test('a backup that is not on its volume any more is told as bad', async () => {
  scenario = await createScenario({ seed: 15, members: 1 });
  await setPolicy({ schedule: null });
  const id = await takeBackup(0);
  await scenario.until('verified', async () => (await verified()).length === 1);

  scenario.member(0).options.backup!.backups = [];
  scenario.member(0).changed();

  await scenario.until('bad', async () => (await rows()).some(({ badReason }) => badReason !== null), minuteMs);
  expect((await scenario.events('backup.bad')).map(({ data }) => data['backup'])).toEqual([id]);
}, 60_000);

test('a backup that is sealed after it was given up counts, and goes as the others do', async () => {
  scenario = await createScenario({ seed: 18, members: 1 });
  await setPolicy({ schedule: null, keepCount: 1, keepDays: 0 });
  const id = scenario.simulation.world.newId();
  await openBackup(store(), { id, clusterId: scenario.clusterId, ordinal: 0, requestedBy: 'a person' });
  scenario.wake();
  await scenario.until('it runs', () => scenario.member(0).status().work?.outcome === 'running');

  run(store(), "UPDATE backup SET state = 'failed', open_key = NULL, code = 'TIMED_OUT' WHERE id = ?", id);
  await scenario.until('it counts', async () => (await verified()).length === 1, minuteMs);

  expect(await rows()).toMatchObject([{ id, state: 'complete', code: null }]);
  expect((await scenario.events('backup.complete')).map(({ data }) => data['backup'])).toEqual([id]);
  await takeBackup(0);
  await scenario.until('it is gone', async () => (await inState('removed')).length === 1, minuteMs);
}, 60_000);

test('verifying goes on after the control plane and the executor died, and comes to one end', async () => {
  scenario = await createScenario({ seed: 16 });
  await setPolicy({ schedule: null });
  const id = await takeBackup(1);
  await scenario.until('begun', async () => (await listNewestVerifications(store(), scenario.clusterId)).length > 0);

  await scenario.restartControlPlane();
  await scenario.strike({ kind: 'killExecutor', target: 1 });

  await scenario.until('verified', async () => (await verified()).length === 1, 40 * minuteMs);
  expect((await verified())[0]!.id).toBe(id);
  expect((await listNewestVerifications(store(), scenario.clusterId)).filter(({ state }) => state === 'open')).toEqual(
    [],
  );
}, 60_000);
