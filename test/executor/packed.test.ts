/** A packed backup of a real instance: made, killed on the way, verified, damaged, and a member is rebuilt from it. */
import { randomBytes, randomUUID } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { CommandBody, Status } from '../../src/channel/protocol.ts';
import { keyIdOf } from '../../src/cluster/backup-key.ts';
import { executorRuntime } from '../../src/executor/runtime.ts';
import { cacheDir } from '../mysql/instance.ts';
import { ownSession, volumeOf } from './trim-world.ts';
import { createWorld, type TestMember, type World } from './world.ts';

const LIMIT_MS = 240_000;
const orders = mkdtempSync(join(tmpdir(), 'svo-'));
const orderPath = join(orders, 'order');
let world: World;
let member: TestMember;
const root = () => join(volumeOf(member, 'backup'), 'backups');
const until = (what: (status: Status) => boolean) => member.until(what, 60_000);
const backup = (id: string): CommandBody => ({ kind: 'backup', backupId: id, compress: 'zstd' });
const entryOf = (status: Status, id: string) => status.backups.find((each) => each.id === id);
const rebuild = (backupId = 'one'): CommandBody => ({
  kind: 'rebuild',
  ...{ incarnation: randomUUID(), serverUuid: randomUUID(), serverId: 2000 },
  from: { kind: 'backup', backupId },
});
const backupKey = randomBytes(32).toString('hex');
const keyId = keyIdOf(Buffer.from(backupKey, 'hex'));

beforeAll(async () => {
  const options = `${executorRuntime(cacheDir)['NODE_OPTIONS']} --import=${join(import.meta.dirname, 'strike.ts')}`;
  world = await createWorld(1, 64, { NODE_OPTIONS: options, SELVEDGE_TEST_STRIKE: orderPath });
  member = world.members[0]!;
  await member.start(true);
  const session = await ownSession(member);
  await session.query('SET GLOBAL super_read_only = OFF');
  await session.query('CREATE DATABASE shop');
  await session.query('CREATE TABLE shop.orders (id INT PRIMARY KEY, what VARCHAR(2000))');
  const rows = Array.from({ length: 200 }, (_, id) => `(${id}, REPEAT('order ', 300))`).join(',');
  await session.query(`INSERT INTO shop.orders VALUES ${rows}`);
  await session.query('SET GLOBAL super_read_only = ON');
  await session.close();
}, 120_000);
afterAll(async () => {
  await world?.destroy();
  rmSync(orders, { recursive: true, force: true });
});

async function run(body: CommandBody): Promise<Status> {
  const id = randomUUID();
  const result = await member.launch.send(body, { epoch: 1, leaderToken: 9, id });
  expect(result, member.launch.logs()).toMatchObject({ outcome: 'accepted' });
  return until(({ work }) => work?.commandId === id && work.outcome !== 'running');
}

async function strike(point: string, body: CommandBody): Promise<Status> {
  writeFileSync(orderPath, point);
  await member.command(body).catch(() => {}); // it may end before its answer is on the way
  await member.launch.exited;
  await member.launch.destroy();
  await member.relaunch();
  return until(({ areBackupsKnown }) => areBackupsKnown === true);
}

test(
  'it counts when every file was packed and read back, not before',
  async () => {
    expect((await strike('step packing', backup('one'))).backups).toEqual([]);
    expect(readdirSync(root())).toEqual([]);
    await member.start();

    const status = await run(backup('one'));

    expect(status.work, member.launch.logs()).toMatchObject({ outcome: 'done' });
    const { bytes = 0, storedBytes = 0 } = entryOf(status, 'one')!;
    expect(storedBytes).toBeGreaterThan(0);
    expect(storedBytes).toBeLessThan(bytes / 3);
    expect(existsSync(join(root(), 'one', 'packed', 'shop', 'orders.ibd.zst'))).toBe(true);
    expect(existsSync(join(root(), 'one', 'data', 'shop', 'orders.ibd'))).toBe(false);
    expect(JSON.parse(readFileSync(join(root(), 'one', 'manifest.json'), 'utf8'))).toMatchObject({ version: 2, bytes });
  },
  LIMIT_MS,
);

