/**
 * Volumes that are emptied, the whole way: the local Mesos, real MySQL, real files. The member comes back by itself on
 * the same agent and volumes, whether it ran or was down, as a replica or as the primary.
 */
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { realClock } from '../../src/clock.ts';
import { connect } from '../../src/mysql/connection.ts';
import { type Api, createApiClient } from '../demo/api-client.ts';
import { type ControlPlane, createControlPlane } from '../demo/control-plane.ts';
import { diagnose } from '../demo/diagnosis.ts';
import { checkHome, type Home, readHomes, removeRunDirectories } from '../demo/homes.ts';
import { findMember, killProcess } from '../demo/processes.ts';
import { clusterBody, clusterName, waitReady } from '../demo/steps.ts';
import { waitFor } from '../demo/wait.ts';

const timeoutMs = 240_000;
let plane: ControlPlane;
let api: Api;
let cluster: Awaited<ReturnType<Api['create']>>;
let homes: Home[];
/** The member whose both volumes were emptied: it may be backed up still. */
let emptied: number | null = null;

beforeAll(async () => {
  plane = await createControlPlane({ agents: 3 });
  await plane.start();
  api = createApiClient(plane.apiUrl);
  cluster = await api.create(clusterBody);
  await waitReady(api, undefined, 120_000);
  homes = await readHomes(api, cluster.id);
  await query('primary', 'CREATE DATABASE shop');
  await query('primary', 'CREATE TABLE shop.orders (id INT PRIMARY KEY)');
}, timeoutMs);
afterEach(async (context) => {
  if (context.task.result?.state === 'fail') await diagnose(plane, api, console.log);
});
afterAll(() => plane?.destroy(removeRunDirectories));

async function query(where: 'primary' | number, sql: string): Promise<Record<string, unknown>[]> {
  const { primary, replicas } = await api.endpoints(clusterName);
  const place = [primary!, ...replicas].find(({ ordinal }) => ordinal === where) ?? primary!;
  const { credentials } = cluster;
  const login = { host: place.host, port: place.port, caPem: credentials.caCertPem };
  const session = await connect(login, credentials, { clock: realClock });
  try {
    return await session.query(sql, [], { timeoutMs: 30_000 });
  } finally {
    await session.close();
  }
}

const primaryNow = async () => (await api.cluster(clusterName)).primary!;
const empty = (directory: string) => {
  for (const name of readdirSync(directory)) rmSync(join(directory, name), { recursive: true, force: true });
};
const markerOf = (directory: string) => JSON.parse(readFileSync(join(directory, 'selvedge.json'), 'utf8')) as Marker;
interface Marker {
  readonly incarnation: string;
  readonly serverUuid: string;
}

/** Without its processes; the next launch finds what was made of its volumes. */
function endMember(ordinal: number): void {
  const found = findMember(cluster.id, ordinal)!;
  if (found.mysqld) killProcess(found.mysqld);
  killProcess(found.executor);
}

/** Filled anew as another incarnation, on the same agent and volume, with every row. */
async function isWholeAgain(home: Home, before: Marker, rows: number): Promise<void> {
  await waitFor({ what: `member ${home.ordinal} to be filled anew`, timeoutMs, everyMs: 100 }, async () => {
    const rebuilds = await api.rebuilds(clusterName);
    const isDone = rebuilds.some(({ member, state }) => member === home.ordinal && state === 'done');
    return isDone && existsSync(join(home.dataDir, 'selvedge.json'));
  });
  await waitReady(api, undefined, 120_000);
  const after = markerOf(home.dataDir);
  expect(after.incarnation).not.toBe(before.incarnation);
  expect(after.serverUuid).not.toBe(before.serverUuid);
  await checkHome(api, cluster.id, home);
  const found = async () => (await query(home.ordinal, 'SELECT COUNT(*) AS n FROM shop.orders'))[0]?.['n'];
  await waitFor({ what: 'its rows', timeoutMs }, async () => (await found()) === rows);
}

test(
  'a replica’s data volume is emptied while it is down: it is filled anew by itself',
  async () => {
    await query('primary', 'INSERT INTO shop.orders VALUES (1), (2)');
    const primary = await primaryNow();
    const home = homes.find(({ ordinal }) => ordinal !== primary)!;
    const before = markerOf(home.dataDir);
    endMember(home.ordinal);
    empty(home.dataDir);

    await isWholeAgain(home, before, 2);

    expect(await primaryNow()).toBe(primary);
    const [first] = await api.rebuilds(clusterName);
    expect(first).toMatchObject({ member: home.ordinal, reason: 'the data volume was emptied' });
  },
  timeoutMs,
);

