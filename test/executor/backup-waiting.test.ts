/** A backup of a primary whose commits wait for acknowledgements: CLONE waits for them, and nobody waits for it. */
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createTrimWorld, othersOf, type TrimWorld } from './trim-world.ts';

let on: TrimWorld;

beforeAll(async () => {
  on = await createTrimWorld(92);
});
afterAll(() => on?.world.destroy());

/** Nobody acknowledges any more, and a commit waits. Answers what came of it, once it is known. */
async function block() {
  const { primary } = on;
  await Promise.all(othersOf(on).map((each) => each.command({ kind: 'freeze' })));
  const team = await primary.team();
  on.lastId += 1;
  const outcome = { is: '' };
  const ended = team.query(`INSERT INTO shop.orders VALUES (${on.lastId}, 'waits')`, [], { timeoutMs: null }).then(
    () => {
      outcome.is = 'OK';
    },
    (error: Error) => {
      outcome.is = error.message;
    },
  );
  await primary.until(({ semiSync }) => semiSync.waitingSessions > 0);
  return { team, outcome, ended };
}

test('it stands while they wait, frees none of them, and is whole when they are acknowledged', async () => {
  const { primary } = on;
  const { team, outcome, ended } = await block();
  const backupId = randomUUID();
  await primary.command({ kind: 'backup', backupId });
  const from = (await primary.until(({ work }) => work?.step === 'copying')).at;

  // Some looks later: still neither.
  const { work } = await primary.until(({ at }) => at > from + 2500);
  expect(work).toMatchObject({ kind: 'backup', outcome: 'running' });
  expect(outcome.is).toBe('');

  await Promise.all(othersOf(on).map((each) => each.command({ kind: 'thaw' })));
  await ended;
  expect(outcome.is).toBe('OK');
  const { backups } = await primary.until((status) => status.work?.outcome === 'done', 60_000);
  expect(backups.map(({ id }) => id)).toEqual([backupId]);
  await team.close();
}, 120_000);

test('a fence and a promotion of another member do not wait for it', async () => {
  const old = on.primary;
  const { team, outcome, ended } = await block();
  await old.command({ kind: 'backup', backupId: randomUUID() });
  await old.until(({ work }) => work?.outcome === 'running');

  await old.command({ kind: 'fence' });

  const { instance, work } = await old.until((status) => status.work?.outcome === 'failed');
  expect({ instance, kind: work?.kind }).toEqual({ instance: 'held', kind: 'backup' });
  await ended;
  expect(outcome.is).not.toBe('OK');
  const [heir, other] = othersOf(on) as [typeof old, typeof old];
  // Frozen: the other one acknowledges only for who leads from now on.
  await other.command({ kind: 'setVoter', isVoter: true }, 2);
  await Promise.all([
    heir.command({ kind: 'promote', k: 1, member: heir.ordinal, timeoutMs: 20_000 }, 2),
    other.command({ kind: 'follow', source: heir.source }, 2),
  ]);
  expect((await heir.until(({ isWritable }) => isWritable)).epoch).toBe(2);
  await team.close().catch(() => {});
}, 120_000);
