import { afterEach, expect, test } from 'vitest';
import { setBundleState } from '../../src/store/bundles.ts';
import { listClusters, readClusterSecrets, setClusterGone } from '../../src/store/clusters.ts';
import { listEvents } from '../../src/store/events.ts';
import { lead } from '../../src/store/leadership.ts';
import { getMember } from '../../src/store/members.ts';
import { aRequest, aServingCluster, aWorld, closeWorlds } from './helper.ts';

afterEach(async () => expect(await closeWorlds()).toBe(0));

test('a cluster is asked for, told its credentials once, and shown without them', async () => {
  const { app, store, woken } = await aWorld();

  const created = await app.inject({ method: 'POST', url: '/v1/clusters', payload: aRequest() });
  const shown = await app.inject('/v1/clusters/orders');

  expect(created.statusCode).toBe(202);
  expect(created.headers.location).toBe('/v1/clusters/orders');
  expect(created.json()).toMatchObject({
    name: 'orders',
    state: 'creating',
    epoch: 0,
    primary: null,
    servicePort: 13_306,
    credentials: {
      user: 'team_orders',
      password: 'team-secret',
      uri: 'mysql://team_orders:team-secret@127.0.0.1:13306/',
    },
    spec: { members: 3, durability: 'majority', placement: { spread: 'agent', attributes: {} } },
  });
  expect(shown.json().members).toHaveLength(3);
  expect(shown.body).not.toContain('team-secret');
  expect((await app.inject('/v1/clusters')).body).not.toContain('team-secret');
  expect(woken).toEqual([created.json().id]);
  expect((await readClusterSecrets(store, created.json().id)).caKeyPem).toBe('KEY');
});

test('a serving cluster shows where its members are and how they do', async () => {
  const world = await aWorld();
  const id = await aServingCluster(world);

  const byName = await world.app.inject('/v1/clusters/orders');
  const byId = await world.app.inject(`/v1/clusters/${id}`);

  expect(byId.json()).toEqual(byName.json());
  expect(byName.json()).toMatchObject({ state: 'ready', epoch: 1, primary: 0 });
  expect(byName.json().members[1]).toMatchObject({
    ordinal: 1,
    role: 'replica',
    agentId: 'agent-1',
    host: '127.0.0.11',
    port: 31000,
    gtidExecuted: 'a:1-5',
    lagMs: 10,
    volumes: { data: { totalMb: 9000, usedMb: 300 }, backup: null },
  });
});

test('endpoints are those of the current epoch, the primary only once it takes writes', async () => {
  const world = await aWorld();
  await aServingCluster(world);

  const before = await world.app.inject('/v1/clusters/orders/endpoints');
  world.store.db.exec('UPDATE cluster SET activated_at = NULL');
  const after = await world.app.inject('/v1/clusters/orders/endpoints');

  expect(before.json()).toMatchObject({
    cluster: 'orders',
    epoch: 1,
    primary: { ordinal: 0, host: '127.0.0.10', port: 31000, healthPort: 31002 },
  });
  expect(before.json().replicas.map((replica: { ordinal: number }) => replica.ordinal)).toEqual([1, 2]);
  expect(after.json().primary).toBeNull();
});

test('deleting may be repeated, frees the name when all is gone, and keeps the row by id', async () => {
  const world = await aWorld();
  const { app, store } = world;
  const id = await aServingCluster(world);

  const first = await app.inject({ method: 'DELETE', url: '/v1/clusters/orders' });
  const again = await app.inject({ method: 'DELETE', url: '/v1/clusters/orders' });
  const failover = await app.inject({
    method: 'POST',
    url: '/v1/clusters/orders/failovers',
    payload: { kind: 'switchover', reason: 'test' },
  });
  const leader = await lead(store, 'test');
  for (const ordinal of [0, 1, 2])
    await setBundleState(store, leader, (await getMember(store, id, ordinal)).bundleId!, 'released');
  await setClusterGone(store, leader, id, 9);

  expect([first.statusCode, again.statusCode]).toEqual([202, 202]);
  expect(failover.json()).toMatchObject({ status: 409, code: 'CLUSTER_DELETING' });
  expect((await app.inject('/v1/clusters/orders')).statusCode).toBe(404);
  expect((await app.inject({ method: 'DELETE', url: '/v1/clusters/orders' })).statusCode).toBe(404);
  expect((await app.inject(`/v1/clusters/${id}`)).json()).toMatchObject({ state: 'deleted', deletedAt: 9 });
  expect((await app.inject('/v1/clusters')).json().clusters).toEqual([]);
  expect((await app.inject('/v1/clusters?all=true')).json().clusters).toHaveLength(1);
  expect((await listEvents(store)).filter((event) => event.kind === 'cluster.deleting')).toHaveLength(1);
});

