/** A new member filled with another cluster's backup and archived logs: real mysqld, real transfers. */
import { createHash, randomUUID } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { CommandBody } from '../../src/channel/protocol.ts';
import { startedFacts } from '../../src/channel/protocol.ts';
import { realClock } from '../../src/clock.ts';
import { connect, type Session } from '../../src/mysql/connection.ts';
import { killSession } from './agent.ts';
import { createWorld, type TestMember, type World } from './world.ts';

const token = randomUUID();
const newTeam = { user: 'team_copy', password: 'team-secret-2' };
let source: World;
let donor: TestMember;
let copies: World;
/** What the donor had executed after its writes; and the rows acknowledged until then. */
const moments: { readonly name: string; readonly atMs: number; readonly gtidSet: string; readonly rows: number }[] = [];

beforeAll(async () => {
  source = await createWorld(1, 74);
  donor = source.members[0]!;
  await donor.start(true);
  await donor.command({ kind: 'promote', k: 0, member: 0, timeoutMs: 10_000 });
  const team = await donor.team();
  await team.query('CREATE DATABASE shop');
  await team.query('CREATE DATABASE nothing_yet');
  await team.query('CREATE TABLE shop.orders (id INT PRIMARY KEY, note VARCHAR(100))');
  await team.query('CREATE VIEW shop.notes AS SELECT note FROM shop.orders');
  await team.query('CREATE FUNCTION shop.twice(n INT) RETURNS INT DETERMINISTIC RETURN n * 2');
  await insert(team, 1, 50);
  await donor.command({ kind: 'backup', backupId: 'b1' });
  await donor.until(({ work, backups }) => work?.outcome === 'done' && backups.length === 1);
  await note('at the backup', 50);
  await insert(team, 51, 80);
  await note('after 80', 80);
  await insert(team, 81, 120);
  await note('after 120', 120);
  await team.query('DROP TABLE shop.orders');
  await note('dropped', 0);
  await team.close();
  copies = await createWorld(4, 75);
}, 60_000);
afterAll(async () => {
  await copies?.destroy();
  await source?.destroy();
});

async function insert(team: Session, from: number, to: number): Promise<void> {
  for (let id = from; id <= to; id += 1) await team.query('INSERT INTO shop.orders VALUES (?, ?)', [id, `order ${id}`]);
}

/** Times are those of commits, in milliseconds: a moment is one in which nothing is committed. */
async function note(name: string, rows: number): Promise<void> {
  const before = Date.now();
  while (Date.now() < before + 2) await new Promise((resolve) => setImmediate(resolve));
  moments.push({ name, atMs: Date.now() - 1, gtidSet: await readExecuted(donor), rows });
  const noted = Date.now();
  while (Date.now() < noted + 2) await new Promise((resolve) => setImmediate(resolve));
}

async function openOwn(member: TestMember): Promise<Session> {
  const runRoot = join(member.root, 'run');
  const [directory = ''] = readdirSync(runRoot);
  return connect({ socketPath: join(runRoot, directory, 's') }, { user: 'selvedge' }, { clock: realClock });
}

async function query<Row = Record<string, unknown>>(member: TestMember, sql: string): Promise<Row[]> {
  const session = await openOwn(member);
  try {
    return await session.query<Row>(sql);
  } finally {
    await session.close();
  }
}

async function readExecuted(member: TestMember): Promise<string> {
  const [row] = await query<{ executed: string }>(member, 'SELECT @@GLOBAL.gtid_executed AS executed');
  return row!.executed.replace(/\s+/g, '');
}

async function share(): Promise<void> {
  const tokenSha256 = createHash('sha256').update(token).digest('hex');
  await donor.command({ kind: 'share', tokenSha256, expiresInMs: 600_000, maxBytesPerSec: null });
}

type CopyBody = Extract<CommandBody, { kind: 'copy' }>;

async function copyBody(member: TestMember, change: Partial<CopyBody> = {}): Promise<CopyBody> {
  const { address, ports } = donor.launch.plan;
  const facts = donor.launch.updates.find(({ data }) => data !== undefined)!;
  const { fingerprint } = startedFacts.parse(JSON.parse(Buffer.from(facts.data!, 'base64').toString()));
  return {
    kind: 'copy',
    initialise: true,
    secrets: { ...member.secrets, team: newTeam },
    backup: { id: 'b1', ordinal: 0 },
    donors: [{ ordinal: 0, address, port: ports.control, fingerprint, token }],
    until: { kind: 'backup' },
    within: await readExecuted(donor),
    ...change,
  };
}

