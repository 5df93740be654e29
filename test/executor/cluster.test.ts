import { randomUUID } from 'node:crypto';
import { readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
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
  expect(status).toMatchObject({
    isWritable: false,
    isInitialised: true,
    serverUuid: member(0).launch.plan.serverUuid,
  });
  await expect
    .poll(() => member(0).launch.updates.map((each) => each.state))
    .toEqual(['TASK_STARTING', 'TASK_RUNNING']);
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
  await member(2).launch.send({ kind: 'freeze' }, { leaderToken: 9, epoch: 1 });
  await member(2).launch.send({ kind: 'thaw' }, { leaderToken: 9, epoch: 1 });

  expect(await member(2).launch.send({ kind: 'freeze' }, { leaderToken: 8 })).toMatchObject({ code: 'STALE_LEADER' });
  expect(await member(2).launch.send({ kind: 'freeze' }, { leaderToken: 9, epoch: 0 })).toMatchObject({
    code: 'STALE_EPOCH',
  });
});

test('a killed primary is reaped, reported and held at once', async () => {
  const pid = mysqldPid(member(0));
  const began = performance.now();
  process.kill(pid, 'SIGKILL');

  const status = await member(0).until((each) => each.instance === 'held');
  console.log(`the end of the primary was known after ${Math.round(performance.now() - began)} ms`);
  expect(status.reason?.code).toBe('INSTANCE_LOST');
  expect(await getHealth(member(0), '/primary')).toBe(503);
  expect(await getHealth(member(0), '/health')).toBe(503);
  expect(member(0).launch.messages.length).toBeGreaterThan(0);
});

test('failover: frozen, caught up, promoted in the next epoch, followed', async () => {
  const began = performance.now();
  const [one, two] = await Promise.all([member(1).command({ kind: 'freeze' }), member(2).command({ kind: 'freeze' })]);
  expect(one).toMatchObject({ isApplierRunning: true });
  const gtidSet = [one.gtidReceived, two.gtidReceived].filter(Boolean).join(',');
  await member(1).command({ kind: 'catchUp', gtidSet: one.gtidReceived ?? '', timeoutMs: 5000 });
  expect(gtidSet).not.toBe('');
  const promoted = member(1).command({ kind: 'promote', k: 1, member: 1, timeoutMs: 10_000 }, 2);
  await member(2).command({ kind: 'follow', source: member(1).source }, 2);
  await promoted;
  console.log(`failover took ${Math.round(performance.now() - began)} ms`);

  const team = await member(1).team();
  expect(await team.query('SELECT COUNT(*) AS rows_ FROM shop.orders')).toEqual([{ rows_: 100 }]);
  await team.query("INSERT INTO shop.orders VALUES (101, 'after the failover')");
  await team.close();
  await member(1).until((each) => each.replication === null && each.isWritable && each.epoch === 2);
  await expect.poll(() => getHealth(member(1), '/primary')).toBe(200);
});

test('the old primary is started, compared and follows', async () => {
  const held = await member(0).start(false, 2);
  expect(held).toMatchObject({ outcome: 'done' });

  await member(0).command({ kind: 'follow', source: member(1).source }, 2);
  await member(0).command({ kind: 'setVoter', isVoter: true }, 2);
  const { gtidExecuted } = await member(1).status();
  await member(0).command({ kind: 'catchUp', gtidSet: gtidExecuted, timeoutMs: 10_000 }, 2);

  expect(await countOrders(member(0))).toBe(101);
});

test('a promotion without enough voters waits and does not lie', async () => {
  await Promise.all([member(0), member(2)].map((each) => each.command({ kind: 'freeze' }, 2)));

  const barrier = await member(1).launch.send(
    { kind: 'setAcknowledgements', k: 1, timeoutMs: 300 },
    { epoch: 2, leaderToken: 9 },
  );
  expect(barrier).toMatchObject({ outcome: 'refused', code: 'TIMED_OUT' });

  await Promise.all([member(0), member(2)].map((each) => each.command({ kind: 'thaw' }, 2)));
  await member(1).command({ kind: 'setAcknowledgements', k: 1, timeoutMs: 10_000 }, 2);
});