test('a dry run says where, or why not, and leaves nothing', async () => {
  const world = await aWorld();
  const { app, live, store } = world;
  const dryRun = () =>
    app.inject({ method: 'POST', url: '/v1/clusters?dryRun=true', payload: aRequest({ members: 4 }) });

  const fits = await dryRun();
  live.dryRun = {
    placed: [],
    refused: [
      {
        ordinal: 0,
        agents: [
          {
            agentId: 'a',
            hostname: 'h',
            stages: [{ name: 'cpus', isPassed: false, reason: 'Asked for 4 cpus, 1 is free' }],
          },
        ],
      },
    ],
    neverFits: 'The largest agent has 2 cpus',
  };
  const never = await dryRun();
  const real = await app.inject({ method: 'POST', url: '/v1/clusters', payload: aRequest() });

  expect(fits.json()).toMatchObject({ isPlaceable: true, placed: [{ agentId: 'agent-0' }], neverFits: null });
  expect(fits.json().warnings).not.toEqual([]);
  expect(never.json()).toMatchObject({ isPlaceable: false, neverFits: 'The largest agent has 2 cpus' });
  expect(never.json().refused[0].agents[0].stages[0].reason).toBe('Asked for 4 cpus, 1 is free');
  expect(real.json()).toMatchObject({ status: 422, code: 'NEVER_PLACEABLE', detail: 'The largest agent has 2 cpus' });
  expect(await listClusters(store)).toEqual([]);
  expect(world.woken).toEqual([]);
});

test('nothing can be asked for while Mesos is away, but what is there can be read and failed over', async () => {
  const world = await aWorld();
  await aServingCluster(world);
  world.live.connected = false;
  const { app } = world;

  const create = await app.inject({ method: 'POST', url: '/v1/clusters', payload: aRequest({ name: 'other' }) });
  const failover = await app.inject({
    method: 'POST',
    url: '/v1/clusters/orders/failovers',
    payload: { kind: 'failover', reason: 'the host is on fire' },
  });

  expect(create.json()).toMatchObject({ status: 503, code: 'NOT_CONNECTED' });
  expect((await app.inject('/readyz')).json()).toMatchObject({ status: 503, code: 'NOT_CONNECTED' });
  expect((await app.inject('/v1/clusters/orders')).statusCode).toBe(200);
  expect(failover.statusCode).toBe(202);
});

test('a taken name is refused, also when two ask at once', async () => {
  const { app, store } = await aWorld();
  const create = () => app.inject({ method: 'POST', url: '/v1/clusters', payload: aRequest() });

  const answers = await Promise.all([create(), create(), create()]);

  expect(answers.map((answer) => answer.statusCode).sort()).toEqual([202, 409, 409]);
  expect((await create()).json()).toMatchObject({ code: 'NAME_TAKEN' });
  expect(await listClusters(store)).toHaveLength(1);
});

test('the longest name makes an account that MySQL takes', async () => {
  const { app } = await aWorld();
  const name = `a${'-b'.repeat(19)}c`;

  const created = await app.inject({ method: 'POST', url: '/v1/clusters', payload: aRequest({ name }) });

  expect(created.statusCode).toBe(202);
  expect(created.json().credentials.user).toMatch(/^team_[a-z0-9_]{1,27}$/);
});
