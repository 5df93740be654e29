import { afterEach, expect, test } from 'vitest';
import type { LiveTail } from '../../src/api/live.ts';
import { runClientVerb } from '../../src/cli/client.ts';
import { realClock } from '../../src/clock.ts';
import { aServingCluster, aWorld, closeWorlds, portOf } from './helper.ts';

afterEach(closeWorlds);

const tail = (id: string, at: number, more: Partial<LiveTail> = {}): LiveTail => ({
  ...{ id, gtidSet: 'a:6', bytes: 300, at },
  ...more,
});

async function aWorldWithTails() {
  const world = await aWorld();
  const id = await aServingCluster(world);
  const give = (ordinal: number, tails: readonly LiveTail[]) => {
    const key = `${id}.${ordinal}`;
    world.live.members.set(key, { ...world.live.members.get(key)!, tails });
  };
  return { world, id, give };
}

test('tails of all members, newest first', async () => {
  const { world, give } = await aWorldWithTails();
  give(0, [tail('first', 1), tail('third', 3)]);
  give(2, [tail('second', 2, { reason: 'rebuilt', transactions: 2 })]);

  const answer = await world.app.inject('/v1/clusters/orders/tails');

  expect(answer.json().tails).toMatchObject([
    { member: 0, id: 'third', gtidSet: 'a:6', bytes: 300, at: 3, reason: 'cut', transactions: null },
    { member: 2, id: 'second', at: 2, reason: 'rebuilt', transactions: 2 },
    { member: 0, id: 'first', at: 1 },
  ]);
  expect((await world.app.inject('/v1/clusters/none/tails')).json()).toMatchObject({ code: 'NOT_FOUND' });
});

test('where they lie: host, volume and directory', async () => {
  const { world, give } = await aWorldWithTails();
  const files = [{ name: 'tail.binlog', bytes: 300 }];
  give(1, [tail('a', 1, { place: 'data', files }), tail('b', 2, { place: 'backup', files })]);

  const { tails } = (await world.app.inject('/v1/clusters/orders/tails')).json();

  const { volumes } = (await world.app.inject('/v1/reservations')).json().reservations[1];
  const [data, backup] = volumes;
  expect([data.type, backup.type]).toEqual(['mount', 'path']);
  expect(tails).toMatchObject([
    { id: 'b', volume: 'backup', directory: `${backup.path}/volumes/roles/*/${backup.persistenceId}/tails/b`, files },
    { id: 'a', volume: 'data', directory: `${data.path}/tails/a`, files },
  ]);
});

test('the verb lists them, with their files', async () => {
  const { world, give } = await aWorldWithTails();
  const files = [
    { name: 'tail.binlog', bytes: 300 },
    { name: 'tail.sql', bytes: 900 },
  ];
  give(2, [tail('a', 0, { reason: 'rebuilt', transactions: 2, place: 'backup', files })]);
  await world.app.listen({ port: 0, host: '127.0.0.1' });
  let said = '';
  const io = {
    out: (text: string) => {
      said += text;
    },
    err: () => {},
    env: { SELVEDGE_API: `http://127.0.0.1:${portOf(world.app)}` },
    clock: realClock,
    ask: async () => null,
  };

  expect(await runClientVerb(['tails', 'orders'], io)).toBe(0);

  expect(said).toMatch(/1970-01-01T00:00:00.000Z +2 +rebuilt +2 +300 /);
  expect(said).toContain('tail.binlog tail.sql');
  give(2, []);
  said = '';
  expect(await runClientVerb(['tails', 'orders'], io)).toBe(0);
  expect(said).toContain('Nothing is kept');
});