test('switchover: demoted, drained, promoted, and back again', async () => {
  const { gtidExecuted } = await member(1).command({ kind: 'demote', maxPauseMs: 3000 }, 2);
  expect((await member(1).status()).isWritable).toBe(false);
  await member(1).command({ kind: 'promote', k: 1, member: 1, timeoutMs: 10_000 }, 2);
  await member(1).until((each) => each.isWritable);

  const { gtidExecuted: drained = gtidExecuted ?? '' } = await member(1).command(
    { kind: 'demote', maxPauseMs: 3000 },
    2,
  );
  await member(2).command({ kind: 'catchUp', gtidSet: drained, timeoutMs: 5000 }, 2);
  const promoted = member(2).command({ kind: 'promote', k: 1, member: 2, timeoutMs: 10_000 }, 3);
  await member(0).command({ kind: 'follow', source: member(2).source }, 3);
  await promoted;
  await member(1).command({ kind: 'follow', source: member(2).source }, 3);
  await member(1).command({ kind: 'setVoter', isVoter: true }, 3);
  await member(1).command({ kind: 'dropClients' }, 3);

  await member(2).until((each) => each.isWritable && each.epoch === 3);
});

test('a killed replica is started again by itself and goes on', async () => {
  process.kill(mysqldPid(member(0)), 'SIGKILL');

  await member(0).until((each) => each.instance !== 'running');
  const status = await member(0).until((each) => each.instance === 'running' && each.replication?.receiver === 'on');
  expect(status.replication?.applier).toBe('on');
  await member(0).command({ kind: 'setVoter', isVoter: true }, 3);
});

test('a backup is taken, started, hashed and listed', async () => {
  const began = performance.now();
  const id = randomUUID();
  expect(await member(0).command({ kind: 'backup', backupId: 'b1' }, 3)).toEqual({ outcome: 'accepted' });
  expect(await member(0).launch.send({ kind: 'backup', backupId: id }, { epoch: 3, leaderToken: 9 })).toMatchObject({
    code: 'BUSY',
  });
  const status = await member(0).until((each) => each.work?.outcome !== 'running');
  console.log(`backup took ${Math.round(performance.now() - began)} ms`);

  expect(status.work, member(0).launch.stderr()).toMatchObject({ kind: 'backup', outcome: 'done' });
  expect(status.backups).toMatchObject([{ id: 'b1' }]);
  expect(status.backups[0]?.gtidSet).toContain(':selvedge:');
  expect(await member(0).command({ kind: 'backup', backupId: 'b1' }, 3)).toEqual({ outcome: 'accepted' });
});

test('a member whose files are destroyed says so, and is rebuilt from its backup', async () => {
  const pid = mysqldPid(member(0));
  rmSync(join(member(0).root, 'volumes', 'data-0', 'data'), { recursive: true, force: true });
  process.kill(pid, 'SIGKILL');
  const failed = await member(0).until((each) => each.instance === 'failed');
  expect(failed.reason?.code).toBe('DATA_DIR_DAMAGED');

  const began = performance.now();
  const serverUuid = randomUUID();
  const rebuilt = { incarnation: randomUUID(), serverUuid, serverId: 2000 };
  await member(0).command({ kind: 'rebuild', ...rebuilt, from: { kind: 'backup', backupId: 'b1' } }, 3);
  const status = await member(0).until((each) => each.work?.kind === 'rebuild' && each.work.outcome !== 'running');
  console.log(`rebuild from the backup took ${Math.round(performance.now() - began)} ms`);

  expect(status.work, member(0).launch.stderr()).toMatchObject({ outcome: 'done' });
  expect(status).toMatchObject({ instance: 'running', isWritable: false, ...pick(rebuilt), replication: null });
  await member(0).command({ kind: 'follow', source: member(2).source }, 3);
  const { gtidExecuted } = await member(2).status();
  await member(0).command({ kind: 'catchUp', gtidSet: gtidExecuted, timeoutMs: 10_000 }, 3);
  expect(await countOrders(member(0))).toBe(101);
});

