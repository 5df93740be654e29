import { afterEach, expect, test } from 'vitest';
import type { BackupOption } from '../../src/cluster/recovery.ts';
import { closeBackup, openBackup, openRemoval } from '../../src/store/backups.ts';
import { findCluster } from '../../src/store/clusters.ts';
import { listEvents } from '../../src/store/events.ts';
import { lead } from '../../src/store/leadership.ts';
import { getMember, markInitialised } from '../../src/store/members.ts';
import { newId } from '../store/helper.ts';
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

test('how far the filling is stands with the first member', async () => {
  const world = await aSource();
  const { id } = (await ask(world, { from: { cluster: 'orders' } })).json();
  const work = { step: 'fetching the backup', doneBytes: 50, totalBytes: 200, percent: 25, etaMs: 3000 };
  const member = {
    instance: 'rebuilding',
    isWritable: false,
    gtidExecuted: null,
    lagMs: null,
    taskState: null,
  } as const;
  const live = { ...member, volumes: { data: null, backup: null } };
  world.live.members.set(`${id}.0`, { ...live, work: { ...work, commandId: 'copy.x', isRunning: true } });

  const { members } = (await world.app.inject('/v1/clusters/twin')).json();

  expect(members.map(({ copy }: { copy: unknown }) => copy)).toEqual([work, null, null]);
});

test('a backup is not removed while a copy is being filled from it', async () => {
  const world = await aSource();
  const leader = await lead(world.store, 'test');
  const { id } = await openBackup(world.store, { id: newId(), clusterId: world.id, ordinal: 1, requestedBy: 'test' });
  const result = { state: 'complete', gtidSet: `${uuid}:1-10`, bytes: 1 } as const;
  await closeBackup(world.store, leader, id, result);
  world.live.copyable.set(world.id, { backups: [aBackup({ id })], within });
  const copy = (await ask(world, { from: { backup: id } })).json();
  const removal = { id, reason: 'test', isForced: true };

  await expect(openRemoval(world.store, removal)).rejects.toMatchObject({ code: 'OPERATION_OPEN' });

  const { incarnation } = await getMember(world.store, copy.id, 0);
  await markInitialised(world.store, leader, { clusterId: copy.id, ordinal: 0, incarnation, at: 5 });
  expect(await openRemoval(world.store, removal)).toMatchObject({ state: 'removing' });
});
