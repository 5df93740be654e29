/** One log and its copy, on a disk that fills, with a source that is cut or damaged. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { createLogCopy, type LogCopy } from '../../src/executor/archive-copy.ts';
import { type BinlogTransaction, walkBinaryLog } from '../../src/mysql/binlog-events.ts';
import { destroyInstances, startInstance } from '../mysql/instance.ts';

const signal = new AbortController().signal;
const name = 'binlog.000001';
let log: Buffer;
const transactions: BinlogTransaction[] = [];
let dir: string;
let source: string;
let target: string;
let copy: LogCopy;

beforeAll(async () => {
  const instance = await startInstance();
  const { root } = instance;
  await root.query('SET GLOBAL super_read_only = OFF, read_only = OFF');
  await root.query('CREATE DATABASE shop');
  await root.query('CREATE TABLE shop.notes (id INT PRIMARY KEY AUTO_INCREMENT, note LONGTEXT)');
  for (let nth = 0; nth < 6; nth += 1) await root.query("INSERT INTO shop.notes (note) VALUES (REPEAT('n', 200000))");
  await root.query('FLUSH BINARY LOGS');
  const path = join(instance.dataDir, name);
  await walkBinaryLog(path, { signal, onTransaction: (transaction) => transactions.push(transaction) });
  log = readFileSync(path);
  await destroyInstances();
});
afterAll(destroyInstances);

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'svc-'));
  source = join(dir, name);
  mkdirSync(join(dir, 'disk'));
  target = join(dir, 'disk', 'a', name);
  copy = newCopy();
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const newCopy = () => createLogCopy({ source, target, serverUuid: 'a', name });
const advance = async (one: LogCopy = copy) => {
  await one.advance({ signal, take: async () => {} });
  await one.sync();
};
/** Some byte amid the third transaction. */
const amid = () => transactions[2]!.position + 1000;

function mayMount(): boolean {
  const place = mkdtempSync(join(tmpdir(), 'svm-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', place], { stdio: 'pipe' });
    execFileSync('umount', [place]);
    return true;
  } catch {
    return false;
  } finally {
    rmSync(place, { recursive: true });
  }
}

test.skipIf(!mayMount())(
  'a volume that is full, then read-only, then well: told, and nothing is claimed that is not there',
  async () => {
    const disk = join(dir, 'disk');
    const mount = (...args: string[]) => execFileSync('mount', [...args, disk], { stdio: 'pipe' });
    mount('-t', 'tmpfs', '-o', 'size=512k', 'tmpfs');
    try {
      writeFileSync(source, log);

      await expect(advance()).rejects.toMatchObject({ code: 'ENOSPC' });
      await copy.sync();
      const claimed = copy.segment?.bytes ?? 0;
      expect(log.subarray(0, claimed)).toEqual(readFileSync(target).subarray(0, claimed));
      expect(copy.pendingBytes).toBe(log.length - claimed);
      mount('-o', 'remount,size=8m,ro');
      await expect(advance()).rejects.toMatchObject({ code: 'EROFS' });
      mount('-o', 'remount,size=8m,rw');
      await advance();

      expect(readFileSync(target).equals(log)).toBe(true);
      expect(copy.pendingBytes).toBe(0);
    } finally {
      execFileSync('umount', [disk]);
    }
  },
);

test('only whole events are copied, and the rest when it is there', async () => {
  writeFileSync(source, log.subarray(0, amid()));
  await advance();
  const first = readFileSync(target);
  writeFileSync(source, log);
  await advance();

  expect(first.length).toBeLessThan(amid());
  expect(first.equals(log.subarray(0, first.length))).toBe(true);
  expect(readFileSync(target).equals(log)).toBe(true);
});

test('a source that was cut at a transaction cuts the copy', async () => {
  writeFileSync(source, log);
  await advance();
  const before = copy.segment?.gtidSet;
  truncateSync(source, transactions[3]!.position);
  await advance();

  expect(readFileSync(target).equals(log.subarray(0, transactions[3]!.position))).toBe(true);
  expect(copy.segment?.bytes).toBe(transactions[3]!.position);
  expect(copy.segment?.gtidSet).not.toBe(before);
});

test('a source that ends amid an event, or is empty, cuts nothing: that is a damage, not a trim', async () => {
  writeFileSync(source, log);
  await advance();
  for (const bytes of [amid(), 100, 0]) {
    truncateSync(source, bytes);
    await advance();
    expect(readFileSync(target).equals(log)).toBe(true);
  }
});

test('a damaged source is told; what was whole before it stays', async () => {
  writeFileSync(source, log.subarray(0, transactions[3]!.position));
  await advance();
  const broken = Buffer.from(log);
  broken[transactions[3]!.position + 300]! ^= 1;
  writeFileSync(source, broken);

  await expect(advance()).rejects.toMatchObject({ code: 'BINLOG_UNREADABLE' });
  expect(readFileSync(target).subarray(0, transactions[3]!.position)).toEqual(
    log.subarray(0, transactions[3]!.position),
  );
});

test('a copy with other bytes, or more, is made right by its source', async () => {
  writeFileSync(source, log);
  await advance();
  const wrong = Buffer.concat([log, Buffer.alloc(500, 1)]);
  wrong[amid()]! ^= 8;
  writeFileSync(target, wrong);

  const next = newCopy();
  await advance(next);

  expect(readFileSync(target).equals(log)).toBe(true);
  expect(next.sha256()).toBe(copy.sha256());
  await advance(next);
  expect(next.pendingBytes).toBe(0);
});

test('an open log is archived as it will be when it is closed', async () => {
  const open = Buffer.from(log);
  open[21]! |= 1;
  writeFileSync(source, open);
  await advance();

  expect(readFileSync(target).equals(log)).toBe(true);
});
