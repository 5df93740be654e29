import { afterEach, expect, test } from 'vitest';
import { closeBackup } from '../../src/store/backups.ts';
import { listBundles, setBundleState } from '../../src/store/bundles.ts';
import { setCooldown } from '../../src/store/clusters.ts';
import { closeFailover, recordFailover } from '../../src/store/failovers.ts';
import { lead } from '../../src/store/leadership.ts';
import { aRequest, aServingCluster, aWorld, closeWorlds, type World } from './helper.ts';

afterEach(async () => expect(await closeWorlds()).toBe(0));

const post = ({ app }: World, path: string, payload?: object) =>
  app.inject({ method: 'POST', url: `/v1/clusters/${path}`, ...(payload ? { payload } : {}) });

test('a switchover is asked for once, and its steps can be read', async () => {
  const world = await aWorld();
  const id = await aServingCluster(world);
  const body = { kind: 'switchover', candidate: 1, ifPrimary: 0, ifEpoch: 1, reason: 'maintenance' };

  const asked = await post(world, 'orders/failovers', body);
  const second = await post(world, 'orders/failovers', body);
  const leader = await lead(world.store, 'test');
  await recordFailover(world.store, leader, asked.json().id, { step: { name: 'demoted', at: 7 }, toPrimary: 1 });
  await closeFailover(world.store, leader, asked.json().id, 'done');
  const read = await world.app.inject(asked.headers.location as string);
  const list = await world.app.inject('/v1/clusters/orders/failovers');

  expect(asked.statusCode).toBe(202);
  expect(asked.json()).toMatchObject({
    kind: 'switchover',
    outcome: 'open',
    candidate: 1,
    fromPrimary: 0,
    fromEpoch: 1,
  });
  expect(second.json()).toMatchObject({ status: 409, code: 'OPERATION_OPEN', facts: { id: asked.json().id } });
  expect(read.json()).toMatchObject({ outcome: 'done', toPrimary: 1, steps: [{ name: 'demoted', at: 7 }] });
  expect(list.json().failovers).toEqual([read.json()]);
  expect(world.woken).toContain(id);
});

test.each([
  ['a primary that is another', { ifPrimary: 2 }, 409, 'PRECONDITION'],
  ['an epoch that has passed', { ifEpoch: 7 }, 409, 'PRECONDITION'],
  ['a member that is not there', { candidate: 8 }, 400, 'BAD_REQUEST'],
  ['the primary itself', { candidate: 0 }, 400, 'BAD_REQUEST'],
  ['a pause that is none', { maxPauseMs: 1 }, 400, 'BAD_REQUEST'],
  ['no reason', { reason: ' ' }, 400, 'BAD_REQUEST'],
])('a failover with %s is refused', async (_, change, status, code) => {
  const world = await aWorld();
  await aServingCluster(world);

  const answer = await post(world, 'orders/failovers', { kind: 'failover', reason: 'test', ...change });

  expect(answer.json()).toMatchObject({ status, code });
  expect((await world.app.inject('/v1/clusters/orders/failovers')).json()).toEqual({ failovers: [] });
});

test('a cluster without a primary has none to change and nothing to back up', async () => {
  const world = await aWorld();
  await world.app.inject({ method: 'POST', url: '/v1/clusters', payload: aRequest() });

  const answers = [
    await post(world, 'orders/failovers', { kind: 'failover', reason: 'test' }),
    await post(world, 'orders/backups', {}),
    await post(world, 'orders/members/1/rebuild', {}),
  ];

  for (const answer of answers) expect(answer.json()).toMatchObject({ status: 409, code: 'NO_PRIMARY' });
});

test('an operation of another cluster is not found under this one', async () => {
  const world = await aWorld();
  await aServingCluster(world, 'one');
  await aServingCluster(world, 'two');
  const failover = (await post(world, 'one/failovers', { kind: 'failover', reason: 'test' })).json().id;
  const backup = (await post(world, 'one/backups')).json().id;
  const rebuild = (await post(world, 'one/members/1/rebuild')).json().id;

  for (const path of [`failovers/${failover}`, `backups/${backup}`, `rebuilds/${rebuild}`]) {
    expect((await world.app.inject(`/v1/clusters/one/${path}`)).statusCode).toBe(200);
    expect((await world.app.inject(`/v1/clusters/two/${path}`)).json()).toMatchObject({ code: 'NOT_FOUND' });
  }
});

