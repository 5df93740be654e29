import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Status } from '../../src/channel/protocol.ts';
import { createWorld, type TestMember, type World } from './world.ts';

let world: World;
let member: TestMember;
const root = () => join(member.root, 'volumes', 'backup-0', 'backups');
const place = (id: string) => join(root(), id);
const data = (id: string) => join(place(id), 'data');

beforeAll(async () => {
  world = await createWorld(1, 61);
  member = world.members[0]!;
  await member.start(true);
  await member.command({ kind: 'promote', k: 0, member: 0, timeoutMs: 20_000 });
  await member.until((status) => status.isWritable);
  const session = await member.team();
  await session.query('CREATE DATABASE shop');
  await session.query('CREATE TABLE shop.orders (id INT PRIMARY KEY AUTO_INCREMENT, what VARCHAR(2000))');
  await session.query('CREATE TABLE shop.`odd ``name` (id INT PRIMARY KEY, large LONGTEXT)');
  await session.query("INSERT INTO shop.`odd ``name` VALUES (1, REPEAT('x', 100000))");
  for (let row = 0; row < 100; row += 1)
    await session.query("INSERT INTO shop.orders (what) VALUES (REPEAT('order ', 300))");
  await session.close();
}, 90_000);
afterAll(() => world.destroy());

let count = 0;
let id = '';
beforeEach(async () => {
  count += 1;
  if (id !== '') await member.command({ kind: 'removeBackup', backupId: id });
  id = `full-${count}`;
  await member.command({ kind: 'backup', backupId: id });
  await until(({ work }) => work?.kind === 'backup' && work.outcome === 'done');
}, 60_000);

const until = (what: (status: Status) => boolean) => member.until(what, 60_000);
const entryOf = (status: Status) => status.backups.find((backup) => backup.id === id);

async function verify(): Promise<Status> {
  const commandId = `verify-${count}-${Math.round(performance.now())}`;
  const result = await member.launch.send(
    { kind: 'verify', backupId: id },
    { epoch: 1, leaderToken: 9, id: commandId },
  );
  expect(result).toMatchObject({ outcome: 'accepted' });
  return until(({ work }) => work?.commandId === commandId && work.outcome !== 'running');
}

function hashesOf(directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((name) => statSync(join(directory, name)).isFile())
    .sort()
    .map(
      (name) =>
        `${name} ${createHash('sha256')
          .update(readFileSync(join(directory, name)))
          .digest('hex')}`,
    );
}

const read = (name: string) => JSON.parse(readFileSync(join(place(id), name), 'utf8'));

test('verifies a backup by starting it and reading every row, and changes nothing in it', async () => {
  const before = hashesOf(data(id));

  const status = await verify();

  expect(status.work).toMatchObject({ kind: 'verify', outcome: 'done' });
  expect(entryOf(status)).toMatchObject({ isBad: false, reason: null });
  expect(entryOf(status)?.verifiedAt).toBeGreaterThan(0);
  expect(hashesOf(data(id))).toEqual(before);
  expect(read('verified.json').rows).toBeGreaterThan(100);
  expect(Object.keys(read('checksums.json').tables)).toEqual(
    expect.arrayContaining(['shop.orders', 'shop.odd `name', 'mysql.user', 'selvedge.heartbeat']),
  );
  expect(readdirSync(root()).filter((name) => name.endsWith('.partial'))).toEqual([]);

  const again = await verify();

  expect(again.work).toMatchObject({ outcome: 'done' });
  expect(hashesOf(data(id))).toEqual(before);
}, 90_000);

const faults: Record<string, { readonly damage: () => Promise<void> | void; readonly says: RegExp }> = {
  'a truncated file': {
    damage: () => truncateSync(join(data(id), 'shop', 'orders.ibd'), 16_384),
    says: /orders\.ibd has 16384 bytes/,
  },
  'a flipped bit': {
    damage: async () => {
      await using file = await open(join(data(id), 'shop', 'orders.ibd'), 'r+');
      const { buffer } = await file.read(Buffer.alloc(1), 0, 1, 70_000);
      buffer[0]! ^= 1;
      await file.write(buffer, 0, 1, 70_000);
    },
    says: /orders\.ibd does not match its checksum/,
  },
  'a missing file': { damage: () => rmSync(join(data(id), 'shop', 'orders.ibd')), says: /files are missing: shop/ },
  'an extra file': { damage: () => writeFileSync(join(data(id), 'extra'), ''), says: /not its own: extra/ },
  'a missing manifest': { damage: () => rmSync(join(place(id), 'manifest.json')), says: /manifest is missing/ },
  'a garbled manifest': { damage: () => writeFileSync(join(place(id), 'manifest.json'), '{'), says: /manifest/ },
  'a garbled file list': { damage: () => writeFileSync(join(place(id), 'files.json'), '[]'), says: /file list/ },
  'a table that reads otherwise than the first time': {
    damage: () =>
      writeFileSync(join(place(id), 'checksums.json'), JSON.stringify({ version: 1, tables: { 'shop.orders': 1 } })),
    says: /tables read otherwise than the first time/,
  },
};

