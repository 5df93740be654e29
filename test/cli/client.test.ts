import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test, vi } from 'vitest';
import { clientHelp, clientVerbs, runClientVerb } from '../../src/cli/client.ts';
import type { CliIo } from '../../src/cli/io.ts';
import { realClock } from '../../src/clock.ts';
import { closeBackup, listOpenBackups } from '../../src/store/backups.ts';
import { addEvent } from '../../src/store/events.ts';
import { closeFailover, findOpenFailover, recordFailover } from '../../src/store/failovers.ts';
import { lead } from '../../src/store/leadership.ts';
import { closeRebuild, listOpenRebuilds } from '../../src/store/rebuilds.ts';
import { aServingCluster, aWorld, closeWorlds, portOf, token, type World } from '../api/helper.ts';

const aborts: AbortController[] = [];
afterEach(async () => {
  for (const abort of aborts.splice(0)) abort.abort();
  await closeWorlds();
});

async function aTerminal(world: World, change: Partial<CliIo> = {}) {
  if (!world.app.server.listening) await world.app.listen({ port: 0, host: '127.0.0.1' });
  const abort = new AbortController();
  aborts.push(abort);
  const said = { out: '', err: '', abort };
  const io: CliIo = {
    out: (text) => {
      said.out += text;
    },
    err: (text) => {
      said.err += text;
    },
    env: { SELVEDGE_API: `http://127.0.0.1:${portOf(world.app)}` },
    clock: realClock,
    ask: async () => null,
    signal: abort.signal,
    ...change,
  };
  return { said, run: (...argv: string[]) => runClientVerb(argv, io) };
}

test('a cluster is created, waited for, listed and shown', async () => {
  const world = await aWorld();
  const { said, run } = await aTerminal(world);

  const creating = run('create', 'orders', '--data', 'mount:2G', '--backup', 'path:4096', '--wait', '--timeout', '10');
  await vi.waitFor(() => expect(said.err).toContain('orders: creating'), 5_000);
  for (const id of world.woken) world.live.states.set(id, { state: 'ready', conditions: [] });

  expect(await creating).toBe(0);
  expect(said.out).toContain('team_orders  team-secret');
  expect(said.err).toContain('orders: ready');
  said.out = '';
  expect(await run('ls')).toBe(0);
  expect(said.out).toMatch(/^CLUSTER +STATE .*\norders +ready +3 /);
  said.out = '';
  expect(await run('status', 'orders', '--json')).toBe(0);
  expect(JSON.parse(said.out)).toMatchObject({
    name: 'orders',
    spec: { volumes: { data: { type: 'mount', sizeMb: 2048 }, backup: { type: 'path', sizeMb: 4096 } } },
  });
});

test('credentials are in the one JSON document, also when the time is up', async () => {
  const world = await aWorld();
  const { said, run } = await aTerminal(world);

  expect(await run('create', 'orders', '--json', '--wait', '--timeout', '0')).toBe(4);

  expect(JSON.parse(said.out)).toMatchObject({
    state: 'creating',
    credentials: { user: 'team_orders', password: 'team-secret' },
  });
  expect(JSON.parse(said.err.split('\n').at(-2)!)).toMatchObject({ exitCode: 4 });
});

test('a dry run answers by its exit code and says why', async () => {
  const world = await aWorld();
  const { said, run } = await aTerminal(world);
  expect(await run('create', 'orders', '--dry-run')).toBe(0);
  const stages = [{ name: 'cpus' as const, isPassed: false, reason: 'Asked for 1, 0.5 are free' }];
  world.live.dryRun = { placed: [], refused: [{ ordinal: 0, agents: [{ agentId: 'a', hostname: 'one', stages }] }] };

  expect(await run('create', 'orders', '--dry-run')).toBe(1);

  expect(said.out).toContain('one: cpus: Asked for 1, 0.5 are free');
  expect(world.woken).toEqual([]);
});

test('a refusal is told by title, detail, faults and what to do', async () => {
  const world = await aWorld();
  const { said, run } = await aTerminal(world);

  expect(await run('create', 'Orders', '--members', '0')).toBe(1);

  expect(said.err).toContain('The request is not valid (BAD_REQUEST)');
  expect(said.err).toContain('  name: must be a DNS label');
  expect(said.err).toContain('  members: ');
  expect(said.err).toContain('To do: Mend every fault');
  said.err = '';
  expect(await run('status', 'none', '--json')).toBe(1);
  expect(JSON.parse(said.err)).toMatchObject({ code: 'NOT_FOUND', status: 404 });
});

