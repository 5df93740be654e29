import { closeSync, openSync, readdirSync, statSync, truncateSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  formatGtidSet,
  ownGtidTag,
  parseGtidSet,
  subtractGtidSets,
  withoutGtidTag,
} from '../../src/cluster/gtid-set.ts';
import {
  crashWithTail,
  createTrimWorld,
  insert,
  newIdentity,
  ownSession,
  rejoin,
  type TrimWorld,
  trim,
  volumeOf,
} from './trim-world.ts';
import type { TestMember } from './world.ts';

/** What a dead primary ever logged is read from its files, on real ones. */
let on: TrimWorld;

beforeAll(async () => {
  on = await createTrimWorld(81);
});
afterAll(() => on?.world.destroy());

const examine = (member: TestMember, timeoutMs = 10_000) =>
  member.launch.send({ kind: 'examine', timeoutMs }, { epoch: on.epoch, leaderToken: 9 });
const lastLog = (member: TestMember) => {
  const directory = join(volumeOf(member, 'data'), 'data');
  const names = readdirSync(directory).filter((name) => /^binlog\.\d+$/.test(name));
  return join(directory, names.sort().at(-1)!);
};

test('a member that runs is not examined', async () => {
  expect(await examine(on.primary)).toMatchObject({ outcome: 'refused', code: 'BUSY' });
});

test('a dead primary tells all that it logged, its tail too, and is as it was', async () => {
  const old = await crashWithTail(on, insert(on, 3));
  const { size } = statSync(lastLog(old));

  const began = performance.now();
  const result = await examine(old);
  console.log(`${size} bytes examined in ${Math.round(performance.now() - began)} ms`);

  if (result.outcome !== 'done') throw new Error(JSON.stringify(result));
  const session = await ownSession(on.primary);
  const [row] = await session.query<{ executed: string }>('SELECT @@GLOBAL.gtid_executed AS executed');
  await session.close();
  const beyond = subtractGtidSets(parseGtidSet(result.gtidLogged ?? ''), parseGtidSet(row!.executed));
  expect(formatGtidSet(withoutGtidTag(beyond, ownGtidTag))).toMatch(/^[0-9a-f-]{36}:(\d+)-(\d+)$/);
  expect(await examine(old)).toEqual(result);
  expect((await old.status()).instance).toBe('held');
  expect((await trim(on, old, newIdentity())).work).toMatchObject({ outcome: 'done' });
  await rejoin(on, old);
});

test('a torn end is no fault: it was never flushed; a damaged event is', async () => {
  const old = await crashWithTail(on, insert(on, 1));
  const whole = await examine(old);
  const { size } = statSync(lastLog(old));

  truncateSync(lastLog(old), size - 5);
  const torn = await examine(old);
  const file = openSync(lastLog(old), 'r+');
  writeSync(file, Buffer.alloc(4, 0x5a), 0, 4, 400);
  closeSync(file);

  expect(torn).toMatchObject({ outcome: 'done' });
  expect(torn).not.toEqual(whole);
  expect(await examine(old)).toMatchObject({ outcome: 'refused', code: 'BINLOG_UNREADABLE' });
});
