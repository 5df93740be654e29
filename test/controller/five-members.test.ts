/** Five members on real MySQL: k = 2, three of four replica voters needed. Guarantee 1, and what a person may change. */
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { realClock } from '../../src/clock.ts';
import { connect, type Session } from '../../src/mysql/connection.ts';
import { type Api, type ClusterAnswer, createApiClient } from '../demo/api-client.ts';
import { type ControlPlane, createControlPlane } from '../demo/control-plane.ts';
import { diagnose } from '../demo/diagnosis.ts';
import { removeRunDirectories } from '../demo/homes.ts';
import { findMember, killProcess, signalProcess } from '../demo/processes.ts';
import { clusterBody, clusterName, waitReady } from '../demo/steps.ts';
import { now, waitFor } from '../demo/wait.ts';

const readyMs = 120_000;
let plane: ControlPlane;
let api: Api;
let cluster: Awaited<ReturnType<Api['create']>>;
const sessions: Session[] = [];

beforeAll(async () => {
  plane = await createControlPlane({ agents: 5 });
  await plane.start();
  api = createApiClient(plane.apiUrl);
  const volumes = { data: { type: 'root', sizeMb: 1024 }, backup: null };
  cluster = await api.create({ ...clusterBody, members: 5, resources: { cpus: 0.3, memMb: 448 }, volumes });
  await whole();
  const team = await openTeam();
  await team.query('CREATE DATABASE shop');
  await team.query('CREATE TABLE shop.orders (id BIGINT PRIMARY KEY AUTO_INCREMENT, note VARCHAR(100))');
}, 180_000);
afterEach(async (context) => {
  for (const ordinal of [0, 1, 2, 3, 4]) signalMember(ordinal, 'SIGCONT');
  await Promise.all(sessions.splice(0).map((session) => session.close()));
  if (context.task.result?.state === 'fail') await diagnose(plane, api, console.log);
});
afterAll(() => plane?.destroy(removeRunDirectories));

/** All serve, all are voters, and commits wait for as many as is wanted. */
async function whole(acknowledgements = 2): Promise<ClusterAnswer> {
  await waitReady(api, undefined, readyMs);
  return waitFor({ what: 'the rule', timeoutMs: readyMs }, async () => {
    const view = await api.cluster(clusterName);
    const { durability } = view;
    const isWanted = durability?.acknowledgements === acknowledgements && durability.voters.length === 5;
    return isWanted && view.state === 'ready' ? view : null;
  });
}

async function openTeam(): Promise<Session> {
  const { primary } = await api.endpoints(clusterName);
  const { host, port } = primary!;
  const { credentials } = cluster;
  const session = await connect({ host, port, caPem: credentials.caCertPem }, credentials, { clock: realClock });
  sessions.push(session);
  return session;
}

const notes = async (note: string) => {
  const [row] = await (await openTeam()).query<{ n: number }>('SELECT COUNT(*) AS n FROM shop.orders WHERE note = ?', [
    note,
  ]);
  return Number(row!.n);
};
async function write(count: number, note: string): Promise<number> {
  const team = await openTeam();
  const from = now();
  for (let n = 0; n < count; n += 1) await team.query('INSERT INTO shop.orders (note) VALUES (?)', [note]);
  return (now() - from) / count;
}

function signalMember(ordinal: number, name: NodeJS.Signals): void {
  const { executor, mysqld } = findMember(cluster.id, ordinal) ?? {};
  if (mysqld) signalProcess(mysqld, name);
  if (executor) signalProcess(executor, name);
}

async function patch(body: object): Promise<ClusterAnswer> {
  const headers = { 'content-type': 'application/json' };
  const url = `${plane.apiUrl}/v1/clusters/${clusterName}`;
  const response = await fetch(url, { method: 'PATCH', headers, body: JSON.stringify(body) });
  expect(response.status).toBe(200);
  return (await response.json()) as ClusterAnswer;
}

