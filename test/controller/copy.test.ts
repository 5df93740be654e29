/** Copies of a living cluster on real MySQL: from its newest backup, and as it was a second before a mistake. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { realClock } from '../../src/clock.ts';
import { connect, type Session } from '../../src/mysql/connection.ts';
import { type Api, createApiClient, watchEndpoints } from '../demo/api-client.ts';
import { type ControlPlane, createControlPlane } from '../demo/control-plane.ts';
import { diagnose } from '../demo/diagnosis.ts';
import { removeRunDirectories } from '../demo/homes.ts';
import { findMember, killProcess } from '../demo/processes.ts';
import { clusterBody, clusterName, waitReady } from '../demo/steps.ts';
import { now, waitFor } from '../demo/wait.ts';
import { startWriter } from '../demo/writer.ts';

const copyTimeoutMs = 240_000;
const ackTimeoutMs = 60_000;
/** Small, and where there is always room. */
const small = { volumes: { data: { type: 'root', sizeMb: 1024 }, backup: null } };
let plane: ControlPlane;
let api: Api;
let source: Awaited<ReturnType<Api['create']>>;
const ends: (() => Promise<unknown> | unknown)[] = [];

beforeAll(async () => {
  plane = await createControlPlane({ agents: 4 });
  await plane.start();
  api = createApiClient(plane.apiUrl);
  source = await api.create(clusterBody);
  await waitReady(api, undefined, copyTimeoutMs);
}, copyTimeoutMs);
afterEach(async (context) => {
  for (const end of ends.splice(0).reverse()) await end();
  if (context.task.result?.state === 'fail') await diagnose(plane, api, console.log);
});
afterAll(() => plane?.destroy(removeRunDirectories));

type Created = Awaited<ReturnType<Api['create']>>;

async function openTeam({ name, credentials }: Created): Promise<Session> {
  const { primary } = await api.endpoints(name);
  const { host, port } = primary!;
  const session = await connect({ host, port, caPem: credentials.caCertPem }, credentials, { clock: realClock });
  ends.push(() => session.close());
  return session;
}

async function makeCopy(body: object): Promise<Created> {
  const copy = await api.create({ ...small, ...body });
  const told = new Set<string>();
  await waitFor({ what: `copy ${copy.name} to be ready`, timeoutMs: copyTimeoutMs }, async () => {
    const { state, conditions, members } = await api.cluster(copy.name);
    for (const { message } of [...conditions, ...members]) if (message) told.add(message);
    return state === 'ready';
  }).catch((error: unknown) => {
    throw new Error(`it is not ready: ${[...told].join('; ')}`, { cause: error });
  });
  return copy;
}

async function backUp(member: number): Promise<string> {
  const { id } = await api.backUp(clusterName, member);
  const backup = await waitFor({ what: 'the backup', timeoutMs: copyTimeoutMs }, async () => {
    const found = await api.backup(clusterName, id);
    return found.state === 'open' ? null : found;
  });
  expect(backup).toMatchObject({ state: 'complete' });
  return id;
}

async function writeTo(table: string) {
  const { endpoints, stop } = watchEndpoints(api, clusterName);
  ends.push(stop);
  const { credentials: login } = source;
  const writer = await startWriter({ endpoints, login, caPem: login.caCertPem, ratePerSecond: 50, table });
  ends.push(() => writer.stop(0));
  return writer;
}

/**
 * Keys 1 to the answer were acknowledged by then, as mysqld counts time; the writer has one insert under way at a time.
 * It notes times of a clock that is never set; `skewMs` is what the other one was set by since this process began.
 */
function countAcknowledged(writer: Awaited<ReturnType<typeof writeTo>>, { atMs, skewMs }: Moment): number {
  return writer.acknowledgedAt.filter((at) => at !== null && at + skewMs <= atMs).length;
}

interface Moment {
  readonly atMs: number;
  readonly skewMs: number;
}

/** A second before now. */
function aSecondAgo(): Moment {
  return { atMs: Date.now() - 1000, skewMs: Date.now() - now() };
}

/** What the copy holds is what was acknowledged by then, and at most the one insert that was under way. */
async function expectRows(copy: Created, writer: Awaited<ReturnType<typeof writeTo>>, by: Moment): Promise<void> {
  const team = await openTeam(copy);
  const [row] = await team.query<{ n: number; last: number }>(
    `SELECT COUNT(*) AS n, MAX(id) AS last FROM ${writer.table}`,
  );
  const acknowledged = countAcknowledged(writer, by);
  console.log(`${row!.n} rows, ${acknowledged} acknowledged, clocks differ by ${by.skewMs.toFixed(1)} ms`);
  expect(acknowledged).toBeGreaterThan(10);
  expect(row!.n).toBe(row!.last);
  expect(row!.n).toBeGreaterThanOrEqual(acknowledged);
  expect(row!.n).toBeLessThanOrEqual(acknowledged + 1);
}

