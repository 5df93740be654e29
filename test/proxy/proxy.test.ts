import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import type { RunningProxy } from '../../src/proxy/proxy.ts';
import {
  aClient,
  aDirectory,
  aMember,
  aProxy,
  atEnd,
  closeAll,
  ensureHaproxy,
  FakeApi,
  listen,
  type Member,
} from './world.ts';

const patiently = { timeout: 10_000, interval: 20 };
let members: [Member, Member];
let api: FakeApi;

beforeAll(ensureHaproxy, 120_000);
beforeEach(async () => {
  members = [await aMember(0), await aMember(1)];
  api = new FakeApi(members);
  await api.start();
});
afterEach(closeAll);

/** With one cluster, orders, whose primary is member 0 in epoch 1. */
async function aServingProxy(directory = aDirectory()): Promise<RunningProxy> {
  api.add('orders', 20_001);
  api.tell('orders', { epoch: 1, primary: members[0] });
  const proxy = await aProxy(api.url, directory);
  await vi.waitFor(async () => expect(await aClient(20_001).greeting).toBe('0'), patiently);
  return proxy;
}

test('a new primary is effective within 50 ms of the event: old sessions end, new ones reach it', async () => {
  await aServingProxy();
  const spans: number[] = [];

  for (let epoch = 2; epoch <= 8; epoch++) {
    const [from, to] = epoch % 2 === 0 ? [0, 1] : [1, 0];
    const old = aClient(20_001);
    expect(await old.greeting).toBe(String(from));
    const startedAt = performance.now();
    api.tell('orders', { epoch, primary: members[to] ?? null });
    await old.closed;
    expect(await aClient(20_001).greeting).toBe(String(to));
    spans.push(performance.now() - startedAt);
  }

  // The lower quartile: the machine may be busy with other tests.
  const typical = spans.sort((a, b) => a - b)[1] ?? Number.POSITIVE_INFINITY;
  console.info(`switched by event in ${spans.map((span) => span.toFixed(1)).join(', ')} ms`);
  expect(typical).toBeLessThan(50);
});

test('a client that comes back between two primaries waits and is broken once', async () => {
  await aServingProxy();
  const before = aClient(20_001);
  expect(await before.greeting).toBe('0');

  members[0].kill();
  await before.closed;
  const early = aClient(20_001);
  api.tell('orders', { epoch: 2, primary: null });
  const late = aClient(20_001);
  await vi.waitFor(() => expect(api.clusters).toHaveLength(1));
  api.tell('orders', { epoch: 2, primary: members[1] });

  expect([await early.greeting, await late.greeting]).toEqual(['1', '1']);
});

test('an event of an older epoch changes nothing', async () => {
  const proxy = await aServingProxy();
  api.tell('orders', { epoch: 3, primary: members[1] });
  await vi.waitFor(() => expect(proxy.routes()[0]).toMatchObject({ epoch: 3, primary: 1 }), patiently);

  api.tell('orders', { epoch: 2, primary: members[0] });
  api.add('payments', 20_002);
  // Told later and done: the older word was read before.
  await vi.waitFor(() => expect(proxy.routes()).toHaveLength(2), patiently);

  expect(await aClient(20_001).greeting).toBe('1');
});

test('when the API is away the last state goes on, and health checks find the next primary', async () => {
  const proxy = await aServingProxy();
  members[0].health.epoch = 1;
  const during = aClient(20_001);
  expect(await during.greeting).toBe('0');

  api.stop();
  await vi.waitFor(async () => expect(await aClient(20_001).greeting).toBe('0'), patiently);
  expect(during.isClosed()).toBe(false);
  members[0].health.epoch = null;
  members[0].kill();
  members[1].health.epoch = 2;

  await vi.waitFor(async () => expect(await aClient(20_001).greeting).toBe('1'), patiently);
  await vi.waitFor(() => expect(proxy.routes()[0]).toMatchObject({ epoch: 2, primary: 1 }), patiently);
});

test('when the API is away an old primary that claims an older epoch gets no connection', async () => {
  const proxy = await aServingProxy();
  api.tell('orders', { epoch: 2, primary: members[1] });
  await vi.waitFor(async () => expect(await aClient(20_001).greeting).toBe('1'), patiently);
  members[0].health.epoch = 1;
  members[1].health.epoch = 2;

  api.stop();
  // It takes over by checks: the claim of member 1 at a new epoch is adopted then.
  members[1].health.epoch = 3;
  await vi.waitFor(() => expect(proxy.routes()[0]?.epoch).toBe(3), patiently);

  for (let tries = 0; tries < 6; tries++) expect(await aClient(20_001).greeting).toBe('1');
});

test('a new cluster and a deleted one break no connection of others, and sessions in earlier workers are still cut', async () => {
  const proxy = await aServingProxy();
  const kept = aClient(20_001);
  expect(await kept.greeting).toBe('0');

  api.add('payments', 20_002);
  api.tell('payments', { epoch: 1, primary: members[1] });
  await vi.waitFor(async () => expect(await aClient(20_002).greeting).toBe('1'), patiently);
  api.clusters.pop();
  await vi.waitFor(async () => expect(await aClient(20_002).greeting).toBeNull(), patiently);

  expect(kept.isClosed()).toBe(false);
  api.tell('orders', { epoch: 2, primary: members[1] });
  await kept.closed;
  expect(await aClient(20_001).greeting).toBe('1');
  expect(proxy.routes()).toHaveLength(1);
});

test('started without an API it goes on from what it knew last', async () => {
  const directory = aDirectory();
  const first = await aServingProxy(directory);
  members[0].health.epoch = 1;
  await first.stop();
  api.stop();

  const second = await aProxy(api.url, directory);

  expect(await aClient(20_001).greeting).toBe('0');
  expect(second.routes()[0]).toMatchObject({ epoch: 1, primary: 0 });
});

test('nothing is left after the end, and a HAProxy that was left behind is replaced', async () => {
  const directory = aDirectory();
  const first = await aServingProxy(directory);
  const second = await aProxy(api.url, directory);
  expect(await first.ended).toBeInstanceOf(Error);
  expect(await aClient(20_001).greeting).toBe('0');

  await second.stop();

  expect(() => process.kill(second.haproxyPid, 0)).toThrow();
  expect(() => readFileSync(`/proc/${first.haproxyPid}/stat`)).toThrow();
  expect(await aClient(20_001).greeting).toBeNull();
});

test('a service port that somebody else took is left out, and the others are served', async () => {
  const directory = aDirectory();
  const first = await aServingProxy(directory);
  await first.stop();
  const stranger = createServer().listen(20_001, listen);
  await once(stranger, 'listening');
  atEnd(() => void stranger.close());
  api.add('payments', 20_002);
  api.tell('payments', { epoch: 1, primary: members[1] });

  const second = await aProxy(api.url, directory);

  await vi.waitFor(async () => expect(await aClient(20_002).greeting).toBe('1'), patiently);
  expect(second.routes().map(({ name }) => name)).toEqual(['payments']);
});
