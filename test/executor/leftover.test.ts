/** Before a member is filled anew: what only it has is kept as a tail, or the member waits for a person. */
import { randomUUID } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  begin,
  crashWithTail,
  createTrimWorld,
  insert,
  newIdentity,
  othersOf,
  ownSession,
  readTail,
  rejoin,
  type TrimWorld,
  trim,
  volumeOf,
} from './trim-world.ts';
import type { TestMember } from './world.ts';

let on: TrimWorld;

beforeAll(async () => {
  on = await createTrimWorld(96);
});
afterAll(() => on?.world.destroy());

/** Sends a rebuild by CLONE and waits for its end. */
async function rebuild(member: TestMember, isRequired = true) {
  const session = await ownSession(on.primary);
  const [row] = await session.query<{ executed: string }>('SELECT @@GLOBAL.gtid_executed AS executed');
  await session.close();
  const keep = (row?.executed ?? '').replaceAll(/\s/g, '');
  const identity = newIdentity();
  const id = randomUUID();
  const from = { kind: 'clone', donor: on.primary.source } as const;
  const command = { kind: 'rebuild', ...identity, from, save: { keep, isRequired }, secrets: member.secrets } as const;
  const result = await member.launch.send(command, { epoch: on.epoch, leaderToken: 9, id });
  expect(result, member.launch.logs()).toEqual({ outcome: 'accepted' });
  const status = await member.until(({ work }) => work?.commandId === id && work.outcome !== 'running', 60_000);
  if (status.work?.outcome === 'done') on.identities.set(member.ordinal, identity);
  return status;
}

/** Writes that only this replica has. */
async function writeErrant(member: TestMember, note: string): Promise<void> {
  const session = await ownSession(member);
  await session.query('SET GLOBAL super_read_only = OFF');
  on.lastId += 1;
  await session.query('INSERT INTO shop.orders VALUES (?, ?)', [on.lastId, note]);
  await session.query('SET GLOBAL super_read_only = ON');
  await session.close();
}

test('who has nothing of its own leaves no tail', async () => {
  const [replica] = othersOf(on) as [TestMember];

  const status = await rebuild(replica);

  expect(status.work, replica.launch.logs()).toMatchObject({ outcome: 'done' });
  expect(status.tails).toEqual([]);
  await rejoin(on, replica);
});

test('errant transactions of a replica, over several logs', async () => {
  const [replica] = othersOf(on) as [TestMember];
  const { incarnation } = await replica.status();
  await writeErrant(replica, 'errant one');
  const session = await ownSession(replica);
  await session.query('FLUSH BINARY LOGS');
  await session.close();
  await writeErrant(replica, 'errant two');

  const status = await rebuild(replica);

  expect(status.work, replica.launch.logs()).toMatchObject({ outcome: 'done' });
  const id = `${incarnation}.rest`;
  expect(status.tails).toMatchObject([{ id, reason: 'rebuilt', place: 'backup', transactions: 2 }]);
  expect(status.tails?.[0]?.files?.map(({ name }) => name)).toEqual(['tail.binlog', 'tail-2.binlog', 'tail.sql']);
  const { text, decoded } = await readTail(replica, id);
  expect(decoded).toContain('errant one');
  expect(text).toContain('errant one');
  expect(text).toContain('errant two');
  expect(text).not.toContain("'order 20'");
  await rejoin(on, replica);
});

test('a tail that reaches into an earlier log is kept before the member is cloned', async () => {
  const old = await crashWithTail(on, insert(on, 1), async (primary) => {
    const session = await ownSession(primary);
    await session.query('SET GLOBAL rpl_semi_sync_source_enabled = OFF');
    await session.query('FLUSH BINARY LOGS');
    await session.close();
    await begin(primary, insert(on, 1));
  });
  const { incarnation } = await old.status();
  const refused = await trim(on, old, newIdentity());
  expect(refused.work).toMatchObject({ outcome: 'failed', code: 'TAIL_TOO_DEEP' });

  const status = await rebuild(old);

  expect(status.work, old.launch.logs()).toMatchObject({ outcome: 'done' });
  const { text } = await readTail(old, `${incarnation}.rest`);
  expect(text).toContain(`nobody acknowledged ${on.lastId - 1}`);
  await rejoin(on, old);
});

test('what cannot be kept stops the rebuild; a person goes on without', async () => {
  const [replica] = othersOf(on) as [TestMember];
  const { incarnation } = await replica.status();
  await writeErrant(replica, 'errant, and no room for it');
  const places = (['data', 'backup'] as const).map((kind) => join(volumeOf(replica, kind), 'tails'));
  for (const place of places) {
    rmSync(place, { recursive: true, force: true });
    writeFileSync(place, 'in the way');
  }

  const stopped = await rebuild(replica);

  expect(stopped.work).toMatchObject({ outcome: 'failed', code: 'LEFTOVER_NOT_SAVED' });
  expect(stopped).toMatchObject({ instance: 'failed', reason: { code: 'LEFTOVER_NOT_SAVED' }, incarnation });
  expect(stopped.isInitialised).toBe(true);

  const forced = await rebuild(replica, false);

  for (const place of places) rmSync(place);
  expect(forced.work, replica.launch.logs()).toMatchObject({ outcome: 'done' });
  await rejoin(on, replica);
});