test('the primary and one voter lost: another one follows, and has every acknowledged row', {
  timeout: 180_000,
}, async () => {
  await api.releaseCooldown(clusterName);
  const { primary: old, epoch } = await whole();
  const lost = [0, 1, 2, 3, 4].find((ordinal) => ordinal !== old)!;
  signalMember(lost, 'SIGSTOP');
  await write(20, 'one lost');

  killProcess(findMember(cluster.id, old!)!.mysqld!);

  const change = await waitFor({ what: 'the failover', timeoutMs: 60_000 }, async () => {
    const found = (await api.failovers(clusterName)).find(({ fromEpoch }) => fromEpoch === epoch);
    return found?.outcome === 'done' ? found : null;
  });
  expect([old, lost]).not.toContain(change.toPrimary);
  expect(await notes('one lost')).toBe(20);
  signalMember(lost, 'SIGCONT');
  await whole();
});

test('the primary and two voters lost: refused with what is needed; all back, nothing is missing', {
  timeout: 180_000,
}, async () => {
  await api.releaseCooldown(clusterName);
  const { primary: old, epoch } = await whole();
  const lost = [0, 1, 2, 3, 4].filter((ordinal) => ordinal !== old).slice(0, 2);
  for (const ordinal of lost) signalMember(ordinal, 'SIGSTOP');
  await write(20, 'two lost');
  signalMember(old!, 'SIGSTOP');

  await waitFor({ what: 'no open failover', timeoutMs: 30_000 }, async () => {
    return (await api.failovers(clusterName))[0]?.outcome !== 'open';
  });
  const asked = await api.changePrimary(clusterName, { kind: 'failover', force: true, reason: 'two of five are lost' });
  const refused = await waitFor({ what: 'the refusal', timeoutMs: 60_000 }, async () => {
    const found = (await api.failovers(clusterName)).find(({ id }) => id === asked.id);
    return found && found.outcome !== 'open' ? found : null;
  });
  expect(refused).toMatchObject({
    outcome: 'refused',
    refusal: {
      code: 'PROMOTION_UNSAFE',
      facts: {
        k: 2,
        needed: 3,
        lossStatement: expect.stringContaining(`what member ${lost.join(', ')} has is not known`),
      },
    },
  });
  for (const ordinal of [...lost, old!]) signalMember(ordinal, 'SIGCONT');
  const { epoch: later } = await whole();
  console.log(`epoch ${epoch}, ${later} when all were back`);
  expect(await notes('two lost')).toBe(20);
});

test('a person lowers the durability and raises it again: the consequence is said, the change is told, k follows', {
  timeout: 180_000,
}, async () => {
  const before = await whole();
  expect(before.warnings.join()).not.toContain('acknowledged writes');

  const lowered = await patch({ durability: 'async' });
  expect(lowered.warnings.join()).toContain('a crash of the primary may lose acknowledged writes');
  await whole(0);
  const osMs = await write(50, 'async');
  const raised = await patch({ durability: 'majority', ackFlush: 'disk' });

  expect(raised.warnings.join()).toContain('commits take 2 to 5 times as long');
  await whole(2);
  await expect
    .poll(async () => (await api.cluster(clusterName)).durability?.flushing.length, { timeout: 60_000 })
    .toBe(4);
  const diskMs = await write(200, 'disk');
  await patch({ ackFlush: 'os' });
  await expect
    .poll(async () => (await api.cluster(clusterName)).durability?.flushing.length, { timeout: 60_000 })
    .toBe(0);
  const backMs = await write(200, 'os');
  console.log(`a commit: async ${osMs.toFixed(1)} ms, disk ${diskMs.toFixed(1)} ms, os ${backMs.toFixed(1)} ms`);
  const changes = (await api.events(200))
    .filter(({ kind }) => kind === 'cluster.changed')
    .map(({ message }) => message);
  expect(changes).toEqual(
    expect.arrayContaining(['durability async', 'durability majority, ackFlush disk', 'ackFlush os']),
  );
});
