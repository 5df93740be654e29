import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createWorld, getHealth, type TestMember, type World } from './world.ts';

/** One story, in order: each test goes on from where the last one ended. */
let world: World;
let members: readonly TestMember[];
const member = (ordinal: number): TestMember => members[ordinal]!;
const readMemory = (pid: number) =>
  Math.round(Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024);

beforeAll(async () => {
  world = await createWorld(3, 71);
  members = world.members;
});
afterAll(() => world?.destroy());

test('a fresh member reports, waits, and refuses an unmarked volume', async () => {
  const status = await member(0).status();
  expect(status).toMatchObject({ instance: 'none', isInitialised: false, epoch: 0 });

  expect(await member(0).start(false)).toMatchObject({ outcome: 'refused', code: 'VOLUME_NOT_OURS' });
});

test('start initialises and brings mysqld up read-only', async () => {
  const began = performance.now();
  const answers = await Promise.all(members.map((each) => each.start(true)));
  console.log(`three members started in ${Math.round(performance.now() - began)} ms`);

  for (const [ordinal, answer] of answers.entries()) {
    expect(answer, member(ordinal).launch.stderr()).toMatchObject({ outcome: 'done', gtidExecuted: '' });
  }
  const status = await member(0).until((each) => each.instance === 'running');
  expect(status).toMatchObject({ isWritable: false, isInitialised: true, serverUuid: member(0).launch.plan.serverUuid });
  await expect.poll(() => member(0).launch.updates.map((each) => each.state)).toEqual(['TASK_STARTING', 'TASK_RUNNING']);
  expect(statSync(join(member(0).root, 'volumes', 'data-0', 'selvedge.json')).mode & 0o777).toBe(0o600);
});

test('a primary is made and replicas follow with semi-sync', async () => {
  for (const each of [member(1), member(2)]) {
    await each.command({ kind: 'follow', source: member(0).source });
    await each.command({ kind: 'setVoter', isVoter: true });
  }
  const promote = { kind: 'promote', k: 1, member: 0, timeoutMs: 10_000 } as const;
  await member(0).command(promote);
  await member(0).command(promote);

  const status = await member(0).until((each) => each.isWritable && each.heartbeatAt !== null);
  expect(status.semiSync).toMatchObject({ isSource: true, k: 1 });
  expect(status.epoch).toBe(1);
  await expect.poll(() => getHealth(member(0), '/primary')).toBe(200);
  expect(await getHealth(member(0), '/replica')).toBe(503);
  expect(await getHealth(member(1), '/primary')).toBe(503);
  await expect.poll(() => getHealth(member(1), '/replica?maxLagMs=2500')).toBe(200);
  expect(await getHealth(member(1), '/nothing')).toBe(404);
});

test('the team writes to the primary and nowhere else', async () => {
  const team = await member(0).team();
  await team.query('CREATE DATABASE shop');
  await team.query('CREATE TABLE shop.orders (id INT PRIMARY KEY, note VARCHAR(100))');
  for (let id = 1; id <= 100; id += 1) await team.query('INSERT INTO shop.orders VALUES (?, ?)', [id, `order ${id}`]);
  await team.close();

  const replica = await member(1).team();
  await expect(replica.query("INSERT INTO shop.orders VALUES (1000, 'no')")).rejects.toMatchObject({ errno: 1290 });
  await replica.close();
});

test('commands of an older leader or epoch are refused', async () => {
  await member(2).launch.send({ kind: 'freeze' }, { leaderToken: 5, epoch: 1 });
  await member(2).launch.send({ kind: 'thaw' }, { leaderToken: 5, epoch: 1 });

  expect(await member(2).launch.send({ kind: 'freeze' }, { leaderToken: 4 })).toMatchObject({ code: 'STALE_LEADER' });
  expect(await member(2).launch.send({ kind: 'freeze' }, { leaderToken: 5, epoch: 0 })).toMatchObject({
    code: 'STALE_EPOCH',
  });
});
