/**
 * Backups as a team uses them, on real MySQL: made, verified, taken away as a tar, and restored without Selvedge by the
 * very commands of docs/operations.md. One that is damaged on the disk is found and told.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { realClock } from '../../src/clock.ts';
import { connect } from '../../src/mysql/connection.ts';
import { type Api, createApiClient } from '../demo/api-client.ts';
import { type ControlPlane, createControlPlane } from '../demo/control-plane.ts';
import { diagnose } from '../demo/diagnosis.ts';
import { removeRunDirectories } from '../demo/homes.ts';
import { clusterBody, clusterName, waitReady } from '../demo/steps.ts';
import { waitFor } from '../demo/wait.ts';
import { testDistribution } from '../mysql/instance.ts';
import { type ByHand, startByHand } from './by-hand.ts';

const selvedge = join(import.meta.dirname, '..', '..', 'src', 'main.ts');
let plane: ControlPlane;
let api: Api;
let cluster: Awaited<ReturnType<Api['create']>>;
let dir: string;
let restored: ByHand | null = null;

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'svhand-'));
  plane = await createControlPlane({ agents: 1 });
  await plane.start();
  api = createApiClient(plane.apiUrl);
  cluster = await api.create({ ...clusterBody, members: 1 });
  await waitReady(api);
  await asTeam('CREATE DATABASE shop');
  await asTeam('CREATE TABLE shop.orders (id BIGINT PRIMARY KEY AUTO_INCREMENT, note VARCHAR(100))');
  await asTeam("INSERT INTO shop.orders (note) VALUES ('in the backup')");
}, 120_000);
afterEach(async (context) => {
  if (context.task.result?.state === 'fail') await diagnose(plane, api, console.log);
});
afterAll(async () => {
  await restored?.end();
  await plane?.destroy(removeRunDirectories);
  rmSync(dir, { recursive: true, force: true });
});

async function asTeam(sql: string): Promise<void> {
  const { host, port } = (await api.endpoints(clusterName)).primary!;
  const { credentials } = cluster;
  const session = await connect({ host, port, caPem: credentials.caCertPem }, credentials, { clock: realClock });
  await session.query(sql);
  await session.close();
}

/** A person's command line. */
function run(...args: string[]): string {
  const options = { encoding: 'utf8' as const, env: { ...process.env, SELVEDGE_API: plane.apiUrl } };
  return execFileSync(process.execPath, [selvedge, ...args], { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
}

async function makeBackup(): Promise<string> {
  const made = JSON.parse(run('backup', clusterName, '--wait', '--json')) as { readonly id: string };
  await waitFor({ what: 'the verification', timeoutMs: 60_000, everyMs: 100 }, async () => {
    const { verifiedAt, isBad } = await api.backup(clusterName, made.id);
    expect(isBad).toBe(false);
    return verifiedAt !== null;
  });
  return made.id;
}

async function restoreByHand(tar: string): Promise<ByHand['sql']> {
  const place = join(dir, 'restored');
  mkdirSync(place);
  execFileSync('tar', ['-xf', tar, '-C', place]);
  restored = await startByHand(place);
  return restored.sql;
}

/** The archive of the only member, as it lies on its backup volume. */
function archivedLogs(): string[] {
  const found = plane.agentDirs.flatMap((agent) =>
    readdirSync(agent, { recursive: true, encoding: 'utf8' })
      .filter((name) => /archive\/[0-9a-f-]{36}\/binlog\.\d+$/.test(name))
      .map((name) => join(agent, name)),
  );
  return [...new Set(found)].sort();
}

test('a backup is verified by itself, taken away, and restored by hand up to the last archived write', async () => {
  const id = await makeBackup();
  await asTeam("INSERT INTO shop.orders (note) VALUES ('after the backup')");
  const tar = join(dir, 'orders.tar');

  run('download', clusterName, id, '--output', tar);
  const sql = await restoreByHand(tar);

  expect(sql('SELECT note FROM shop.orders ORDER BY id')).toBe('in the backup\n');
  const distribution = await testDistribution();
  const [mysqlbinlog = '', ...rest] = distribution.program('mysqlbinlog');
  await waitFor({ what: 'the write in the archive', timeoutMs: 30_000, everyMs: 200 }, async () => {
    const events = execFileSync(mysqlbinlog, [...rest, '--no-defaults', ...archivedLogs()], {
      encoding: 'utf8',
      maxBuffer: 1024 ** 3,
    });
    sql(events); // what it has already is skipped by its GTID
    return sql('SELECT note FROM shop.orders ORDER BY id') === 'in the backup\nafter the backup\n';
  });
}, 180_000);

test('a backup that is damaged on the disk is found, told, and not given away', async () => {
  const id = await makeBackup();
  const agent = plane.agentDirs[0]!;
  const names = readdirSync(agent, { recursive: true, encoding: 'utf8' });
  const file = names.find((name) => name.includes(`backups/${id}/data/shop/`) && name.endsWith('.ibd'))!;
  truncateSync(join(agent, file), 16_384);

  expect(() => run('verify', clusterName, id, '--wait')).toThrow(/BACKUP_DAMAGED/);

  const { conditions } = await api.cluster(clusterName);
  expect(conditions.map(({ type }) => type)).toContain('BackupBad');
  expect(() => run('download', clusterName, id, '--output', join(dir, 'bad.tar'))).toThrow(/BACKUP_DAMAGED/);
  expect(run('backups', clusterName)).toMatch(new RegExp(`${id} .* bad `));
  run('backups', clusterName, '--remove', id);
  await waitFor({ what: 'the removal', timeoutMs: 30_000, everyMs: 100 }, async () => {
    return (await api.backup(clusterName, id)).state === 'removed';
  });
  expect(existsSync(join(agent, file))).toBe(false);
}, 120_000);