test('a switchover is waited for with its steps', async () => {
  const world = await aWorld();
  const id = await aServingCluster(world);
  const { said, run } = await aTerminal(world);

  const changing = run('switchover', 'orders', '--candidate', '1', '--if-primary', '0', '--reason', 'drill', '--wait');
  await vi.waitFor(() => expect(said.err).toContain('switchover: open'), 5_000);
  const open = await findOpenFailover(world.store, id);
  const leader = await lead(world.store, 'test');
  const step = { name: 'demoted', at: open!.startedAt + 12 };
  await recordFailover(world.store, leader, open!.id, { step, toPrimary: 1 });
  await closeFailover(world.store, leader, open!.id, 'done');

  expect(await changing).toBe(0);
  expect(said.out).toMatch(/\+12 ms +demoted/);
});

test('a failover that is refused ends with 1 and the reason', async () => {
  const world = await aWorld();
  const id = await aServingCluster(world);
  const { said, run } = await aTerminal(world);

  const changing = run('failover', 'orders', '--reason', 'dead', '--wait');
  await vi.waitFor(() => expect(said.err).toContain('failover: open'), 5_000);
  const open = await findOpenFailover(world.store, id);
  const refusal = { code: 'PROMOTION_UNSAFE', message: 'member 2 was not reached' };
  await closeFailover(world.store, await lead(world.store, 'test'), open!.id, 'refused', refusal);

  expect(await changing).toBe(1);
  expect(said.out).toContain('PROMOTION_UNSAFE: member 2 was not reached');
  expect(await run('failover', 'orders', '--if-epoch', '9', '--reason', 'again')).toBe(1);
  expect(said.err).toContain('PRECONDITION');
});

test('a plan is shown with its steps, and a refused one ends with 1', async () => {
  const world = await aWorld();
  await aServingCluster(world);
  const { said, run } = await aTerminal(world);
  const steps = [{ name: 'commit', member: null, what: 'epoch 1 becomes 2' }];
  const change = ['orders', '--reason', 'look', '--dry-run'];

  world.live.changePlan = { kind: 'switchover', candidate: 2, refusal: null, warnings: [], steps, predictedMs: 50 };
  expect(await run('switchover', ...change, '--max-pause', '900')).toBe(0);
  expect(said.out).toContain('Member 2 would become the primary, in about 50 ms.');
  expect(said.out).toContain('epoch 1 becomes 2');
  said.out = '';
  const refusal = { code: 'PRIMARY_HEALTHY', message: 'member 0 is alive', facts: { note: 'well' } };
  world.live.changePlan = { kind: 'failover', candidate: null, refusal, warnings: [], steps: [], predictedMs: null };
  expect(await run('failover', ...change, '--force', '--accept-loss', 'x')).toBe(1);
  expect(said.out).toBe('It would be refused. PRIMARY_HEALTHY: member 0 is alive\n  note: "well"\n');
});

test('what a cluster promises can be set, and nothing to set is wrong use', async () => {
  const world = await aWorld();
  await aServingCluster(world);
  const { said, run } = await aTerminal(world);

  expect(
    await run('set', 'orders', '--automation', 'off', '--for-minutes', '5', '--prefer', '1', '--never', '2', '--json'),
  ).toBe(0);
  expect(JSON.parse(said.out)).toMatchObject({ automation: { mode: 'off' }, preferences: { 1: 'prefer', 2: 'never' } });
  expect(JSON.parse(said.out).automation.until).toBeGreaterThan(0);
  expect(await run('set', 'orders')).toBe(2);
  expect(await run('set', 'orders', '--for-minutes', '5')).toBe(2);
  expect(await run('set', 'orders', '--durability', 'some')).toBe(1);
});

