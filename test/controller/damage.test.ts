/** Damaged data on real MySQL, the whole way: a replica is filled anew, a primary is followed first. Nobody serves them. */
import { closeSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { realClock } from '../../src/clock.ts';
import { connect } from '../../src/mysql/connection.ts';
import { type Api, createApiClient } from '../demo/api-client.ts';
import { type ControlPlane, createControlPlane } from '../demo/control-plane.ts';
import { diagnose } from '../demo/diagnosis.ts';
import { readHomes, removeRunDirectories } from '../demo/homes.ts';
import { findMember } from '../demo/processes.ts';
import { clusterBody, clusterName, waitReady } from '../demo/steps.ts';
import { waitFor } from '../demo/wait.ts';

const PAGE = 16_384;
const ROWS = 400;
let plane: ControlPlane;
let api: Api;
let cluster: Awaited<ReturnType<Api['create']>>;

beforeAll(async () => {
  plane = await createControlPlane({ agents: 3 });
  await plane.start();
  api = createApiClient(plane.apiUrl);
  cluster = await api.create(clusterBody);
  await waitReady(api, undefined, 120_000);
  await onPrimary('CREATE DATABASE shop');
  for (const name of ['first', 'second']) {
    await onPrimary(`CREATE TABLE shop.${name} (id INT PRIMARY KEY, note CHAR(200))`);
    await onPrimary(
      `INSERT INTO shop.${name} WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < ${ROWS})
       SELECT n, REPEAT('x', 200) FROM s`,
    );
  }
}, 240_000);
afterEach(async (context) => {
  if (context.task.result?.state === 'fail') await diagnose(plane, api, console.log);
});
afterAll(() => plane?.destroy(removeRunDirectories));

async function query(place: { host: string; port: number }, sql: string): Promise<Record<string, unknown>[]> {
  const { credentials } = cluster;
  const login = { host: place.host, port: place.port, caPem: credentials.caCertPem };
  const session = await connect(login, credentials, { clock: realClock });
  try {
    return await session.query(sql, [], { timeoutMs: 30_000 });
  } finally {
    await session.close();
  }
}

const onPrimary = async (sql: string) => query((await api.endpoints(clusterName)).primary!, sql);
const dataOf = async (ordinal: number) =>
  join((await readHomes(api, cluster.id)).find((home) => home.ordinal === ordinal)!.dataDir, 'data');
const primaryNow = async () => (await api.cluster(clusterName)).primary!;

/** Waits until the member was filled anew for the `count`th time, and all serve. */
async function rebuilt(ordinal: number): Promise<void> {
  await waitFor({ what: `a rebuild of member ${ordinal}`, timeoutMs: 120_000, everyMs: 100 }, async () =>
    (await api.rebuilds(clusterName)).some(
      ({ member, state, way, reason }) =>
        member === ordinal && state === 'done' && way !== 'trim' && /missing|MY-011906/.test(reason),
    ),
  );
  await waitReady(api, undefined, 120_000);
}

/** Every member has every row: nothing of the damaged files is left anywhere. */
async function allHold(): Promise<void> {
  const { primary, replicas } = await api.endpoints(clusterName);
  for (const place of [primary!, ...replicas]) {
    for (const name of ['first', 'second']) {
      expect(await query(place, `SELECT COUNT(*) AS n, MIN(note) = MAX(note) AS same FROM shop.${name}`)).toEqual([
        { n: ROWS, same: 1 },
      ]);
    }
  }
}

test('a file that is removed under a replica: it is filled anew by itself', async () => {
  const primary = await primaryNow();
  const replica = [0, 1, 2].find((ordinal) => ordinal !== primary)!;
  rmSync(join(await dataOf(replica), 'shop', 'first.ibd'));

  await rebuilt(replica);

  expect(await primaryNow()).toBe(primary);
  await allHold();
}, 300_000);

test('a page that is damaged under a primary: another one takes over, and it is filled anew', async () => {
  const before = await api.cluster(clusterName);
  const next = [0, 1, 2].find((ordinal) => ordinal !== before.primary)!;
  // Twice: after the second recovery nothing of the table is in memory any more.
  for (let count = 0; count < 2; count += 1) {
    const pid = findMember(cluster.id, next)?.mysqld?.pid ?? -1;
    expect(pid).toBeGreaterThan(1);
    process.kill(pid, 'SIGKILL');
    await waitFor({ what: 'the replica to be back', timeoutMs: 60_000, everyMs: 100 }, async () => {
      const again = findMember(cluster.id, next)?.mysqld?.pid;
      return again !== undefined && again !== pid && (await api.cluster(clusterName)).state === 'ready';
    });
  }
  flip(join(await dataOf(next), 'shop', 'second.ibd'));
  await api.changePrimary(clusterName, { kind: 'switchover', candidate: next, reason: 'a test' });
  await waitFor({ what: 'the switchover', timeoutMs: 60_000, everyMs: 100 }, async () => (await primaryNow()) === next);
  await waitReady(api, undefined, 120_000);
  const { epoch } = await api.cluster(clusterName);

  await expect(onPrimary('SELECT MAX(note) FROM shop.second')).rejects.toThrow();

  await waitFor({ what: 'a failover', timeoutMs: 60_000, everyMs: 100 }, async () => {
    const now = await api.cluster(clusterName);
    return now.epoch > epoch && now.primary !== next;
  });
  await rebuilt(next);
  await allHold();
}, 400_000);

test('a file that is removed under a primary that has it open: another one takes over', async () => {
  await api.releaseCooldown(clusterName);
  const before = await api.cluster(clusterName);
  const primary = before.primary!;
  await onPrimary("INSERT INTO shop.first VALUES (0, REPEAT('x', 200))");
  await onPrimary('DELETE FROM shop.first WHERE id = 0');
  rmSync(join(await dataOf(primary), 'shop', 'first.ibd'));

  await waitFor({ what: 'a failover', timeoutMs: 120_000, everyMs: 100 }, async () => {
    const now = await api.cluster(clusterName);
    return now.epoch > before.epoch && now.primary !== primary;
  });

  const [change] = await api.failovers(clusterName);
  expect(change?.reason).toMatch(/^damaged: .*first\.ibd/);
  await rebuilt(primary);
  await allHold();
}, 400_000);

/** The leaves: the first pages describe the file. */
function flip(path: string): void {
  const file = openSync(path, 'r+');
  for (const page of [5, 6, 7, 8]) {
    const bytes = Buffer.alloc(64);
    if (readSync(file, bytes, 0, 64, page * PAGE + 200) < 64) break;
    writeSync(
      file,
      bytes.map((byte) => byte ^ 0xff),
      0,
      64,
      page * PAGE + 200,
    );
  }
  closeSync(file);
}