test.each(Object.entries(faults))(
  'finds %s, and the backup serves no rebuild',
  async (name, { damage, says }) => {
    await damage();

    const status = await verify();

    expect(status.work).toMatchObject({ outcome: 'failed', code: 'BACKUP_DAMAGED' });
    expect(status.work?.message).toMatch(says);
    if (!name.includes('manifest')) expect(entryOf(status)).toMatchObject({ isBad: true, verifiedAt: null });
    expect(read('bad.json').message).toMatch(says);
    const rebuild = await member.launch.send(
      {
        kind: 'rebuild',
        incarnation: 'other',
        serverUuid: '6a0c7d1e-0000-4000-8000-000000000001',
        serverId: 77,
        from: { kind: 'backup', backupId: id },
      },
      { epoch: 1, leaderToken: 9 },
    );
    expect(rebuild).toMatchObject({ outcome: 'refused' });
  },
  60_000,
);

test('takes a bad mark back when it passes later', async () => {
  writeFileSync(join(data(id), 'extra'), '');
  await verify();
  rmSync(join(data(id), 'extra'));

  const status = await verify();

  expect(entryOf(status)).toMatchObject({ isBad: false, reason: null });
  expect(existsSync(join(place(id), 'bad.json'))).toBe(false);
}, 60_000);

test('an mysqld that is killed while it reads proves nothing', async () => {
  await member.launch.send(
    { kind: 'verify', backupId: id, maxBytesPerSec: 32 * 1024 * 1024 },
    { epoch: 1, leaderToken: 9 },
  );
  const pid = await verifierPid();

  process.kill(pid, 'SIGKILL');

  const status = await until(({ work }) => work?.kind === 'verify' && work.outcome === 'failed');
  expect(status.work?.code).toBe('COMMAND_FAILED');
  expect(entryOf(status)).toMatchObject({ isBad: false, verifiedAt: null });
}, 120_000);

test('a verification gives way to a backup, and proves nothing then', async () => {
  const rate = 32 * 1024 * 1024;
  await member.launch.send({ kind: 'verify', backupId: id, maxBytesPerSec: rate }, { epoch: 1, leaderToken: 9 });
  await verifierPid();

  await member.command({ kind: 'backup', backupId: `${id}-2` });

  const status = await until(({ work }) => work?.kind === 'backup' && work.outcome === 'done');
  expect(findVerifier()).toBe(0);
  expect(entryOf(status)).toMatchObject({ isBad: false, verifiedAt: null });
  expect(status.backups.map((backup) => backup.id)).toEqual([id, `${id}-2`]);
  await member.command({ kind: 'removeBackup', backupId: `${id}-2` });
}, 120_000);

test('an executor that is killed while it verifies leaves nothing that counts', async () => {
  await member.launch.send(
    { kind: 'verify', backupId: id, maxBytesPerSec: 32 * 1024 * 1024 },
    { epoch: 1, leaderToken: 9 },
  );
  await verifierPid();

  await member.launch.destroy();

  expect(existsSync(join(root(), `${id}.verify.partial`))).toBe(true);
  await member.relaunch();
  const status = await until(({ areBackupsKnown }) => areBackupsKnown === true);
  expect(findVerifier()).toBe(0);
  expect(existsSync(join(root(), `${id}.verify.partial`))).toBe(false);
  expect(entryOf(status)).toMatchObject({ isBad: false, verifiedAt: null });
  await member.start();
  await member.command({ kind: 'promote', k: 0, member: 0, timeoutMs: 20_000 });
  expect((await verify()).work).toMatchObject({ outcome: 'done' });
}, 120_000);

test('removes a backup, twice', async () => {
  for (let round = 0; round < 2; round += 1) {
    expect(await member.command({ kind: 'removeBackup', backupId: id })).toMatchObject({ outcome: 'done' });
    expect(entryOf(await member.status())).toBeUndefined();
    expect(existsSync(place(id))).toBe(false);
  }
}, 60_000);

test('a volume without room refuses another backup with the numbers, and what is there stays', async () => {
  const filler = join(member.root, 'volumes', 'backup-0', 'filler');
  await using file = await open(filler, 'w');
  const chunk = Buffer.alloc(8 * 1024 * 1024, 1);
  for (let done = 0; done < 1800; done += 8) await file.write(chunk);

  const refused = await member.launch.send({ kind: 'backup', backupId: 'more' }, { epoch: 1, leaderToken: 9 });

  rmSync(filler);
  expect(refused).toMatchObject({ outcome: 'refused', code: 'BACKUP_NO_SPACE' });
  const { facts } = refused as { readonly facts: Record<string, number> };
  expect(facts['neededBytes']).toBeGreaterThan(facts['roomBytes']!);
  expect(facts['reserveBytes']).toBeGreaterThan(64 * 1024 * 1024);
  expect(entryOf(await member.status())).toBeDefined();
}, 60_000);

/** The mysqld that reads the backup, as soon as it is there; not the member's own. */
async function verifierPid(): Promise<number> {
  let found = 0;
  await until(() => {
    found = findVerifier();
    return found > 0;
  });
  return found;
}

function findVerifier(): number {
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const line = readFileSync(`/proc/${name}/cmdline`, 'utf8');
      if (line.includes('--innodb-read-only') && line.includes(`${id}.verify.partial`)) return Number(name);
    } catch {
      // it has ended meanwhile
    }
  }
  return 0;
}
