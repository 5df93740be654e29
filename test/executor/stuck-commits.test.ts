import { afterAll, beforeAll, expect, test } from 'vitest';
import { createWorld, type World } from './world.ts';

let world: World;

beforeAll(async () => {
  world = await createWorld(2, 76);
  await Promise.all(world.members.map((member) => member.start(true)));
});
afterAll(() => world?.destroy());

test('a commit whose acknowledgement was given away before the replica became a voter is freed', async () => {
  const [primary, replica] = world.members as [World['members'][0], World['members'][0]];
  const promote = { kind: 'promote', k: 1, member: 0 } as const;
  await replica.command({ kind: 'follow', source: primary.source });
  const refused = await primary.launch.send({ ...promote, timeoutMs: 1_000 }, { leaderToken: 9, epoch: 1 });
  expect(refused).toMatchObject({ outcome: 'refused', code: 'TIMED_OUT' });
  await replica.until(({ gtidReceived }) => gtidReceived !== '');

  await replica.command({ kind: 'setVoter', isVoter: true });

  await primary.command({ ...promote, timeoutMs: 10_000 });
  const status = await primary.until(({ heartbeatAt }) => heartbeatAt !== null);
  expect(status).toMatchObject({ isWritable: true, semiSync: { noTx: 0 } });
});
