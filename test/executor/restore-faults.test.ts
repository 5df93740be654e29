/**
 * The executor, or the mysqld that it fills with, is killed at every step of a restore in place and of a copy into a new
 * member: what is half starts nowhere and serves nobody, what was not touched is as it was, and the next try ends with
 * exactly the target. One story, in order.
 */
import { createHash, randomUUID } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type CommandBody, startedFacts } from '../../src/channel/protocol.ts';
import { createStriker, type Striker } from './strike-world.ts';
import { ownSession, volumeOf } from './trim-world.ts';
import { getHealth, type TestMember } from './world.ts';

const LIMIT_MS = 400_000;
const EPOCH = 1;
const ROWS = 60;
let striker: Striker;
let copies: Striker | undefined;
let member: TestMember;
let target: string;
let within: string;

beforeAll(async () => {
  striker = await createStriker(1, 63, EPOCH);
  member = striker.world.members[0]!;
  await member.start(true);
  await member.command({ kind: 'promote', k: 0, member: 0, timeoutMs: 20_000 });
  await member.until((status) => status.isWritable);
  const team = await member.team();
  await team.query('CREATE DATABASE shop');
  await team.query('CREATE TABLE shop.orders (id INT PRIMARY KEY)');
  const insert = async (from: number, to: number) => {
    for (let id = from; id <= to; id += 1) await team.query('INSERT INTO shop.orders VALUES (?)', [id]);
  };
  await insert(1, ROWS / 2);
  expect((await striker.run(member, { kind: 'backup', backupId: 'one' })).work).toMatchObject({ outcome: 'done' });
  await insert(ROWS / 2 + 1, ROWS);
  target = await readExecuted(member);
  await insert(ROWS + 1, ROWS + 10);
  within = await readExecuted(member);
  await team.query('DROP TABLE shop.orders');
  await team.close();
}, 120_000);
afterAll(async () => {
  await copies?.destroy();
  await striker?.destroy();
});

async function readExecuted(of: TestMember): Promise<string> {
  const session = await ownSession(of);
  const [row] = await session.query<{ gtids: string }>('SELECT @@GLOBAL.gtid_executed AS gtids');
  await session.close();
  return row!.gtids.replace(/\s+/g, '');
}

/** A donor forgets its shares when it ends: each try has one of its own. */
async function shareFrom(donor: TestMember) {
  const token = randomUUID();
  const tokenSha256 = createHash('sha256').update(token).digest('hex');
  await donor.command({ kind: 'share', tokenSha256, expiresInMs: 600_000, maxBytesPerSec: null }, EPOCH);
  const { address, ports } = donor.launch.plan;
  const facts = donor.launch.updates.find(({ data }) => data !== undefined)!;
  const { fingerprint } = startedFacts.parse(JSON.parse(Buffer.from(facts.data!, 'base64').toString()));
  return {
    backup: { id: 'one', ordinal: 0 },
    donors: [{ ordinal: 0, address, port: ports.control, fingerprint, token }],
    until: { kind: 'gtid', gtidSet: target } as const,
    within,
  };
}

/** It is up, holds exactly the target, takes no writes, and nothing of the way there is left. */
async function expectTarget(of: TestMember): Promise<void> {
  const status = await of.until(({ instance }) => instance === 'running', 60_000);
  expect(status).toMatchObject({ isInitialised: true, isWritable: false });
  expect(await readExecuted(of)).toBe(target);
  const session = await ownSession(of);
  expect(await session.query('SELECT COUNT(*) AS n, MAX(id) AS last FROM shop.orders')).toEqual([
    { n: ROWS, last: ROWS },
  ]);
  await session.close();
  const left = readdirSync(volumeOf(of, 'data')).filter((name) => /filling|fetching/.test(name));
  expect(left).toEqual([]);
}

/** Nobody is told that it serves, and what the dead executor began is told as no work of the new one. */
async function expectNothingServes(of: TestMember, point: string): Promise<void> {
  expect(await getHealth(of, '/primary'), point).toBe(503);
  expect(await getHealth(of, '/replica'), point).toBe(503);
  const { isWritable, work } = await of.status();
  expect({ isWritable, isRunning: work?.outcome === 'running' }, point).toEqual({
    isWritable: false,
    isRunning: false,
  });
}

