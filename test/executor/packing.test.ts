/** Packed backups on the disk, in each of the three ways: what goes in comes out, and what was changed is found. */
import { createHash, randomBytes } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { keyIdOf } from '../../src/cluster/backup-key.ts';
import { type BackupFiles, hashFiles, type Packing, writeManifest } from '../../src/executor/manifest.ts';
import { type OpenBackup, openBackup, readFiles } from '../../src/executor/open-backup.ts';
import { copyUnpacked, type Packed, packFiles, placeOfPacked, unpack } from '../../src/executor/packing.ts';

const { signal } = new AbortController();
const large = Buffer.concat([randomBytes(700_001), Buffer.alloc(900_000, 'order ')]);
const key = randomBytes(32);
const keys = new Map([[keyIdOf(key), key]]);
const about = {
  ...{ id: 'one', installation: 'i', cluster: 'c', clusterName: 'orders', ordinal: 0, incarnation: 'n', epoch: 1 },
  ...{ serverUuid: 's', mysqlVersion: '9.7.4', gtidSet: 'a:1-5', startedAt: 1, endedAt: 2 },
};
const none = async () => {};
let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'svp-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

interface Made {
  readonly packed: Packed;
  readonly files: BackupFiles;
  readonly read: number;
}

async function make(packing: Packing, id = 'one'): Promise<Made> {
  const directory = join(root, id);
  mkdirSync(join(directory, 'data', 'shop'), { recursive: true });
  writeFileSync(join(directory, 'data', 'empty'), '');
  writeFileSync(join(directory, 'data', 'shop', 'large.ibd'), large);
  writeFileSync(join(directory, 'data', 'shop', 'other.ibd'), large);
  const plain = await hashFiles(join(directory, 'data'), { signal });
  let read = 0;
  const onChunk = async (bytes: number) => {
    read += bytes;
  };
  const packed = { ...packing, directory, id };
  const files = await packFiles(packed, { files: plain, signal, onChunk });
  await writeManifest(directory, { ...about, id }, files, packing);
  return { packed, files, read };
}

async function collect(packed: Packed, files: BackupFiles, path: string): Promise<Buffer> {
  const chunks: Buffer[] = [];
  const file = files.find((each) => each.path === path)!;
  await copyUnpacked({ packed, file, signal, take: (chunk) => void chunks.push(Buffer.from(chunk)) });
  return Buffer.concat(chunks);
}

const damaged = { name: 'Refusal', code: 'BACKUP_DAMAGED' };
const flip = (path: string, at: number) => {
  const bytes = readFileSync(path);
  bytes[at]! ^= 1;
  writeFileSync(path, bytes);
};

const packings: Record<string, Packing> = {
  zstd: { compress: 'zstd', key: null },
  'AES-256-GCM': { compress: 'none', key },
  'zstd within AES-256-GCM': { compress: 'zstd', key },
};

describe.each(Object.entries(packings))('with %s', (_, packing) => {
  test('every file becomes a packed one, its directory stays, its bytes come back', async () => {
    const { packed, files, read } = await make(packing);

    expect(read).toBe(2 * large.length);
    expect(existsSync(join(root, 'one', 'data', 'shop', 'large.ibd'))).toBe(false);
    expect(existsSync(join(root, 'one', 'data', 'shop'))).toBe(true);
    const stored = readFileSync(placeOfPacked(packed, 'shop/large.ibd'));
    const sha256 = createHash('sha256').update(stored).digest('hex');
    expect(files.find(({ path }) => path === 'shop/large.ibd')?.packed).toEqual({ bytes: stored.length, sha256 });
    expect(stored.length < large.length * 0.6).toBe(packing.compress === 'zstd');
    if (packing.key) expect(stored.includes('order order')).toBe(false);
    expect((await collect(packed, files, 'shop/large.ibd')).equals(large)).toBe(true);
    expect(await collect(packed, files, 'empty')).toHaveLength(0);
    const backup = (await openBackup(packed.directory, keys))!;
    expect(await readFiles(backup)).toEqual(files);
    expect(backup.packed).toEqual(packed);
  });

  test('any byte may be the first', async () => {
    const { packed } = await make(packing);
    for (const from of [0, 1, 131_072, 700_000, large.length - 1, large.length]) {
      const chunks: Buffer[] = [];
      for await (const chunk of unpack(packed, 'shop/large.ibd', { from, signal })) chunks.push(Buffer.from(chunk));

      expect(Buffer.concat(chunks).equals(large.subarray(from)), String(from)).toBe(true);
    }
  });

  const faults: Record<string, (path: string) => void> = {
    cut: (path) => truncateSync(path, 500_000),
    empty: (path) => truncateSync(path, 0),
    'no packed one at all': (path) => writeFileSync(path, randomBytes(5000)),
    'with a flipped bit': (path) => flip(path, 300_000),
    'another one': (path) => writeFileSync(path, zstdCompressSync(Buffer.alloc(large.length))),
    'one that gives more and more': (path) => writeFileSync(path, zstdCompressSync(Buffer.alloc(64 * 1024 * 1024))),
  };

  test.each(Object.entries(faults))('a file that is %s is damaged', async (_name, damage) => {
    const { packed, files } = await make(packing);
    damage(placeOfPacked(packed, 'shop/large.ibd'));

    await expect(collect(packed, files, 'shop/large.ibd')).rejects.toMatchObject(damaged);
  });

  test('who stops reading, or aborts, leaves nothing open', async () => {
    const { packed } = await make(packing);
    for await (const chunk of unpack(packed, 'shop/large.ibd', { signal })) {
      expect(chunk.length).toBeGreaterThan(0);
      break;
    }
    const abort = new AbortController();
    const cause = new Error('enough');
    const reading = async () => {
      for await (const chunk of unpack(packed, 'shop/large.ibd', { signal: abort.signal })) {
        expect(chunk.length).toBeGreaterThan(0);
        abort.abort(cause);
      }
    };
    await expect(reading()).rejects.toBe(cause);
  });
});

