import { afterAll, beforeAll, expect, test } from 'vitest';
import { checksumTable, findEmptiedTables, listTables } from '../../src/mysql/checksums.ts';
import { destroyInstances, type Instance, startInstance } from './instance.ts';

let instance: Instance;

beforeAll(async () => {
  instance = await startInstance({ args: ['--disabled-storage-engines='] });
  const { root } = instance;
  for (const name of ['offline_mode', 'super_read_only', 'read_only']) await root.query(`SET GLOBAL ${name} = OFF`);
  await root.query('SET SESSION sql_require_primary_key = OFF');
  await root.query('CREATE DATABASE shop');
  await root.query('CREATE TABLE shop.orders (id INT PRIMARY KEY, what TEXT)');
  await root.query("INSERT INTO shop.orders VALUES (1, 'a'), (2, 'b'), (3, REPEAT('x', 60000))");
  await root.query('CREATE TABLE shop.none (id INT PRIMARY KEY)');
}, 60_000);
afterAll(destroyInstances);

test('every table of every schema is listed, views and virtual schemas are not', async () => {
  await instance.root.query('CREATE VIEW shop.seen AS SELECT id FROM shop.orders');

  const names = (await listTables(instance.root)).map(({ schema, name }) => `${schema}.${name}`);

  expect(names).toEqual(expect.arrayContaining(['shop.orders', 'shop.none', 'mysql.user', 'sys.sys_config']));
  expect(names.filter((name) => /shop\.seen|^performance_schema|^information_schema/.test(name))).toEqual([]);
});

test('rows are counted, and a changed row changes the checksum', async () => {
  const table = { schema: 'shop', name: 'orders' };
  const before = await checksumTable(instance.root, table);
  expect(before).toMatchObject({ rows: 3, problem: '' });
  expect(await checksumTable(instance.root, { schema: 'shop', name: 'none' })).toMatchObject({ rows: 0, checksum: 0 });
  expect(await checksumTable(instance.root, table)).toEqual(before);

  await instance.root.query("UPDATE shop.orders SET what = CONCAT(REPEAT('x', 59999), 'y') WHERE id = 3");

  expect((await checksumTable(instance.root, table)).checksum).not.toBe(before.checksum);
});

test('a table that cannot be read has no checksum, and says why', async () => {
  const found = await checksumTable(instance.root, { schema: 'shop', name: 'missing' });

  expect(found.checksum).toBeNull();
  expect(found.problem).toMatch(/missing/);
});

test('tables whose content CLONE leaves out are named', async () => {
  expect(await findEmptiedTables(instance.root)).toEqual([]);

  await instance.root.query('CREATE TABLE shop.old (id INT) ENGINE = MyISAM');
  await instance.root.query('CREATE TABLE shop.fleeting (id INT) ENGINE = MEMORY');

  expect(await findEmptiedTables(instance.root)).toEqual(['shop.fleeting (MEMORY)', 'shop.old (MyISAM)']);
});
