/** Damaged data under a real mysqld: found at a start and while it runs, told, and not served again. */
import { closeSync, openSync, readSync, renameSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { judgeLog } from '../../src/executor/mysqld-log.ts';
import { mysqldPid } from './trim-world.ts';
import { createWorld, type TestMember, type World } from './world.ts';

const PAGE = 16_384;
let world: World;
const member = (): TestMember => world.members[0]!;
const fileOf = (...names: string[]) => join(member().root, 'volumes', 'data-0', 'data', ...names);

beforeAll(async () => {
  world = await createWorld(1, 96);
  await member().start(true);
  await asPrimary('CREATE DATABASE shop');
  await asPrimary('CREATE TABLE shop.orders (id INT PRIMARY KEY, note CHAR(200))');
  for (let id = 0; id < 200; id += 1) await asPrimary(`INSERT INTO shop.orders VALUES (${id}, REPEAT('x', 200))`);
}, 120_000);
afterEach((context) => {
  if (context.task.result?.state === 'fail') console.log(member().launch.logs());
});
afterAll(() => world?.destroy());

/** Runs one statement as the team, on a primary of one; afterwards the member is a replica again. */
async function asPrimary(sql: string): Promise<void> {
  await member().command({ kind: 'promote', k: 0, member: 0, timeoutMs: 20_000 });
  const session = await member().team();
  try {
    await session.query(sql);
  } finally {
    await session.close();
  }
  await member().command({ kind: 'demote', maxPauseMs: 5000 });
}

async function damaged(timeoutMs = 60_000): Promise<string> {
  const { reason } = await member().until(({ instance }) => instance === 'failed', timeoutMs);
  expect(reason?.code).toBe('DATA_DIR_DAMAGED');
  return reason!.message;
}

const starts = () => member().start(false);

test('a file that is removed under a replica ends it; put back, it starts', async () => {
  renameSync(fileOf('shop', 'orders.ibd'), fileOf('orders.away'));

  expect(await damaged()).toContain('./shop/orders.ibd');
  expect(await starts()).toMatchObject({ outcome: 'refused', code: 'DATA_DIR_DAMAGED' });

  renameSync(fileOf('orders.away'), fileOf('shop', 'orders.ibd'));
  expect(await starts()).toMatchObject({ outcome: 'done' });
}, 120_000);

test('a primary whose file is removed goes on and says so; demoted, it ends', async () => {
  await member().command({ kind: 'promote', k: 0, member: 0, timeoutMs: 20_000 });
  const session = await member().team();
  const count = () => session.query('SELECT COUNT(*) AS n FROM shop.orders');
  await count(); // mysqld has it open from now on
  renameSync(fileOf('shop', 'orders.ibd'), fileOf('orders.away'));
  const told = await member().until(({ reason }) => reason?.code === 'DATA_DIR_DAMAGED', 60_000);
  expect(told).toMatchObject({ instance: 'running', isWritable: true });
  expect(await count()).toEqual([{ n: 200 }]);
  await session.close();

  await member().command({ kind: 'demote', maxPauseMs: 5000 });

  expect(await damaged()).toContain('./shop/orders.ibd');
  renameSync(fileOf('orders.away'), fileOf('shop', 'orders.ibd'));
  expect(await starts()).toMatchObject({ outcome: 'done' });
}, 120_000);

test('a table whose tablespace was discarded has no file on purpose', async () => {
  await asPrimary('CREATE TABLE shop.imported (id INT PRIMARY KEY)');
  await asPrimary('ALTER TABLE shop.imported DISCARD TABLESPACE');
  await member().command({ kind: 'stop' });

  expect(await starts()).toMatchObject({ outcome: 'done' });

  await asPrimary('DROP TABLE shop.imported');
});

test('a missing undo log: mysqld would start without a word', async () => {
  await member().command({ kind: 'stop' });
  renameSync(fileOf('undo_001'), fileOf('undo.away'));

  expect(await starts()).toMatchObject({ outcome: 'refused', code: 'DATA_DIR_DAMAGED' });

  renameSync(fileOf('undo.away'), fileOf('undo_001'));
  expect(await starts()).toMatchObject({ outcome: 'done' });
});

test('an mysqld that crashes again and again on the data of a replica', async () => {
  for (let count = 0; count < 6; count += 1) {
    await member().until(({ instance }) => instance === 'running', 60_000);
    const pid = mysqldPid(member());
    process.kill(pid, 'SIGSEGV');
    await member().until(({ instance }) => instance !== 'running', 60_000);
  }
  await damaged();

  expect(await starts()).toMatchObject({ outcome: 'done' });
}, 300_000);

test('a damaged page ends mysqld, and no launch starts it on these data again', async () => {
  await member().command({ kind: 'stop' });
  // What it would read by itself at the start.
  rmSync(fileOf('ib_buffer_pool'), { force: true });
  expect(await starts()).toMatchObject({ outcome: 'done' });
  flip(fileOf('shop', 'orders.ibd'));

  await asPrimary('SELECT MAX(note) FROM shop.orders').catch(() => undefined);

  expect(await damaged()).toContain('MY-011906');
  expect(await starts()).toMatchObject({ outcome: 'refused', code: 'DATA_DIR_DAMAGED' });
  await member().launch.destroy();
  await member().relaunch();
  expect(await member().status()).toMatchObject({ instance: 'failed', reason: { code: 'DATA_DIR_DAMAGED' } });
  expect(await starts()).toMatchObject({ outcome: 'refused', code: 'DATA_DIR_DAMAGED' });
}, 120_000);

describe('what a log tells', () => {
  const line = (code: string, words = 'words', level = 'ERROR') =>
    `2026-01-02T03:04:05.678901Z 0 [${level}] [${code}] [InnoDB] ${words}\n`;

  test('codes decide, not words', () => {
    expect(judgeLog(line('MY-011906', 'a page'))).toEqual({ damage: 'MY-011906 a page', hasHint: false });
    expect(judgeLog(line('MY-012351', 'missing', 'Warning'))).toEqual({ damage: null, hasHint: true });
    expect(judgeLog(line('MY-012144', 'corrupt checksum missing'))).toEqual({ damage: null, hasHint: false });
  });

  test('a code within the words of another line, or of a dump, is none', () => {
    const text = `${line('MY-010055', 'x [ERROR] [MY-011906] [InnoDB] y')}len 16384; hex [ERROR] [MY-011906] [InnoDB]\n`;
    expect(judgeLog(text)).toEqual({ damage: null, hasHint: false });
  });
});

function flip(path: string): void {
  const file = openSync(path, 'r+');
  // The leaves: the first pages describe the file.
  for (const page of [5, 6, 7]) {
    const bytes = Buffer.alloc(64);
    if (readSync(file, bytes, 0, 64, page * PAGE + 200) < 64) break;
    writeSync(
      file,
      bytes.map((byte) => byte ^ 0xff),
      0,
      64,
      page * PAGE + 200,
    );
  }
  closeSync(file);
}
