/** One of a member's two volumes is lost: the other one is untouched, and brings the member back. */
import { randomUUID } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
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

test('a data volume that was lost is filled from the backup of the incarnation before', async () => {
  const before = await member().status();
  await member().launch.destroy();
  empty('data');
  await member().relaunch();
  expect(await member().start()).toMatchObject({ outcome: 'refused', code: 'VOLUME_NOT_OURS' });
  const rebuilt = { incarnation: randomUUID(), serverUuid: randomUUID(), serverId: 2000 };
  const { secrets } = member();

  await member().command({ kind: 'rebuild', ...rebuilt, secrets, from: { kind: 'backup', backupId: 'b1' } });
  const status = await member().until(({ work }) => work?.kind === 'rebuild' && work.outcome !== 'running', 90_000);

  expect(status).toMatchObject({ instance: 'running', incarnation: rebuilt.incarnation, work: { outcome: 'done' } });
  expect(hasDatabase()).toBe(true);
  expect(status.backups).toMatchObject([{ id: 'b1' }]);
  // Its archive goes on being told and served, whoever wrote it.
  expect(status.archive?.spans.map(({ serverUuid }) => serverUuid)).toContain(before.serverUuid);
}, 200_000);