const filling = [
  'step fetching the backup',
  'step opening the backup',
  'spawned r',
  'step fetching logs',
  'step applying logs',
  'step taking over',
  'naming data',
  'named data',
  'step starting',
  'spawned own',
];
/** The instance that is filled, at its start, at work and near its end; and the member's own on the whole data. */
const killingMysqld = ['spawned r > r', 'step applying logs > r', 'step taking over > r', 'spawned own > own'];

test(
  'in place: killed at each step',
  async () => {
    const { incarnation } = member.launch.plan;
    const identity = { incarnation: randomUUID(), serverUuid: randomUUID(), serverId: 3000 };
    const restore = async (): Promise<CommandBody> => {
      const { secrets } = member;
      return { kind: 'rebuild', ...identity, from: { kind: 'copy', ...(await shareFrom(member)) }, secrets };
    };
    await member.command({ kind: 'demote', maxPauseMs: 10_000, killAfterMs: 5000 });
    await member.command({ kind: 'fence' });

    await striker.strike(member, 'step looking at the backup', await restore());
    expect(await striker.relaunch(member)).toMatchObject({ incarnation, isInitialised: true });
    await expectNothingServes(member, 'before it is touched');

    for (const point of ['step clearing', ...filling]) {
      await striker.strike(member, point, await restore());
      await striker.relaunch(member, identity);
      await expectNothingServes(member, point);
      // Up to the marker the old data are whole, and no start in the new name takes them.
      const isTouched = point !== 'step clearing';
      const code = isTouched ? 'REBUILD_UNFINISHED' : 'INCARNATION_MISMATCH';
      expect(await member.start(false, EPOCH), `${point} ${member.launch.logs()}`).toMatchObject({ code });
      if (!isTouched) expect(existsSync(join(volumeOf(member, 'data'), 'data', 'shop'))).toBe(true);
    }
    for (const order of killingMysqld) {
      await striker.strike(member, order, await restore());
      const failed = await member.until(({ work }) => work?.outcome === 'failed', 60_000);
      expect(failed, order).toMatchObject({ instance: 'failed', isWritable: false });
      await expectNothingServes(member, order);
      expect(await member.start(false, EPOCH), order).toMatchObject({ code: 'REBUILD_UNFINISHED' });
    }

    const done = await striker.run(member, await restore());

    expect(done.work, member.launch.logs()).toMatchObject({ outcome: 'done' });
    expect(done.incarnation).toBe(identity.incarnation);
    await expectTarget(member);
  },
  LIMIT_MS,
);

test(
  'a copy into a new member of another cluster: killed at each step',
  async () => {
    copies = await createStriker(1, 64, 0);
    const fresh = copies.world.members[0]!;
    // What the two have in common was shown above.
    const points = ['step looking at the backup', 'spawned r', 'step taking over', 'named data', 'spawned own'];
    const team = { user: 'team_copy', password: 'team-secret-2' };
    const copy = async (): Promise<CommandBody> => {
      const secrets = { ...fresh.secrets, team };
      return { kind: 'copy', initialise: true, secrets, ...(await shareFrom(member)) };
    };
    for (const point of points) {
      await copies.strike(fresh, point, await copy());
      await copies.relaunch(fresh);
      await expectNothingServes(fresh, point);
      // Not even with leave to initialise: what lies there is somebody's data.
      expect(await fresh.start(true, 0), point).toMatchObject({ code: 'REBUILD_UNFINISHED' });
    }
    for (const order of ['step applying logs > r', 'spawned own > own']) {
      await copies.strike(fresh, order, await copy());
      await fresh.until(({ work }) => work?.outcome === 'failed', 60_000);
      await expectNothingServes(fresh, order);
      expect(await fresh.start(true, 0), order).toMatchObject({ code: 'REBUILD_UNFINISHED' });
    }

    const done = await copies.run(fresh, await copy());

    expect(done.work, fresh.launch.logs()).toMatchObject({ outcome: 'done' });
    expect(done.incarnation).toBe(fresh.launch.plan.incarnation);
    await expectTarget(fresh);
  },
  LIMIT_MS,
);
