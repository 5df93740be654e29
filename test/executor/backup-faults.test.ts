/**
 * The executor or an mysqld is killed at every step of a backup, a verification and a rebuild from a backup: nothing
 * counts that is not whole, what is half goes, and the next try works. One story, in order.
 */
import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import type { CommandBody, LaunchPlan, Status } from '../../src/channel/protocol.ts';
import { executorRuntime } from '../../src/executor/runtime.ts';
import { cacheDir } from '../mysql/instance.ts';
import { ownSession, volumeOf } from './trim-world.ts';
import { createWorld, type TestMember, type World } from './world.ts';

const ROWS = 200;
const LIMIT_MS = 240_000;
const orders = mkdtempSync(join(tmpdir(), 'svo-'));
const orderPath = join(orders, 'order');
let world: World;
let member: TestMember;
const root = () => join(volumeOf(member, 'backup'), 'backups');
const until = (what: (status: Status) => boolean) => member.until(what, 60_000);
const names = () => (existsSync(root()) ? readdirSync(root()) : []);
const halves = () => names().filter((name) => name.endsWith('.partial'));

beforeAll(async () => {
  const preload = `--import=${join(import.meta.dirname, 'strike.ts')}`;
  const options = `${executorRuntime(cacheDir)['NODE_OPTIONS']} ${preload}`;
  world = await createWorld(1, 62, { NODE_OPTIONS: options, SELVEDGE_TEST_STRIKE: orderPath });
  member = world.members[0]!;
  await member.start(true);
  await member.command({ kind: 'promote', k: 0, member: 0, timeoutMs: 20_000 });
  await until((status) => status.isWritable);
  const session = await member.team();
  await session.query('CREATE DATABASE shop');
  await session.query('CREATE TABLE shop.orders (id INT PRIMARY KEY, what VARCHAR(2000))');
  const rows = Array.from({ length: ROWS }, (_, id) => `(${id}, REPEAT('order ', 300))`).join(',');
  await session.query(`INSERT INTO shop.orders VALUES ${rows}`);
  await session.close();
  await relaunch();
}, 120_000);
afterAll(async () => {
  await world?.destroy();
  rmSync(orders, { recursive: true, force: true });
});

async function relaunch(changes: Partial<LaunchPlan> = {}): Promise<Status> {
  await member.launch.destroy();
  await member.relaunch(changes);
  return until(({ areBackupsKnown }) => areBackupsKnown === true);
}

/** Sends long work that is struck at `order`, and sees to it that it was. */
async function strike(order: string, body: CommandBody): Promise<void> {
  writeFileSync(orderPath, order);
  // The executor may end before its answer is on the way.
  await member.command(body).catch(() => {});
  await vi.waitFor(() => expect(existsSync(orderPath), `${order}\n${member.launch.logs()}`).toBe(false), {
    timeout: 60_000,
    interval: 10,
  });
  if (!order.includes(' > ')) await member.launch.exited;
}

async function run(body: CommandBody): Promise<Status> {
  const id = randomUUID();
  const result = await member.launch.send(body, { epoch: 1, leaderToken: 9, id });
  expect(result, member.launch.logs()).toMatchObject({ outcome: 'accepted' });
  return until(({ work }) => work?.commandId === id && work.outcome !== 'running');
}

async function start(): Promise<void> {
  expect(await member.start(), member.launch.logs()).toMatchObject({ outcome: 'done' });
}

const backup = (id: string): CommandBody => ({ kind: 'backup', backupId: id });
const verify = (id: string): CommandBody => ({ kind: 'verify', backupId: id });
const entryOf = (status: Status, id: string) => status.backups.find((each) => each.id === id);

