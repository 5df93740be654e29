import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Status } from '../../src/channel/protocol.ts';
import type { Session } from '../../src/mysql/connection.ts';
import { mysqldPid, ownSession } from './trim-world.ts';
import { createWorld, type TestMember, type World } from './world.ts';

/** What an executor tells of its instance while it hangs: the witnesses of cluster/detection.ts (guarantee 3). */
let world: World;
let primary: TestMember;
let replicas: readonly TestMember[];
/** Where a file system of its own is mounted that can be frozen; null where we may not. */
let frozenDisk: { readonly path: string; readonly image: string } | null = null;

const run = (program: string, ...args: string[]) => execFileSync(program, args, { stdio: 'pipe' }).toString();
const signal = (member: TestMember, name: 'SIGSTOP' | 'SIGCONT') => process.kill(mysqldPid(member), name);

/** The data volume of a member on a loop device. Null, with the reason printed, where that is not allowed. */
function mountDisk(member: TestMember): typeof frozenDisk {
  const path = join(member.root, 'volumes', `data-${member.ordinal}`);
  const image = join(member.root, 'disk.img');
  try {
    mkdirSync(path, { recursive: true });
    run('truncate', '-s', '1500M', image);
    run('mkfs.ext4', '-q', '-E', 'lazy_itable_init=1,root_owner', image);
    run('mount', '-o', 'loop', image, path);
    run('fsfreeze', '-f', path);
    run('fsfreeze', '-u', path);
    return { path, image };
  } catch (error) {
    console.log(`no disk can be frozen here: ${(error as Error).message.split('\n')[0]}`);
    return null;
  }
}

beforeAll(async () => {
  world = await createWorld(3, 77);
  primary = world.members[0]!;
  replicas = world.members.slice(1);
  await primary.launch.destroy();
  frozenDisk = mountDisk(primary);
  await primary.relaunch();
  await Promise.all(world.members.map((each) => each.start(true)));
  for (const each of replicas) {
    await each.command({ kind: 'follow', source: primary.source });
    await each.command({ kind: 'setVoter', isVoter: true });
  }
  await primary.command({ kind: 'promote', k: 1, member: 0, timeoutMs: 10_000 });
});
afterAll(async () => {
  if (frozenDisk) {
    const { path } = frozenDisk;
    try {
      run('fsfreeze', '-u', path);
    } catch {
      // it is not frozen
    }
  }
  for (const each of world?.members ?? []) await each.launch.destroy();
  if (frozenDisk) {
    run('umount', '-l', frozenDisk.path);
    rmSync(frozenDisk.image, { force: true });
  }
  await world?.destroy();
});

const healthy = ({ heartbeatPending, probeFailing }: Status) => !heartbeatPending && !probeFailing;

test('all is well: nothing pends, replicas hear their source, acknowledgers are named', async () => {
  const status = await primary.until((each) => healthy(each) && each.semiSync.acknowledgers?.length === 2);
  const uuids = replicas.map((each) => each.launch.plan.serverUuid).sort();
  expect(status.semiSync.acknowledgers).toEqual(uuids);

  for (const each of replicas) {
    const { replication } = await each.until((one) => typeof one.replication?.heardMsAgo === 'number');
    expect(replication?.heardMsAgo).toBeLessThan(3000);
  }
  await replicas[1]!.command({ kind: 'setVoter', isVoter: false });
  await primary.until(({ semiSync }) => semiSync.acknowledgers?.join() === replicas[0]!.launch.plan.serverUuid);
  await replicas[1]!.command({ kind: 'setVoter', isVoter: true });
});