test('backup and rebuild are waited for', async () => {
  const world = await aWorld();
  const id = await aServingCluster(world);
  const { said, run } = await aTerminal(world);
  const leader = await lead(world.store, 'test');

  const backingUp = run('backup', 'orders', '--wait');
  await vi.waitFor(() => expect(said.err).toContain('backup of member 2: open'), 5_000);
  const [backup] = await listOpenBackups(world.store, id);
  await closeBackup(world.store, leader, backup!.id, { state: 'complete', gtidSet: 'a:1-9', bytes: 5_000_000 });
  expect(await backingUp).toBe(0);

  const rebuilding = run('rebuild', 'orders', '1', '--wait', '--json');
  await vi.waitFor(() => expect(said.err).toContain('rebuild of member 1: open'), 5_000);
  const [rebuild] = await listOpenRebuilds(world.store, id);
  await closeRebuild(world.store, leader, rebuild!.id, { state: 'failed', code: 'BACKUP_DAMAGED', message: 'x' });
  expect(await rebuilding).toBe(1);
  said.out = '';
  expect(await run('backups', 'orders')).toBe(0);
  expect(said.out).toMatch(/complete .* 5 MB +a:1-9/);
});

test('a backup is verified, taken away and removed, and the policy changed', async () => {
  const world = await aWorld();
  const id = await aServingCluster(world);
  const { said, run } = await aTerminal(world);
  const leader = await lead(world.store, 'test');
  expect(await run('backup', 'orders')).toBe(0);
  const [backup] = await listOpenBackups(world.store, id);
  await closeBackup(world.store, leader, backup!.id, { state: 'complete', gtidSet: 'a:1-9', bytes: 5_000_000 });
  const dir = mkdtempSync(join(tmpdir(), 'svcli-'));
  try {
    expect(await run('download', 'orders', backup!.id, '--output', join(dir, 'b.tar'))).toBe(0);
    expect(readdirSync(dir)).toEqual(['b.tar']);
    expect(await run('download', 'orders', 'none', '--output', join(dir, 'c.tar'))).toBe(1);
    expect(readdirSync(dir)).toEqual(['b.tar']);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }

  expect(await run('backup-policy', 'orders', '--schedule', 'none', '--max-mb-per-second', '5', '--json')).toBe(0);
  expect(said.out).toContain('"schedule":null');
  expect(said.out).toContain(`"maxBytesPerSec":${5 * 1024 * 1024}`);
  expect(await run('backup-policy', 'orders', '--schedule', 'every day')).toBe(1);
  expect(await run('backups', 'orders', '--remove', backup!.id)).toBe(1);
  expect(said.err).toContain('BACKUP_LAST_VERIFIED');
  expect(await run('backups', 'orders', '--remove', backup!.id, '--force')).toBe(0);
  expect(await run('backups', 'orders', '--force')).toBe(2);
  expect(await run('verify', 'orders', '../x')).toBe(2);
});

