import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import type { z } from 'zod';
import type { LiveTail } from '../../src/api/live.ts';
import type { tailText } from '../../src/api/schemas.ts';
import { runClientVerb } from '../../src/cli/client.ts';
import { realClock } from '../../src/clock.ts';
import { listEvents } from '../../src/store/events.ts';
import { aServingCluster, aWorld, closeWorlds, fakeTail, portOf } from './helper.ts';

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

const files = Object.entries(fakeTail).map(([name, content]) => ({ name, bytes: content.length }));

test('a file of a tail is given as it is, and that is told', async () => {
  const { world, give } = await aWorldWithTails();
  give(1, [tail('a', 1, { files })]);

  const answer = await world.app.inject('/v1/clusters/orders/tails/a/files/tail.binlog');

  expect(answer.rawPayload).toEqual(fakeTail['tail.binlog']);
  expect(answer.headers['content-length']).toBe('7');
  expect(await listEvents(world.store)).toContainEqual(
    expect.objectContaining({
      kind: 'tail.read',
      ordinal: 1,
      message: expect.stringContaining('tail.binlog of tail a'),
    }),
  );
  for (const path of ['a/files/other', 'b/files/tail.sql', 'a/files/..%2Fmanifest.json', 'b/text'])
    expect((await world.app.inject(`/v1/clusters/orders/tails/${path}`)).json().code).toBe('NOT_FOUND');
});

test('its text comes in pages of whole lines', async () => {
  const { world, give } = await aWorldWithTails();
  give(1, [tail('a', 1, { files })]);
  let text = '';
  let pages = 0;
  for (let offset: number | null = 0; offset !== null; pages += 1) {
    const page: z.output<typeof tailText> = (
      await world.app.inject(`/v1/clusters/orders/tails/a/text?limit=1024&offset=${offset}`)
    ).json();
    expect(page).toMatchObject({ id: 'a', member: 1, offset, totalBytes: fakeTail['tail.sql']!.length });
    expect(page.text.endsWith('\n')).toBe(true);
    text += page.text;
    offset = page.nextOffset;
  }

  expect(text).toBe(fakeTail['tail.sql']!.toString());
  expect(pages).toBeGreaterThan(3);
  expect((await world.app.inject('/v1/clusters/orders/tails/a/text?offset=999999')).json()).toMatchObject({
    ...{ text: '', nextOffset: null },
  });
  for (const query of ['limit=1', 'limit=99999999', 'offset=-1', 'offset=x'])
    expect((await world.app.inject(`/v1/clusters/orders/tails/a/text?${query}`)).statusCode).toBe(400);
});

test('the verb shows the text, or takes the files away', async () => {
  const { world, give } = await aWorldWithTails();
  give(2, [tail('a', 0, { files })]);
  await world.app.listen({ port: 0, host: '127.0.0.1' });
  const output = mkdtempSync(join(tmpdir(), 'svt-'));
  let said = '';
  const io = {
    ...{ err: () => {}, env: { SELVEDGE_API: `http://127.0.0.1:${portOf(world.app)}` } },
    ...{ clock: realClock, ask: async () => null },
    out: (text: string) => {
      said += text;
    },
  };
  try {
    expect(await runClientVerb(['tail', 'orders', 'a'], io)).toBe(0);
    expect(said).toBe(fakeTail['tail.sql']!.toString());

    expect(await runClientVerb(['tail', 'orders', 'a', '--output', output], io)).toBe(0);
    for (const [name, content] of Object.entries(fakeTail)) expect(readFileSync(join(output, name))).toEqual(content);
    expect(await runClientVerb(['tail', 'orders', 'none'], io)).toBe(1);
  } finally {
    rmSync(output, { recursive: true, force: true });
  }
});
