import { expect, test } from 'vitest';
import { aServingCluster, aWorld } from './helper.ts';

test('tails of all members, newest first', async () => {
  const world = await aWorld();
  const id = await aServingCluster(world);
  const tail = (name: string, at: number) => ({ id: name, gtidSet: 'a:6', bytes: 300, at });
  const give = (ordinal: number, tails: readonly ReturnType<typeof tail>[]) => {
    const key = `${id}.${ordinal}`;
    world.live.members.set(key, { ...world.live.members.get(key)!, tails });
  };
  give(0, [tail('first', 1), tail('third', 3)]);
  give(2, [tail('second', 2)]);

  const answer = await world.app.inject('/v1/clusters/orders/tails');

  expect(answer.json().tails).toEqual([
    { member: 0, ...tail('third', 3) },
    { member: 2, ...tail('second', 2) },
    { member: 0, ...tail('first', 1) },
  ]);
  expect((await world.app.inject('/v1/clusters/none/tails')).json()).toMatchObject({ code: 'NOT_FOUND' });
});
