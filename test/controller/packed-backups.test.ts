/**
 * Packed and encrypted backups the whole way, on real MySQL: made by the policy, verified, a member is rebuilt from one, a
 * cluster is copied from one and led back to one, and both downloads are started by hand.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { realClock } from '../../src/clock.ts';
import { connect } from '../../src/mysql/connection.ts';
import { type Api, createApiClient } from '../demo/api-client.ts';
import { type ControlPlane, createControlPlane } from '../demo/control-plane.ts';
import { diagnose } from '../demo/diagnosis.ts';
import { removeRunDirectories } from '../demo/homes.ts';
import { findUsersOf } from '../demo/processes.ts';
import { clusterBody, clusterName, waitReady } from '../demo/steps.ts';
import { waitFor } from '../demo/wait.ts';
import { startByHand } from './by-hand.ts';

const timeoutMs = 240_000;
const selvedge = join(import.meta.dirname, '..', '..', 'src', 'main.ts');
const count = 300;
type Created = Awaited<ReturnType<Api['create']>>;
let plane: ControlPlane;
let api: Api;
let source: Created;
let dir: string;

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'svpacked-'));
  plane = await createControlPlane({ agents: 2 });
  await plane.start();
  api = createApiClient(plane.apiUrl);
  source = await api.create({ ...clusterBody, members: 2 });
  await waitReady(api, undefined, timeoutMs);
  await query(source, 'CREATE DATABASE shop');
  await query(source, 'CREATE TABLE shop.orders (id INT PRIMARY KEY, note VARCHAR(1000))');
  const rows = Array.from({ length: count }, (_, id) => `(${id}, REPEAT('secret order ', 70))`);
  await query(source, `INSERT INTO shop.orders VALUES ${rows.join(',')}`);
}, timeoutMs);
afterEach(async (context) => {
  if (context.task.result?.state === 'fail') await diagnose(plane, api, console.log);
});
afterAll(async () => {
  await plane?.destroy(removeRunDirectories);
  rmSync(dir, { recursive: true, force: true });
});

async function query<Row>({ name, credentials }: Created, sql: string): Promise<Row[]> {
  const { host, port } = (await api.endpoints(name)).primary!;
  const session = await connect({ host, port, caPem: credentials.caCertPem }, credentials, { clock: realClock });
  try {
    return await session.query<Row>(sql);
  } finally {
    await session.close();
  }
}

const countRows = async (cluster: Created) =>
  (await query<{ n: number }>(cluster, 'SELECT COUNT(*) AS n FROM shop.orders'))[0]?.n;

/** A person's command line. */
function run(...args: string[]): string {
  const options = { encoding: 'utf8' as const, env: { ...process.env, SELVEDGE_API: plane.apiUrl } };
  return execFileSync(process.execPath, [selvedge, ...args], { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
}

/** By a replica, verified by itself, and the member is filled anew from it. */
async function makeAndRebuild(): Promise<string> {
  const { primary } = await waitReady(api, undefined, timeoutMs);
  const member = primary === 0 ? 1 : 0;
  const made = JSON.parse(run('backup', clusterName, '--member', String(member), '--wait', '--json')) as { id: string };
  await waitFor({ what: 'the verification', timeoutMs, everyMs: 100 }, async () => {
    const { verifiedAt, badReason } = await api.backup(clusterName, made.id);
    expect(badReason).toBe(null);
    return verifiedAt !== null;
  });
  const { id } = await api.rebuild(clusterName, member);
  const rebuild = await waitFor({ what: 'the rebuild', timeoutMs, everyMs: 100 }, async () => {
    const found = (await api.rebuilds(clusterName)).find((each) => each.id === id);
    return found && found.state !== 'open' ? found : null;
  });
  expect(rebuild).toMatchObject({ state: 'done', way: expect.stringMatching(/^backup/) });
  await waitReady(api, undefined, timeoutMs);
  return made.id;
}

/** Its directory on the volume. */
function find(id: string): string {
  for (const agent of plane.agentDirs) {
    const names = readdirSync(agent, { recursive: true, encoding: 'utf8' });
    const name = names.find((each) => each.endsWith(`backups/${id}`));
    if (name) return join(agent, name);
  }
  throw new Error(`backup ${id} is on no volume`);
}

async function makeCopy(name: string, backup: string): Promise<Created> {
  const volumes = { data: { type: 'root', sizeMb: 1024 }, backup: null };
  const copy = await api.create({ name, members: 1, volumes, from: { cluster: clusterName, backup } });
  await waitFor(
    { what: `copy ${name} to be ready`, timeoutMs },
    async () => (await api.cluster(name)).state === 'ready',
  );
  return copy;
}

async function restore(backup: string): Promise<void> {
  const { id } = await api.restore(clusterName, { backup, confirm: clusterName });
  const ended = await waitFor({ what: 'the restore', timeoutMs }, async () => {
    const seen = await api.restoreOf(clusterName, id).catch(() => null);
    return seen && seen.state !== 'open' ? seen : null;
  });
  expect(ended).toMatchObject({ state: 'done' });
  await waitReady(api, undefined, timeoutMs);
}

/** As docs/operations.md shows it: what is stored is taken away, made plain, and started. */
function unpackByHand(id: string, keyFile: string | null): string {
  const stored = join(dir, `${id}.stored`);
  const plain = join(dir, `${id}.plain`);
  run('download', clusterName, id, '--packed', '--output', join(dir, 'packed.tar'));
  mkdirSync(stored);
  execFileSync('tar', ['-xf', join(dir, 'packed.tar'), '-C', stored]);
  execFileSync('sha256sum', ['-c', '--quiet', 'SHA256SUMS'], { cwd: stored });
  expect(readdirSync(stored)).not.toContain('data');
  if (keyFile !== null) {
    expect(() => run('unpack', '--from', stored, '--to', plain)).toThrow(/BACKUP_KEY_UNKNOWN/);
    expect(readdirSync(dir)).not.toContain(`${id}.plain`);
  }
  run('unpack', '--from', stored, '--to', plain, ...(keyFile === null ? [] : ['--key-file', keyFile]));
  return plain;
}

async function expectRows(place: string): Promise<void> {
  const started = await startByHand(place);
  try {
    expect(started.sql('SELECT COUNT(*) FROM shop.orders').trim()).toBe(String(count));
  } finally {
    await started.end();
  }
}

test.each(['zstd', 'zstd+aes-256-gcm'] as const)(
  'with %s: verified, rebuilt from, copied, restored, taken away plain and as it is stored',
  async (packing) => {
    const isEncrypted = packing !== 'zstd';
    const name = isEncrypted ? 'sealed' : 'packed';
    run('backup-policy', clusterName, '--compress', 'zstd', '--encrypt', isEncrypted ? 'aes-256-gcm' : 'none');
    const id = await makeAndRebuild();
    const stored = readdirSync(find(id), { recursive: true, encoding: 'utf8' });
    expect(stored).toContain(`packed/shop/orders.ibd.zst${isEncrypted ? '.enc' : ''}`);
    expect(stored).not.toContain('data/shop/orders.ibd');
    await query(source, `INSERT INTO shop.orders VALUES (${count}, 'after the backup')`);

    const copy = await makeCopy(name, id);
    expect(await countRows(copy)).toBe(count);
    await api.remove(name);
    expect(await countRows(source)).toBe(count + 1);
    await restore(id);
    expect(await countRows(source)).toBe(count);

    mkdirSync(join(dir, name));
    run('download', clusterName, id, '--output', join(dir, 'plain.tar'));
    execFileSync('tar', ['-xf', join(dir, 'plain.tar'), '-C', join(dir, name)]);
    await expectRows(join(dir, name));
    const keyFile = join(dir, 'orders.key');
    if (isEncrypted) run('backup-key', clusterName, '--output', keyFile);
    await expectRows(unpackByHand(id, isEncrypted ? keyFile : null));
    if (isEncrypted) expectSecret(readFileSync(keyFile, 'utf8').trim());
  },
  2 * timeoutMs,
);

function environmentOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'utf8');
  } catch {
    return ''; // it has ended
  }
}

/** The key is in no argument, environment, log or file of what runs, but sealed in the store. */
function expectSecret(key: string): void {
  expect(statSync(join(dir, 'orders.key')).mode & 0o777).toBe(0o600);
  for (const { pid, command } of findUsersOf(plane.dataDir)) {
    expect(command.join(' ')).not.toContain(key);
    expect(environmentOf(pid)).not.toContain(key);
  }
  const grep = ['-rlF', '--exclude-dir=data', '--exclude-dir=packed', key, plane.dataDir];
  expect(() => execFileSync('grep', grep, { encoding: 'utf8' })).toThrow(expect.objectContaining({ status: 1 }));
}