test(
  'backup: the executor is killed at each step, and nothing counts before the name',
  async () => {
    const points = [
      'step copying',
      'step starting the copy',
      'spawned b',
      'step hashing',
      'step sealing',
      'naming one',
    ];
    for (const point of points) {
      await start();
      await strike(point, backup('one'));
      expect(halves(), point).toEqual(point === 'step copying' ? [] : ['one.partial']);

      const status = await relaunch();

      expect(status.backups, point).toEqual([]);
      expect(names(), point).toEqual([]);
    }
    await start();
    await member.command({ ...backup('one'), maxBytesPerSec: 1024 * 1024 } as CommandBody);
    const copied = join(root(), 'one.partial', 'data', 'ibdata1');
    await vi.waitFor(() => expect(existsSync(copied)).toBe(true), { timeout: 30_000, interval: 10 });
    expect((await relaunch()).backups, 'in the middle of CLONE').toEqual([]);
    expect(names()).toEqual([]);
    await start();
    await strike('named one', backup('one'));

    const status = await relaunch();

    expect(status.backups).toMatchObject([{ id: 'one', isBad: false, verifiedAt: null }]);
    await start();
    expect((await run(backup('one'))).work).toMatchObject({ outcome: 'done' });
  },
  LIMIT_MS,
);

test(
  'backup: its mysqld is killed, or that of the member',
  async () => {
    await strike('spawned b > b', backup('two'));
    const failed = await until(({ work }) => work?.outcome === 'failed');
    expect(failed.backups.map(({ id }) => id)).toEqual(['one']);
    expect(halves()).toEqual([]);

    await strike('step copying > own', backup('two'));
    const alone = await until(({ work }) => work?.outcome === 'failed');
    expect(alone.backups.map(({ id }) => id)).toEqual(['one']);
    expect(halves()).toEqual([]);
    await until(({ instance }) => instance === 'running');

    // Its work is done by then: the copy does without it.
    await strike('step hashing > own', backup('two'));
    expect((await until(({ work }) => work?.outcome !== 'running')).work).toMatchObject({ outcome: 'done' });
    expect((await run(verify('two'))).work).toMatchObject({ outcome: 'done' });
    await member.command({ kind: 'removeBackup', backupId: 'two' });
  },
  LIMIT_MS,
);

test(
  'verify: the executor is killed at each step, and neither mark is there',
  async () => {
    const points = ['step hashing', 'step starting', 'spawned v', 'step reading', 'step comparing'];
    for (const point of [...points, 'naming verified.json']) {
      await strike(point, verify('one'));

      const status = await relaunch();

      expect(entryOf(status, 'one'), point).toMatchObject({ isBad: false, verifiedAt: null });
      expect(halves(), point).toEqual([]);
    }
    await strike('spawned v > v', verify('one'));
    const failed = await until(({ work }) => work?.outcome === 'failed');
    expect(failed.work).toMatchObject({ code: 'COMMAND_FAILED' });
    expect(entryOf(failed, 'one')).toMatchObject({ isBad: false, verifiedAt: null });

    const status = await run(verify('one'));

    expect(status.work).toMatchObject({ outcome: 'done' });
    expect(entryOf(status, 'one')?.verifiedAt).toBeGreaterThan(0);
  },
  LIMIT_MS,
);

test(
  'rebuild from a backup: killed at each step, it starts nothing that is half',
  async () => {
    const identity = { incarnation: randomUUID(), serverUuid: randomUUID(), serverId: 2000 };
    const from = { kind: 'backup', backupId: 'one' } as const;
    const { secrets } = member;
    const rebuild: CommandBody = { kind: 'rebuild', ...identity, from, secrets };
    // The one before `clearing` leaves the old data; every other one leaves a volume that nothing is started on.
    const points = ['step clearing', 'step copying', 'naming data', 'named data', 'step starting', 'spawned own'];
    for (const point of points) {
      await strike(point, rebuild);

      await relaunch(identity);

      const refused = await member.start();
      const code = point === 'step clearing' ? 'INCARNATION_MISMATCH' : 'REBUILD_UNFINISHED';
      expect(refused, point).toMatchObject({ outcome: 'refused', code });
      expect(existsSync(join(volumeOf(member, 'data'), 'lock')), point).toBe(true);
    }
    await strike('spawned own > own', rebuild);
    const failed = await until(({ work }) => work?.outcome === 'failed');
    expect(failed).toMatchObject({ instance: 'failed', isWritable: false });

    const status = await run(rebuild);

    expect(status.work, member.launch.logs()).toMatchObject({ outcome: 'done' });
    expect(status).toMatchObject({ instance: 'running', isWritable: false, incarnation: identity.incarnation });
    expect(await countOrders()).toBe(ROWS);
    expect(readdirSync(volumeOf(member, 'data')).filter((name) => name.includes('filling'))).toEqual([]);
    member.rebuilt = identity;
  },
  LIMIT_MS,
);