test('a stopped process: both witnesses grow, nobody knows what the commit waits for, the stream goes on', async () => {
  const seen: Status[] = [];
  const times: number[] = [];
  const stop = primary.launch.client().watch({
    onStatus: (status) => {
      seen.push(status);
      times.push(performance.now());
    },
    onEnd: () => {},
  });
  signal(primary, 'SIGSTOP');
  const stoppedAt = performance.now();
  try {
    const status = await primary.until(
      ({ heartbeatPending, probeFailing }) =>
        (heartbeatPending?.forMs ?? 0) > 4000 && (probeFailing?.forMs ?? 0) > 4000,
    );
    console.log(`both were over 4 s old ${Math.round(performance.now() - stoppedAt)} ms after the stop`);
    expect(status.heartbeatPending?.waitsForAcknowledgement).toBeNull();
    expect(status).toMatchObject({ instance: 'running', isWritable: true });
    const heard = (await replicas[0]!.status()).replication?.heardMsAgo;
    expect(heard).toBeGreaterThan(2000);
  } finally {
    signal(primary, 'SIGCONT');
    stop();
  }
  const gaps = times.slice(1).map((at, index) => at - times[index]!);
  expect(Math.max(...gaps)).toBeLessThan(1500);
  expect(seen.length).toBeGreaterThan(4);
  await primary.until(healthy);
});

test('acknowledgers lost: the commit waits for them, and the probe is answered', async () => {
  await Promise.all(replicas.map((each) => each.command({ kind: 'freeze' })));
  const status = await primary.until(({ heartbeatPending }) => (heartbeatPending?.forMs ?? 0) > 2000);
  expect(status.heartbeatPending?.waitsForAcknowledgement).toBe(true);
  expect(status.probeFailing).toBeNull();

  await Promise.all(replicas.map((each) => each.command({ kind: 'thaw' })));
  await primary.until(healthy);
});

test('clients that take all connections do not fail the probe: one more is kept for us', async () => {
  const sessions: Session[] = [];
  const own = await ownSession(primary);
  await own.query('SET GLOBAL max_connections = 20');
  const refusal = await (async () => {
    for (;;) sessions.push(await primary.team());
  })().catch((error: unknown) => error);
  expect(refusal).toMatchObject({ errno: 1040 });

  // Two more probes at least.
  const from = (await primary.status()).at;
  const status = await primary.until(({ at }) => at > from + 2500);
  expect(status.probeFailing).toBeNull();
  await own.query('SET GLOBAL max_connections = DEFAULT');
  await Promise.all([own, ...sessions].map((session) => session.close()));
});

test('a frozen disk: the commit hangs and does not wait for acknowledgements; a fence is bounded', async (context) => {
  if (!frozenDisk) return context.skip();
  run('fsfreeze', '-f', frozenDisk.path);
  try {
    const status = await primary.until(({ heartbeatPending }) => (heartbeatPending?.forMs ?? 0) > 3000);
    expect(status.heartbeatPending?.waitsForAcknowledgement).toBe(false);
    expect(status.probeFailing).toBeNull();

    const began = performance.now();
    const fenced = await primary.launch.send({ kind: 'fence' }, { epoch: 2, leaderToken: 10 });
    console.log(`a fence on a frozen disk was answered after ${Math.round(performance.now() - began)} ms`);
    expect(fenced).toMatchObject({ outcome: 'refused', code: 'TIMED_OUT' });
    console.log(JSON.stringify(fenced));
    expect(performance.now() - began).toBeLessThan(7500);
  } finally {
    run('fsfreeze', '-u', frozenDisk.path);
  }
  await primary.until(({ instance }) => instance === 'held');
  expect((await primary.launch.send({ kind: 'fence' }, { epoch: 2, leaderToken: 10 })).outcome).toBe('done');
});

test('a stopped process is fenced at once', async () => {
  await primary.command({ kind: 'fence' }, 3).catch(() => {});
  await primary.launch.send(
    { kind: 'start', initialise: false, secrets: primary.secrets },
    { epoch: 3, leaderToken: 10 },
  );
  await primary.until(({ instance }) => instance === 'running');
  signal(primary, 'SIGSTOP');

  const began = performance.now();
  const fenced = await primary.launch.send({ kind: 'fence' }, { epoch: 3, leaderToken: 10 });

  expect(fenced.outcome, JSON.stringify(fenced)).toBe('done');
  expect(performance.now() - began).toBeLessThan(3000);
  expect(await primary.status()).toMatchObject({ instance: 'held' });
});
