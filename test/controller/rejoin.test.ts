/** The whole way on real MySQL: a primary that dies, or hangs, with writes that nobody acknowledged, and comes back. */
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { tailList, tailText } from '../../src/api/schemas.ts';
import { realClock } from '../../src/clock.ts';
import { connect, type Session } from '../../src/mysql/connection.ts';
import { type Api, type ClusterAnswer, createApiClient } from '../demo/api-client.ts';
import { type ControlPlane, createControlPlane } from '../demo/control-plane.ts';
import { diagnose } from '../demo/diagnosis.ts';
import { removeRunDirectories } from '../demo/homes.ts';
import { findMember, killProcess } from '../demo/processes.ts';
import { clusterBody, clusterName, waitReady } from '../demo/steps.ts';
import { now, waitFor } from '../demo/wait.ts';

let plane: ControlPlane;
let api: Api;
let cluster: Awaited<ReturnType<Api['create']>>;
const sessions: Session[] = [];

beforeAll(async () => {
  plane = await createControlPlane({ agents: 3 });
  await plane.start();
  api = createApiClient(plane.apiUrl);
  cluster = await api.create(clusterBody);
  await waitReady(api);
  const team = await openTeam();
  await team.query('CREATE DATABASE shop');
  await team.query('CREATE TABLE shop.orders (id BIGINT PRIMARY KEY AUTO_INCREMENT, note VARCHAR(100))');
  await team.query("INSERT INTO shop.orders (note) VALUES ('acknowledged')");
});
afterEach(async (context) => {
  await Promise.all(sessions.splice(0).map((session) => session.close()));
  if (context.task.result?.state === 'fail') await diagnose(plane, api, console.log);
});
afterAll(() => plane?.destroy(removeRunDirectories));

async function openTeam(): Promise<Session> {
  const { primary } = await api.endpoints(clusterName);
  const { host, port } = primary!;
  const { credentials } = cluster;
  const session = await connect({ host, port, caPem: credentials.caCertPem }, credentials, { clock: realClock });
  sessions.push(session);
  return session;
}

function mysqldOf(ordinal: number) {
  const { mysqld } = findMember(cluster.id, ordinal) ?? {};
  if (!mysqld) throw new Error(`no mysqld of member ${ordinal} runs`);
  return mysqld;
}

/** As the executor itself logs in. */
async function openOwn(ordinal: number): Promise<Session> {
  const flag = '--defaults-file=';
  const file = mysqldOf(ordinal).command.find((part) => part.startsWith(flag))!;
  const socketPath = join(file.slice(flag.length), '..', 's');
  const session = await connect({ socketPath }, { user: 'selvedge' }, { clock: realClock });
  sessions.push(session);
  return session;
}

/** Six commits that wait: their acknowledgers were taken away a moment ago. */
async function leaveTail(old: number): Promise<void> {
  const writers = await Promise.all(Array.from({ length: 6 }, openTeam));
  const replicas = await Promise.all([0, 1, 2].filter((ordinal) => ordinal !== old).map(openOwn));
  const own = await openOwn(old);
  await Promise.all(replicas.map((replica) => replica.query('STOP REPLICA IO_THREAD')));
  for (const writer of writers) {
    writer.query("INSERT INTO shop.orders (note) VALUES ('nobody acknowledged')").catch(() => {});
  }
  const waiting = `SELECT 1 FROM performance_schema.processlist WHERE STATE = 'Waiting for semi-sync ACK from replica'`;
  await waitFor({ what: 'a commit that waits', timeoutMs: 2000, everyMs: 1 }, async () => {
    return (await own.query(waiting)).length > 0;
  });
}

async function begin(): Promise<ClusterAnswer & { readonly primary: number }> {
  await api.releaseCooldown(clusterName);
  const before = await waitReady(api);
  return { ...before, primary: before.primary! };
}

/** Until the old primary serves as a replica again. Answers the milliseconds since `from`. */
async function waitRejoined(old: number, from: number): Promise<number> {
  await waitFor({ what: 'the rejoin', timeoutMs: 60_000, everyMs: 10 }, async () => {
    const { primary, members } = await api.cluster(clusterName);
    const member = members[old]!;
    return primary !== old && member.instance === 'running' && member.phase === 'serving' && member.role === 'replica';
  });
  return now() - from;
}

async function expectEqual(): Promise<void> {
  await waitReady(api);
  await expect
    .poll(
      async () => {
        const own = await Promise.all([0, 1, 2].map(openOwn));
        const sums = await Promise.all(own.map((session) => session.query('CHECKSUM TABLE shop.orders')));
        return new Set(sums.map((sum) => JSON.stringify(sum))).size;
      },
      { timeout: 15_000 },
    )
    .toBe(1);
  const team = await openTeam();
  expect(await team.query("SELECT 1 FROM shop.orders WHERE note = 'acknowledged'")).toHaveLength(1);
}

/**
 * The controller starts stopped receivers again within milliseconds: now and then what waited is acknowledged before the
 * kill, and there is no tail. Such a round counts as one without; the next one is drawn.
 */
const roundsMax = 6;

test('mysqld killed with a tail: trimmed, nothing copied, equal again', async () => {
  const readTails = async () => {
    const answer = await fetch(`${plane.apiUrl}/v1/clusters/${clusterName}/tails`);
    return tailList.parse(await answer.json()).tails;
  };
  for (let round = 1; round <= roundsMax; round += 1) {
    const { primary: old } = await begin();
    await leaveTail(old);
    const killedAt = now();
    killProcess(mysqldOf(old));

    const tookMs = await waitRejoined(old, killedAt);
    console.log(`rejoined ${Math.round(tookMs)} ms after the kill`);

    const [rebuild] = await api.rebuilds(clusterName);
    expect(rebuild).toMatchObject({ member: old, way: 'trim', state: 'done', attempts: 0 });
    await expectEqual();
    const tails = await readTails();
    if (tails.length === 0) continue;
    expect(tails).toMatchObject([{ member: old }]);
    const answer = await fetch(`${plane.apiUrl}/v1/clusters/${clusterName}/tails/${tails[0]!.id}/text`);
    expect(tailText.parse(await answer.json()).text).toContain('nobody acknowledged');
    return;
  }
  expect.fail(`no tail in ${roundsMax} rounds`);
}, 120_000);

test('executor killed with a tail: its successor holds, and trims', async () => {
  const { primary: old } = await begin();
  await leaveTail(old);
  killProcess(findMember(cluster.id, old)!.executor);

  await waitRejoined(old, now());

  const [rebuild] = await api.rebuilds(clusterName);
  expect(rebuild).toMatchObject({ member: old, way: 'trim', state: 'done' });
  await expectEqual();
});

test('mysqld stopped: after the deadline its executor ends it, another member takes over, and it comes back', async () => {
  const { primary: old, epoch } = await begin();
  const stoppedAt = now();
  process.kill(mysqldOf(old).pid, 'SIGSTOP');

  const change = await waitFor({ what: 'the failover', timeoutMs: 30_000 }, async () => {
    const found = (await api.failovers(clusterName)).find(({ fromEpoch }) => fromEpoch === epoch);
    return found?.outcome === 'done' ? found : null;
  });

  const tookMs = change.endedAt! - stoppedAt;
  console.log(`failed over ${Math.round(tookMs)} ms after the stop: ${change.reason}`);
  expect(change.fence?.layer).toBe('executor');
  expect(tookMs).toBeGreaterThan(7000);
  expect(tookMs).toBeLessThan(14_000);
  await waitRejoined(old, stoppedAt);
  await expectEqual();
});
