import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { copyBackup } from '../../src/executor/copy-backup.ts';
import { findManifest, hashFiles, makeDirectories, writeManifest } from '../../src/executor/manifest.ts';

const { signal } = new AbortController();
const about = {
  id: 'one',
  installation: 'i',
  cluster: 'c',
  clusterName: 'orders',
  ordinal: 0,
  incarnation: 'n',
  serverUuid: 's',
  epoch: 1,
  mysqlVersion: '9.7.4',
  gtidSet: '',
  startedAt: 1,
  endedAt: 2,
};
let root: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'svm-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

test('directories without files are copied too: mysqld does not load CLONE without that of performance_schema', async () => {
  const directory = join(root, 'one');
  mkdirSync(join(directory, 'data', 'performance_schema'), { recursive: true });
  mkdirSync(join(directory, 'data', 'empty@002dschema'));
  mkdirSync(join(directory, 'data', 'shop'));
  writeFileSync(join(directory, 'data', 'shop', 'a.ibd'), 'rows');
  await writeManifest(directory, about, await hashFiles(join(directory, 'data'), { signal }));
  const manifest = (await findManifest(directory))!;
  const target = join(root, 'copy');

  await copyBackup({ backup: { directory, manifest, packed: null }, target, work: { signal, progress: () => {} } });

  expect(readFileSync(join(target, 'shop', 'a.ibd'), 'utf8')).toBe('rows');
  for (const name of ['performance_schema', 'empty@002dschema']) expect(existsSync(join(target, name))).toBe(true);
});

test('a backup of before has no list, and a list that leads elsewhere is refused', async () => {
  const manifest = { ...about, version: 1, bytes: 0, filesSha256: '' } as const;

  await makeDirectories(join(root, 'old'), manifest);

  expect(existsSync(join(root, 'old', 'performance_schema'))).toBe(true);
  const bad = makeDirectories(join(root, 'bad'), { ...manifest, directories: ['../../elsewhere'] });
  await expect(bad).rejects.toMatchObject({ code: 'BACKUP_DAMAGED' });
});