test('a member is rebuilt by CLONE', async () => {
  // Somebody must acknowledge: CLONE waits for the donor's open commits.
  await member(0).command({ kind: 'setVoter', isVoter: true }, 3);
  const began = performance.now();
  const rebuilt = { incarnation: randomUUID(), serverUuid: randomUUID(), serverId: 2001 };
  await member(1).command({ kind: 'rebuild', ...rebuilt, from: { kind: 'clone', donor: member(2).source } }, 3);
  const status = await member(1).until((each) => each.work?.kind === 'rebuild' && each.work.outcome !== 'running');
  console.log(`rebuild by clone took ${Math.round(performance.now() - began)} ms`);

  expect(status.work, member(1).launch.stderr()).toMatchObject({ outcome: 'done' });
  expect(status).toMatchObject({ instance: 'running', isWritable: false, ...pick(rebuilt) });
  await member(1).command({ kind: 'follow', source: member(2).source }, 3);
  await member(1).command({ kind: 'setVoter', isVoter: true }, 3);
  expect(await countOrders(member(1))).toBe(101);
  member(1).rebuilt = rebuilt;
});

test('an agent may be away: nothing ends, and what happened is told later', async () => {
  await member(1).launch.pause();
  expect((await member(1).status()).instance).toBe('running');

  await member(1).launch.resume();
  member(1).launch.kill();

  expect(await member(1).launch.exited, member(1).launch.stderr()).toBe(0);
  expect(member(1).launch.updates.at(-1)?.state).toBe('TASK_KILLED');
});

test('a relaunch takes the volumes over, with their epoch', async () => {
  await member(1).relaunch(member(1).rebuilt);

  const status = await member(1).status();
  expect(status).toMatchObject({ instance: 'none', isInitialised: true, epoch: 3, leaderToken: 9 });
  expect(await member(1).start(false, 3)).toMatchObject({ outcome: 'done' });
});

test('a fenced member stays down, over a relaunch too, until it is started', async () => {
  const { outcome } = await member(2).command({ kind: 'fence' }, 3);
  expect(outcome).toBe('done');
  expect(await member(2).status()).toMatchObject({ instance: 'held', reason: { code: 'HELD' } });
  await member(2).launch.destroy();

  await member(2).relaunch();

  expect(await member(2).status()).toMatchObject({ instance: 'held' });
  expect(await member(2).start(false, 3)).toMatchObject({ outcome: 'done' });
});

test('an executor stays small', () => {
  const sizes = members.map((each) => readMemory(each.launch.child.pid!));
  const mysqlds = members.map((each) => readMemory(mysqldPid(each)));
  console.log(`executors: ${sizes.join(', ')} MB; mysqld: ${mysqlds.join(', ')} MB`);
  for (const size of sizes) expect(size).toBeLessThan(130);
  for (const size of mysqlds) expect(size).toBeLessThan(350);
});

async function countOrders(from: TestMember): Promise<number> {
  const team = await from.team();
  try {
    const [row] = await team.query<{ total: number }>('SELECT COUNT(*) AS total FROM shop.orders');
    return Number(row?.total);
  } finally {
    await team.close();
  }
}

function pick({ incarnation, serverUuid }: { incarnation: string; serverUuid: string }) {
  return { incarnation, serverUuid };
}

function mysqldPid(of: TestMember): number {
  const [directory] = readdirSync(join(of.root, 'run'));
  return Number(readFileSync(join(of.root, 'run', directory!, 'pid'), 'utf8'));
}