test(
  'it is verified, also after a kill while it was unpacked, and nothing stays of that',
  async () => {
    const killed = await strike('step unpacking', { kind: 'verify', backupId: 'one' });
    expect(entryOf(killed, 'one')).toMatchObject({ isBad: false, verifiedAt: null });

    for (let round = 0; round < 2; round += 1) {
      const status = await run({ kind: 'verify', backupId: 'one' });

      expect(status.work, member.launch.logs()).toMatchObject({ outcome: 'done' });
      expect(entryOf(status, 'one')?.verifiedAt).toBeGreaterThan(0);
      expect(readdirSync(root())).toEqual(['one']);
    }
    await member.start();
  },
  LIMIT_MS,
);

test(
  'an encrypted one: made only with a key, read only with its own, verified, and a member is rebuilt from it',
  async () => {
    const encrypted: CommandBody = { kind: 'backup', backupId: 'two', compress: 'zstd+aes-256-gcm' };
    expect(await member.launch.send(encrypted, { epoch: 1, leaderToken: 9 })).toMatchObject({
      code: 'BACKUP_KEY_UNKNOWN',
    });
    expect((await strike('step packing', { ...encrypted, backupKey })).backups.map(({ id }) => id)).toEqual(['one']);
    await member.start();

    const made = await run({ ...encrypted, backupKey });

    expect(made.work, member.launch.logs()).toMatchObject({ outcome: 'done' });
    expect(entryOf(made, 'two')).toMatchObject({ keyId, isBad: false });
    expect(entryOf(made, 'one')).toMatchObject({ keyId: null });
    const directory = join(root(), 'two');
    const stored = readdirSync(directory, { recursive: true, encoding: 'utf8' });
    expect(stored).toContain('packed/shop/orders.ibd.zst.enc');
    expect(stored.filter((name) => name.endsWith('.ibd'))).toEqual([]);
    expect(readFileSync(join(directory, 'packed/shop/orders.ibd.zst.enc')).includes('order order')).toBe(false);
    expect(member.launch.logs()).not.toContain(backupKey);

    await member.launch.destroy(); // its memory had the key
    await member.relaunch();
    await until(({ areBackupsKnown }) => areBackupsKnown === true);
    await member.start();
    const closed = await run({ kind: 'verify', backupId: 'two' });
    expect(closed.work).toMatchObject({ outcome: 'failed', code: 'BACKUP_KEY_UNKNOWN' });
    expect(entryOf(closed, 'two')).toMatchObject({ isBad: false });
    expect(await member.launch.send(rebuild('two'), { epoch: 1, leaderToken: 9 })).toMatchObject({
      code: 'BACKUP_KEY_UNKNOWN',
    });

    const verified = await run({ kind: 'verify', backupId: 'two', backupKey });
    expect(verified.work, member.launch.logs()).toMatchObject({ outcome: 'done' });
    expect(entryOf(verified, 'two')?.verifiedAt).toBeGreaterThan(0);
    expect((await run(rebuild('two'))).work, member.launch.logs()).toMatchObject({ outcome: 'done' });
    const session = await ownSession(member);
    expect(await session.query('SELECT COUNT(*) AS count FROM shop.orders')).toEqual([{ count: 200 }]);
    await session.close();
  },
  LIMIT_MS,
);

test(
  'a member is rebuilt from it; from a damaged one it is not, and a verification finds the damage',
  async () => {
    const status = await run(rebuild());

    expect(status.work, member.launch.logs()).toMatchObject({ outcome: 'done' });
    const session = await ownSession(member);
    const [row] = await session.query<{ count: number }>('SELECT COUNT(*) AS count FROM shop.orders');
    await session.close();
    expect(row?.count).toBe(200);

    const path = join(root(), 'one', 'packed', 'mysql.ibd.zst');
    const bytes = readFileSync(path);
    bytes[70_000]! ^= 1;
    writeFileSync(path, bytes);
    const failed = await run(rebuild());
    expect(failed.work).toMatchObject({ outcome: 'failed', code: 'BACKUP_DAMAGED' });
    expect(failed.work?.message).toContain('mysql.ibd');
    const verified = await run({ kind: 'verify', backupId: 'one' });
    expect(verified.work).toMatchObject({ outcome: 'failed', code: 'BACKUP_DAMAGED' });
    expect(entryOf(verified, 'one')).toMatchObject({ isBad: true });
  },
  LIMIT_MS,
);
