import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { clientVerbs } from '../../src/cli/client.ts';
import { aServingCluster, aWorld, closeWorlds, portOf } from '../api/helper.ts';

const main = join(import.meta.dirname, '..', '..', 'src', 'main.ts');
const children: ChildProcess[] = [];
afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  expect(await closeWorlds()).toBe(0);
});

async function listen() {
  const world = await aWorld();
  await aServingCluster(world);
  await world.app.listen({ port: 0, host: '127.0.0.1' });
  return { world, env: { ...process.env, SELVEDGE_API: `http://127.0.0.1:${portOf(world.app)}` } };
}

function start(argv: readonly string[], env: NodeJS.ProcessEnv) {
  const child = spawn(process.execPath, [main, ...argv], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  children.push(child);
  const said = { out: '', err: '' };
  child.stdout.setEncoding('utf8').on('data', (text) => {
    said.out += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text) => {
    said.err += text;
  });
  return { child, said, ended: once(child, 'close').then(([code]) => code as number) };
}

test('the help of the process names every verb', async () => {
  const { said, ended } = start(['--help'], process.env);

  expect(await ended).toBe(0);
  for (const verb of clientVerbs) expect(said.out).toContain(`\n  ${verb} `);
});

test('the process answers on stdout, complains on stderr and ends with the exit code', async () => {
  const { env } = await listen();

  const [good, refused, unconfirmed] = [
    start(['status', 'orders', '--json'], env),
    start(['status', 'none'], env),
    start(['rm', 'orders'], env),
  ];

  expect(await good.ended).toBe(0);
  expect(JSON.parse(good.said.out)).toMatchObject({ name: 'orders', epoch: 1 });
  expect(good.said.err).toBe('');
  expect(await refused.ended).toBe(1);
  expect(refused.said.out).toBe('');
  expect(refused.said.err).toContain('There is no cluster none.');
  expect(await unconfirmed.ended).toBe(2);
});

test('Ctrl-C ends a follower cleanly', async () => {
  const { env, world } = await listen();
  const { child, said, ended } = start(['events', '--follow', '--after', '0'], env);
  await once(child.stdout!, 'data');

  child.kill('SIGINT');

  expect(await ended).toBe(0);
  expect(said.out).toContain('cluster.created');
  expect(said.err).toBe('');
  await world.app.close();
});