test('a copy is refused with its reason before anything is made', async () => {
  const refused = async (body: object) => api.create({ name: 'never', ...body }).catch((error: unknown) => error);

  expect(await refused({ from: { cluster: 'nobody' } })).toMatchObject({ code: 'NOT_FOUND' });
  expect(await refused({ from: { cluster: clusterName } })).toMatchObject({ code: 'NO_BACKUP' });
  expect(await refused({ from: { cluster: clusterName, at: Date.now() + 60_000 } })).toMatchObject({ status: 400 });
  expect(await refused({ from: { cluster: clusterName, at: 'yesterday...' } })).toMatchObject({ status: 400 });
  expect(await refused({ from: {} })).toMatchObject({ status: 400 });
  expect(await refused({})).toMatchObject({ status: 400 });
});

test(
  'a copy of the newest backup: its first member is filled with it, the second one by CLONE',
  async () => {
    const team = await openTeam(source);
    await team.query('CREATE DATABASE IF NOT EXISTS shop');
    await team.query('CREATE TABLE shop.things (id INT PRIMARY KEY)');
    await team.query('INSERT INTO shop.things VALUES (1), (2), (3)');
    const backup = await backUp(1);
    const tooSmall = { volumes: { data: { type: 'root', sizeMb: 300 }, backup: null } };
    const refused = api.create({ name: 'never', from: { cluster: clusterName }, ...tooSmall });
    await expect(refused).rejects.toMatchObject({ code: 'VOLUME_TOO_SMALL' });

    const copy = await makeCopy({ name: 'twin', members: 2, from: { cluster: clusterName } });

    const seen = await api.cluster('twin');
    expect(seen).toMatchObject({ epoch: 1, primary: 0, origin: { cluster: clusterName, backup, member: 1 } });
    expect(await api.rebuilds('twin')).toMatchObject([{ member: 1, way: 'clone:0', state: 'done' }]);
    const own = await openTeam(copy);
    expect(await own.query('SELECT COUNT(*) AS n FROM shop.things')).toEqual([{ n: 3 }]);
    await own.query('INSERT INTO shop.things VALUES (4)');
    expect(await team.query('SELECT COUNT(*) AS n FROM shop.things')).toEqual([{ n: 3 }]);
    const { host, port } = (await api.endpoints('twin')).primary!;
    const asBefore = connect({ host, port, caPem: copy.credentials.caCertPem }, source.credentials, {
      clock: realClock,
    });
    await expect(asBefore).rejects.toThrow();
    await api.remove('twin');
  },
  copyTimeoutMs,
);

test(
  'a second before a table was dropped: exactly the rows that were acknowledged by then',
  async () => {
    const writer = await writeTo('orders1');
    await writer.acknowledgedAfter(now(), ackTimeoutMs);
    await backUp(2);
    await sleepUntil(Date.now() + 3000);
    await writer.stop();
    const moment = aSecondAgo();
    await (await openTeam(source)).query(`DROP TABLE ${writer.table}`);

    const copy = await makeCopy({ name: 'before', members: 1, from: { cluster: clusterName, at: moment.atMs } });

    await expectRows(copy, writer, moment);
    expect(writer.acknowledgedAt.length).toBeGreaterThan(countAcknowledged(writer, moment) + 1);
    await api.remove('before');
  },
  copyTimeoutMs,
);

test(
  'the same across a failover, up to the last row before the drop',
  async () => {
    const writer = await writeTo('orders2');
    await writer.acknowledgedAfter(now(), ackTimeoutMs);
    await backUp(2);
    await api.releaseCooldown(clusterName);
    const { primary } = await waitReady(api, undefined, ackTimeoutMs);
    const { mysqld } = findMember(source.id, primary!)!;
    await sleepUntil(Date.now() + 500);
    const killedAt = now();
    killProcess(mysqld!);
    await writer.acknowledgedAfter(killedAt, ackTimeoutMs);
    await sleepUntil(Date.now() + 3000);
    await writer.stop();
    // The control plane hears of what was executed once a second: the last rows are not known there yet.
    const moment = { ...aSecondAgo(), atMs: Date.now() };
    await waitFor(
      { what: 'the next millisecond', timeoutMs: 1000, everyMs: 1 },
      async () => Date.now() > moment.atMs + 1,
    );
    await (await openTeam(source)).query(`DROP TABLE ${writer.table}`);

    const copy = await makeCopy({ name: 'across', members: 1, from: { cluster: clusterName, at: moment.atMs } });

    await expectRows(copy, writer, moment);
    expect(countAcknowledged(writer, moment)).toBe(writer.acknowledgedAt.length);
    await api.remove('across');
  },
  copyTimeoutMs,
);

/** The writer writes meanwhile: the span is the test's own matter, not a wait for something. */
function sleepUntil(atMs: number): Promise<void> {
  return sleep(Math.max(0, atMs - Date.now()));
}
