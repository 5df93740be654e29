/** Deletion that keeps the volumes, on real MySQL: it ends, is copied from, and is purged. */
import { afterEach, expect, test } from 'vitest';
import { realClock } from '../../src/clock.ts';
import { connect, type Session } from '../../src/mysql/connection.ts';
import { type Api, createApiClient } from '../demo/api-client.ts';
import { type ControlPlane, createControlPlane } from '../demo/control-plane.ts';
import { diagnose } from '../demo/diagnosis.ts';
import { readHomes, removeRunDirectories } from '../demo/homes.ts';
import { findMember, killProcess } from '../demo/processes.ts';
import { clusterBody, clusterName, findLeftovers, waitGone, waitReady } from '../demo/steps.ts';
import { waitFor } from '../demo/wait.ts';

const timeoutMs = 240_000;
const small = { members: 1, volumes: { data: { type: 'root', sizeMb: 1024 }, backup: null } };
type Created = Awaited<ReturnType<Api['create']>>;

let plane: ControlPlane;
let api: Api;
const ends: (() => Promise<unknown> | unknown)[] = [];

afterEach(async (context) => {
  for (const end of ends.splice(0).reverse()) await end();
  if (context.task.result?.state === 'fail') await diagnose(plane, api, console.log);
  await plane?.destroy(removeRunDirectories);
});

async function openTeam({ name, credentials }: Created): Promise<Session> {
  const { host, port } = (await api.endpoints(name)).primary!;
  const session = await connect({ host, port, caPem: credentials.caCertPem }, credentials, { clock: realClock });
  ends.push(() => session.close());
  return session;
}

async function untilState(name: string, wanted: string) {
  const told = new Set<string>();
  return waitFor({ what: `${name} to be ${wanted}`, timeoutMs }, async () => {
    const cluster = await api.cluster(name);
    for (const { message } of cluster.conditions) told.add(`${cluster.state}: ${message}`);
    return cluster.state === wanted ? cluster : null;
  }).catch((error: unknown) => {
    throw new Error([...told].join('; '), { cause: error });
  });
}

/** The executors that are launched for a copy know no key before they are told. */
async function encrypt(): Promise<void> {
  const answer = await fetch(`${plane.apiUrl}/v1/clusters/${clusterName}/backup-policy`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ encrypt: 'aes-256-gcm', compress: 'zstd' }),
  });
  expect(answer.status).toBe(200);
}

async function backUp(member: number): Promise<void> {
  const { id } = await api.backUp(clusterName, member);
  const backup = await waitFor({ what: 'the backup', timeoutMs }, async () => {
    const found = await api.backup(clusterName, id);
    return found.state === 'open' ? null : found;
  });
  expect(backup).toMatchObject({ state: 'complete' });
}

/** Of every member that runs: whether its mysqld does. */
const findRunning = (clusterId: string) =>
  [0, 1, 2].flatMap((ordinal) => {
    const found = findMember(clusterId, ordinal);
    return found ? [{ ordinal, hasMysqld: found.mysqld !== null, executor: found.executor }] : [];
  });

const codeOf = (work: Promise<unknown>) =>
  work.then(
    () => 'done',
    ({ code }: { code?: string }) => code,
  );

test(
  'a cluster ends with its volumes retained, is copied up to its last row, and purged without a trace',
  async () => {
    plane = await createControlPlane({ agents: 4 });
    await plane.start();
    api = createApiClient(plane.apiUrl);
    const source = await api.create(clusterBody);
    await waitReady(api, undefined, timeoutMs);
    expect(await codeOf(api.retain(clusterName))).toBe('NO_BACKUP');
    const team = await openTeam(source);
    await team.query('CREATE DATABASE shop');
    await team.query('CREATE TABLE shop.things (id INT PRIMARY KEY)');
    await team.query('INSERT INTO shop.things VALUES (1)');
    await encrypt();
    await backUp(1);
    for (let id = 2; id <= 200; id += 1) await team.query(`INSERT INTO shop.things VALUES (${id})`);
    const homes = await readHomes(api, source.id);

    await api.retain(clusterName);
    const retained = await untilState(clusterName, 'retained');

    await waitFor({ what: 'no executor', timeoutMs }, () => findRunning(source.id).length === 0);
    expect(retained).toMatchObject({
      conditions: [{ type: 'Retained', reason: 'AskedFor' }],
      retained: { isExact: true, volumes: 6, newestBackup: { member: 1 }, recoveryWindow: { missing: '' } },
    });
    expect(await api.endpoints(clusterName)).toMatchObject({ primary: null, replicas: [] });
    expect(await readHomes(api, source.id)).toEqual(homes);
    expect(await codeOf(api.backUp(clusterName, 1))).toBe('CLUSTER_RETAINED');
    expect(await codeOf(api.remove(clusterName))).toBe('CLUSTER_RETAINED');
    expect(await codeOf(api.create(clusterBody))).toBe('NAME_TAKEN');

    await plane.kill();
    await plane.start();
    expect((await untilState(clusterName, 'retained')).members).toHaveLength(3);
    const copy = await api.create({ name: 'heir', ...small, from: { cluster: clusterName, at: Date.now() } });
    await waitFor({ what: 'executors on the retained volumes', timeoutMs }, async () => {
      const { members } = await api.cluster(clusterName);
      return members.every(({ taskState, phase }) => phase === 'lending' && taskState === 'TASK_STARTING');
    });
    expect(await codeOf(api.purge(clusterName, clusterName))).toBe('COPY_OPEN');
    // Both in the middle: whoever takes it up finds what is wanted in the store.
    killProcess(findRunning(source.id)[0]!.executor);
    await plane.kill();
    await plane.start();
    await waitFor({ what: 'the copy to be ready', timeoutMs }, async () => {
      for (const { hasMysqld } of findRunning(source.id)) expect(hasMysqld).toBe(false);
      return (await api.cluster('heir')).state === 'ready';
    });

    const own = await openTeam(copy);
    expect(await own.query('SELECT COUNT(*) AS n, MAX(id) AS last FROM shop.things')).toEqual([{ n: 200, last: 200 }]);
    await waitFor(
      { what: 'no executor on the retained volumes', timeoutMs },
      () => findRunning(source.id).length === 0,
    );
    expect(await readHomes(api, source.id)).toEqual(homes);

    await api.remove('heir');
    await untilState(copy.id, 'deleted');
    expect(await codeOf(api.purge(clusterName, 'another'))).toBe('CONFIRM_NEEDED');
    await api.purge(clusterName, clusterName);
    await waitGone(api);
    expect(await findLeftovers({ api, plane, clusterId: source.id }, homes)).toEqual([]);
  },
  timeoutMs * 2,
);
