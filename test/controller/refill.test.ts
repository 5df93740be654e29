/**
 * A gap in one member's archive is filled from another one's by itself, and then the other one may be lost with all its
 * volumes: a copy goes to a moment behind the gap. Real MySQL.
 */
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { realClock } from '../../src/clock.ts';
import { connect, type Session } from '../../src/mysql/connection.ts';
import { type Api, createApiClient } from '../demo/api-client.ts';
import { type ControlPlane, createControlPlane } from '../demo/control-plane.ts';
import { diagnose } from '../demo/diagnosis.ts';
import { findRunDirectories, type Home, readHomes, removeRunDirectories } from '../demo/homes.ts';
import { findMember, killProcess } from '../demo/processes.ts';
import { clusterBody, clusterName, waitReady } from '../demo/steps.ts';
import { waitFor } from '../demo/wait.ts';

const timeoutMs = 240_000;
let plane: ControlPlane;
let api: Api;
let source: Awaited<ReturnType<Api['create']>>;

beforeAll(async () => {
  plane = await createControlPlane({ agents: 3 });
  await plane.start();
  api = createApiClient(plane.apiUrl);
  source = await api.create({ ...clusterBody, members: 2 });
  await waitReady(api, undefined, timeoutMs);
}, timeoutMs);
afterAll(() => plane?.destroy(removeRunDirectories));

async function withTeam<T>(name: string, { credentials }: typeof source, use: (team: Session) => Promise<T>) {
  const { host, port } = (await api.endpoints(name)).primary!;
  const session = await connect({ host, port, caPem: credentials.caCertPem }, credentials, { clock: realClock });
  try {
    return await use(session);
  } finally {
    await session.close();
  }
}

const write = (from: number, to: number) =>
  withTeam(clusterName, source, async (team) => {
    await team.query('CREATE TABLE IF NOT EXISTS shop.orders (id INT PRIMARY KEY)');
    for (let id = from; id <= to; id += 1) await team.query('INSERT INTO shop.orders VALUES (?)', [id]);
  });

async function executeAt(home: Home, sql: string, values: readonly string[] = []): Promise<void> {
  const [directory = ''] = findRunDirectories(home.dataDir);
  const session = await connect({ socketPath: join(directory, 's') }, { user: 'selvedge' }, { clock: realClock });
  try {
    await session.query(sql, values);
  } finally {
    await session.close();
  }
}

const logsIn = (directory: string) =>
  readdirSync(directory)
    .filter((name) => /^binlog\.\d+$/.test(name))
    .sort();
const archivesOf = ({ backupDir }: Home) => join(backupDir!, 'archive');

/** The member's own log of what was written between is purged, and taken out of its archive. */
async function loseLog(home: Home, between: () => Promise<void>): Promise<void> {
  const [uuid = ''] = readdirSync(archivesOf(home));
  const own = join(archivesOf(home), uuid);
  await executeAt(home, 'FLUSH LOCAL BINARY LOGS');
  await between();
  await executeAt(home, 'FLUSH LOCAL BINARY LOGS');
  const [lost = '', current = ''] = logsIn(join(home.dataDir, 'data')).slice(-2);
  await waitFor({ what: `${lost} to be archived`, timeoutMs }, () => existsSync(join(own, `${lost}.json`)));
  await executeAt(home, 'PURGE BINARY LOGS TO ?', [current]);
  rmSync(join(own, lost));
  rmSync(join(own, `${lost}.json`));
}

test(
  'a point behind a gap that was refilled is reached after the donor and its volumes are gone',
  async () => {
    await withTeam(clusterName, source, (team) => team.query('CREATE DATABASE IF NOT EXISTS shop'));
    await write(1, 20);
    const { primary } = await api.endpoints(clusterName);
    const { ordinal } = primary!;
    const homes = await readHomes(api, source.id);
    const [own, other] = [homes[ordinal]!, homes[1 - ordinal]!];
    const { id } = await api.backUp(clusterName, ordinal);
    await waitFor(
      { what: 'the backup', timeoutMs },
      async () => (await api.backup(clusterName, id)).state === 'complete',
    );

    await loseLog(own, () => write(21, 60));
    await write(61, 80);
    const at = Date.now();
    await waitFor({ what: 'the next millisecond', timeoutMs: 1000, everyMs: 1 }, () => Date.now() > at + 1);
    await withTeam(clusterName, source, (team) => team.query('DROP TABLE shop.orders'));

    const told = await waitFor({ what: 'the refill', timeoutMs }, async () => {
      const events = await api.events(200);
      return events.find(({ kind }) => kind === 'archive.refilled') ?? null;
    });
    expect(told).toMatchObject({ ordinal });
    expect(readdirSync(archivesOf(own))).toHaveLength(2);
    const lost = findMember(source.id, other.ordinal)!;
    if (lost.mysqld) killProcess(lost.mysqld);
    killProcess(lost.executor);
    for (const dir of [other.dataDir, other.backupDir!]) {
      for (const name of readdirSync(dir)) rmSync(join(dir, name), { recursive: true, force: true });
    }

    const small = { volumes: { data: { type: 'root', sizeMb: 1024 }, backup: null } };
    const copy = await api.create({ name: 'after', members: 1, ...small, from: { cluster: clusterName, at } });
    await waitFor({ what: 'the copy', timeoutMs }, async () => (await api.cluster('after')).state === 'ready').catch(
      async (error: unknown) => {
        await diagnose(plane, api, console.log);
        throw error;
      },
    );
    const rows = await withTeam('after', copy, (team) =>
      team.query('SELECT COUNT(*) AS n, MAX(id) AS last FROM shop.orders'),
    );
    expect(rows).toEqual([{ n: 80, last: 80 }]);
  },
  timeoutMs,
);
