import { afterEach, expect, test } from 'vitest';
import { runClientVerb } from '../../src/cli/client.ts';
import type { CliIo } from '../../src/cli/io.ts';
import { realClock } from '../../src/clock.ts';
import { closeBackup, openBackup } from '../../src/store/backups.ts';
import { getCluster } from '../../src/store/clusters.ts';
import { lead } from '../../src/store/leadership.ts';
import { aServingCluster, aWorld, closeWorlds, portOf } from '../api/helper.ts';
import { newId } from '../store/helper.ts';

afterEach(closeWorlds);

async function aTerminal() {
  const world = await aWorld();
  const { store, live } = world;
  const id = await aServingCluster(world);
  const backupId = newId();
  await openBackup(store, { id: backupId, clusterId: id, ordinal: 1, requestedBy: 'test' });
  await closeBackup(store, await lead(store, 'test'), backupId, { state: 'complete', gtidSet: 'a:1', bytes: 1 });
  live.copyable.set(id, { backups: [], within: 'a:1' });
  await world.app.listen({ port: 0, host: '127.0.0.1' });
  let said = '';
  const answers: string[] = [];
  const io: CliIo = {
    out: (text) => {
      said += text;
    },
    err: (text) => {
      said += text;
    },
    env: { SELVEDGE_API: `http://127.0.0.1:${portOf(world.app)}` },
    clock: realClock,
    ask: async (question) => {
      said += question;
      return answers.shift() ?? null;
    },
    signal: new AbortController().signal,
  };
  const run = (...argv: string[]) => runClientVerb(argv, io);
  return { ...world, id, backupId, answers, run, said: () => said };
}

test('rm --retain-volumes keeps them, status says what is held, purge takes them', async () => {
  const { run, said, answers, id, backupId, store, live } = await aTerminal();
  answers.push('orders');
  live.states.set(id, { state: 'retained', conditions: [] });

  expect(await run('delete', 'orders', '--retain-volumes', '--wait')).toBe(0);

  expect(said()).toContain('Type orders to delete it and to keep its volumes');
  expect(said()).toContain('orders has ended; its volumes are kept until it is purged.');
  expect((await getCluster(store, id)).desired).toBe('retained');
  expect(await run('status', 'orders')).toBe(0);
  expect(said()).toMatch(
    new RegExp(`Volumes retained since .* newest backup ${backupId} on member 1, no recovery window`),
  );
  expect(await run('rm', 'orders', '--yes')).toBe(1);
  expect(said()).toContain('CLUSTER_RETAINED');
  expect(await run('purge', 'orders')).toBe(2);
  expect(await run('purge', 'orders', '--confirm', 'order')).toBe(1);
  expect(await run('purge', 'orders', '--confirm', 'orders')).toBe(0);
  expect(said()).toContain('orders is being purged.');
  expect((await getCluster(store, id)).desired).toBe('deleted');
});