/** Sends the command and waits until the work has ended. */
async function runCopy(member: TestMember, body: CopyBody) {
  const id = randomUUID();
  const answer = await member.launch.send(body, { id, epoch: 0, leaderToken: 9 });
  if (answer.outcome === 'refused') throw new Error(`the copy was refused: ${answer.code} ${answer.message}`);
  const { work } = await member.until(({ work: now }) => now?.commandId === id && now.outcome !== 'running', 60_000);
  return work!;
}

async function expectCopy(member: TestMember, moment: (typeof moments)[number]): Promise<void> {
  const status = await member.until(({ instance }) => instance === 'running');
  expect(status).toMatchObject({ isInitialised: true, isWritable: false, incarnation: member.launch.plan.incarnation });
  expect(status.serverUuid).toBe(member.launch.plan.serverUuid);
  expect(await readExecuted(member)).toBe(moment.gtidSet);
  expect(await query(member, 'SELECT COUNT(*) AS n, MAX(id) AS last FROM shop.orders')).toEqual([
    { n: moment.rows, last: moment.rows },
  ]);
}

test('without a share the donor gives nothing, and an unmarked volume is filled only when the command may', async () => {
  const [member] = copies.members as [TestMember];
  const body = await copyBody(member);
  const refused = await member.launch.send({ ...body, initialise: false }, { leaderToken: 9, epoch: 0 });
  expect(refused).toMatchObject({ code: 'VOLUME_NOT_OURS' });

  expect(await runCopy(member, body)).toMatchObject({ kind: 'copy', outcome: 'failed', code: 'TRANSFER_REFUSED' });

  expect(await member.status()).toMatchObject({ instance: 'failed', isInitialised: false });
  expect(await member.start(true, 0)).toMatchObject({ code: 'REBUILD_UNFINISHED' });
});

test('a copy of the backup alone: its set, its rows, its own identity', async () => {
  const [member] = copies.members as [TestMember];
  await share();
  const body = await copyBody(member);
  const work = await runCopy(member, { ...body, initialise: false });

  expect(work, member.launch.logs()).toMatchObject({ outcome: 'done' });
  expect(work.doneBytes).toBe(work.totalBytes);
  const [backup] = (await donor.status()).backups;
  await expectCopy(member, { ...moments[0]!, gtidSet: backup!.gtidSet });
  expect(readdirSync(join(member.root, 'volumes', 'data-0')).sort()).toEqual(
    ['data', 'lock', 'selvedge.json', 'state.json', 'tmp'].sort(),
  );
});

test('accounts of the old cluster are closed, views and functions go on, the new account works', async () => {
  const [member] = copies.members as [TestMember];
  const { host, port } = member.source;
  const open = (login: { user: string; password: string }) =>
    connect({ host, port, caPem: member.secrets.caCertPem }, login, { clock: realClock });

  await expect(open({ user: 'team', password: 'team-secret-1' })).rejects.toThrow();

  const team = await open(newTeam);
  expect(await team.query('SELECT COUNT(*) AS n FROM shop.notes')).toEqual([{ n: 50 }]);
  expect(await team.query('SELECT shop.twice(21) AS n')).toEqual([{ n: 42 }]);
  await team.close();
  const users = await query<{ user: string; locked: string }>(
    member,
    "SELECT user, account_locked AS locked FROM mysql.user WHERE user NOT LIKE 'mysql.%' ORDER BY user",
  );
  const plugins = "SELECT PLUGIN_NAME AS name FROM information_schema.plugins WHERE PLUGIN_NAME = 'clone'";
  expect(await query(member, plugins)).toEqual([{ name: 'clone' }]);
  expect(await query(member, 'SHOW CREATE DATABASE nothing_yet')).toHaveLength(1);
  expect(users.map(({ user, locked }) => `${user} ${locked}`)).toEqual([
    'cloner N',
    'repl N',
    'selvedge N',
    'team Y',
    'team_copy N',
  ]);
});

test('it becomes the primary of epoch 1 of its own, and the old epochs stay readable', async () => {
  const [member] = copies.members as [TestMember];
  await member.command({ kind: 'promote', k: 0, member: 0, timeoutMs: 10_000 }, 1);

  await member.until(({ isWritable, heartbeatAt }) => isWritable && heartbeatAt !== null);
  expect(await query(member, 'SELECT epoch, server_uuid AS uuid FROM selvedge.epoch')).toEqual([
    { epoch: 1, uuid: member.launch.plan.serverUuid },
  ]);
  const own = await connect(
    { host: member.source.host, port: member.source.port, caPem: member.secrets.caCertPem },
    newTeam,
    { clock: realClock },
  );
  await own.query('CREATE TABLE nothing_yet.t (id INT PRIMARY KEY)');
  await own.close();
  expect(await query(member, 'SELECT cluster, epoch, server_uuid AS uuid FROM selvedge.origin_epoch')).toEqual([
    { cluster: donor.launch.plan.cluster, epoch: 1, uuid: donor.launch.plan.serverUuid },
  ]);
});

