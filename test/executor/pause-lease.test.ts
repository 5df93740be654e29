/** The pause of a switchover ends by itself when nobody is heard of again, but never after it was sealed. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { mysqldPid, ownSession } from './trim-world.ts';
import { createWorld, type TestMember, type World } from './world.ts';

let world: World;
let primary: TestMember;
let replica: TestMember;
let lastId = 0;

beforeAll(async () => {
  world = await createWorld(2, 93);
  [primary, replica] = world.members as [TestMember, TestMember];
  await Promise.all(world.members.map((each) => each.start(true)));
  await replica.command({ kind: 'follow', source: primary.source });
  await replica.command({ kind: 'setVoter', isVoter: true });
  await promote();
  const team = await primary.team();
  await team.query('CREATE DATABASE shop');
  await team.query('CREATE TABLE shop.orders (id INT PRIMARY KEY)');
  await team.close();
});
afterAll(() => world?.destroy());

const promote = () => primary.command({ kind: 'promote', k: 1, member: 0, timeoutMs: 10_000 });
/** Of a primary whose mysqld was started anew: its replica has to come back first. */
async function promoteAgain(): Promise<void> {
  await promote();
  await write();
  await primary.until(({ heartbeatPending, heartbeatAt }) => !heartbeatPending && heartbeatAt !== null);
}
const pause = (leaseMs?: number, member = primary) =>
  member.command({ kind: 'demote', maxPauseMs: 500, killAfterMs: 250, ...(leaseMs === undefined ? {} : { leaseMs }) });
const seal = (gtidSet: string) => primary.launch.send({ kind: 'seal', gtidSet }, { epoch: 1, leaderToken: 9 });

async function write(): Promise<void> {
  const team = await primary.team();
  lastId += 1;
  await team.query('INSERT INTO shop.orders VALUES (?)', [lastId]);
  await team.close();
}

/** Until statuses are told that are this much younger, by the executor's own clock. */
async function later(ms: number, member = primary) {
  const from = (await member.status()).at;
  return member.until(({ at }) => at > from + ms);
}

test('nobody ends it: the member takes writes again by itself, in its own epoch, acknowledged', async () => {
  const answer = await pause(1000);
  expect(answer).toMatchObject({ outcome: 'done', hasLease: true });
  await expect(write()).rejects.toMatchObject({ errno: 1290 });

  const status = await primary.until(({ isWritable }) => isWritable);

  expect(status).toMatchObject({ epoch: 1, semiSync: { isSource: true, k: 1, noTx: 0 } });
  await write();
  await primary.until(({ heartbeatPending, heartbeatAt }) => !heartbeatPending && heartbeatAt !== null);
  const own = await ownSession(replica);
  await expect.poll(() => own.query('SELECT id FROM shop.orders WHERE id = ?', [lastId])).toHaveLength(1);
  expect(await own.query('SELECT epoch FROM selvedge.epoch')).toHaveLength(1);
  await own.close();
});

test('after it ended by itself it cannot be sealed, and goes on', async () => {
  const { gtidExecuted = '' } = await pause(300);
  await primary.until(({ isWritable }) => isWritable);

  expect(await seal(gtidExecuted)).toMatchObject({ outcome: 'refused', code: 'PAUSE_ENDED' });
  await write();
});

test('sealed it stays paused, however long; told again to pause it has no lease', async () => {
  const { gtidExecuted = '' } = await pause(800);
  expect(await seal(gtidExecuted)).toMatchObject({ outcome: 'done' });
  expect(await seal(gtidExecuted)).toMatchObject({ outcome: 'done' });

  expect((await later(2000)).isWritable).toBe(false);
  expect((await pause(300)).hasLease).toBeUndefined();
  expect((await later(1000)).isWritable).toBe(false);
  await promote();
  await write();
});

test('what was written after the set that the seal names is found', async () => {
  const { gtidExecuted = '' } = await pause(300);
  await primary.until(({ isWritable }) => isWritable);
  await write();
  await pause(5000);

  expect(await seal(gtidExecuted)).toMatchObject({ outcome: 'refused', code: 'PAUSE_ENDED' });
  await promote();
});

test('a mysqld that ended in its pause is sealed at once, and stays paused when it is back', async () => {
  const { gtidExecuted = '' } = await pause(3000);
  process.kill(mysqldPid(primary), 'SIGKILL');
  await primary.until(({ instance }) => instance === 'starting');

  expect(await seal(gtidExecuted)).toEqual({ outcome: 'done' });
  expect((await primary.status()).instance).toBe('starting');
  await primary.until(({ instance }) => instance === 'running');
  expect((await later(3500)).isWritable).toBe(false);
  await promoteAgain();
});

test('a mysqld that ended in its pause, after that had ended once, is not sealed for what it held before', async () => {
  const { gtidExecuted = '' } = await pause(300);
  await primary.until(({ isWritable }) => isWritable);
  await write();
  await pause(60_000);
  process.kill(mysqldPid(primary), 'SIGKILL');
  await primary.until(({ instance }) => instance === 'starting');

  expect(await seal(gtidExecuted)).toMatchObject({ outcome: 'refused', code: 'NOT_RUNNING' });
  await primary.until(({ instance }) => instance === 'running');
  expect(await seal(gtidExecuted)).toMatchObject({ outcome: 'refused', code: 'PAUSE_ENDED' });
  await promoteAgain();
});

test('without a lease it waits to be told, and so does a member that was not the primary', async () => {
  expect((await pause()).hasLease).toBeUndefined();
  expect((await later(1500)).isWritable).toBe(false);
  await promote();

  expect((await pause(300, replica)).hasLease).toBeUndefined();
  expect((await later(1000, replica)).isWritable).toBe(false);
});

test('a newer epoch, and another mysqld, know no lease', async () => {
  await pause(1500);
  await primary.command({ kind: 'setVoter', isVoter: false }, 2);
  expect((await later(2500)).isWritable).toBe(false);

  await primary.command({ kind: 'promote', k: 1, member: 0, timeoutMs: 10_000 }, 2);
  await primary.command({ kind: 'demote', maxPauseMs: 500, leaseMs: 1500 }, 2);
  await primary.command({ kind: 'stop' }, 2);
  await primary.start(false, 2);
  expect(await later(2500)).toMatchObject({ instance: 'running', isWritable: false });
});
