import { afterEach, expect, test } from 'vitest';
import { closeBackup, openBackup } from '../../src/store/backups.ts';
import { findCluster, getCluster } from '../../src/store/clusters.ts';
import { lead } from '../../src/store/leadership.ts';
import { recordRetained } from '../../src/store/retained.ts';
import { newId } from '../store/helper.ts';
import { aServingCluster, aWorld, closeWorlds, type World } from './helper.ts';

afterEach(async () => expect(await closeWorlds()).toBe(0));

const set = '00000000-0000-4000-8000-00000000000a:1-10';
const MB = 1048576;

interface Source extends World {
  readonly id: string;
  readonly backupId: string;
}

async function aSource(): Promise<Source> {
  const world = await aWorld();
  const { store } = world;
  const id = await aServingCluster(world);
  const leader = await lead(store, 'test');
  const backupId = newId();
  await openBackup(store, { id: backupId, clusterId: id, ordinal: 1, requestedBy: 'test' });
  await closeBackup(store, leader, backupId, { state: 'complete', gtidSet: set, bytes: 200 * MB });
  world.live.copyable.set(id, { backups: [], within: set });
  return { ...world, id, backupId };
}

const call = async (
  { app }: World,
  method: 'GET' | 'POST' | 'PATCH' | 'PUT' | 'DELETE',
  url: string,
  payload?: object,
) => (await app.inject({ method, url: `/v1/clusters${url}`, ...(payload ? { payload } : {}) })).json();
const retain = (world: World) => call(world, 'DELETE', '/orders?retainVolumes=true');

/** As the controller leaves it: it has ended, and this is what copies can be made of. */
async function end(world: Source, isReachable = true): Promise<void> {
  const leader = await lead(world.store, 'test');
  const window = { from: 1000, to: 2000, backupId: world.backupId, missing: '' };
  await recordRetained(world.store, leader, world.id, { within: set, isExact: true, endedAt: 5, window, downAt: 6 });
  world.live.states.delete(world.id);
  const backup = { id: world.backupId, ordinal: 1, gtidSet: set, bytes: 200 * MB, endedAt: 1000, isBad: false };
  world.live.copyable.set(world.id, { backups: [{ ...backup, isReachable }], within: set });
}

test('a cluster whose volumes are retained is shown with since when and what it holds, and no endpoints', async () => {
  const world = await aSource();

  const asked = await app202(world);
  await end(world);

  expect(asked).toMatchObject({ retained: { endedAt: null, recoveryWindow: null } });
  const seen = await call(world, 'GET', '/orders');
  expect(seen).toMatchObject({
    state: 'retained',
    deletedAt: null,
    rehearsal: null,
    retained: {
      requestedBy: expect.any(String),
      ...{ endedAt: 5, downAt: 6, isExact: true, volumes: 6 },
      newestBackup: { id: world.backupId, member: 1 },
      recoveryWindow: { from: 1000, to: 2000, backupId: world.backupId, missing: '' },
    },
  });
  expect(seen.retained.bytesReserved).toBeGreaterThan(0);
  expect((await call(world, 'GET', '')).clusters).toMatchObject([{ name: 'orders', retained: { volumes: 6 } }]);
  expect(await call(world, 'GET', '/orders/endpoints')).toMatchObject({ primary: null, replicas: [] });
  expect((await call(world, 'GET', '/orders/backups')).backups).toMatchObject([{ id: world.backupId }]);
  expect(world.woken).toContain(world.id);
});

async function app202(world: World) {
  const answer = await world.app.inject({ method: 'DELETE', url: '/v1/clusters/orders?retainVolumes=true' });
  expect(answer.statusCode).toBe(202);
  expect((await world.app.inject({ method: 'DELETE', url: '/v1/clusters/orders?retainVolumes=true' })).statusCode).toBe(
    202,
  );
  return answer.json();
}

