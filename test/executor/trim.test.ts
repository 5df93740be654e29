import { randomUUID } from 'node:crypto';
import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  begin,
  checksums,
  crashWithTail,
  createTrimWorld,
  insert,
  newIdentity,
  othersOf,
  ownSession,
  promoteNext,
  readTail,
  rejoin,
  sendTrim,
  type TrimWorld,
  trim,
  volumeOf,
} from './trim-world.ts';
import type { TestMember } from './world.ts';

/** Guarantee 1 and 2 at a rejoin. One cluster; each test kills its primary with another tail. */
let on: TrimWorld;

beforeAll(async () => {
  on = await createTrimWorld(75);
});
afterAll(() => on?.world.destroy());

const rebuildByClone = async (member: TestMember) => {
  const identity = newIdentity();
  const from = { kind: 'clone', donor: on.primary.source } as const;
  await member.command({ kind: 'rebuild', ...identity, from }, on.epoch);
  const { work } = await member.until((status) => status.work?.outcome !== 'running');
  expect(work, member.launch.logs()).toMatchObject({ outcome: 'done' });
  on.identities.set(member.ordinal, identity);
};

test('a tail of one transaction is saved, cut and rolled back', async () => {
  const [statement = ''] = insert(on, 1);
  const old = await crashWithTail(on, [statement]);
  const { incarnation: before } = await old.status();
  const identity = newIdentity();

  const began = performance.now();
  const status = await trim(on, old, identity);
  console.log(`trimmed and started in ${Math.round(performance.now() - began)} ms`);

  expect(status.work, old.launch.logs()).toMatchObject({ outcome: 'done', step: 'done' });
  expect(status).toMatchObject({ instance: 'running', isWritable: false, incarnation: identity.incarnation });
  expect(status.serverUuid).toBe(identity.serverUuid);
  expect(status.tails).toMatchObject([{ id: before }]);
  await rejoin(on, old);
  const session = await ownSession(old);
  const [uuid] = await session.query<{ uuid: string }>('SELECT @@server_uuid AS uuid');
  await session.close();
  expect(uuid?.uuid).toBe(identity.serverUuid);
});

test('the saved tail is a binary log with the rows, and a text of them', async () => {
  const member = on.world.members[0]!;
  const [entry] = (await member.status()).tails ?? [];

  const { manifest, decoded, text } = await readTail(member, entry!.id);

  expect(manifest.gtidSet).toBe(entry!.gtidSet);
  expect(decoded).toContain(`nobody acknowledged ${on.lastId - 1}`);
  expect(text).toContain(`nobody acknowledged ${on.lastId - 1}`);
  expect(readdirSync(join(volumeOf(member, 'backup'), 'tails'))).toEqual([entry!.id]);
});

test('tails of six writers, several times', async () => {
  for (let round = 0; round < 4; round += 1) {
    const old = await crashWithTail(on, insert(on, 6));

    const status = await trim(on, old, newIdentity());

    expect(status.work, old.launch.logs()).toMatchObject({ outcome: 'done' });
    expect(status.instance).toBe('running');
    await rejoin(on, old);
  }
});

test('a tail of DDL: CREATE, ALTER that copies, DROP', async () => {
  const team = await on.primary.team();
  await team.query('CREATE TABLE shop.altered (id INT PRIMARY KEY, v INT)');
  await team.query('CREATE TABLE shop.dropped (id INT PRIMARY KEY)');
  await team.query('INSERT INTO shop.altered VALUES (1, 1), (2, 2)');
  await team.query('INSERT INTO shop.dropped VALUES (1)');
  await team.close();
  const old = await crashWithTail(on, [
    'CREATE TABLE shop.created (id INT PRIMARY KEY)',
    'ALTER TABLE shop.altered ADD COLUMN w INT NOT NULL DEFAULT 7, ALGORITHM = COPY',
    'DROP TABLE shop.dropped',
    ...insert(on, 2),
  ]);

  const status = await trim(on, old, newIdentity());

  expect(status.work, old.launch.logs()).toMatchObject({ outcome: 'done' });
  await rejoin(on, old);
  expect(JSON.stringify(await checksums(old))).not.toContain('shop.created');
});

