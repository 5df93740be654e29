import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { realClock } from '../../src/clock.ts';
import { readGtids } from '../../src/mysql/gtid.ts';
import { commitHeartbeat, readHeartbeat, writeEpoch } from '../../src/mysql/heartbeat.ts';
import {
  countOutsiders,
  dropClients,
  openForOwnWrites,
  readAccess,
  setReadOnly,
  setWritable,
} from '../../src/mysql/read-only.ts';
import { readSemiSync, setSource } from '../../src/mysql/semi-sync.ts';
import { destroyInstances } from './instance.ts';
import { accounts, follow, type Member, makeWritable, startMember } from './member.ts';

const until = { timeout: 15_000, interval: 20 };
const serverUuid = '0f0e0d0c-0000-4000-8000-000000000001';
let member: Member;
let replica: Member;
beforeAll(async () => {
  [member, replica] = await Promise.all([
    startMember({ serverUuid }),
    startMember({ serverUuid: '0f0e0d0c-0000-4000-8000-000000000002' }),
  ]);
});
afterAll(destroyInstances);

test('the epoch row is the first transaction of a primary, tagged, and written once', async () => {
  const { session } = member;
  await openForOwnWrites(session);
  const row = { epoch: 4, member: 1, serverUuid, atMs: 1_000 };

  await writeEpoch(session, row, 5_000);
  await writeEpoch(session, row, 5_000);

  expect((await readGtids(session)).executed).toBe(`${serverUuid}:selvedge:1`);
  await expect(writeEpoch(session, { ...row, member: 2 }, 5_000)).rejects.toMatchObject({ code: 'STALE_EPOCH' });
  await expect(writeEpoch(session, { ...row, epoch: 3 }, 5_000)).rejects.toMatchObject({ code: 'STALE_EPOCH' });
});

test('a heartbeat is committed before anybody else may write, and replicas read it', async () => {
  expect(await readHeartbeat(member.session)).toBeNull();

  await commitHeartbeat(member.session, { epoch: 4, member: 1, atMs: 5_000 }, 5_000);
  await commitHeartbeat(member.session, { epoch: 4, member: 1, atMs: 6_000 }, 5_000);

  await follow(replica, member);
  await vi.waitFor(async () => {
    expect(await readHeartbeat(replica.session)).toEqual({ epoch: 4, member: 1, atMs: 6_000 });
  }, until);
  expect((await readGtids(replica.session)).executed).toBe(`${serverUuid}:selvedge:1-3`);
});

test('writes end when the instance becomes read-only, and begin again', async () => {
  await makeWritable(member, 0);
  const client = await member.instance.loginTcp(accounts.team);
  await client.query('CREATE DATABASE shop');
  await client.query('CREATE TABLE shop.item (id INT PRIMARY KEY)');

  expect(await setReadOnly(member.session, 1)).toBe('done');
  expect(await setReadOnly(member.session, 1)).toBe('done');

  await expect(client.query('INSERT INTO shop.item VALUES (1)')).rejects.toMatchObject({ errno: 1290 });
  await setWritable(member.session);
  await client.query('INSERT INTO shop.item VALUES (1)');
  await client.close();
});

test('a write that does not end blocks read-only for a bounded time, and nothing has changed', async () => {
  const client = await member.instance.loginTcp(accounts.team);
  await client.query('LOCK TABLES shop.item WRITE');

  expect(await setReadOnly(member.session, 1)).toBe('blocked');

  expect(await readAccess(member.session)).toEqual({ isSuperReadOnly: false, isReadOnly: false, isOffline: false });
  await client.query('INSERT INTO shop.item VALUES (2)');
  await client.close();
});

test('clients are dropped and may come again', async () => {
  const client = await member.instance.loginTcp(accounts.team);

  expect(await dropClients(member.session, realClock, 5_000)).toBe(true);

  await client.closed;
  await expect(client.query('SELECT 1')).rejects.toMatchObject({ code: 'CLOSED' });
  const again = await member.instance.loginTcp(accounts.team);
  expect(await countOutsiders(member.session)).toBeGreaterThan(0);
  await again.close();
});

test('a client that waits for an acknowledgement is dropped without an OK, and its session stays', async () => {
  await setSource(member.session, 2);
  const client = await member.instance.loginTcp(accounts.team);
  const write = expect(client.query('INSERT INTO shop.item VALUES (3)')).rejects.toMatchObject({ name: 'SqlError' });
  await vi.waitFor(async () => expect((await readSemiSync(member.session)).waitingSessions).toBe(1), until);

  expect(await dropClients(member.session, realClock, 300)).toBe(false);

  await write;
  const beat = await member.instance.login({ user: 'selvedge' });
  await expect(commitHeartbeat(beat, { epoch: 4, member: 1, atMs: 7_000 }, 200)).rejects.toMatchObject({
    code: 'QUERY_TIMEOUT',
  });
  expect(beat.isClosed).toBe(true);
  await setSource(member.session, 0);
});
