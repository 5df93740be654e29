/** A cluster led back in place on real MySQL: to a second before a mistake, whatever dies meanwhile, and back again. */
import { rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { delay, realClock } from '../../src/clock.ts';
import { connect, type Session } from '../../src/mysql/connection.ts';
import { type Api, createApiClient } from '../demo/api-client.ts';
import { type ControlPlane, createControlPlane } from '../demo/control-plane.ts';
import { diagnose } from '../demo/diagnosis.ts';
import { readHomes, removeRunDirectories } from '../demo/homes.ts';
import { findMember, killProcess } from '../demo/processes.ts';
import { clusterBody, clusterName, waitReady } from '../demo/steps.ts';
import { waitFor } from '../demo/wait.ts';

const timeoutMs = 600_000;
let plane: ControlPlane;
let api: Api;
let cluster: Awaited<ReturnType<Api['create']>>;
const sessions: Session[] = [];

beforeAll(async () => {
  plane = await createControlPlane({ agents: 3 });
  await plane.start();
  api = createApiClient(plane.apiUrl);
  cluster = await api.create(clusterBody);
  await waitReady(api, undefined, timeoutMs);
}, timeoutMs);
afterEach(async (context) => {
  for (const session of sessions.splice(0)) await session.close();
  if (context.task.result?.state === 'fail') await diagnose(plane, api, console.log);
});
afterAll(() => plane?.destroy(removeRunDirectories));

async function open({ host, port }: { host: string; port: number }): Promise<Session> {
  const { credentials } = cluster;
  const session = await connect({ host, port, caPem: credentials.caCertPem }, credentials, { clock: realClock });
  sessions.push(session);
  return session;
}

async function openPrimary(): Promise<Session> {
  return open((await api.endpoints(clusterName)).primary!);
}

async function backUp(member: number): Promise<string> {
  const { id } = await api.backUp(clusterName, member);
  await waitFor(
    { what: 'the backup', timeoutMs },
    async () => (await api.backup(clusterName, id)).state === 'complete',
  );
  return id;
}

const executedOf = async (session: Session): Promise<string> => {
  const [row] = await session.query<{ gtids: string }>('SELECT @@GLOBAL.gtid_executed AS gtids');
  return row!.gtids.replace(/\s+/g, '');
};

async function waitRestored(id: string) {
  let told = '';
  return waitFor({ what: 'the restore', timeoutMs }, async () => {
    const seen = await api.restoreOf(clusterName, id).catch(() => null);
    const text = `${seen?.steps.at(-1)?.name} ${seen?.progress?.step} ${seen?.code} ${seen?.message}`;
    if (text !== told) console.log(text);
    told = text;
    return seen && seen.state !== 'open' ? seen : null;
  });
}

/** Every member holds the same: the rows, and no table that was made later. */
async function expectEverywhere(ids: readonly number[], table = 'shop.things'): Promise<void> {
  const { primary, replicas } = await api.endpoints(clusterName);
  expect(replicas).toHaveLength(2);
  const expected = ids.map((id) => ({ id }));
  for (const place of [primary!, ...replicas]) {
    const session = await open(place);
    await waitFor({ what: 'the same rows', timeoutMs: 30_000 }, async () => {
      const rows = await session.query(`SELECT id FROM ${table} ORDER BY id`).catch(() => []);
      return JSON.stringify(rows) === JSON.stringify(expected);
    });
    expect(await session.query(`SELECT id FROM ${table} ORDER BY id`)).toEqual(expected);
  }
}

/** Writes on this very session, again and again, whatever it is answered. */
function keepWriting(session: Session) {
  const acknowledgedAt: number[] = [];
  const stopping = new AbortController();
  const writing = (async () => {
    for (let id = 1; !stopping.signal.aborted; id += 1) {
      const isDone = await session.query('INSERT INTO late.written VALUES (?)', [id]).catch(() => null);
      if (isDone) acknowledgedAt.push(Date.now());
      await delay(realClock, 10);
    }
  })();
  return {
    acknowledgedAt,
    async stop() {
      stopping.abort();
      await writing;
    },
  };
}

test(
  'a dropped table is back on all members, the old history is left, and writes go on',
  async () => {
    const team = await openPrimary();
    await team.query('CREATE DATABASE shop');
    await team.query('CREATE TABLE shop.things (id INT PRIMARY KEY)');
    await team.query('INSERT INTO shop.things VALUES (1), (2)');
    const backup = await backUp(1);
    await team.query('INSERT INTO shop.things VALUES (3)');
    const at = Date.now() + 1;
    await waitFor({ what: 'a later moment', timeoutMs: 10_000 }, async () => Date.now() > at + 1500);
    await team.query('INSERT INTO shop.things VALUES (4)');
    await team.query('DROP TABLE shop.things');
    const before = await api.cluster(clusterName);

    const refused = (body: object) => api.restore(clusterName, body).catch((error: unknown) => error);
    expect(await refused({ at })).toMatchObject({ status: 422, code: 'CONFIRM_NEEDED' });
    expect(await refused({ at, confirm: 'other' })).toMatchObject({ code: 'CONFIRM_NEEDED' });
    expect(await refused({ confirm: clusterName })).toMatchObject({ status: 400 });
    expect(await refused({ at: 1000, confirm: clusterName })).toMatchObject({ code: 'TARGET_BEFORE_BACKUP' });
    const gtid = `${await executedOf(team)},00000000-0000-4000-8000-000000000001:1`;
    expect(await refused({ gtid, confirm: clusterName })).toMatchObject({ code: 'TARGET_NOT_REACHED' });
    const plan = await api.planRestore(clusterName, { at });
    expect(plan).toMatchObject({ backup, holder: 1, member: 1, isLostExact: false });
    expect(plan.lost).not.toBe('');
    expect(plan.archives.length).toBeGreaterThan(0);

    await team.query('CREATE DATABASE late');
    await team.query('CREATE TABLE late.written (id INT PRIMARY KEY)');
    const open = await openPrimary();
    await open.query('BEGIN');
    await open.query('INSERT INTO late.written VALUES (0)');
    const late = keepWriting(await openPrimary());

    const { id } = await api.restore(clusterName, { at, confirm: clusterName });
    await expect(api.restore(clusterName, { at, confirm: clusterName })).rejects.toMatchObject({
      code: 'OPERATION_OPEN',
    });
    const done = await waitRestored(id);

    console.log(JSON.stringify(done, null, 1));
    expect(done).toMatchObject({ state: 'done', member: 1, fromEpoch: before.epoch });
    await late.stop();
    // Nobody who was connected to the old primary was told of a commit after the fence.
    const fencedAt = done.steps.find(({ name }) => name === 'fenced')!.at;
    expect(late.acknowledgedAt.length).toBeGreaterThan(0);
    expect(late.acknowledgedAt.filter((acknowledged) => acknowledged > fencedAt)).toEqual([]);
    await expect(open.query('COMMIT')).rejects.toThrow();
    expect(done.lost).not.toBe('');
    expect(done.safetyBackup).not.toBeNull();
    const after = await waitReady(api, undefined, timeoutMs);
    expect(after).toMatchObject({ epoch: before.epoch + 1, primary: 1 });
    const types = after.conditions.map(({ type }) => type);
    for (const type of ['ArchiveGap', 'DurabilityBroken', 'MemberRefused']) expect(types).not.toContain(type);
    await expectEverywhere([1, 2, 3]);
    const writer = await openPrimary();
    await writer.query('INSERT INTO shop.things VALUES (5)');
    await expectEverywhere([1, 2, 3, 5]);
    expect((await api.backup(clusterName, done.safetyBackup!)).state).toBe('complete');
    const rebuilds = await api.rebuilds(clusterName);
    expect(rebuilds.filter(({ way, state }) => state === 'done' && way?.startsWith('clone:'))).toHaveLength(2);
  },
  timeoutMs,
);

test(
  'control plane and executor are killed meanwhile, and the way leads back to the history that was left',
  async () => {
    const [first] = (await api.restores(clusterName)).filter(({ state }) => state === 'done');
    const { epoch } = await api.cluster(clusterName);
    const safety = first!.safetyBackup!;

    const { id } = await api.restore(clusterName, { backup: safety, confirm: clusterName });
    for (const step of ['filling', 'filled', 'committed']) {
      const { member } = await waitFor({ what: step, timeoutMs, everyMs: 20 }, async () => {
        const seen = await api.restoreOf(clusterName, id).catch(() => null);
        return seen && (seen.state !== 'open' || seen.steps.some(({ name }) => name === step)) ? seen : null;
      });
      await plane.kill();
      // Whoever fills it dies too: its successor finds half of it, and a volume that nothing else may start on.
      if (step === 'filling') killProcess(findMember(cluster.id, member)!.executor);
      await plane.start();
    }
    const done = await waitRestored(id);

    expect(done).toMatchObject({ state: 'done', backup: safety });
    const after = await waitReady(api, undefined, timeoutMs);
    expect(after.epoch).toBe(epoch + 1);
    const team = await openPrimary();
    // The safety backup was taken after the table had been dropped.
    await expect(team.query('SELECT id FROM shop.things')).rejects.toThrow(/exist/);
    await team.query('CREATE TABLE shop.things (id INT PRIMARY KEY)');
    await team.query('INSERT INTO shop.things VALUES (7)');
    await expectEverywhere([7]);
  },
  timeoutMs,
);

test(
  'what is refused before a volume is touched leaves everything as it was, and writes go on',
  async () => {
    const before = await waitReady(api, undefined, timeoutMs);
    const team = await openPrimary();
    await team.query('CREATE DATABASE kept');
    await team.query('CREATE TABLE kept.things (id INT PRIMARY KEY)');
    const backup = await backUp(2);
    await team.query('INSERT INTO kept.things VALUES (7)');
    const home = (await readHomes(api, cluster.id)).find(({ ordinal }) => ordinal === 2)!;
    // Nobody has seen it yet: only who reads the backup will.
    await rm(join(home.backupDir!, 'backups', backup, 'files.json'));

    const { id } = await api.restore(clusterName, { backup, confirm: clusterName });
    const refused = await waitRestored(id);

    expect(refused).toMatchObject({ state: 'refused', code: 'BACKUP_DAMAGED' });
    expect(refused.steps.map(({ name }) => name)).toContain('fenced');
    const after = await waitReady(api, undefined, timeoutMs);
    expect(after).toMatchObject({ epoch: before.epoch, primary: before.primary });
    await (await openPrimary()).query('INSERT INTO kept.things VALUES (8)');
    await expectEverywhere([7, 8], 'kept.things');
    const rebuilds = await api.rebuilds(clusterName);
    expect(rebuilds.filter(({ startedAt }) => startedAt > refused.startedAt)).toEqual([]);
    const events = await api.events(200);
    expect(events.filter(({ kind }) => kind === 'cluster.durability')).toEqual([]);
  },
  timeoutMs,
);

test(
  'without its safety backup it is refused and writes go on, unless a person said to go on',
  async () => {
    const before = await waitReady(api, undefined, timeoutMs);
    await (await openPrimary()).query('CREATE DATABASE safe');
    await (await openPrimary()).query('CREATE TABLE safe.things (id INT PRIMARY KEY)');
    const holder = [0, 1, 2].find((ordinal) => ordinal !== before.primary)!;
    const backup = await backUp(holder);
    await (await openPrimary()).query('INSERT INTO safe.things VALUES (1)');
    const homes = await readHomes(api, cluster.id);
    const backups = join(homes.find(({ ordinal }) => ordinal === before.primary)!.backupDir!, 'backups');
    // No backup can be made where a file is in the way.
    await rename(backups, `${backups}.away`);
    await writeFile(backups, '');

    const refused = await waitRestored((await api.restore(clusterName, { backup, confirm: clusterName })).id);

    expect(refused).toMatchObject({ state: 'refused', code: 'SAFETY_BACKUP_FAILED', safetyBackup: null });
    expect(refused.steps.map(({ name }) => name)).not.toContain('fenced');
    const after = await waitReady(api, undefined, timeoutMs);
    expect(after).toMatchObject({ epoch: before.epoch, primary: before.primary });
    await (await openPrimary()).query('INSERT INTO safe.things VALUES (2)');

    const wanted = { backup, confirm: clusterName, withoutSafetyBackup: true };
    const done = await waitRestored((await api.restore(clusterName, wanted)).id);

    expect(done).toMatchObject({ state: 'done', safetyBackup: null });
    expect(done.steps.map(({ name }) => name)).toContain('there is no safety backup');
    await waitReady(api, undefined, timeoutMs);
    await expectEverywhere([], 'safe.things');
  },
  timeoutMs,
);