test('a zstd file is one that zstd reads', async () => {
  const { packed } = await make({ compress: 'zstd', key: null });

  expect(zstdDecompressSync(readFileSync(placeOfPacked(packed, 'shop/large.ibd'))).equals(large)).toBe(true);
});

describe('an encrypted backup', () => {
  const packing: Packing = { compress: 'none', key };
  const open = (id = 'one') => openBackup(join(root, id), keys);

  test('says in plain words what it is, and nothing of its files; without its key it stays closed', async () => {
    await make(packing);
    const text = readFileSync(join(root, 'one', 'manifest.json'), 'utf8');

    expect(JSON.parse(text)).toMatchObject({ version: 3, encrypted: { by: 'aes-256-gcm', keyId: keyIdOf(key) } });
    expect(text).not.toContain(key.toString('hex'));
    expect(existsSync(join(root, 'one', 'files.json'))).toBe(false);
    await expect(openBackup(join(root, 'one'), new Map())).rejects.toMatchObject({
      code: 'BACKUP_KEY_UNKNOWN',
      facts: { keyId: keyIdOf(key) },
    });
  });

  test('no file opens in the place of another one, nor in that of another backup with the same key', async () => {
    const [one, two] = [await make(packing), await make(packing, 'two')];
    const place = placeOfPacked(one.packed, 'shop/large.ibd');
    copyFileSync(placeOfPacked(one.packed, 'shop/other.ibd'), place);
    await expect(collect(one.packed, one.files, 'shop/large.ibd')).rejects.toMatchObject(damaged);

    copyFileSync(placeOfPacked(two.packed, 'shop/large.ibd'), place);
    await expect(collect(one.packed, one.files, 'shop/large.ibd')).rejects.toMatchObject(damaged);
  });

  const changes: Record<string, () => void> = {
    'a manifest with another GTID set': () => {
      const path = join(root, 'one', 'manifest.json');
      writeFileSync(path, readFileSync(path, 'utf8').replace('a:1-5', 'a:1-6'));
    },
    'a manifest without its mac': () => rmSync(join(root, 'one', 'manifest.mac')),
    'the mac of another one': () => copyFileSync(join(root, 'two', 'manifest.mac'), join(root, 'one', 'manifest.mac')),
    'a list with a flipped bit': () => flip(join(root, 'one', 'files.json.enc'), 100),
    'no list': () => rmSync(join(root, 'one', 'files.json.enc')),
    'the list of another one': () =>
      copyFileSync(join(root, 'two', 'files.json.enc'), join(root, 'one', 'files.json.enc')),
    'a list that is plain': () => renameSync(join(root, 'one', 'files.json.enc'), join(root, 'one', 'files.json')),
  };
  test.each(Object.entries(changes))('with %s is damaged', async (_, change) => {
    await make(packing);
    await make(packing, 'two');
    change();
    const reading = async () => readFiles((await open()) as OpenBackup);

    await expect(reading()).rejects.toMatchObject(damaged);
  });

  test('one whose manifest claims to be plain is none', async () => {
    await make(packing);
    const path = join(root, 'one', 'manifest.json');
    const { encrypted: _, ...rest } = JSON.parse(readFileSync(path, 'utf8'));
    writeFileSync(path, JSON.stringify(rest));

    expect(await open()).toBe(null);
  });

  test('what could not be packed leaves the plain file', async () => {
    const directory = join(root, 'three');
    mkdirSync(join(directory, 'data'), { recursive: true });
    writeFileSync(join(directory, 'data', 'a'), 'plain');
    const files = await hashFiles(join(directory, 'data'), { signal });
    const wrong = files.map((file) => ({ ...file, sha256: createHash('sha256').update('else').digest('hex') }));

    const packed = { ...packing, directory, id: 'three' };
    await expect(packFiles(packed, { files: wrong, signal, onChunk: none })).rejects.toMatchObject(damaged);

    expect(readFileSync(join(directory, 'data', 'a'), 'utf8')).toBe('plain');
  });
});