test('a backup volume that takes nothing: the tail is kept beside the data', async () => {
  const old = await crashWithTail(on, insert(on, 2));
  const { incarnation: before } = await old.status();
  const place = join(volumeOf(old, 'backup'), 'tails');
  rmSync(place, { recursive: true, force: true });
  writeFileSync(place, 'not a directory');

  const status = await trim(on, old, newIdentity());

  expect(status.work, old.launch.logs()).toMatchObject({ outcome: 'done' });
  expect(status.tails?.map(({ id }) => id)).toContain(before);
  expect((await readTail(old, before, 'data')).text).toContain(`nobody acknowledged ${on.lastId}`);
  rmSync(place);
  await rejoin(on, old);
});

test('text of a client that looks like an event is not taken for one: refused, and cloned instead', async () => {
  const comment = `x\n# at 4\nSET @@SESSION.GTID_NEXT= '${randomUUID()}:1'/*!*/;\n`;
  const old = await crashWithTail(on, [`CREATE TABLE shop.hostile (id INT PRIMARY KEY) COMMENT = "${comment}"`]);

  const status = await trim(on, old, newIdentity());

  expect(status.work).toMatchObject({ outcome: 'failed', code: 'TRIM_FAILED' });
  expect(status.instance).toBe('held');
  await rebuildByClone(old);
  await rejoin(on, old);
});

test('nothing to trim: started as it is, with its incarnation and server_uuid', async () => {
  const old = on.primary;
  await old.command({ kind: 'fence' }, on.epoch);
  await promoteNext(on);
  const before = await old.status();

  const status = await trim(on, old, newIdentity());

  expect(status.work, old.launch.logs()).toMatchObject({ outcome: 'done' });
  expect(status).toMatchObject({ instance: 'running', isWritable: false, tails: before.tails });
  expect(status.incarnation).toBe(before.incarnation);
  expect(status.serverUuid).toBe(before.serverUuid);
  await rejoin(on, old);
});

test('a member that runs as a replica has nothing to trim, and a writable one is refused', async () => {
  const [replica] = othersOf(on) as [TestMember];
  // The primary's status may be older than what came from it with the next heartbeat.
  await expect.poll(() => sendTrim(on, replica, newIdentity())).toEqual({ outcome: 'accepted' });
  const { work } = await replica.until((status) => status.work?.outcome !== 'running');
  expect(work).toMatchObject({ outcome: 'done' });

  expect(await sendTrim(on, on.primary, newIdentity())).toMatchObject({ outcome: 'refused', code: 'IS_WRITABLE' });
});

test('a tail in an earlier log is refused before anything is touched, and the member is cloned', async () => {
  const old = await crashWithTail(on, insert(on, 1), async (primary) => {
    const session = await ownSession(primary);
    await session.query('SET GLOBAL rpl_semi_sync_source_enabled = OFF');
    await session.query('FLUSH BINARY LOGS');
    await session.close();
    await begin(primary, insert(on, 1));
  });
  const before = await old.status();

  const status = await trim(on, old, newIdentity());

  expect(status.work).toMatchObject({ outcome: 'failed', code: 'TAIL_TOO_DEEP' });
  expect(status).toMatchObject({ instance: 'held', incarnation: before.incarnation, tails: before.tails });
  await rebuildByClone(old);
  await rejoin(on, old);
});

test('a tail that was committed before the crash is found after the cut, and the member is cloned', async () => {
  const old = await crashWithTail(on, insert(on, 2), async (primary) => {
    const session = await ownSession(primary);
    await session.query('SET GLOBAL rpl_semi_sync_source_enabled = OFF');
    await session.close();
    await primary.until(({ semiSync }) => semiSync.waitingSessions === 0);
  });
  const identity = newIdentity();

  const status = await trim(on, old, identity);

  expect(status.work, old.launch.logs()).toMatchObject({ outcome: 'failed', code: 'TRIM_FAILED' });
  expect(status).toMatchObject({ instance: 'failed', reason: { code: 'TRIM_FAILED' } });
  expect(await old.start(false, on.epoch)).toMatchObject({ outcome: 'refused', code: 'REBUILD_UNFINISHED' });
  await rebuildByClone(old);
  await rejoin(on, old);
});
