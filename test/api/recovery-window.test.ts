import { expect, test } from 'vitest';
import type { LiveRecoveryWindow } from '../../src/api/live.ts';
import { aServingCluster, aWorld } from './helper.ts';

const window: LiveRecoveryWindow = {
  ...{ from: 1000, backupId: 'b1', to: 9000, rpoMs: 1200, missing: 'a:9', gap: '' },
  members: [
    {
      ordinal: 0,
      isWrittenOff: false,
      archive: {
        spans: [{ serverUuid: 'a', fromGtids: '', gtidSet: 'a:1-8', firstAt: 500, lastAt: 9000 }],
        ...{ bytes: 5_000_000, pendingBytes: 300, archivedAt: 8800, error: null },
      },
    },
    { ordinal: 1, isWrittenOff: true, archive: null },
  ],
};

test('the recovery window is what the archives of the members cover', async () => {
  const world = await aWorld();
  const id = await aServingCluster(world);
  world.live.windows.set(id, window);

  const answer = await world.app.inject('/v1/clusters/orders/recovery-window');

  expect(answer.statusCode).toBe(200);
  expect(answer.json()).toMatchObject({
    ...{ cluster: 'orders', from: 1000, backupId: 'b1', to: 9000, rpoMs: 1200, missing: 'a:9', gap: '' },
    members: [
      { member: 0, archive: { pendingBytes: 300 } },
      { member: 1, isWrittenOff: true, archive: null },
    ],
  });
});

test('before anything is known it is refused, and so is a cluster that does not exist', async () => {
  const world = await aWorld();
  await aServingCluster(world);

  expect((await world.app.inject('/v1/clusters/orders/recovery-window')).json().code).toBe('MEMBER_NOT_READY');
  expect((await world.app.inject('/v1/clusters/none/recovery-window')).json().code).toBe('NOT_FOUND');
});
