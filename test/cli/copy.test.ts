import { afterEach, expect, test } from 'vitest';
import { runClientVerb } from '../../src/cli/client.ts';
import type { CliIo } from '../../src/cli/io.ts';
import { realClock } from '../../src/clock.ts';
import { findCluster } from '../../src/store/clusters.ts';
import { aServingCluster, aWorld, closeWorlds, portOf } from '../api/helper.ts';

afterEach(closeWorlds);

const uuid = '00000000-0000-4000-8000-00000000000a';

async function aTerminal() {
  const world = await aWorld();
  const id = await aServingCluster(world);
  const backup = { id: 'b1', ordinal: 1, gtidSet: `${uuid}:1-10`, bytes: 1, endedAt: 1000 };
  const backups = [{ ...backup, isBad: false, isReachable: true }];
  world.live.copyable.set(id, { backups, within: `${uuid}:1-100` });
  await world.app.listen({ port: 0, host: '127.0.0.1' });
  let said = '';
  const io: CliIo = {
    out: (text) => {
      said += text;
    },
    err: (text) => {
      said += text;
    },
    env: { SELVEDGE_API: `http://127.0.0.1:${portOf(world.app)}` },
    clock: realClock,
    ask: async () => null,
    signal: new AbortController().signal,
  };
  return { ...world, run: (...argv: string[]) => runClientVerb(argv, io), said: () => said };
}

test('a copy is asked for by source, name and target; sizes not given are as in the source', async () => {
  const { run, said, store } = await aTerminal();

  expect(await run('copy', 'orders', 'twin', '--at', '1970-01-01T00:00:05Z', '--max-rate', '5000')).toBe(0);
  expect(await run('copy', 'orders', 'exact', '--gtid', `${uuid}:1-50`, '--backup', 'b1', '--members', '1')).toBe(0);
  expect(await run('copy', 'orders', 'larger', '--data', 'root:8G', '--backup-volume', 'none')).toBe(0);
  expect(await run('create', 'plain', '--from', 'orders')).toBe(0);

  expect(said()).toContain('team_twin');
  const source = (await findCluster(store, 'orders'))!;
  const twin = (await findCluster(store, 'twin'))!;
  expect(twin.spec).toEqual({ ...source.spec, name: 'twin' });
  expect(twin.origin).toMatchObject({ until: { kind: 'at', atMs: 5000 }, maxBytesPerSec: 5000 });
  const exact = (await findCluster(store, 'exact'))!;
  expect(exact.origin).toMatchObject({ backup: { id: 'b1' }, until: { kind: 'gtid', gtidSet: `${uuid}:1-50` } });
  expect(exact.spec.members).toBe(1);
  const volumes = { data: { type: 'root', sizeMb: 8192 }, backup: null };
  expect((await findCluster(store, 'larger'))!.spec.volumes).toEqual(volumes);
  expect((await findCluster(store, 'plain'))!.origin).toMatchObject({ until: { kind: 'backup' } });
});

test('wrong use and refusals are told by their exit codes', async () => {
  const { run, said } = await aTerminal();

  expect(await run('copy', 'orders')).toBe(2);
  expect(await run('copy', 'orders', 'twin', '--at', '5', '--gtid', `${uuid}:1`)).toBe(2);
  expect(await run('copy', 'orders', 'twin', '--cpus', '1')).toBe(2);
  expect(await run('copy', 'orders', 'twin', '--backup-volume', 'path:1G')).toBe(2);
  expect(await run('copy', 'nobody', 'twin')).toBe(1);
  expect(await run('copy', 'orders', 'twin', '--backup', 'b2')).toBe(1);
  expect(said()).toContain('NO_BACKUP');
});
