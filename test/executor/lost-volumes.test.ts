/** One of a member's two volumes is lost: the other one is untouched, and brings the member back. */
import { randomUUID } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createWorld, type TestMember, type World } from './world.ts';

let world: World;
const member = (): TestMember => world.members[0]!;
const volume = (name: 'data' | 'backup') => join(member().root, 'volumes', `${name}-0`);
const empty = (name: 'data' | 'backup') => {
  for (const entry of readdirSync(volume(name))) rmSync(join(volume(name), entry), { recursive: true });
};

beforeAll(async () => {
  world = await createWorld(1, 97);
  await member().start(true);
  await member().command({ kind: 'promote', k: 0, member: 0, timeoutMs: 20_000 });
  const session = await member().team();
  await session.query('CREATE DATABASE kept');
  await session.close();
  await member().command({ kind: 'demote', maxPauseMs: 5000 });
}, 120_000);
afterAll(() => world?.destroy());

async function backUp(backupId: string): Promise<void> {
  await member().command({ kind: 'backup', backupId });
  const { work } = await member().until(({ work }) => work?.outcome !== 'running', 90_000);
  expect(work).toMatchObject({ kind: 'backup', outcome: 'done' });
}

const hasDatabase = () => existsSync(join(volume('data'), 'data', 'kept'));

test('an empty backup volume beside good data is refused, and taken once a person has marked it', async () => {
  await member().launch.destroy();
  empty('backup');
  await member().relaunch();
  expect(await member().start()).toMatchObject({ outcome: 'refused', code: 'VOLUME_NOT_OURS' });
  expect(readdirSync(volume('backup'))).toEqual([]);
  expect(hasDatabase()).toBe(true);

  // As docs/operations.md says.
  const marker = JSON.parse(readFileSync(join(volume('data'), 'selvedge.json'), 'utf8')) as object;
  const made = { ...marker, kind: 'backup', persistenceId: 'backup-0', isOwnDevice: false };
  writeFileSync(join(volume('backup'), 'selvedge.json'), JSON.stringify(made));
  await member().start(); // looks again
  expect(await member().start()).toMatchObject({ outcome: 'done' });

  await backUp('b1');
  expect(hasDatabase()).toBe(true);
}, 200_000);

test('told that this very directory may be taken, it takes the empty backup volume by itself', async () => {
  await member().launch.destroy();
  empty('backup');
  await member().relaunch();
  const { place, ...found } = (await member().status()).volumesFound!.backup!;
  expect(found).toEqual({ isOwnDevice: false, isMarked: false, isEmpty: true });
  const take = (where: string, leaderToken = 9) =>
    member().launch.send({ kind: 'takeBackupVolume', place: where }, { epoch: 1, leaderToken });

  expect(await take('1.1')).toMatchObject({ outcome: 'refused', code: 'VOLUME_NOT_OURS' });
  expect(await take(place, 1)).toMatchObject({ outcome: 'refused', code: 'STALE_LEADER' });
  writeFileSync(join(volume('backup'), 'else.txt'), 'somebody');
  expect(await take(place)).toMatchObject({ outcome: 'refused', code: 'VOLUME_NOT_OURS' });
  expect(readdirSync(volume('backup'))).toEqual(['else.txt']);
  empty('backup');
  expect((await take(place)).outcome).toBe('refused'); // the launch was: it looks again, and says so
  expect(await take(place)).toMatchObject({ outcome: 'done' });
  await member().start();

  expect((await member().status()).volumesFound?.backup).toMatchObject({ place, isMarked: true });
  await backUp('b0');
  expect(hasDatabase()).toBe(true);
}, 200_000);

test('a backup volume that is emptied under it is noticed, and not written to before it is taken', async () => {
  empty('backup');
  const lost = await member().until(({ volumesFound }) => volumesFound?.backup?.isEmpty === true);
  expect(lost).toMatchObject({ instance: 'running', backups: [], areBackupsKnown: true, archive: null });
  const result = await member().launch.send({ kind: 'backup', backupId: 'b1' }, { epoch: 1, leaderToken: 9 });
  expect(result).toMatchObject({ outcome: 'refused', code: 'VOLUME_LOST' });
  expect(readdirSync(volume('backup'))).toEqual([]);

  await member().command({ kind: 'takeBackupVolume', place: lost.volumesFound!.backup!.place });
  const { archive } = await member().until(({ archive }) => archive?.pendingBytes === 0 && archive.bytes > 0);
  expect(archive?.error).toBe(null);
  await backUp('b1');
}, 200_000);

test('the disk that was there before comes back while it runs, and is used as it is', async () => {
  const away = `${volume('backup')}.away`;
  renameSync(volume('backup'), away);
  mkdirSync(volume('backup'));
  await member().until(({ volumesFound }) => volumesFound?.backup?.isEmpty === true);
  rmdirSync(volume('backup'));
  renameSync(away, volume('backup'));

  const back = await member().until(({ volumesFound }) => volumesFound?.backup?.isMarked === true);
  expect(back.backups).toMatchObject([{ id: 'b1' }]);
  await member().until(({ archive }) => archive?.pendingBytes === 0 && archive.error === null);
}, 100_000);

test('a data volume that was lost is filled from the backup of the incarnation before', async () => {
  const before = await member().status();
  await member().launch.destroy();
  empty('data');
  await member().relaunch();
  expect(await member().start()).toMatchObject({ outcome: 'refused', code: 'VOLUME_NOT_OURS' });
  const rebuilt = { incarnation: randomUUID(), serverUuid: randomUUID(), serverId: 2000 };
  const { secrets } = member();

  const { place } = (await member().status()).volumesFound!.data;
  const from = { kind: 'backup', backupId: 'b1' } as const;
  const elsewhere = { kind: 'rebuild', ...rebuilt, secrets, from, emptyPlace: '1.1' } as const;
  const refused = await member().launch.send(elsewhere, { epoch: 1, leaderToken: 9 });
  expect(refused).toMatchObject({ outcome: 'refused', code: 'VOLUME_NOT_OURS' });
  expect(readdirSync(volume('data'))).toEqual([]);

  await member().command({ kind: 'rebuild', ...rebuilt, secrets, from, emptyPlace: place });
  const status = await member().until(({ work }) => work?.kind === 'rebuild' && work.outcome !== 'running', 90_000);

  expect(status).toMatchObject({ instance: 'running', incarnation: rebuilt.incarnation, work: { outcome: 'done' } });
  expect(hasDatabase()).toBe(true);
  expect(status.backups).toMatchObject([{ id: 'b1' }]);
  // Its archive goes on being told and served, whoever wrote it.
  expect(status.archive?.spans.map(({ serverUuid }) => serverUuid)).toContain(before.serverUuid);
}, 200_000);
