import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { Worker } from 'node:worker_threads';
import { afterEach, expect, test } from 'vitest';
import { findCluster, readClusterSecrets } from '../../src/store/clusters.ts';
import { lead } from '../../src/store/leadership.ts';
import { openStore, transaction } from '../../src/store/store.ts';
import { aCluster, cleanUp, newId, sqlDir, testClock, testDirectory, testKey, testStore } from './helper.ts';

afterEach(cleanUp);

test('the schema is the one that was reviewed', async () => {
  const store = await testStore();

  const rows = store.db.prepare('SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type DESC, name').all();

  const dump = rows.map((row) => `${row['sql']};\n`).join('\n');
  await expect(dump).toMatchFileSnapshot('../golden/store-schema.sql');
});

test('uses no SQL that only one of the two databases knows', () => {
  const text = readFileSync(join(sqlDir, '0001-store.sql'), 'utf8').replace(/--.*/g, '');

  expect(text).not.toMatch(/RETURNING|ON CONFLICT|AUTOINCREMENT|WITHOUT ROWID|STRICT|CREATE UNIQUE INDEX.*WHERE/i);
  expect(text).not.toMatch(/\bTEXT[^,\n]*(PRIMARY KEY|UNIQUE)/);
});

test('is durable and strict: WAL, FULL, foreign keys', async () => {
  const store = await testStore(join(testDirectory(), 'store.db'));

  expect(store.db.prepare('PRAGMA journal_mode').get()).toMatchObject({ journal_mode: 'wal' });
  expect(store.db.prepare('PRAGMA synchronous').get()).toMatchObject({ synchronous: 2 });
  expect(store.db.prepare('PRAGMA foreign_keys').get()).toMatchObject({ foreign_keys: 1 });
});

test('keeps the installation id and all rows when it is opened again', async () => {
  const path = join(testDirectory(), 'store.db');
  const first = await testStore(path);
  const cluster = await aCluster(first);
  first.close();

  const second = await testStore(path);

  expect(second.installationId).toBe(first.installationId);
  expect(await findCluster(second, 'orders')).toEqual(cluster);
});

test('keeps what was committed when the process dies without closing', async () => {
  const path = join(testDirectory(), 'store.db');
  const dying = await testStore(path);
  const cluster = await aCluster(dying);
  dying.db.exec('BEGIN IMMEDIATE');
  dying.db.exec("UPDATE cluster SET name = 'half'");
  const files = ['', '-wal'].map((suffix) => [suffix, readFileSync(path + suffix)] as const);
  const copy = join(testDirectory(), 'copy.db');
  for (const [suffix, bytes] of files) writeFileSync(copy + suffix, bytes);

  const store = await testStore(copy);

  expect(await findCluster(store, 'orders')).toEqual(cluster);
});

test('a transaction is whole or nothing', async () => {
  const store = await testStore();
  const fault = new Error('in the middle');

  const change = transaction(store, () => {
    store.db.exec("INSERT INTO setting (name, value) VALUES ('a', 'b')");
    throw fault;
  });

  await expect(change).rejects.toBe(fault);
  expect(store.db.prepare("SELECT COUNT(*) AS n FROM setting WHERE name = 'a'").get()).toMatchObject({ n: 0 });
});

