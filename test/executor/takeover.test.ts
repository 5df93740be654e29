import { randomUUID } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createWorld, type TestMember, type World } from './world.ts';

/** What an executor makes of volumes as it finds them. The member is started once, so that its volumes are real. */
let world: World;
let member: TestMember;
let volume: string;
let marker: Record<string, unknown>;
const writeMarker = (change: Record<string, unknown>) =>
  writeFileSync(join(volume, 'selvedge.json'), JSON.stringify({ ...marker, ...change }));
const relaunch = async () => {
  await member.launch.destroy();
  await member.relaunch();
};

beforeAll(async () => {
  world = await createWorld(1, 74);
  member = world.members[0]!;
  volume = join(member.root, 'volumes', 'data-0');
});
afterAll(() => world?.destroy());

test('an initialisation that was interrupted goes on', async () => {
  const { plan } = member.launch;
  const { installation, cluster, clusterName, ordinal, incarnation, serverUuid, serverId } = plan;
  const about = { version: 1, installation, cluster, clusterName, ordinal, incarnation, serverUuid, serverId };
  marker = { ...about, kind: 'data', persistenceId: 'data-0', epoch: 0, isOwnDevice: false, fill: 'filled' };
  writeMarker({ fill: 'filling' });
  mkdirSync(join(volume, 'data.filling'));
  writeFileSync(join(volume, 'data.filling', 'half'), 'x');
  const backupMarker = { ...marker, kind: 'backup', persistenceId: 'backup-0' };
  writeFileSync(join(member.root, 'volumes', 'backup-0', 'selvedge.json'), JSON.stringify(backupMarker));
  await relaunch();
  expect(await member.status()).toMatchObject({ instance: 'failed', isInitialised: false });

  // The marker allows it, whatever the command says.
  expect(await member.start(false), member.launch.logs()).toMatchObject({ outcome: 'done' });

  expect(await member.status()).toMatchObject({ instance: 'running', isInitialised: true });
  expect(readdirSync(volume)).not.toContain('data.filling');
});

test('start again is nothing, also with initialise', async () => {
  const before = readFileSync(join(volume, 'data', 'auto.cnf'), 'utf8');

  expect(await member.start(true)).toMatchObject({ outcome: 'done' });

  expect(readFileSync(join(volume, 'data', 'auto.cnf'), 'utf8')).toBe(before);
});

test('a stopped member is started again with its data', async () => {
  await member.command({ kind: 'promote', k: 0, member: 0, timeoutMs: 5000 });
  const { gtidExecuted } = await member.until((each) => each.gtidExecuted !== '');
  await member.command({ kind: 'stop' });
  expect(await member.status()).toMatchObject({ instance: 'stopped', reason: { code: 'STOPPED' } });

  const started = await member.start();

  expect(started).toMatchObject({ outcome: 'done' });
  expect((await member.status()).isWritable).toBe(false);
  expect(started.outcome === 'done' && started.gtidExecuted?.includes(gtidExecuted.split(':')[0]!)).toBe(true);
});

test('an executor that dies while its instance is writable leaves a held member', async () => {
  await member.command({ kind: 'promote', k: 0, member: 0, timeoutMs: 5000 });
  await relaunch();

  expect(await member.status()).toMatchObject({ instance: 'held', reason: { code: 'HELD' }, epoch: 1 });
  expect(await member.start()).toMatchObject({ outcome: 'done' });
});

test('a start that cannot store the end of a hold leaves no mysqld behind', async () => {
  await member.command({ kind: 'promote', k: 0, member: 0, timeoutMs: 5000 });
  await relaunch();
  const inTheWay = join(volume, 'state.json.new');
  mkdirSync(inTheWay);
  expect(await member.start()).toMatchObject({ outcome: 'refused' });
  expect(await member.status()).toMatchObject({ instance: 'failed' });

  rmSync(inTheWay, { recursive: true });

  expect(await member.start(), member.launch.logs()).toMatchObject({ outcome: 'done' });
});

test('what an interrupted backup left is removed', async () => {
  mkdirSync(join(member.root, 'volumes', 'backup-0', 'backups', 'b9.partial'), { recursive: true });
  await relaunch();

  expect(readdirSync(join(member.root, 'volumes', 'backup-0', 'backups'))).toEqual([]);
  expect((await member.status()).backups).toEqual([]);
});

test('a rebuild is refused before anything is touched', async () => {
  const rebuilt = { incarnation: randomUUID(), serverUuid: randomUUID(), serverId: 3000 };
  expect(await member.start()).toMatchObject({ outcome: 'done' });
  const send = (backupId: string) =>
    member.launch.send(
      { kind: 'rebuild', ...rebuilt, from: { kind: 'backup', backupId } },
      { leaderToken: 9, epoch: 1 },
    );

  expect(await send('none')).toMatchObject({ code: 'BACKUP_DAMAGED' });
  expect(await send('../../data-0')).toMatchObject({ code: 'BAD_REQUEST' });
  expect(await member.status()).toMatchObject({ instance: 'running', isInitialised: true });
});

test('a rebuild that was interrupted refuses to start and may be sent again', async () => {
  writeMarker({ fill: 'rebuilding' });
  await relaunch();

  expect(await member.status()).toMatchObject({ instance: 'failed', reason: { code: 'REBUILD_UNFINISHED' } });
  expect(await member.start(true)).toMatchObject({ outcome: 'refused', code: 'REBUILD_UNFINISHED' });
});

test('another incarnation than the launch names is refused', async () => {
  writeMarker({ incarnation: randomUUID() });
  await relaunch();

  expect(await member.start(true)).toMatchObject({ outcome: 'refused', code: 'INCARNATION_MISMATCH' });
});

test('the volume of another cluster is refused whatever is commanded, and nothing on it changes', async () => {
  writeMarker({ cluster: randomUUID() });
  const before = readdirSync(volume).sort();
  await relaunch();

  expect(await member.status()).toMatchObject({ instance: 'failed', reason: { code: 'VOLUME_NOT_OURS' } });
  expect(await member.start(true)).toMatchObject({ code: 'VOLUME_NOT_OURS' });
  expect(await member.launch.send({ kind: 'fence' })).toMatchObject({ code: 'VOLUME_NOT_OURS' });
  expect(readdirSync(volume).sort()).toEqual(before);
});

test('a volume that was not there at the launch is taken when it is, by the start after the next', async () => {
  const { instance, reason } = await member.status();
  expect({ instance, code: reason?.code }).toEqual({ instance: 'failed', code: 'VOLUME_NOT_OURS' });
  writeMarker({});

  // The first start finds it: as it is, held or not, it is told before anything is started.
  expect(await member.start(false)).toMatchObject({ outcome: 'refused', code: 'VOLUME_NOT_OURS' });
  expect((await member.status()).instance).not.toBe('failed');
  expect(await member.start(false), member.launch.logs()).toMatchObject({ outcome: 'done' });

  expect(await member.status()).toMatchObject({ instance: 'running', isInitialised: true });
});

test('a volume that lost its marker is refused, and not filled', async () => {
  rmSync(join(volume, 'selvedge.json'));
  await relaunch();

  expect(await member.start(false)).toMatchObject({ code: 'VOLUME_NOT_OURS' });
  expect(await member.start(true)).toMatchObject({ code: 'VOLUME_NOT_OURS' });
});

test('SHUTDOWN ends the task as failed', async () => {
  member.launch.shutdown();

  await member.launch.exited;
  expect(member.launch.updates.at(-1)?.state).toBe('TASK_FAILED');
});