test('the key of the backups goes to a new file of its owner alone', async () => {
  const world = await aWorld();
  await aServingCluster(world);
  const { said, run } = await aTerminal(world);
  const dir = mkdtempSync(join(tmpdir(), 'svcli-'));
  const output = join(dir, 'orders.key');
  try {
    expect(await run('backup-key', 'orders', '--output', output)).toBe(1);
    expect(readdirSync(dir)).toEqual([]);
    expect(await run('backup-policy', 'orders', '--encrypt', 'aes-256-gcm')).toBe(0);
    expect(said.out).toMatch(/encryption +aes-256-gcm/);

    expect(await run('backup-key', 'orders', '--output', output)).toBe(0);

    const key = readFileSync(output, 'utf8');
    expect(key).toMatch(/^[0-9a-f]{64}\n$/);
    expect(statSync(output).mode & 0o777).toBe(0o600);
    expect(said.out + said.err).not.toContain(key.trim());
    expect(await run('backup-key', 'orders', '--output', output)).toBe(1);
    expect(readFileSync(output, 'utf8')).toBe(key);
    expect(await run('backup-key', 'orders')).toBe(2);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});

test('rm wants the name typed, or --yes, and deletes by id', async () => {
  const world = await aWorld();
  const id = await aServingCluster(world);
  const answers: (string | null)[] = [null, 'other', 'orders'];
  const { said, run } = await aTerminal(world, { ask: async () => answers.shift() ?? null });

  expect(await run('rm', 'orders')).toBe(2);
  expect(await run('rm', 'orders')).toBe(1);
  expect((await world.app.inject('/v1/clusters/orders')).json().state).toBe('ready');
  expect(await run('rm', 'orders')).toBe(0);
  const waiting = run('rm', id, '--yes', '--wait');
  world.store.db.exec('UPDATE cluster SET deleted_at = 9, open_name = NULL');

  expect(await waiting).toBe(0);
  expect(said.out).toContain('orders is gone.');
});

test('events are listed and followed', async () => {
  const world = await aWorld();
  await aServingCluster(world);
  const { said, run } = await aTerminal(world);
  expect(await run('events')).toBe(0);
  expect(said.out).toMatch(/cluster\.created +orders +A team asked for the cluster/);
  said.out = '';

  const following = run('events', '--follow', '--json', '--after', '1', '--cluster', 'orders');
  await addEvent(world.store, { kind: 'member.lost', cluster: 'orders', ordinal: 2 });
  await vi.waitFor(() => expect(said.out).toContain('member.lost'), 5_000);
  said.abort.abort();

  expect(await following).toBe(0);
  expect(JSON.parse(said.out)).toMatchObject({ seq: 2, ordinal: 2 });
});

test('endpoints are shown and watched, offers and reservations listed', async () => {
  const world = await aWorld();
  await aServingCluster(world);
  const { said, run } = await aTerminal(world);

  expect(await run('endpoints', 'orders')).toBe(0);
  expect(said.out).toMatch(/primary +0 +127\.0\.0\.10:31000/);
  expect(await run('reservations')).toBe(0);
  expect(said.out).toContain('data=mount:9000 backup=path:4096');
  expect(await run('offers')).toBe(0);
  said.out = '';
  const watching = run('endpoints', 'orders', '--watch', '--json');
  await vi.waitFor(() => expect(said.out).toContain('"epoch":1'), 5_000);
  said.abort.abort();
  expect(await watching).toBe(0);
});

test('a wait goes on while the API is away, and an API that never was there is 3', async () => {
  const world = await aWorld();
  await aServingCluster(world);
  const { said, run } = await aTerminal(world);
  const waiting = run('switchover', 'orders', '--reason', 'drill', '--wait', '--timeout', '2');
  await vi.waitFor(() => expect(said.err).toContain('switchover: open'), 5_000);

  await world.app.close();

  expect(await waiting).toBe(4);
  expect(said.err).toContain('Still trying.');
  expect(await run('ls')).toBe(3);
  expect(said.err).toContain('is not reachable');
});

test('the token is sent, from the option before the environment', async () => {
  const world = await aWorld({ kind: 'tokens', tokens: [token('reader', 'viewer')] });
  const { run } = await aTerminal(world);

  expect(await run('ls')).toBe(1);
  expect(await run('ls', '--token', 'secret-of-reader')).toBe(0);
});

test.each([
  [['nonsense']],
  [['ls', '--nonsense']],
  [['ls', 'extra']],
  [['status']],
  [['status', '../../healthz']],
  [['status', '..']],
  [['status', 'a', 'b']],
  [['status', 'orders', '--api', 'nonsense']],
  [['status', 'orders', '--api', 'file:///etc/passwd']],
  [['failover', 'orders']],
  [['failover', 'orders', '--reason', 'x', '--candidate', 'one']],
  [['create', 'orders', '--data', 'tape:5']],
  [['create', 'orders', '--mem', 'much']],
  [['create', 'orders', '--attribute', 'rack']],
  [['create', 'orders', '--wait', '--timeout', '-1']],
  [['rebuild', 'orders']],
  [['rebuild', 'orders', 'x']],
  [['replace-volume', 'orders']],
])('%j is wrong usage', async (argv) => {
  const world = await aWorld();
  const { said, run } = await aTerminal(world);

  expect(await run(...argv)).toBe(2);
  expect(said.err).not.toBe('');
  expect(said.out).toBe('');
});

test('every verb explains itself with examples that parse', async () => {
  const world = await aWorld();
  const { said, run } = await aTerminal(world);

  for (const verb of clientVerbs) {
    said.out = '';
    expect(await run(verb, '--help')).toBe(0);
    expect(said.out).toContain(`selvedge ${verb}`);
    expect(said.out).toContain('Exit codes');
    expect(clientHelp()).toContain(`  ${verb} `);
  }
});

test('what a server says cannot steer the terminal', async () => {
  const world = await aWorld();
  const id = await aServingCluster(world);
  const condition = { type: 'x', since: 1, reason: 'r', message: 'red \u001b[31m\u009b2J\u202e text' };
  world.live.states.set(id, { state: 'degraded', conditions: [condition] });
  const { said, run } = await aTerminal(world);

  await run('status', 'orders');
  await run('ls');

  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what is looked for
  expect(said.out).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/);
});