test(
  'a damage that nobody has found yet is found when a rebuild reads it: no mysqld starts on it',
  async () => {
    const identity = { incarnation: randomUUID(), serverUuid: randomUUID(), serverId: 2001 };
    const rebuild = (id: string): CommandBody => ({
      kind: 'rebuild',
      ...identity,
      from: { kind: 'backup', backupId: id },
      secrets: member.secrets,
    });
    expect((await run(backup('three'))).work).toMatchObject({ outcome: 'done' });
    {
      await using file = await open(join(root(), 'three', 'data', 'shop', 'orders.ibd'), 'r+');
      const { buffer } = await file.read(Buffer.alloc(1), 0, 1, 70_000);
      buffer[0]! ^= 1;
      await file.write(buffer, 0, 1, 70_000);
    }

    const failed = await run(rebuild('three'));

    expect(failed.work).toMatchObject({ outcome: 'failed', code: 'BACKUP_DAMAGED' });
    expect(failed.work?.message).toContain('orders.ibd');
    expect(failed).toMatchObject({ instance: 'failed' });
    expect(existsSync(join(volumeOf(member, 'data'), 'data'))).toBe(false);
    expect((await run(rebuild('one'))).work).toMatchObject({ outcome: 'done' });
    expect(await countOrders()).toBe(ROWS);
    member.rebuilt = identity;
  },
  LIMIT_MS,
);

test(
  'what others left among the backups is no backup, and is left alone',
  async () => {
    const manifest = JSON.parse(readFileSync(join(root(), 'one', 'manifest.json'), 'utf8'));
    const place = (name: string, text: string) => {
      mkdirSync(join(root(), name), { recursive: true });
      writeFileSync(join(root(), name, 'manifest.json'), text);
    };
    writeFileSync(join(root(), 'notes.txt'), 'of a person');
    place('of-another', JSON.stringify({ ...manifest, id: 'of-another', cluster: 'another' }));
    place('renamed', JSON.stringify(manifest));
    place('garbled', '{"version": 1,');
    place('newer', JSON.stringify({ ...manifest, id: 'newer', version: 99 }));
    mkdirSync(join(root(), 'bare'));

    const status = await relaunch(member.rebuilt);

    expect(status.backups.map(({ id }) => id).sort()).toEqual(['one', 'three']);
    expect(readdirSync(root())).toEqual(
      expect.arrayContaining(['notes.txt', 'of-another', 'renamed', 'garbled', 'newer', 'bare']),
    );
    const identity = { incarnation: randomUUID(), serverUuid: randomUUID(), serverId: 2002, secrets: member.secrets };
    for (const id of ['of-another', 'renamed', 'garbled', 'newer', 'bare', 'notes.txt']) {
      const command = { kind: 'rebuild', ...identity, from: { kind: 'backup', backupId: id } } as const;
      const refused = await member.launch.send(command, { epoch: 1, leaderToken: 9 });
      expect(refused, id).toMatchObject({ outcome: 'refused', code: 'BACKUP_DAMAGED' });
    }
  },
  LIMIT_MS,
);

async function countOrders(): Promise<number> {
  const session = await ownSession(member);
  const [row] = await session.query<{ count: number }>('SELECT COUNT(*) AS count FROM shop.orders');
  await session.close();
  return row?.count ?? 0;
}