test('many processes may make the store at once', async () => {
  const directory = testDirectory();
  const path = join(directory, 'store.db');
  const keyFile = join(directory, 'key');
  const module = new URL('../../src/store/store.ts', import.meta.url).href;
  const code = `
    import { openStore } from ${JSON.stringify(module)};
    import { parentPort } from 'node:worker_threads';
    import { randomUUID } from 'node:crypto';
    const clock = { now: () => 1, setTimeout, clearTimeout };
    const store = await openStore({ path: ${JSON.stringify(path)}, keyFile: ${JSON.stringify(keyFile)}, clock,
      newId: randomUUID, sqlDir: ${JSON.stringify(sqlDir)} });
    parentPort.postMessage(store.installationId);
    store.close();`;

  const starts = Array.from({ length: 8 }, () => {
    const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(code)}`));
    return new Promise<string>((resolve, reject) => {
      let id = '';
      worker.once('message', (message) => {
        id = message;
      });
      worker.once('error', reject).once('exit', () => resolve(id));
    });
  });
  const ids = await Promise.all(starts);

  expect(new Set(ids).size).toBe(1);
  const db = new DatabaseSync(path);
  expect(db.prepare('SELECT number, name FROM migration').all()).toEqual([
    { number: 1, name: '0001-store.sql' },
    { number: 2, name: '0002-automation.sql' },
    { number: 3, name: '0003-service-port.sql' },
    { number: 4, name: '0004-preferences.sql' },
    { number: 5, name: '0005-durability.sql' },
    { number: 6, name: '0006-conditions.sql' },
    { number: 7, name: '0007-backup-policy.sql' },
    { number: 8, name: '0008-copy-origin.sql' },
    { number: 9, name: '0009-restore.sql' },
    { number: 10, name: '0010-retained.sql' },
  ]);
  db.close();
});

test('a store of a newer program is refused', async () => {
  const path = join(testDirectory(), 'store.db');
  const store = await testStore(path);
  store.db.exec("INSERT INTO migration (number, name, applied_at) VALUES (99, '0099-later.sql', 1)");
  store.close();

  const fault = await testStore(path).catch((error: Error) => error);

  expect(String((fault as Error).cause)).toContain('newer program');
});

test('a migration that fails leaves nothing behind', async () => {
  const directory = testDirectory();
  writeFileSync(join(directory, '0001-broken.sql'), 'CREATE TABLE half (id INTEGER); CREATE TABLE half (id INTEGER);');
  const path = join(directory, 'store.db');
  const options = { path, key: testKey, clock: testClock(), newId, sqlDir: directory };

  await expect(openStore(options)).rejects.toThrow();

  const db = new DatabaseSync(path);
  expect(db.prepare("SELECT name FROM sqlite_master WHERE name = 'half'").all()).toEqual([]);
  expect(db.prepare('SELECT * FROM migration').all()).toEqual([]);
  db.close();
});

test('makes the key file for its owner alone, and once', async () => {
  const directory = testDirectory();
  const keyFile = join(directory, 'key');
  const options = { path: join(directory, 'store.db'), keyFile, clock: testClock(), newId, sqlDir };
  (await openStore(options)).close();
  const text = readFileSync(keyFile, 'utf8');

  (await openStore(options)).close();

  expect(statSync(keyFile).mode & 0o777).toBe(0o600);
  expect(readFileSync(keyFile, 'utf8')).toBe(text);
});

test('a lost key file is an error, not a fresh key', async () => {
  const directory = testDirectory();
  const keyFile = join(directory, 'key');
  const options = { path: join(directory, 'store.db'), keyFile, clock: testClock(), newId, sqlDir };
  (await openStore(options)).close();
  rmSync(keyFile);

  await expect(openStore(options)).rejects.toThrow();

  expect(() => statSync(keyFile)).toThrow();
});

test('a key file that others may read is refused', async () => {
  const directory = testDirectory();
  const keyFile = join(directory, 'key');
  writeFileSync(keyFile, 'ab'.repeat(32), { mode: 0o644 });

  const options = { path: join(directory, 'store.db'), keyFile, clock: testClock(), newId, sqlDir };

  await expect(openStore(options)).rejects.toThrow();
});

test('secrets are not in the file, and another key does not open the store', async () => {
  const path = join(testDirectory(), 'store.db');
  const store = await testStore(path);
  const { id } = await aCluster(store);
  expect((await readClusterSecrets(store, id)).team.password).toBe('team-secret');
  store.close();

  const other = openStore({ path, key: Buffer.alloc(32, 8), clock: testClock(), newId, sqlDir });

  await expect(other).rejects.toThrow();
  expect(readFileSync(path).includes('secret":')).toBe(false);
  expect(readFileSync(path).includes('team-secret')).toBe(false);
});

test('a secret moved to another row, or changed, does not open', async () => {
  const store = await testStore();
  const one = await aCluster(store, 'one');
  const two = await aCluster(store, 'two');
  const sealed = store.db.prepare('SELECT sealed_secrets FROM cluster WHERE id = ?').get(one.id)?.['sealed_secrets'];
  store.db.prepare('UPDATE cluster SET sealed_secrets = ? WHERE id = ?').run(String(sealed), two.id);

  await expect(readClusterSecrets(store, two.id)).rejects.toThrow('open the sealed value');
  await expect(readClusterSecrets(store, one.id)).resolves.toBeDefined();
});

test('every new leader has a higher token', async () => {
  const store = await testStore();

  const tokens = [await lead(store, 'a'), await lead(store, 'b'), await lead(store, 'a')];

  expect(tokens).toEqual([{ token: 1 }, { token: 2 }, { token: 3 }]);
});
