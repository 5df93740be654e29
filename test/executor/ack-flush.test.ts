/** What a replica does before it acknowledges, on real ones. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ownSession, volumeOf } from './trim-world.ts';
import { createWorld, type TestMember, type World } from './world.ts';

let world: World;
let primary: TestMember;
let replica: TestMember;

beforeAll(async () => {
  world = await createWorld(2, 82);
  [primary, replica] = world.members as [TestMember, TestMember];
  await Promise.all(world.members.map((each) => each.start(true)));
  await replica.command({ kind: 'follow', source: primary.source });
  await replica.command({ kind: 'setVoter', isVoter: true });
  await primary.command({ kind: 'promote', k: 1, member: 0, timeoutMs: 10_000 });
  const team = await primary.team();
  await team.query('CREATE DATABASE shop');
  await team.query('CREATE TABLE shop.orders (id INT PRIMARY KEY AUTO_INCREMENT, note VARCHAR(100))');
  await team.close();
});
afterAll(() => world?.destroy());

/** How often mysqld flushed relay logs while `count` rows were committed. */
async function flushesFor(count: number): Promise<number> {
  const own = await ownSession(replica);
  const team = await primary.team();
  const read = async () => {
    const sql = `SELECT SUM(COUNT_MISC) AS n FROM performance_schema.file_summary_by_event_name
      WHERE EVENT_NAME = 'wait/io/file/sql/relaylog'`;
    return Number((await own.query<{ n: unknown }>(sql))[0]?.n ?? 0);
  };
  const before = await read();
  for (let n = 0; n < count; n += 1) await team.query("INSERT INTO shop.orders (note) VALUES ('x')");
  const after = await read();
  await Promise.all([own.close(), team.close()]);
  return after - before;
}
const period = async () => {
  const own = await ownSession(replica);
  const [row] = await own.query<{ period: number }>('SELECT @@GLOBAL.sync_relay_log AS period');
  await own.close();
  return Number(row?.period);
};

test('os: nothing is flushed for an acknowledgement, and the status says so', async () => {
  expect(await flushesFor(20)).toBeLessThan(20);
  expect((await replica.status()).flushesRelayLog).toBe(false);
  expect(readdirSync(join(volumeOf(replica, 'data'), 'data')).some((name) => /^relay\.\d+$/.test(name))).toBe(true);
});

test('disk, at run time: every transaction is flushed before it is acknowledged; told twice is told once', async () => {
  await replica.command({ kind: 'setVoter', isVoter: true, ackFlush: 'disk' });
  await replica.command({ kind: 'setVoter', isVoter: true, ackFlush: 'disk' });

  await replica.until(({ flushesRelayLog }) => flushesRelayLog === true);
  expect(await flushesFor(20)).toBeGreaterThanOrEqual(20);
  expect((await replica.status()).semiSync.isReplica).toBe(true);
});

test('a replica that is started again by itself flushes on; somebody who switches it off is seen', async () => {
  const before = await replica.status();
  const own = await ownSession(replica);
  await own.query('SHUTDOWN').catch(() => {});
  await own.close().catch(() => {});
  await replica.until(({ instance, sequence }) => sequence > before.sequence && instance !== 'running');
  await replica.until(({ instance, flushesRelayLog }) => instance === 'running' && flushesRelayLog === true);
  expect(await period()).toBe(1);

  const hand = await ownSession(replica);
  await hand.query('SET GLOBAL sync_relay_log = 10000');
  await hand.close();

  await replica.until(({ flushesRelayLog }) => flushesRelayLog === false);
});

test('os again, and disk from the start', async () => {
  await replica.command({ kind: 'setVoter', isVoter: true, ackFlush: 'disk' });
  await replica.command({ kind: 'setVoter', isVoter: true, ackFlush: 'os' });
  await replica.until(({ flushesRelayLog }) => flushesRelayLog === false);
  expect(await period()).toBe(10_000);

  await replica.command({ kind: 'stop' });
  const { secrets } = replica;
  await replica.command({ kind: 'start', initialise: false, secrets, ackFlush: 'disk' });

  await replica.until(({ flushesRelayLog }) => flushesRelayLog === true);
  expect(await period()).toBe(1);
});
