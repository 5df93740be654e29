/** `selvedge unpack` on directories as people may have them. */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { hashFiles, type Packing, writeManifest } from '../../src/executor/manifest.ts';
import { packFiles } from '../../src/executor/packing.ts';
import { UsageError } from '../../src/run/options.ts';
import { runUnpack } from '../../src/run/unpack-command.ts';

const { signal } = new AbortController();
const key = randomBytes(32);
const about = {
  ...{ id: 'one', installation: 'i', cluster: 'c', clusterName: 'orders', ordinal: 0, incarnation: 'n', epoch: 1 },
  ...{ serverUuid: 's', mysqlVersion: '9.7.4', gtidSet: 'a:1-5', startedAt: 1, endedAt: 2 },
};
let root: string;
const said: string[] = [];
const at = (name: string) => join(root, name);

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'svu-'));
  writeFileSync(at('key'), `${key.toString('hex')}\n`);
  writeFileSync(at('other-key'), randomBytes(32).toString('hex'));
  writeFileSync(at('no-key'), 'secret');
  for (const stream of [process.stdout, process.stderr]) {
    vi.spyOn(stream, 'write').mockImplementation((text) => said.push(String(text)) > 0);
  }
});
afterEach(() => {
  vi.restoreAllMocks();
  said.length = 0;
  rmSync(root, { recursive: true, force: true });
});

async function make(name: string, packing: Packing | null): Promise<void> {
  const directory = at(name);
  mkdirSync(join(directory, 'data', 'shop'), { recursive: true });
  mkdirSync(join(directory, 'data', 'performance_schema'));
  writeFileSync(join(directory, 'data', 'shop', 'a.ibd'), 'rows');
  const plain = await hashFiles(join(directory, 'data'), { signal });
  const packed = packing && { ...packing, directory, id: 'one' };
  const files = packed ? await packFiles(packed, { files: plain, signal, onChunk: async () => {} }) : plain;
  await writeManifest(directory, about, files, packing);
  rmSync(join(directory, 'data'), { recursive: true, force: packing !== null });
}

const unpack = (from: string, to: string, ...more: string[]) =>
  runUnpack(['--from', at(from), '--to', at(to), ...more]);

test.each(['none', 'zstd'] as const)('%s and a key: what comes out is as a plain download', async (compress) => {
  await make('sealed', { compress, key });

  expect(await unpack('sealed', 'plain', '--key-file', at('key'))).toBe(0);

  expect(readdirSync(at('plain')).sort()).toEqual(['SHA256SUMS', 'data', 'manifest.json']);
  expect(readFileSync(join(at('plain'), 'data', 'shop', 'a.ibd'), 'utf8')).toBe('rows');
  expect(existsSync(join(at('plain'), 'data', 'performance_schema'))).toBe(true);
  expect(said.join('')).toContain('4 bytes');
});

test('without the right key, or damaged: nothing is left, and it says why', async () => {
  await make('sealed', { compress: 'none', key });

  expect(await unpack('sealed', 'plain')).toBe(1);
  expect(await unpack('sealed', 'plain', '--key-file', at('other-key'))).toBe(1);
  expect(said.join('').match(/BACKUP_KEY_UNKNOWN/g)).toHaveLength(2);
  expect(await unpack('sealed', 'plain', '--key-file', at('no-key'))).toBe(1);
  writeFileSync(join(at('sealed'), 'packed', 'shop', 'a.ibd.enc'), 'else');
  expect(await unpack('sealed', 'plain', '--key-file', at('key'))).toBe(1);
  expect(said.at(-1)).toContain('BACKUP_DAMAGED');
  expect(readdirSync(root).filter((name) => name.startsWith('plain'))).toEqual([]);
});

test('what is no packed backup, and a place that is taken, are told as wrong use', async () => {
  await make('plain-one', null);
  await make('packed', { compress: 'zstd', key: null });
  mkdirSync(at('taken'));

  for (const [from, to] of [
    ['plain-one', 'out'],
    ['nowhere', 'out'],
    ['packed', 'taken'],
  ] as const) {
    await expect(unpack(from, to)).rejects.toBeInstanceOf(UsageError);
  }
  await expect(runUnpack([])).rejects.toBeInstanceOf(UsageError);
  expect(await runUnpack(['--help'])).toBe(0);
  expect(await unpack('packed', 'out')).toBe(0);
});
