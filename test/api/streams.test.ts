import { afterEach, expect, test, vi } from 'vitest';
import { commitPrimary, setActivated } from '../../src/store/clusters.ts';
import { addEvent } from '../../src/store/events.ts';
import { lead } from '../../src/store/leadership.ts';
import { aRule } from '../store/helper.ts';
import { aServingCluster, aWorld, closeWorlds, portOf, type World } from './helper.ts';

const aborts: AbortController[] = [];
afterEach(async () => {
  for (const abort of aborts.splice(0)) abort.abort();
  expect(await closeWorlds()).toBe(0);
});

/** Reads a stream in the background. */
async function follow({ app }: World, path: string, headers: Record<string, string> = {}) {
  if (!app.server.listening) await app.listen({ port: 0, host: '127.0.0.1' });
  const abort = new AbortController();
  aborts.push(abort);
  const url = `http://127.0.0.1:${portOf(app)}${path}`;
  const response = await fetch(url, { headers, signal: abort.signal });
  const state = { response, abort, text: '', isEnded: false };
  void (async () => {
    try {
      for await (const part of response.body!.pipeThrough(new TextDecoderStream())) state.text += part;
    } catch {
      // aborted by the test
    }
    state.isEnded = true;
  })();
  return state;
}

const datas = (text: string) => [...text.matchAll(/^data: (.*)$/gm)].map((match) => JSON.parse(match[1]!));

test('a watch of the endpoints tells the state at once, then every change, then that the cluster is gone', async () => {
  const world = await aWorld();
  const id = await aServingCluster(world);
  const stream = await follow(world, '/v1/clusters/orders/endpoints?watch=true');
  await vi.waitFor(() => expect(datas(stream.text)).toHaveLength(1), 5_000);

  const leader = await lead(world.store, 'test');
  const rule = aRule(2, { primary: 1 });
  await commitPrimary(world.store, leader, { clusterId: id, fromEpoch: 1, toEpoch: 2, primary: 1, rule });
  world.live.tell(id);
  await vi.waitFor(() => expect(datas(stream.text)).toHaveLength(2), 5_000);
  await setActivated(world.store, leader, id, 2, 8);
  world.live.tell(id);
  await vi.waitFor(() => expect(datas(stream.text)).toHaveLength(3), 5_000);
  world.store.db.exec('UPDATE cluster SET deleted_at = 9');
  world.live.tell(id);
  await vi.waitFor(() => expect(stream.isEnded).toBe(true), 5_000);

  expect(stream.response.headers.get('content-type')).toContain('text/event-stream');
  const [first, second, third] = datas(stream.text);
  expect(first).toMatchObject({ epoch: 1, primary: { ordinal: 0 } });
  expect(second).toMatchObject({ epoch: 2, primary: null });
  expect(third).toMatchObject({ epoch: 2, primary: { ordinal: 1 } });
  expect(stream.text).toContain('event: gone');
});

test('events are followed from where a reader left off', async () => {
  const world = await aWorld();
  await aServingCluster(world);
  const first = await follow(world, '/v1/events?follow=true');
  await vi.waitFor(() => expect(datas(first.text)).toHaveLength(1), 5_000);

  const added = await addEvent(world.store, { kind: 'member.lost', cluster: 'orders', ordinal: 1 });
  await vi.waitFor(() => expect(datas(first.text)).toHaveLength(2), 5_000);
  const second = await follow(world, '/v1/events?follow=true', { 'last-event-id': String(added.seq - 1) });
  await vi.waitFor(() => expect(datas(second.text)).toHaveLength(1), 5_000);

  expect(datas(first.text)[1]).toEqual(added);
  expect(second.text).toContain(`event: member.lost\nid: ${added.seq}\n`);
});

test('a follower misses nothing of a long list', async () => {
  const world = await aWorld();
  for (let index = 0; index < 250; index++) await addEvent(world.store, { kind: 'leader.elected' });

  const stream = await follow(world, '/v1/events?follow=true&after=0&limit=100');
  await vi.waitFor(() => expect(datas(stream.text)).toHaveLength(250), 10_000);

  expect(datas(stream.text).map((event) => event.seq)).toEqual(Array.from({ length: 250 }, (_, index) => index + 1));
});

test('a reader that goes away leaves nothing behind', async () => {
  const world = await aWorld();
  await aServingCluster(world);
  const stream = await follow(world, '/v1/clusters/orders/endpoints?watch=true');
  await vi.waitFor(() => expect(world.live.listeners.size).toBe(1), 5_000);

  stream.abort.abort();

  await vi.waitFor(() => expect(world.live.listeners.size).toBe(0), 5_000);
});

test('closing the API ends its streams at once', async () => {
  const world = await aWorld();
  await aServingCluster(world);
  const stream = await follow(world, '/v1/events?follow=true');

  await world.app.close();

  await vi.waitFor(() => expect(stream.isEnded).toBe(true), 5_000);
});

test('HEAD of a stream ends', async () => {
  const world = await aWorld();
  await aServingCluster(world);
  await world.app.listen({ port: 0, host: '127.0.0.1' });
  const url = `http://127.0.0.1:${portOf(world.app)}/v1/events?follow=true`;

  const answer = await fetch(url, { method: 'HEAD' });

  expect(answer.status).toBe(200);
});