test(
  'another replica’s data volume is emptied while it runs: the same',
  async () => {
    const primary = await primaryNow();
    const rebuilt = (await api.rebuilds(clusterName)).map(({ member }) => member);
    const home = homes.find(({ ordinal }) => ordinal !== primary && !rebuilt.includes(ordinal))!;
    const before = markerOf(home.dataDir);
    empty(home.dataDir);

    await isWholeAgain(home, before, 2);

    expect(await primaryNow()).toBe(primary);
  },
  timeoutMs,
);

test(
  'the primary’s both volumes are emptied and it dies: another one takes over, and it is whole again',
  async () => {
    await query('primary', 'INSERT INTO shop.orders VALUES (3)');
    const { primary, epoch } = await api.cluster(clusterName);
    const home = homes[primary!]!;
    emptied = home.ordinal;
    const before = markerOf(home.dataDir);
    for (const directory of [home.dataDir, home.backupDir!]) empty(directory);
    endMember(home.ordinal);

    await waitFor({ what: 'another primary', timeoutMs }, async () => {
      const now = await api.cluster(clusterName);
      return now.epoch > epoch && now.primary !== primary;
    });
    await isWholeAgain(home, before, 3);
    await waitFor({ what: 'the backup volume', timeoutMs }, () => existsSync(join(home.backupDir!, 'selvedge.json')));
  },
  timeoutMs,
);

test(
  'a backup volume is emptied under a member that runs: a new one is taken and filled, the data untouched',
  async () => {
    const primary = await primaryNow();
    const home = homes.find(({ ordinal }) => ordinal !== primary && ordinal !== emptied)!;
    const { id } = await api.backUp(clusterName, home.ordinal);
    const isComplete = async (which: string) => (await api.backup(clusterName, which)).state === 'complete';
    await waitFor({ what: 'the backup', timeoutMs }, () => isComplete(id));
    const before = { data: markerOf(home.dataDir), mysqld: findMember(cluster.id, home.ordinal)!.mysqld!.pid };
    empty(home.backupDir!);

    await waitFor({ what: 'a new backup', timeoutMs }, () => {
      const backups = join(home.backupDir!, 'backups');
      return existsSync(backups) && readdirSync(backups).some((name) => /^[0-9a-f-]{36}$/.test(name) && name !== id);
    });

    expect(markerOf(home.dataDir)).toEqual(before.data);
    expect(findMember(cluster.id, home.ordinal)!.mysqld!.pid).toBe(before.mysqld);
    await waitFor(
      { what: 'the lost one to be closed', timeoutMs },
      async () => (await api.backup(clusterName, id)).state === 'removed',
    );
    await waitFor({ what: 'the archive', timeoutMs }, () => existsSync(join(home.backupDir!, 'archive')));
    const events = await api.events(200);
    expect(events.filter(({ kind, ordinal }) => kind === 'backup.volume' && ordinal === home.ordinal)).not.toEqual([]);
  },
  timeoutMs,
);

test(
  'a backup volume that a person says is gone: another one is made and filled, the data untouched',
  async () => {
    const primary = await primaryNow();
    const home = homes.find(({ ordinal }) => ordinal !== primary)!;
    const before = markerOf(home.dataDir);
    const lost = (await api.endpoints(clusterName)).primary!;

    const answer = await fetch(`${plane.apiUrl}/v1/clusters/${clusterName}/members/${home.ordinal}/replace-volume`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ volume: 'backup', reason: 'the disk is broken' }),
    });

    expect(answer.status).toBe(202);
    const made = await waitFor({ what: 'another backup volume', timeoutMs }, async () => {
      const now = (await readHomes(api, cluster.id)).find(({ ordinal }) => ordinal === home.ordinal)!;
      const isFilled = existsSync(join(now.backupDir!, 'backups')) && readdirSync(join(now.backupDir!, 'backups'));
      return now.backupDir !== home.backupDir && isFilled && isFilled.some((name) => /^[0-9a-f-]{36}$/.test(name))
        ? now
        : null;
    });
    await waitReady(api, undefined, 120_000);
    expect(existsSync(home.backupDir!)).toBe(false);
    expect(markerOf(made.dataDir)).toEqual(before);
    expect(made).toMatchObject({ agent: home.agent, dataDir: home.dataDir });
    expect((await api.endpoints(clusterName)).primary).toMatchObject({ ordinal: lost.ordinal, port: lost.port });
    await waitFor({ what: 'the archive', timeoutMs }, () => existsSync(join(made.backupDir!, 'archive')));
  },
  timeoutMs,
);