test('what else there is to do with a cluster is refused with one code', async () => {
  const world = await aSource();
  await retain(world);
  const refused: [method: 'POST' | 'PATCH' | 'PUT' | 'DELETE' | 'GET', path: string, body?: object][] = [
    ['PATCH', '', { automation: { mode: 'off' } }],
    ['DELETE', ''],
    ['POST', '/failovers', { kind: 'failover', reason: 'r' }],
    ['POST', '/backups', {}],
    ['POST', '/members/1/rebuild', {}],
    ['PUT', '/backup-policy', { keepCount: 3 }],
    ['POST', `/backups/${world.backupId}/verify`],
    ['DELETE', `/backups/${world.backupId}`],
    ['GET', `/backups/${world.backupId}/download`],
    ['POST', '/restore', { backup: world.backupId, confirm: 'orders' }],
  ];
  for (const [method, path, body] of refused)
    expect(await call(world, method, `/orders${path}`, body), `${method} ${path}`).toMatchObject({
      code: 'CLUSTER_RETAINED',
    });
  expect((await getCluster(world.store, world.id)).desired).toBe('retained');
  const { name: _, ...spec } = (await getCluster(world.store, world.id)).spec;
  expect(await call(world, 'POST', '', { ...spec, name: 'orders' })).toMatchObject({ code: 'NAME_TAKEN' });
});

test('it is refused while what was acknowledged is not known, and of a cluster that goes', async () => {
  const world = await aSource();
  world.live.copyable.set(world.id, { backups: [], within: null });
  expect(await retain(world)).toMatchObject({ code: 'NO_PRIMARY' });
  expect(await call(world, 'DELETE', '/orders?retainVolumes=perhaps')).toMatchObject({ code: 'BAD_REQUEST' });
  expect(await call(world, 'POST', '/orders/purge', { confirm: 'orders' })).toMatchObject({ code: 'NOT_RETAINED' });
  await call(world, 'DELETE', '/orders');
  expect(await retain(world)).toMatchObject({ code: 'CLUSTER_DELETING' });
});

test('a copy of it takes what its rows say; while it ends, or its agent is away, it is refused', async () => {
  const world = await aSource();
  await retain(world);
  world.live.copyable.set(world.id, { backups: [], within: null });
  const ask = () => call(world, 'POST', '', { name: 'heir', from: { cluster: 'orders' } });
  expect(await ask()).toMatchObject({ code: 'CLUSTER_RETAINED' });
  await end(world, false);
  expect(await ask()).toMatchObject({ code: 'HOLDER_AWAY', status: 503 });
  await end(world);

  expect(await ask()).toMatchObject({ origin: { cluster: 'orders', backup: world.backupId, member: 1 } });

  expect((await findCluster(world.store, 'heir'))!.origin).toMatchObject({ within: set });
  const purge = { confirm: 'orders' };
  const open = { code: 'COPY_OPEN', facts: { copy: 'heir' } };
  expect(await call(world, 'POST', '/orders/purge', purge)).toMatchObject(open);
  await call(world, 'DELETE', '/heir');
  expect(await call(world, 'POST', '/orders/purge', purge)).toMatchObject({ state: 'deleting', retained: null });
  expect(await ask()).toMatchObject({ code: 'CLUSTER_DELETING' });
});

test('a purge wants the name', async () => {
  const world = await aSource();
  await retain(world);

  expect(await call(world, 'POST', '/orders/purge', {})).toMatchObject({ code: 'CONFIRM_NEEDED' });
  expect(await call(world, 'POST', '/orders/purge', { confirm: 'order' })).toMatchObject({ code: 'CONFIRM_NEEDED' });
  expect(await call(world, 'POST', '/orders/purge', { confirm: 'orders', force: true })).toMatchObject({
    code: 'BAD_REQUEST',
  });
  expect((await getCluster(world.store, world.id)).desired).toBe('retained');
});

test('a source is not deleted while a copy is being filled from it', async () => {
  const world = await aSource();
  await end(world);
  await call(world, 'POST', '', { name: 'heir', from: { cluster: 'orders' } });

  expect(await call(world, 'DELETE', '/orders')).toMatchObject({ code: 'COPY_OPEN', facts: { copy: 'heir' } });
  expect(await retain(world)).toMatchObject({ code: 'COPY_OPEN' });
});
