import { writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ensureAccounts } from '../../src/mysql/accounts.ts';
import type { Session } from '../../src/mysql/connection.ts';
import { readGtids } from '../../src/mysql/gtid.ts';
import { readAccess, setOffline, setWritable, withLocalWrites } from '../../src/mysql/read-only.ts';
import { destroyInstances, startInstance } from './instance.ts';
import { accounts, loginOwn, type Member, startMember } from './member.ts';

let member: Member;
let team: Session;
beforeAll(async () => {
  member = await startMember();
  await setWritable(member.session);
  team = await member.instance.loginTcp(accounts.team);
});
afterAll(destroyInstances);

const refused = (sql: string) => expect(team.query(sql), sql).rejects.toMatchObject({ name: 'SqlError' });

test('preparing a member twice leaves it as before, without a transaction and read-only', async () => {
  const other = await startMember();
  await ensureAccounts(other.session, accounts);
  const again = await loginOwn(other.instance);

  expect(await readGtids(again)).toEqual({ executed: '', purged: '' });
  expect(await readAccess(again)).toEqual({ isSuperReadOnly: true, isReadOnly: true, isOffline: false });
  expect(await again.query("SELECT user FROM mysql.user WHERE user NOT LIKE 'mysql.%' ORDER BY user")).toEqual(
    ['donor', 'replication', 'selvedge', 'shop'].map((user) => ({ user })),
  );
});

test('a member killed while its accounts were made is completed by the next run', async () => {
  const instance = await startInstance();
  const { root } = instance;
  await root.query('SET GLOBAL super_read_only = OFF');
  await root.query('SET sql_log_bin = 0');
  await root.query('CREATE USER selvedge@localhost IDENTIFIED WITH auth_socket AS ?', [userInfo().username]);
  await root.query("CREATE USER shop@'%' ACCOUNT LOCK");
  await root.query("GRANT SELECT, UPDATE ON *.* TO shop@'%'");
  await root.query("CREATE USER replication@'%'");

  const session = await loginOwn(instance);
  await ensureAccounts(session, accounts);

  expect(await readAccess(session)).toMatchObject({ isReadOnly: true });
  expect(await session.query("SELECT 1 FROM mysql.user WHERE user = 'root'")).toEqual([]);
  await setOffline(session, false);
  const client = await instance.loginTcp(accounts.team);
  await expect(client.query('SELECT 1 FROM mysql.user')).rejects.toMatchObject({ errno: 1142 });
  await (await instance.loginTcp(accounts.replication)).close();
});

test('root is gone, and nobody logs in as selvedge over TCP', async () => {
  await expect(member.instance.login({ user: 'root' })).rejects.toMatchObject({ errno: 1045 });
  await expect(member.instance.loginTcp({ user: 'selvedge' })).rejects.toMatchObject({ name: 'SqlError' });
});

test('a team works in its own schemas', async () => {
  await team.query('CREATE DATABASE shop');
  await team.query('CREATE TABLE shop.item (id INT PRIMARY KEY, total INT)');
  await team.query('CREATE TRIGGER shop.t BEFORE INSERT ON shop.item FOR EACH ROW SET NEW.total = NEW.id * 2');
  await team.query('CREATE FUNCTION shop.f(x INT) RETURNS INT RETURN x + 1');
  await team.query('INSERT INTO shop.item (id) VALUES (21)');

  expect(await team.query('SELECT total, shop.f(total) AS f FROM shop.item')).toEqual([{ total: 42, f: 43 }]);
});

