import { afterEach, expect, test } from 'vitest';
import type { BackupOption } from '../../src/cluster/recovery.ts';
import { findCluster } from '../../src/store/clusters.ts';
import { listEvents } from '../../src/store/events.ts';
import { aServingCluster, aWorld, closeWorlds, type World } from './helper.ts';

afterEach(async () => expect(await closeWorlds()).toBe(0));

const uuid = '00000000-0000-4000-8000-00000000000a';
const within = `${uuid}:1-100`;
const aBackup = (change: Partial<BackupOption> = {}): BackupOption => ({
  id: 'b1',
  ordinal: 1,
  gtidSet: `${uuid}:1-10`,
  bytes: 200 * 1024 * 1024,
  endedAt: 1000,
  isBad: false,
  isReachable: true,
  ...change,
});

async function aSource(backups: readonly BackupOption[] = [aBackup()]): Promise<World & { readonly id: string }> {
  const world = await aWorld();
  const id = await aServingCluster(world);
  world.live.copyable.set(id, { backups, within });
  return { ...world, id };
}

const ask = ({ app }: World, body: object) =>
  app.inject({ method: 'POST', url: '/v1/clusters', payload: { name: 'twin', ...body } });

test('a copy takes what is not said from its source, and what was chosen is stored with it', async () => {
  const world = await aSource();

  const answer = await ask(world, { from: { cluster: 'orders', at: '1970-01-01T00:00:02Z', maxBytesPerSec: 10_000 } });

  expect(answer.statusCode).toBe(202);
  const { spec } = (await findCluster(world.store, 'orders'))!;
  expect(answer.json()).toMatchObject({
    spec: { ...spec, name: 'twin' },
    origin: { cluster: 'orders', clusterId: world.id, backup: 'b1', member: 1, until: { kind: 'at', atMs: 2000 } },
  });
  expect((await findCluster(world.store, 'twin'))!.origin).toEqual({
    clusterId: world.id,
    cluster: 'orders',
    backup: { id: 'b1', ordinal: 1, bytes: aBackup().bytes, gtidSet: `${uuid}:1-10`, endedAt: 1000 },
    until: { kind: 'at', atMs: 2000 },
    within,
    maxBytesPerSec: 10_000,
  });
  const events = await listEvents(world.store, {});
  expect(events.find(({ cluster, kind }) => cluster === 'twin' && kind === 'cluster.created')?.data).toMatchObject({
    from: 'orders',
    backup: 'b1',
  });
  expect((await world.app.inject('/v1/clusters/orders')).json()).toMatchObject({ origin: null });
});

test('another number of members has the durability of that number', async () => {
  const world = await aSource();

  const answer = await ask(world, { members: 1, from: { cluster: 'orders' } });

  expect(answer.json()).toMatchObject({ spec: { members: 1, durability: 'async' } });
});

test('what cannot be copied is refused, and nothing is made', async () => {
  const world = await aSource([aBackup(), aBackup({ id: 'b2', isBad: true })]);
  const codes: Record<string, object> = {
    NO_BACKUP: { cluster: 'orders', backup: 'b3' },
    BACKUP_DAMAGED: { cluster: 'orders', backup: 'b2' },
    TARGET_BEFORE_BACKUP: { cluster: 'orders', at: 500 },
    NOT_FOUND: { cluster: 'nobody' },
  };
  for (const [code, from] of Object.entries(codes)) {
    expect((await ask(world, { from })).json(), code).toMatchObject({ code });
  }
  const small = { volumes: { data: { type: 'root', sizeMb: 512 } }, from: { cluster: 'orders' } };
  expect((await ask(world, small)).json()).toMatchObject({ code: 'VOLUME_TOO_SMALL', facts: { neededMb: 520 } });
  world.live.copyable.set(world.id, { backups: [aBackup()], within: null });
  expect((await ask(world, { from: { cluster: 'orders' } })).json()).toMatchObject({ code: 'NO_PRIMARY' });
  expect(await findCluster(world.store, 'twin')).toBeNull();
});

test('hostile wishes are faults of the request', async () => {
  const world = await aSource();
  const wishes: unknown[] = [
    {},
    { cluster: 'orders', at: 5000, gtid: within },
    { cluster: 'orders', at: 'long ago, far away' },
    { cluster: 'orders', at: Date.now() + 60_000 },
    { cluster: 'orders', at: -1 },
    { cluster: 'orders', gtid: 'no set' },
    { cluster: 'orders', more: true },
    { cluster: ['orders'] },
    'orders',
    null,
  ];
  for (const from of wishes) {
    const answer = await ask(world, { from });
    expect(answer.statusCode, JSON.stringify(from)).toBe(400);
    expect(answer.json()).toMatchObject({ code: 'BAD_REQUEST' });
  }
  expect((await ask(world, {})).statusCode).toBe(400);
});
