/** Checksums that are taken beside a mysqld that may write: none of them counts for bytes that changed. */
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { realClock } from '../../src/clock.ts';
import { hashBeside } from '../../src/executor/early-hash.ts';
import { hashFiles } from '../../src/executor/manifest.ts';

const { signal } = new AbortController();
const files = ['shop/a.ibd', 'shop/b.ibd', 'shop/big.ibd', 'mysql/own.ibd', 'ibdata1', '#innodb_redo/#ib_redo1'];
const bigBytes = 80 * 1024 * 1024;
let root: string;
let directory: string;
let read: number;
const at = (path: string) => join(directory, path);
const sumOf = (path: string) =>
  createHash('sha256')
    .update(readFileSync(at(path)))
    .digest('hex');
const options = {
  clock: realClock,
  signal,
  onChunk: async (bytes: number) => {
    read += bytes;
  },
};

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'sve-'));
  directory = join(root, 'data');
  read = 0;
  for (const path of files) {
    mkdirSync(join(directory, path, '..'), { recursive: true });
    writeFileSync(at(path), path === 'shop/big.ibd' ? Buffer.alloc(bigBytes, 7) : `of ${path}`);
  }
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

/** Overwrites one byte in place: size and name stay. */
async function strike(path: string, position = 1): Promise<void> {
  await using file = await open(at(path), 'r+');
  await file.write(Buffer.from('X'), 0, 1, position);
}

test('tables that nobody writes to are hashed once, and what mysqld always writes to only afterwards', async () => {
  const { result, find } = await hashBeside(directory, options, async () => 'uuid:1-7');

  expect(result).toBe('uuid:1-7');
  const early = read;
  expect(await find('shop/a.ibd')).toEqual({ bytes: 13, sha256: sumOf('shop/a.ibd') });
  for (const path of ['mysql/own.ibd', 'ibdata1', '#innodb_redo/#ib_redo1']) expect(await find(path)).toBeNull();
  const list = await hashFiles(directory, { signal, find, onChunk: options.onChunk });
  expect(list).toEqual([...files].sort().map((path) => expect.objectContaining({ path, sha256: sumOf(path) })));
  expect(early).toBeGreaterThan(bigBytes);
  expect(read - early).toBeLessThan(1000);
  expect(readdirSync(root)).toEqual(['data']);
});

test('a file that was written to, at whatever moment, is hashed again', async () => {
  const atOnce = async () => {
    await strike('shop/a.ibd'); // within the step of the clock in which the test itself wrote it, as good as
    const was = new Date(0);
    await strike('shop/b.ibd');
    utimesSync(at('shop/b.ibd'), was, was);
  };
  const { find } = await hashBeside(directory, options, atOnce);
  expect(await find('shop/a.ibd')).toBeNull();
  expect(await find('shop/b.ibd')).toBeNull();

  let isOver = false;
  const meanwhile = async () => {
    while (read < 2 * bigBytes) await new Promise(setImmediate);
    appendFileSync(at('shop/a.ibd'), 'later');
    isOver = true;
  };
  read = bigBytes;
  const second = await hashBeside(directory, options, meanwhile);
  expect(isOver).toBe(true);
  expect(await second.find('shop/a.ibd')).toBeNull();
  expect(await second.find('shop/b.ibd')).not.toBeNull();

  await strike('shop/b.ibd');
  expect(await second.find('shop/b.ibd')).toBeNull();
});

test('a file that is written to while it is read is left at once', async () => {
  const onChunk = async (bytes: number) => {
    if (read === 0) await strike('shop/big.ibd', bigBytes - 1);
    read += bytes;
  };
  for (const path of ['shop/a.ibd', 'shop/b.ibd']) rmSync(at(path));

  const { find } = await hashBeside(directory, { ...options, onChunk }, async () => {});

  expect(read).toBeLessThan(bigBytes);
  expect(await find('shop/big.ibd')).toBeNull();
});

test('what fails ends the hashing too', async () => {
  const failing = hashBeside(directory, options, () => Promise.reject(new Error('mysqld ended')));
  await expect(failing).rejects.toThrow('mysqld ended');
  const seen = read;
  await new Promise(setImmediate);
  expect(read).toBe(seen);
});
