import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type BackupFiles, hashFiles } from '../../src/executor/manifest.ts';
import { copyUnpacked, packFiles, unpack } from '../../src/executor/packing.ts';

const { signal } = new AbortController();
const large = Buffer.concat([randomBytes(700_001), Buffer.alloc(900_000, 'order ')]);
const packedAt = (path: string) => join(root, 'packed', `${path}.zst`);
let root: string;
let files: BackupFiles;
let read = 0;

beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), 'svp-'));
  mkdirSync(join(root, 'data', 'shop'), { recursive: true });
  writeFileSync(join(root, 'data', 'empty'), '');
  writeFileSync(join(root, 'data', 'shop', 'large.ibd'), large);
  const plain = await hashFiles(join(root, 'data'), { signal });
  read = 0;
  const onChunk = async (bytes: number) => {
    read += bytes;
  };
  files = await packFiles({ directory: root, files: plain, signal, onChunk });
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const find = (path: string) => files.find((file) => file.path === path)!;

async function collect(path: string): Promise<Buffer> {
  const chunks: Buffer[] = [];
  await copyUnpacked({
    directory: root,
    file: find(path),
    signal,
    take: (chunk) => void chunks.push(Buffer.from(chunk)),
  });
  return Buffer.concat(chunks);
}

test('every file becomes a plain zstd file, its directory stays, its bytes come back', async () => {
  expect(read).toBe(large.length);
  expect(existsSync(join(root, 'data', 'shop', 'large.ibd'))).toBe(false);
  expect(existsSync(join(root, 'data', 'shop'))).toBe(true);
  const stored = readFileSync(packedAt('shop/large.ibd'));
  expect(zstdDecompressSync(stored).equals(large)).toBe(true);
  const sha256 = createHash('sha256').update(stored).digest('hex');
  expect(find('shop/large.ibd').packed).toEqual({ bytes: stored.length, sha256 });
  expect(stored.length).toBeLessThan(large.length * 0.6);
  expect((await collect('shop/large.ibd')).equals(large)).toBe(true);
  expect(await collect('empty')).toHaveLength(0);
});

test.each([0, 1, 131_072, 700_000, large.length - 1, large.length])('from byte %i on', async (from) => {
  const chunks: Buffer[] = [];
  for await (const chunk of unpack(root, 'shop/large.ibd', { from, signal })) chunks.push(chunk);

  expect(Buffer.concat(chunks).equals(large.subarray(from))).toBe(true);
});

const faults: Record<string, (path: string) => void> = {
  cut: (path) => truncateSync(path, 500_000),
  empty: (path) => truncateSync(path, 0),
  'no zstd at all': (path) => writeFileSync(path, randomBytes(5000)),
  'with a flipped bit': (path) => {
    const bytes = readFileSync(path);
    bytes[300_000]! ^= 1;
    writeFileSync(path, bytes);
  },
  'another one': (path) => writeFileSync(path, zstdCompressSync(Buffer.alloc(large.length))),
  'one that gives more and more': (path) => writeFileSync(path, zstdCompressSync(Buffer.alloc(64 * 1024 * 1024))),
};

test.each(Object.entries(faults))('a file that is %s is damaged', async (_, damage) => {
  damage(packedAt('shop/large.ibd'));

  await expect(collect('shop/large.ibd')).rejects.toMatchObject({ code: 'BACKUP_DAMAGED' });
});

test('who stops reading, or aborts, leaves nothing open', async () => {
  for await (const chunk of unpack(root, 'shop/large.ibd', { signal })) {
    expect(chunk.length).toBeGreaterThan(0);
    break;
  }
  const abort = new AbortController();
  const cause = new Error('enough');
  const reading = async () => {
    for await (const _ of unpack(root, 'shop/large.ibd', { signal: abort.signal })) abort.abort(cause);
  };
  await expect(reading()).rejects.toBe(cause);
});
