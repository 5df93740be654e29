import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { findDistribution } from '../../src/mysql/distribution.ts';
import { copyTemplate, ensureTemplate } from '../../src/mysql/template.ts';
import { cacheDir, testDistribution } from './instance.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'sv-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

function fakeMysqld(path: string, answer: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `#!/bin/sh\necho '${answer}'\n`);
  chmodSync(path, 0o755);
}
const empty = () => join(dir, 'cache');

test('the named home is taken, with its version', async () => {
  fakeMysqld(join(dir, 'bin/mysqld'), 'mysqld  Ver 9.7.5 for Linux on x86_64 (MySQL Community Server - GPL)');

  const distribution = await findDistribution({ env: { SELVEDGE_MYSQL_HOME: dir }, cacheDir: empty() });

  expect(distribution).toMatchObject({ home: dir, version: '9.7.5', mysqld: join(dir, 'bin/mysqld') });
  expect(distribution.program('mysqld')).toEqual([join(dir, 'bin/mysqld')]);
});

test('MariaDB is refused by name, and another series unless it is allowed', async () => {
  const env = { SELVEDGE_MYSQL_HOME: dir };
  fakeMysqld(join(dir, 'bin/mysqld'), 'mysqld  Ver 10.11.6-MariaDB for debian-linux-gnu');
  const find = findDistribution({ env, cacheDir: empty() });
  await expect(find).rejects.toMatchObject({ code: 'MYSQL_UNSUPPORTED', message: expect.stringContaining('MariaDB') });

  fakeMysqld(join(dir, 'bin/mysqld'), 'mysqld  Ver 8.4.6 for Linux on x86_64');
  const old = findDistribution({ env, cacheDir: empty() });
  await expect(old).rejects.toMatchObject({ code: 'MYSQL_UNSUPPORTED', facts: { version: '8.4.6' } });

  const allowed = await findDistribution({ env, cacheDir: empty(), allowUntestedVersion: true });
  expect(allowed.version).toBe('8.4.6');
});

test('a home without mysqld, a mysqld that does not run, and no MySQL at all are told apart', async () => {
  const env = { SELVEDGE_MYSQL_HOME: dir };
  await expect(findDistribution({ env, cacheDir: empty() })).rejects.toMatchObject({ code: 'MYSQL_MISSING' });
  await expect(findDistribution({ env: {}, cacheDir: empty() })).rejects.toMatchObject({ code: 'MYSQL_MISSING' });
  fakeMysqld(join(dir, 'bin/mysqld'), '');
  writeFileSync(join(dir, 'bin/mysqld'), '#!/nowhere\n');

  await expect(findDistribution({ env, cacheDir: empty() })).rejects.toMatchObject({ code: 'MYSQL_UNSUPPORTED' });
});

test('an unsupported mysqld on PATH is passed over for the cache', async () => {
  fakeMysqld(join(dir, 'usr/sbin/mysqld'), 'mysqld  Ver 8.0.40 for Linux on x86_64');

  const distribution = await findDistribution({ env: { PATH: join(dir, 'usr/sbin') }, cacheDir });

  expect(distribution.home).toBe((await findDistribution({ env: {}, cacheDir })).home);
});

test('a torn cache is not used', async () => {
  const home = join(dir, 'cache', '9.7.4-2');
  fakeMysqld(join(home, 'usr/sbin/mysqld'), 'mysqld  Ver 9.7.4 for Linux on x86_64');
  const manifest = { format: 1, version: '9.7.4-2', loader: 'x', libraryPath: 'y', marks: { 'usr/sbin/mysqld': 1 } };
  writeFileSync(join(home, 'distribution.json'), JSON.stringify(manifest));

  await expect(findDistribution({ env: {}, cacheDir: empty() })).rejects.toMatchObject({ code: 'MYSQL_MISSING' });
});

test('a copy of the template has no identity, and an occupied directory is refused', async () => {
  const template = await ensureTemplate(await testDistribution(), cacheDir);
  const target = join(dir, 'data');

  await copyTemplate(template, target);

  expect(existsSync(join(target, 'mysql.ibd'))).toBe(true);
  expect(readdirSync(target).filter((name) => name === 'auto.cnf' || name.endsWith('.pem'))).toEqual([]);
  await expect(copyTemplate(template, target)).rejects.toThrow('not empty');
});
