import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  compactGtidSet,
  isGtidSubset,
  onlyGtidTag,
  ownGtidTag,
  parseGtidSet,
  subtractGtidSets,
} from '../../src/cluster/gtid-set.ts';
import { createWorld, type TestMember, type World } from './world.ts';

let world: World;
let old: TestMember;
let next: TestMember;

beforeAll(async () => {
  world = await createWorld(2, 77);
  [old, next] = world.members as [TestMember, TestMember];
  await Promise.all(world.members.map((member) => member.start(true)));
});
afterAll(() => world?.destroy());

const setOf = async (member: TestMember) => parseGtidSet((await member.status()).gtidExecuted ?? '');
const lacking = async () => compactGtidSet(subtractGtidSets(await setOf(old), await setOf(next)));

/** The primary of `epoch` goes on alone while its replica hears nothing, and then stops. */
async function leaveBehind(epoch: number): Promise<string> {
  await next.command({ kind: 'freeze' }, epoch);
  const { heartbeatAt } = await old.status();
  await old.until((now) => (now.heartbeatAt ?? 0) > (heartbeatAt ?? 0) + 1500);
  await old.command({ kind: 'demote', maxPauseMs: 5000 }, epoch);
  const heartbeats = await lacking();
  expect(heartbeats).toMatch(/:selvedge:/);
  expect(onlyGtidTag(parseGtidSet(heartbeats), ownGtidTag)).toEqual(parseGtidSet(heartbeats));
  return heartbeats;
}

test('a new primary passes over heartbeats that it lacks: who has them follows, acknowledges and applies', async () => {
  await old.command({ kind: 'promote', k: 0, member: 0, timeoutMs: 10_000 });
  await next.command({ kind: 'follow', source: old.source });
  await old.until(({ heartbeatAt }) => heartbeatAt !== null);
  const heartbeats = await leaveBehind(1);

  await next.command({ kind: 'catchUp', gtidSet: '', timeoutMs: 1000 }, 2);
  const promoted = next.command({ kind: 'promote', k: 1, member: 1, timeoutMs: 20_000, heartbeats }, 2);
  await old.command({ kind: 'setVoter', isVoter: true }, 2);
  await old.command({ kind: 'follow', source: next.source }, 2);
  await promoted;

  expect(isGtidSubset(parseGtidSet(heartbeats), await setOf(next))).toBe(true);
  const { heartbeatAt } = await next.until(({ heartbeatAt }) => heartbeatAt !== null);
  const later = await next.until((now) => (now.heartbeatAt ?? 0) > heartbeatAt! + 1000);
  expect(later).toMatchObject({ isWritable: true, semiSync: { noTx: 0 } });
  await old.command({ kind: 'catchUp', gtidSet: later.gtidExecuted!, timeoutMs: 10_000 }, 2);
  expect(await old.status()).toMatchObject({ replication: { receiver: 'on', applier: 'on' } });
});

test('what may hold the row of an epoch is not passed over', async () => {
  await next.command({ kind: 'demote', maxPauseMs: 5000 }, 2);
  await old.command({ kind: 'promote', k: 0, member: 0, timeoutMs: 10_000 }, 3);
  await next.command({ kind: 'follow', source: old.source }, 3);
  await old.until(({ heartbeatAt }) => heartbeatAt !== null);
  const heartbeats = await leaveBehind(3);

  // Nobody was the primary of epoch 4 as far as this member knows, yet there was one.
  await next.command({ kind: 'promote', k: 0, member: 1, timeoutMs: 10_000, heartbeats }, 5);

  expect(isGtidSubset(parseGtidSet(heartbeats), await setOf(next))).toBe(false);
});
