/** The writer and its judge are what the demo is believed for: they must notice what they are there to notice. */
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import type { Session } from '../../src/mysql/connection.ts';
import { setReplica } from '../../src/mysql/semi-sync.ts';
import { destroyInstances } from '../mysql/instance.ts';
import { accounts, follow, loginOwn, type Member, makeWritable, startMember } from '../mysql/member.ts';
import { createEndpoints, type Endpoint, type KnownEndpoints } from './endpoints.ts';
import { isFlawless, judge } from './verdict.ts';
import { now } from './wait.ts';
import { startWriter, type Writer } from './writer.ts';

let primary: Member;
let replica: Member;
let endpoints: KnownEndpoints;
let writer: Writer;
let tables = 0;

const placeOf = ({ instance }: Member, ordinal: number): Endpoint => ({
  ordinal,
  host: instance.address,
  port: instance.port,
});

beforeAll(async () => {
  [primary, replica] = await Promise.all([startMember(), startMember()]);
  await follow(replica, primary);
  await setReplica(replica.session, true);
  await makeWritable(primary, 1);
  endpoints = createEndpoints();
  endpoints.set(placeOf(primary, 0), [placeOf(replica, 1)]);
});
afterAll(destroyInstances);
afterEach(() => writer.stop(0));

async function write(rows: number): Promise<void> {
  tables += 1;
  const { team: login } = accounts;
  writer = await startWriter({ endpoints, login, caPem: primary.instance.caPem, table: `t${tables}`, rowsMax: rows });
}

const judgeNow = () => judge(writer, endpoints, accounts.team, primary.instance.caPem);

/** A change that belongs to one member alone, and makes no GTID. */
async function changeAlone({ session }: Member, sql: string): Promise<void> {
  await session.query('SET SESSION sql_log_bin = 0');
  await session.query('SET GLOBAL super_read_only = OFF');
  await session.query(sql);
  await session.query('SET SESSION sql_log_bin = 1');
}

const allWritten = (rows: number) =>
  expect.poll(() => writer.acknowledgedAt.filter((at) => at !== null).length, { timeout: 20_000 }).toBe(rows);

test('what was written and not touched is flawless', async () => {
  await write(50);
  await allWritten(50);

  const verdict = await judgeNow();

  expect(verdict).toMatchObject({ acknowledged: 50, missing: 0, duplicates: 0, strangers: 0, differing: 0 });
  expect(verdict.unknown.total).toBe(0);
  expect(isFlawless(verdict)).toBe(true);
});

test('a row that one member lacks is missing, and that member differs', async () => {
  await write(20);
  await allWritten(20);
  await judgeNow(); // the replica has caught up

  await changeAlone(replica, `DELETE FROM ${writer.table} WHERE writer_key = 7`);

  expect(await judgeNow()).toMatchObject({ missing: 1, differing: 1 });
});

test('a row with another content, and one that nobody wrote, are found', async () => {
  await write(20);
  await allWritten(20);
  const { session } = primary;

  await session.query(`UPDATE ${writer.table} SET content = 'something else' WHERE writer_key = 3`);
  await session.query(`INSERT INTO ${writer.table} (writer_key, attempt, content) VALUES (999, 1, 'x')`);

  const verdict = await judgeNow();
  expect(verdict).toMatchObject({ missing: 1, strangers: 1, differing: 0 });
  expect(isFlawless(verdict)).toBe(false);
});

test('a key that was there before its first try is a fault', async () => {
  await write(10_000);
  await writer.acknowledgedAfter(now(), 10_000);

  const next = writer.acknowledgedAt.length + 100;
  await primary.session.query(`INSERT INTO ${writer.table} (writer_key, attempt, content) VALUES (${next}, 1, 'x')`);

  await expect.poll(() => writer.faults, { timeout: 10_000 }).toHaveLength(1);
});

test('a write that waits when the server is killed is unknown, and is sent again under its own key', async () => {
  await write(10_000);
  await writer.acknowledgedAfter(now(), 10_000);
  const killedAt = now();

  await blockCommits(replica.session);
  await expect.poll(() => waitingCommits(primary.session), { timeout: 10_000 }).toBe(1);
  await primary.instance.kill();
  await primary.instance.start();
  primary = { ...primary, session: await loginOwn(primary.instance) };
  await primary.session.query('SET GLOBAL offline_mode = OFF');
  await replica.session.query('START REPLICA IO_THREAD');
  await makeWritable(primary, 1);
  const goesOnAt = await writer.acknowledgedAfter(now(), 20_000);
  await writer.stop();

  const verdict = await judgeNow();
  expect(isFlawless(verdict)).toBe(true);
  // Crash recovery of the same server commits the tail: the retry finds it there.
  expect(verdict.unknown).toMatchObject({ total: 1, 'committed at first': 1 });
  expect(writer.longestGapMs(killedAt, now())).toBeGreaterThan(0);
  expect(goesOnAt).toBeGreaterThan(killedAt);
});

async function blockCommits(session: Session): Promise<void> {
  await session.query('STOP REPLICA IO_THREAD');
}

async function waitingCommits(session: Session): Promise<number> {
  const [row] = await session.query<{ Value: string }>("SHOW STATUS LIKE 'Rpl_semi_sync_source_wait_sessions'");
  return Number(row?.Value);
}