test('a backup goes to the replica with the least lag unless a member is named', async () => {
  const world = await aWorld();
  await aServingCluster(world);

  const chosen = await post(world, 'orders/backups');
  const again = await post(world, 'orders/backups', {});
  const named = await post(world, 'orders/backups', { member: 1 });
  const unknown = await post(world, 'orders/backups', { member: 7 });
  const result = { state: 'complete', gtidSet: 'a:1-9', bytes: 100 } as const;
  await closeBackup(world.store, await lead(world.store, 'test'), chosen.json().id, result);

  expect(chosen.json()).toMatchObject({ member: 2, state: 'open', requestedBy: 'local' });
  expect(again.json()).toMatchObject({ code: 'OPERATION_OPEN' });
  expect(named.json()).toMatchObject({ member: 1 });
  expect(unknown.json()).toMatchObject({ code: 'BAD_REQUEST', faults: [{ path: 'member' }] });
  expect((await world.app.inject(chosen.headers.location as string)).json()).toMatchObject(result);
  expect((await world.app.inject('/v1/clusters/orders/backups')).json().backups).toHaveLength(2);
});

test('a cluster without a backup volume cannot be backed up', async () => {
  const world = await aWorld();
  const volumes = { data: { type: 'root', sizeMb: 1024 }, backup: null };
  await world.app.inject({ method: 'POST', url: '/v1/clusters', payload: aRequest({ volumes }) });

  expect((await post(world, 'orders/backups')).json()).toMatchObject({ code: 'NO_BACKUP_VOLUME' });
});

test('a replica is rebuilt, the primary is not', async () => {
  const world = await aWorld();
  await aServingCluster(world);

  const replica = await post(world, 'orders/members/1/rebuild', { reason: 'disk was changed' });
  const primary = await post(world, 'orders/members/0/rebuild');
  const unknown = await post(world, 'orders/members/8/rebuild');
  const odd = await post(world, 'orders/members/-1/rebuild');

  expect(replica.json()).toMatchObject({ member: 1, state: 'open', reason: 'disk was changed', attempts: 0 });
  expect((await world.app.inject(replica.headers.location as string)).json()).toEqual(replica.json());
  expect((await world.app.inject('/v1/clusters/orders/rebuilds')).json().rebuilds).toHaveLength(1);
  expect(primary.json()).toMatchObject({ status: 409, code: 'IS_PRIMARY' });
  expect(unknown.json()).toMatchObject({ status: 404 });
  expect(odd.json()).toMatchObject({ status: 400, faults: [{ path: 'params.ordinal' }] });
});

test('a rebuild says how far it is, whichever try it is', async () => {
  const world = await aWorld();
  const cluster = await aServingCluster(world);
  const { id } = (await post(world, 'orders/members/1/rebuild')).json();
  const work = { step: 'copying', doneBytes: 50, totalBytes: 200, percent: 25, etaMs: 3000 };
  const look = async (commandId: string) => {
    const member = world.live.members.get(`${cluster}.1`)!;
    world.live.members.set(`${cluster}.1`, { ...member, work: { ...work, commandId, isRunning: true } });
    return (await world.app.inject(`/v1/clusters/orders/rebuilds/${id}`)).json().progress;
  };

  expect(await look(`rebuild.${id}.2`)).toEqual(work);
  expect(await look('rebuild.another.0')).toBeNull();
});

test('what is not done yet says so', async () => {
  const world = await aWorld();
  await aServingCluster(world);

  const restart = await post(world, 'orders/members/1/restart');

  expect(restart.json()).toMatchObject({ status: 501, code: 'NOT_SUPPORTED' });
});

test('a dry run tells the plan and opens nothing', async () => {
  const world = await aWorld();
  await aServingCluster(world);
  const steps = [{ name: 'commit', member: null, what: 'epoch 1 becomes 2' }];
  world.live.changePlan = { kind: 'switchover', candidate: 2, refusal: null, warnings: [], steps, predictedMs: 50 };

  const plan = await post(world, 'orders/failovers?dryRun=true', { kind: 'switchover', reason: 'look' });
  world.live.changePlan = null;
  const unknown = await post(world, 'orders/failovers?dryRun=true', { kind: 'switchover', reason: 'look' });

  expect([plan.statusCode, plan.json()]).toMatchObject([200, { candidate: 2, steps, predictedMs: 50 }]);
  expect(unknown.json()).toMatchObject({ code: 'NOT_CONNECTED' });
  expect((await world.app.inject('/v1/clusters/orders/failovers')).json()).toEqual({ failovers: [] });
});

test('a person changes durability and automation, and releases the cooldown', async () => {
  const world = await aWorld();
  const id = await aServingCluster(world);
  await setCooldown(world.store, null, id, 999);
  const patch = async (payload: object) =>
    (await world.app.inject({ method: 'PATCH', url: '/v1/clusters/orders', payload })).json();

  const off = await patch({ automation: { mode: 'off', until: 5000 } });
  const weaker = await patch({ durability: 'async', cooldown: null });
  const scaled = await patch({ members: 5 });
  const empty = await patch({});
  const liked = await patch({ preferences: { 1: 'prefer', 2: 'never' } });
  const strange = await patch({ preferences: { 7: 'never' } });

  expect(off).toMatchObject({ automation: { mode: 'off', until: 5000 }, cooldownUntil: 999 });
  expect(weaker).toMatchObject({ spec: { durability: 'async' }, cooldownUntil: null });
  expect(liked).toMatchObject({ preferences: { 1: 'prefer', 2: 'never' } });
  for (const answer of [scaled, empty, strange]) expect(answer).toMatchObject({ status: 400, code: 'BAD_REQUEST' });
  const told = (await world.app.inject('/v1/events'))
    .json()
    .events.filter((event: { kind: string }) => event.kind === 'cluster.changed');
  expect(told.map((event: { message: string }) => event.message)).toEqual([
    'automation off until 1970-01-01T00:00:05.000Z',
    'durability async, cooldown released',
    'preferences {"1":"prefer","2":"never"}',
  ]);
});