test('a team reaches nothing that could get past the fence', async () => {
  await refused("UPDATE mysql.user SET Super_priv = 'Y'");
  await refused('SELECT * FROM mysql.user');
  await refused('INSERT INTO selvedge.epoch VALUES (9, 9, "", 0)');
  await refused('SELECT * FROM selvedge.heartbeat');
  await refused('DROP DATABASE selvedge');
  await refused('CREATE TABLE selvedge.x (id INT PRIMARY KEY)');
  await refused('SELECT * FROM performance_schema.threads');
  await refused('SET GLOBAL offline_mode = OFF');
  await refused('SET GLOBAL super_read_only = OFF');
  await refused('SET PERSIST super_read_only = OFF');
  await refused('SET GLOBAL rpl_semi_sync_source_enabled = OFF');
  await refused('SET sql_log_bin = 0');
  await refused("SET gtid_next = 'AUTOMATIC:x'");
  await refused('CREATE USER x');
  await refused('GRANT SELECT ON shop.* TO shop');
  await refused('ALTER USER selvedge@localhost ACCOUNT LOCK');
  await refused('STOP REPLICA');
  await refused('RESET BINARY LOGS AND GTIDS');
  await refused('PURGE BINARY LOGS BEFORE NOW()');
  await refused('SHUTDOWN');
  await refused('FLUSH TABLES WITH READ LOCK');
  await refused('LOCK INSTANCE FOR BACKUP');
  await refused("SELECT 1 INTO OUTFILE '/tmp/x'");
  await refused("INSTALL PLUGIN x SONAME 'mysql_no_login.so'");
  await refused('CREATE EVENT shop.e ON SCHEDULE EVERY 1 SECOND DO SELECT 1');
  await refused('CREATE TABLE shop.m (id INT PRIMARY KEY) ENGINE = MEMORY');
  await refused('CREATE TABLE shop.k (id INT)');
  await refused("CREATE TABLE shop.d (id INT PRIMARY KEY) DATA DIRECTORY = '/tmp'");
  await refused("CREATE FUNCTION x RETURNS INTEGER SONAME 'keyring_udf.so'");
  await refused("INSTALL COMPONENT 'file://component_query_attributes'");
  await refused('SET SESSION sql_require_primary_key = OFF');
  await refused("SET SESSION binlog_row_image = 'MINIMAL'");
  await refused("SET SESSION binlog_format = 'STATEMENT'");
  await refused('FLUSH PRIVILEGES');
  await refused("CLONE LOCAL DATA DIRECTORY = '/tmp/x'");
});

test('a team can change its own password only until it is set again', async () => {
  await team.query('ALTER USER USER() IDENTIFIED BY ?', ['mine']);

  await ensureAccounts(member.session, accounts);

  const again = await member.instance.loginTcp(accounts.team);
  await again.close();
  await expect(member.instance.loginTcp({ user: 'shop', password: 'mine' })).rejects.toMatchObject({ errno: 1045 });
});

test('offline_mode drops a team and keeps it out, and the window for our own writes is closed to it', async () => {
  const other = await startMember();
  const client = await other.instance.loginTcp(accounts.team);
  await withLocalWrites(other.session, async () => {
    await expect(client.query('CREATE DATABASE shop')).rejects.toMatchObject({ errno: 1290 });
  });

  await setOffline(other.session, true);

  await expect(client.query('SELECT 1')).rejects.toMatchObject({ name: 'SqlError' });
  await expect(other.instance.loginTcp(accounts.team)).rejects.toMatchObject({ errno: 3032 });
});

test('accounts of members are refused without TLS', async () => {
  const rows = await member.session.query<{ user: string }>(
    "SELECT user FROM mysql.user WHERE host = '%' AND ssl_type <> 'ANY'",
  );

  expect(rows).toEqual([]);
});

test('a persisted mysqld-auto.cnf does not make an instance writable', async () => {
  const variables = ['super_read_only', 'read_only', 'offline_mode', 'rpl_semi_sync_replica_enabled'];
  const entry = (name: string) => [
    name,
    { Value: name.startsWith('rpl') ? 'ON' : 'OFF', Metadata: { Host: '', User: '', Timestamp: 0 } },
  ];
  const persisted = { Version: 2, mysql_dynamic_variables: Object.fromEntries(variables.map(entry)) };
  const instance = await startInstance({
    prepare: (dataDir) => writeFileSync(join(dataDir, 'mysqld-auto.cnf'), JSON.stringify(persisted)),
  });

  expect(await readAccess(instance.root)).toEqual({ isSuperReadOnly: true, isReadOnly: true, isOffline: true });
  const [row] = await instance.root.query('SELECT @@rpl_semi_sync_replica_enabled AS isReplica');
  expect(row).toEqual({ isReplica: 0 });
});
