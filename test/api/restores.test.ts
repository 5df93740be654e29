import { afterEach, expect, test } from 'vitest';
import { runClientVerb } from '../../src/cli/client.ts';
import { realClock } from '../../src/clock.ts';
import type { RestorePlan } from '../../src/cluster/restore-plan.ts';
import { openBackup } from '../../src/store/backups.ts';
import { findOpenRestore } from '../../src/store/restores.ts';
import { newId } from '../store/helper.ts';
import { aServingCluster, aWorld, closeWorlds, portOf } from './helper.ts';

afterEach(async () => expect(await closeWorlds()).toBe(0));

const uuid = '00000000-0000-4000-8000-00000000000a';
const backup = { id: 'b1', ordinal: 2, gtidSet: `${uuid}:1-10`, bytes: 5, endedAt: 9, isBad: false, isReachable: true };
const aPlan: RestorePlan = {
  ...{ kind: 'planned', backup, within: `${uuid}:1-20`, ordinal: 2, lost: `${uuid}:11-20`, isLostExact: false },
  spans: [{ ordinal: 0, serverUuid: uuid, fromGtids: '', gtidSet: `${uuid}:1-20`, lastAt: 20 }],
  estimateMs: 12_000,
};

async function aPlanned(plan: RestorePlan | null = aPlan) {
  const world = await aWorld();
  const id = await aServingCluster(world);
  world.live.restorable.set(id, plan);
  const ask = (payload: object, query = '') =>
    world.app.inject({ method: 'POST', url: `/v1/clusters/orders/restore${query}`, payload });
  return { ...world, id, ask };
}

test('a plan changes nothing; a restore needs the name, and is stored whole', async () => {
  const { ask, app, store, id, woken } = await aPlanned();

  expect((await ask({ at: 15 }, '?dryRun=true')).json()).toMatchObject({
    ...{ cluster: 'orders', backup: 'b1', holder: 2, member: 2, lost: `${uuid}:11-20`, isLostExact: false },
    archives: [{ member: 0, gtidSet: `${uuid}:1-20` }],
  });
  const unconfirmed = await ask({ at: 15, confirm: 'order' });
  expect(unconfirmed.statusCode).toBe(422);
  expect(unconfirmed.json()).toMatchObject({ code: 'CONFIRM_NEEDED', facts: { confirm: 'orders' } });
  expect(await findOpenRestore(store, id)).toBeNull();

  const answer = await ask({ at: 15, confirm: 'orders', maxBytesPerSec: 2048 });
  expect(answer.statusCode).toBe(202);
  expect(answer.json()).toMatchObject({ state: 'open', backup: 'b1', safetyBackup: null, lost: null, progress: null });
  expect(woken).toContain(id);
  expect(await findOpenRestore(store, id)).toMatchObject({
    ...{ ordinal: 2, isForced: false, fromEpoch: null, fencingAt: null },
    origin: { within: `${uuid}:1-20`, until: { kind: 'at', atMs: 15 }, maxBytesPerSec: 2048 },
  });
  expect((await ask({ at: 15, confirm: 'orders' })).json()).toMatchObject({ code: 'OPERATION_OPEN' });
  expect((await app.inject(answer.headers.location as string)).json()).toEqual(answer.json());
  expect((await app.inject('/v1/clusters/orders/restores')).json().restores).toHaveLength(1);
});

test('what cannot be is refused with its reason', async () => {
  const missing = `${uuid}:7`;
  const refusal = { kind: 'refused', code: 'TARGET_NOT_REACHED', message: 'a gap', missing } as const;
  const { ask, store, id, live } = await aPlanned(refusal);
  const codeOf = async (body: object) => (await ask({ confirm: 'orders', ...body })).json().code;

  expect((await ask({ at: 15 })).json()).toMatchObject({ code: 'TARGET_NOT_REACHED', facts: { missing } });
  expect(await codeOf({})).toBe('BAD_REQUEST');
  expect(await codeOf({ at: 15, gtid: missing })).toBe('BAD_REQUEST');
  expect(await codeOf({ at: Date.now() + 60_000 })).toBe('BAD_REQUEST');
  expect(await codeOf({ at: 15, cluster: 'other' })).toBe('BAD_REQUEST');
  live.restorable.set(id, null);
  expect(await codeOf({ at: 15 })).toBe('NO_PRIMARY');
  live.restorable.set(id, aPlan);
  await openBackup(store, { id: newId(), clusterId: id, ordinal: 0, requestedBy: 'schedule' });
  expect(await codeOf({ at: 15 })).toBe('OPERATION_OPEN');
});

test('the command line wants the name once more, and shows plan and restore', async () => {
  const { app } = await aPlanned();
  await app.listen({ port: 0, host: '127.0.0.1' });
  let said = '';
  const say = (text: string) => {
    said += text;
  };
  const env = { SELVEDGE_API: `http://127.0.0.1:${portOf(app)}` };
  const io = { out: say, err: say, env, clock: realClock, ask: async () => null, signal: new AbortController().signal };
  const run = (...argv: string[]) => runClientVerb(['restore', 'orders', ...argv], io);

  expect(await run('--at', '1970-01-01T00:00:05Z')).toBe(2);
  expect(await run('--confirm', 'orders')).toBe(2);
  expect(await run('--at', '5', '--gtid', uuid, '--confirm', 'orders')).toBe(2);
  expect(await run('--at', '5', '--confirm', 'other')).toBe(1);
  expect(said).toContain('CONFIRM_NEEDED');
  expect(await run('--at', '5', '--dry-run')).toBe(0);
  expect(said).toContain('about 12 s');
  expect(await run('--backup', 'b1', '--without-safety-backup', '--confirm', 'orders')).toBe(0);
  expect(said).toContain('is open');
});