test('events can be paged and cut to one cluster', async () => {
  const world = await aWorld();
  await aServingCluster(world, 'one');
  await aServingCluster(world, 'two');

  const all = (await world.app.inject('/v1/events')).json().events;
  const rest = (await world.app.inject(`/v1/events?after=${all[0].seq}`)).json().events;
  const ofTwo = (await world.app.inject('/v1/events?cluster=two&limit=1')).json().events;

  expect(all.map((event: { kind: string }) => event.kind)).toEqual(['cluster.created', 'cluster.created']);
  expect(rest).toEqual([all[1]]);
  expect(ofTwo).toEqual([all[1]]);
});

test('reservations are accounted for, released ones on request', async () => {
  const world = await aWorld();
  await aServingCluster(world);
  const [bundle] = await listBundles(world.store);
  await setBundleState(world.store, await lead(world.store, 'test'), bundle!.id, 'released', 'test');

  const kept = (await world.app.inject('/v1/reservations')).json().reservations;
  const all = (await world.app.inject('/v1/reservations?all=true')).json().reservations;

  expect(kept).toHaveLength(2);
  expect(all).toHaveLength(3);
  expect(all[0]).toMatchObject({
    cluster: 'orders',
    member: 0,
    state: 'released',
    releaseReason: 'test',
    volumes: [
      { kind: 'data', type: 'mount', persistenceId: 'data-1' },
      { kind: 'backup', type: 'path', persistenceId: 'backup-1' },
    ],
  });
});

test('offers, health, metrics and the description of the API can be read', async () => {
  const { app, live } = await aWorld();
  const stages = [{ name: 'cpus' as const, isPassed: true, reason: '1 of 4' }];
  live.lastOffers.push({
    agentId: 'a',
    hostname: 'h',
    offerIds: ['o'],
    receivedAt: 5,
    cpus: 4,
    memMb: 100,
    ports: [{ begin: 1, end: 2 }],
    disks: [{ type: 'root', path: null, sizeMb: 5 }],
    tried: [{ clusterId: 'c', cluster: 'orders', ordinal: 0, outcome: 'placed', stages }],
  });

  expect((await app.inject('/v1/offers')).json()).toEqual({ offers: live.lastOffers });
  expect((await app.inject('/healthz')).json()).toEqual({ isHealthy: true });
  expect((await app.inject('/readyz')).statusCode).toBe(200);
  expect((await app.inject('/metrics')).body).toBe('selvedge_up 1\n');
  const docs = await app.inject('/docs');
  expect(docs.headers['content-type']).toContain('text/html');
  expect(docs.body).not.toMatch(/https?:\/\//);
  const openapi = (await app.inject('/openapi.json')).json();
  expect(openapi.openapi).toMatch(/^3\.1/);
  expect(Object.keys(openapi.paths)).toContain('/v1/clusters/{name}/failovers/{id}');
  expect(openapi.paths['/v1/clusters'].post.requestBody.content['application/json'].schema).toMatchObject({
    additionalProperties: false,
    required: ['name'], // a copy takes the rest from its source
  });
  for (const methods of Object.values<object>(openapi.paths))
    for (const operation of Object.values(methods))
      expect(operation.responses.default.content['application/problem+json'].schema.required).toContain('code');
});

test('only the backup volume of a replica that has one is replaced', async () => {
  const world = await aWorld();
  const clusterId = await aServingCluster(world);
  const ask = (ordinal: number, payload: object) => post(world, `orders/members/${ordinal}/replace-volume`, payload);

  expect((await ask(0, { volume: 'backup' })).json()).toMatchObject({ status: 409, code: 'IS_PRIMARY' });
  expect((await ask(1, { volume: 'data' })).json()).toMatchObject({ status: 400, code: 'BAD_REQUEST' });
  expect((await ask(8, { volume: 'backup' })).json()).toMatchObject({ status: 404, code: 'NOT_FOUND' });
  const asked = await ask(1, { volume: 'backup', reason: 'it is broken' });
  const again = await ask(1, { volume: 'backup' });

  expect(asked.statusCode).toBe(202);
  expect(asked.json()).toMatchObject({ cluster: 'orders', member: 1, volume: 'backup' });
  expect(again.json()).toEqual(asked.json());
  expect(world.woken).toContain(clusterId);
});
