import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as breathe } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  crashWithTail,
  createTrimWorld,
  insert,
  newIdentity,
  readTail,
  rejoin,
  sendTrim,
  type TrimWorld,
  trim,
  volumeOf,
} from './trim-world.ts';
import type { TestMember } from './world.ts';

/** Guarantee 6 at a trim: the executor (and its mysqld with it) is killed on the way, and the next one goes on. */
let on: TrimWorld;

beforeAll(async () => {
  on = await createTrimWorld(76);
});
afterAll(() => on?.world.destroy());

const phases = ['none', 'saving', 'cutting', 'cut', 'trimmed'] as const;

/** How far the marker says it came; it is replaced by renaming, so it is always whole. */
function readPhase(member: TestMember, incarnation: string): (typeof phases)[number] {
  const marker = JSON.parse(readFileSync(join(volumeOf(member, 'data'), 'selvedge.json'), 'utf8'));
  return marker.incarnation === incarnation ? 'trimmed' : (marker.trim?.phase ?? 'none');
}

test.each(['none', 'saving', 'cutting', 'cut', 'trimmed'] as const)('killed at: %s', async (phase) => {
  const old = await crashWithTail(on, insert(on, 3));
  const { incarnation: before } = await old.status();
  const identity = newIdentity();
  expect(await sendTrim(on, old, identity)).toEqual({ outcome: 'accepted' });
  const deadline = performance.now() + 20_000;
  while (phases.indexOf(readPhase(old, identity.incarnation)) < phases.indexOf(phase)) {
    if (performance.now() > deadline) throw new Error(`never came to ${phase}: ${old.launch.logs()}`);
    await breathe();
  }
  await old.launch.destroy();
  const reached = readPhase(old, identity.incarnation);
  await old.relaunch(on.identities.get(old.ordinal));
  const found = await old.status();
  // Killed at the very end, the hold is over; the marker then refuses a launch of the old incarnation.
  expect(['held', 'failed']).toContain(found.instance);

  const status = await trim(on, old, identity);

  expect(status.work, `${reached} ${old.launch.logs()}`).toMatchObject({ outcome: 'done' });
  expect(status).toMatchObject({ instance: 'running', isWritable: false, incarnation: identity.incarnation });
  expect((await readTail(old, before)).decoded).toContain(`nobody acknowledged ${on.lastId}`);
  await rejoin(on, old);
});