test('up to a time: exactly what was committed before it, although the table was dropped later', async () => {
  const member = copies.members[1]!;
  const moment = moments.find(({ name }) => name === 'after 80')!;

  const work = await runCopy(member, await copyBody(member, { until: { kind: 'at', atMs: moment.atMs } }));

  expect(work, `${work.message} ${member.launch.logs()}`).toMatchObject({ outcome: 'done' });
  expect(work.doneBytes).toBe(work.totalBytes);
  await expectCopy(member, { ...moment, gtidSet: await readExecuted(member) });
  const own = new RegExp(`^${donor.launch.plan.serverUuid}:`);
  expect(await readExecuted(member)).toMatch(own);
});

test('up to a GTID set: that set and nothing else, again after the executor was killed at each step', async () => {
  const member = copies.members[2]!;
  const moment = moments.find(({ name }) => name === 'after 120')!;
  const steps = ['fetching the backup', 'opening the backup', 'applying logs', 'taking over', 'starting'];
  const killed: string[] = [];
  for (const step of steps) {
    const body = await copyBody(member, { until: { kind: 'gtid', gtidSet: moment.gtidSet }, initialise: true });
    const reached = new Promise<void>((resolve, reject) => {
      const stop = member.launch.client().watch({
        onStatus: ({ work }) => {
          if (work?.kind !== 'copy' || (work.step !== step && work.outcome === 'running')) return;
          if (work.outcome === 'running') killed.push(step);
          stop();
          resolve();
        },
        onEnd: reject,
      });
    });
    await member.command(body, 0);
    await reached;
    killSession(member.launch.child.pid!);
    await member.launch.exited;
    await member.launch.destroy();
    await member.relaunch();
    if ((await member.status()).isInitialised) break;
  }
  expect(killed.length).toBeGreaterThanOrEqual(3);

  if ((await member.status()).isInitialised) await member.start(false, 0);
  else {
    const body = await copyBody(member, { until: { kind: 'gtid', gtidSet: moment.gtidSet }, initialise: true });
    expect(await runCopy(member, body)).toMatchObject({ outcome: 'done' });
  }

  await expectCopy(member, moment);
}, 120_000);

test('what cannot be reached is refused with what is missing', async () => {
  const member = copies.members[3]!;
  const beyond = `${donor.launch.plan.serverUuid}:1-100000`;
  const gone = await copyBody(member, { until: { kind: 'backup' }, backup: { id: 'none', ordinal: 0 } });
  expect(await runCopy(member, gone)).toMatchObject({ code: 'BACKUP_DAMAGED' });

  const early = await copyBody(member, { until: { kind: 'at', atMs: moments[0]!.atMs - 3600_000 } });
  expect(await runCopy(member, early)).toMatchObject({ code: 'TARGET_BEFORE_BACKUP' });

  const late = await copyBody(member, { until: { kind: 'gtid', gtidSet: beyond }, within: beyond });
  expect(await runCopy(member, late)).toMatchObject({ code: 'TARGET_NOT_REACHED' });
}, 90_000);

test('a damaged backup and a damaged log are found', async () => {
  const member = copies.members[3]!;
  const volume = join(donor.root, 'volumes', 'backup-0');
  const directory = join(volume, 'archive', donor.launch.plan.serverUuid);
  const row = Buffer.from('order 100');
  const log = readdirSync(directory)
    .map((name) => join(directory, name))
    .find((path) => readFileSync(path).includes(row))!;
  const flip = (path: string, at: number) => {
    const bytes = readFileSync(path);
    bytes[at]! ^= 1;
    writeFileSync(path, bytes);
  };
  flip(log, readFileSync(log).indexOf(row));
  const body = await copyBody(member, { until: { kind: 'gtid', gtidSet: moments.at(-1)!.gtidSet } });
  expect(await runCopy(member, body)).toMatchObject({ code: 'BINLOG_UNREADABLE' });
  flip(log, readFileSync(log).indexOf(Buffer.from('nrder 100')));

  flip(join(volume, 'backups', 'b1', 'data', 'mysql.ibd'), 70_000);
  expect(await runCopy(member, body)).toMatchObject({ code: 'BACKUP_DAMAGED' });
  flip(join(volume, 'backups', 'b1', 'data', 'mysql.ibd'), 70_000);
}, 60_000);
