import { afterAll, beforeAll, expect, test } from 'vitest';
import { realClock } from '../../src/clock.ts';
import { connect } from '../../src/mysql/connection.ts';
import { ownSession } from './trim-world.ts';
import { createWorld, type TestMember, type World } from './world.ts';

/** The first step of a switchover, with writers in its way. */
let world: World;
let primary: TestMember;
let replica: TestMember;

beforeAll(async () => {
  world = await createWorld(2, 78);
  [primary, replica] = world.members as [TestMember, TestMember];
  await Promise.all(world.members.map((each) => each.start(true)));
  await replica.command({ kind: 'follow', source: primary.source });
  await replica.command({ kind: 'setVoter', isVoter: true });
  await promote();
  const team = await primary.team();
  await team.query('CREATE DATABASE shop');
  await team.query('CREATE TABLE shop.orders (id INT PRIMARY KEY, note VARCHAR(100))');
  await team.query("INSERT INTO shop.orders VALUES (1, 'one'), (2, 'two'), (3, 'three')");
  await team.close();
});
afterAll(() => world?.destroy());

const promote = () => primary.command({ kind: 'promote', k: 1, member: 0, timeoutMs: 10_000 });

/** A statement of the team under way on a session of its own, and what came of it. */
async function underWay(sql: string) {
  const team = await primary.team();
  const outcome = team.query(sql, [], { timeoutMs: null }).then(
    () => 'OK',
    (error: { errno: number; code: string }) => `${error.errno} ${error.code}`,
  );
  const own = await ownSession(primary);
  const running = "SELECT 1 FROM performance_schema.processlist WHERE USER = 'team' AND COMMAND = 'Query'";
  await expect.poll(() => own.query(running)).not.toHaveLength(0);
  await own.close();
  return { team, outcome };
}

async function demote(maxPauseMs: number, more: { killAfterMs?: number; transactionMaxMs?: number } = {}) {
  const began = performance.now();
  const answer = await primary.launch.send({ kind: 'demote', maxPauseMs, ...more }, { epoch: 1, leaderToken: 9 });
  return { answer, tookMs: performance.now() - began };
}

test('nobody writes: no pause is used up', async () => {
  const { answer, tookMs } = await demote(5000);

  expect(answer).toMatchObject({ outcome: 'done' });
  expect(tookMs).toBeLessThan(1000);
  await promote();
});

test('a writer that ends in time is not killed', async () => {
  const { team, outcome } = await underWay("UPDATE shop.orders SET note = 'slow' WHERE id = 1 AND SLEEP(1) = 0");

  const { answer, tookMs } = await demote(5000);

  expect(answer).toMatchObject({ outcome: 'done' });
  expect(await outcome).toBe('OK');
  expect(tookMs).toBeLessThan(3000);
  await promote();
  await team.close();
});

test('a long UPDATE is killed when the time is up', async () => {
  const { team, outcome } = await underWay("UPDATE shop.orders SET note = 'long' WHERE SLEEP(60) = 0");

  const { answer, tookMs } = await demote(700);
  console.log(`paused behind a long UPDATE after ${Math.round(tookMs)} ms of 700`);

  expect(answer).toMatchObject({ outcome: 'done' });
  expect(await outcome).not.toBe('OK');
  expect(tookMs).toBeGreaterThan(650);
  expect(tookMs).toBeLessThan(2700);
  await promote();
  const after = await primary.team();
  expect(await after.query("SELECT 1 FROM shop.orders WHERE note = 'long'")).toEqual([]);
  await after.close();
  await team.close();
});

test('with a time for the kill the whole pause has an end', async () => {
  const { team, outcome } = await underWay("UPDATE shop.orders SET note = 'long' WHERE SLEEP(60) = 0");

  const { answer, tookMs } = await demote(2000, { killAfterMs: 500 });

  expect(answer).toMatchObject({ outcome: 'done' });
  expect(await outcome).not.toBe('OK');
  expect(tookMs).toBeGreaterThan(450);
  await promote();
  await team.close();
});

test('who has written for long is told, and not ended unless that is wanted', async () => {
  const team = await primary.team();
  await team.query('START TRANSACTION');
  await team.query("UPDATE shop.orders SET note = 'open' WHERE id = 3");
  const reader = await primary.team();
  await reader.query('START TRANSACTION WITH CONSISTENT SNAPSHOT');
  const [me] = await team.query<{ id: number }>('SELECT CONNECTION_ID() AS id');

  const { longestTransaction } = await primary.until((status) => status.longestTransaction != null);
  const { answer } = await demote(2000, { transactionMaxMs: 1000 });

  expect(longestTransaction).toMatchObject({ session: Number(me?.id), user: 'team' });
  expect(longestTransaction?.startedMsAgo).toBeGreaterThanOrEqual(2000);
  expect(answer).toMatchObject({ outcome: 'refused', code: 'LONG_TRANSACTION', facts: { session: Number(me?.id) } });
  expect((await primary.until(() => true)).isWritable).toBe(true);
  await team.query('COMMIT');
  await team.close();
  expect((await demote(2000, { transactionMaxMs: 1000 })).answer).toMatchObject({ outcome: 'done' });
  await promote();
  await reader.close();
});

test('LOCK TABLES WRITE of an idle session is killed when the time is up', async () => {
  const team = await primary.team();
  await team.query('LOCK TABLES shop.orders WRITE');

  const { answer, tookMs } = await demote(700);

  expect(answer).toMatchObject({ outcome: 'done' });
  expect(tookMs).toBeGreaterThan(650);
  await expect(team.query('UNLOCK TABLES')).rejects.toBeDefined();
  await promote();
});

test('a commit that waits for its acknowledgement is never told OK, and the member stays writable', async () => {
  await replica.command({ kind: 'freeze' });
  const { team, outcome } = await underWay("INSERT INTO shop.orders VALUES (4, 'four')");
  await primary.until(({ semiSync }) => semiSync.waitingSessions > 0);

  const { answer, tookMs } = await demote(500);

  expect(answer).toMatchObject({ outcome: 'refused', code: 'TIMED_OUT' });
  expect(tookMs).toBeLessThan(4000);
  expect(await outcome).not.toBe('OK');
  await replica.command({ kind: 'thaw' });
  const after = await connect(
    { ...primary.source, caPem: primary.secrets.caCertPem },
    { user: 'team', password: primary.secrets.team.password },
    { clock: realClock },
  );
  await after.query("INSERT INTO shop.orders VALUES (5, 'five')");
  await after.close();
  await team.close();
  const status = await primary.until(({ isWritable, heartbeatPending }) => isWritable && !heartbeatPending);
  expect(status.heartbeatAt).not.toBeNull();
});
