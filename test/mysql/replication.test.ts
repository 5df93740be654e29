import { afterEach, expect, test, vi } from 'vitest';
import { readGtids, waitExecuted } from '../../src/mysql/gtid.ts';
import {
  pointReceiver,
  readReplication,
  resetReplication,
  startReceiver,
  startReplication,
  stopReceiver,
} from '../../src/mysql/replication.ts';
import { readSemiSync, setReplica, setSource } from '../../src/mysql/semi-sync.ts';
import { destroyInstances } from './instance.ts';
import { accounts, follow, loginOwn, type Member, makeWritable, startMember } from './member.ts';

afterEach(destroyInstances);

const until = { timeout: 15_000, interval: 20 };

async function startTrio(k: number): Promise<[Member, Member, Member]> {
  const [a, b, c] = await Promise.all([startMember(), startMember(), startMember()]);
  for (const replica of [b, c]) {
    await setReplica(replica.session, true);
    await follow(replica, a);
  }
  await vi
    .waitFor(async () => expect((await readSemiSync(a.session)).clients).toBe(0 + 2), until)
    .catch(() => undefined);
  await setSource(a.session, k);
  await vi.waitFor(async () => expect((await readSemiSync(a.session)).clients).toBe(2), until);
  await makeWritable(a, k);
  return [a, b, c];
}

const isOn = (member: Member) =>
  vi.waitFor(async () => {
    const replication = await readReplication(member.session);
    expect(replication).toMatchObject({ receiver: 'on', applier: 'on', receiverError: '', applierError: '' });
  }, until);

async function createTable(member: Member): Promise<void> {
  await member.session.query('CREATE DATABASE shop');
  await member.session.query('CREATE TABLE shop.item (id INT PRIMARY KEY)');
}

async function caughtUp(replica: Member, primary: Member): Promise<boolean> {
  return waitExecuted(replica.session, (await readGtids(primary.session)).executed, 15_000);
}

test('a replica connects from its own address', async () => {
  const [a, b] = await Promise.all([startMember(), startMember({ address: '127.0.0.77' })]);

  await follow(b, a);

  const dumps = "SELECT HOST AS host FROM performance_schema.processlist WHERE COMMAND LIKE 'Binlog Dump%'";
  const from = new RegExp(`^${b.instance.address.replaceAll('.', '\\.')}:`);
  await vi.waitFor(
    async () => expect(await a.session.query(dumps)).toEqual([{ host: expect.stringMatching(from) }]),
    until,
  );
});

test('replicas acknowledge, follow a new source with their relay log, and apply it all', async () => {
  const [a, b, c] = await startTrio(1);
  await createTable(a);
  expect(await caughtUp(b, a)).toBe(true);
  expect(await caughtUp(c, a)).toBe(true);
  expect(await readSemiSync(a.session)).toMatchObject({
    isSource: true,
    k: 1,
    clients: 2,
    waitingSessions: 0,
    noTx: 0,
  });

  // b receives but cannot apply: its applier waits for the table.
  const holder = await b.instance.login({ user: 'selvedge' });
  await holder.query('LOCK TABLES shop.item READ');
  await a.session.query('INSERT INTO shop.item VALUES (1), (2)');
  expect(await caughtUp(c, a)).toBe(true);
  const { executed } = await readGtids(a.session);
  await vi.waitFor(async () => expect((await readReplication(b.session))?.received).toContain(':1-3'), until);
  expect(await waitExecuted(b.session, executed, 1)).toBe(false);
  await a.instance.kill();
  await follow(b, c);
  await follow(b, c);

  const replication = await readReplication(b.session);
  expect(replication).toMatchObject({ sourcePort: c.instance.port, applier: 'on' });
  expect(replication?.received).toContain(':1-3');
  await stopReceiver(b.session);
  await holder.close();
  expect(await waitExecuted(b.session, executed, 15_000)).toBe(true);
  expect(await b.session.query('SELECT id FROM shop.item')).toEqual([{ id: 1 }, { id: 2 }]);
  await startReceiver(b.session);
  await isOn(b);
});

test('a channel whose applier is broken is not changed while its relay log holds something', async () => {
  const [a, b, c] = await startTrio(1);
  await createTable(a);
  expect(await caughtUp(b, a)).toBe(true);
  await b.session.query('SET sql_log_bin = 0');
  await b.session.query('SET GLOBAL super_read_only = OFF');
  await b.session.query('INSERT INTO shop.item VALUES (7)');
  await a.session.query('INSERT INTO shop.item VALUES (7)');
  await vi.waitFor(async () => expect((await readReplication(b.session))?.applierError).toContain('uplicate'), until);
  const { executed } = await readGtids(a.session);
  expect(await caughtUp(c, a)).toBe(true);

  await expect(follow(b, c)).rejects.toMatchObject({ code: 'RELAY_LOG_AT_RISK' });
  expect(await readReplication(b.session)).toMatchObject({ sourcePort: a.instance.port, receiver: 'on' });
  const source = {
    host: c.instance.address,
    port: c.instance.port,
    ...accounts.replication,
    caFile: c.instance.caFile,
    from: b.instance.address,
  };
  await pointReceiver(b.session, source, { sourceHas: executed });

  expect(await readReplication(b.session)).toMatchObject({ sourcePort: c.instance.port });
});

test('a commit waits for its acknowledgement, and changes of k take hold', async () => {
  const [a, b, c] = await startTrio(2);
  await createTable(a);
  await stopReceiver(b.session);
  await stopReceiver(b.session);
  const writer = await a.instance.login({ user: 'selvedge' });
  const write = writer.query('INSERT INTO shop.item VALUES (1)');
  await vi.waitFor(async () => expect((await readSemiSync(a.session)).waitingSessions).toBe(1), until);
  expect(await a.session.query('SELECT id FROM shop.item')).toEqual([]);

  await setSource(a.session, 1);

  await write;
  await setSource(a.session, 0);
  expect(await readSemiSync(a.session)).toMatchObject({ isSource: false, k: 0 });
  await setReplica(c.session, false);
  await setReplica(c.session, false);
  expect(await readSemiSync(c.session)).toMatchObject({ isReplica: false });
  await isOn(c);
  await writer.close();
});

test('a member without a channel has none to read, start or stop', async () => {
  const [a, b] = await Promise.all([startMember(), startMember()]);

  expect(await readReplication(a.session)).toBeNull();
  await stopReceiver(a.session);
  await startReceiver(a.session);
  await resetReplication(a.session);
  await follow(b, a);
  await startReplication(b.session);
  await isOn(b);
  await resetReplication(b.session);
  await resetReplication(b.session);

  expect(await readReplication(b.session)).toBeNull();
});

test('a receiver looks for its source for ever', async () => {
  const [a, b] = await Promise.all([startMember(), startMember()]);
  await a.instance.kill();

  await follow(b, a);

  await vi.waitFor(async () => {
    expect(await readReplication(b.session)).toMatchObject({ receiver: 'connecting', applier: 'on' });
    expect((await readReplication(b.session))?.receiverError).toContain('attempt 2/0');
  }, until);
  await a.instance.start();
  const again = await loginOwn(a.instance);
  await again.query('SET GLOBAL offline_mode = OFF');
  await isOn(b);
});
