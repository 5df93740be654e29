/** What is done with the data of a member, beside the plainest way to do it on the same disks. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { realClock } from '../../src/clock.ts';
import { cloneFrom, readCloneStatus } from '../../src/mysql/clone.ts';
import { connect } from '../../src/mysql/connection.ts';
import { clusterName } from '../demo/steps.ts';
import { now, waitFor } from '../demo/wait.ts';
import { startInstance } from '../mysql/instance.ts';
import { catchUp, type DataWorld, fill } from './data-world.ts';
import type { Sample } from './figures.ts';
import { measureLatency } from './latency.ts';
import { gigabitBytesPerSec, startThrottle } from './throttle.ts';

export const workTimeoutMs = 20 * 60_000;
const cloneLogin = { user: 'bench_clone', password: 'bench' };

export interface DataRound {
  readonly ours: Sample;
  readonly floor: Sample;
  /** Further figures, by name, with their unit in it. */
  readonly more: Readonly<Record<string, number>>;
}

/** A full backup with its checksums beside `cp -a` and `sync` of the same bytes; a paced writer goes on throughout. */
export async function backupRound(world: DataWorld): Promise<DataRound> {
  const { api, replica } = world;
  const quiet = await measureLatency(world, () => copyFiles(world));
  let executorMb = 0;
  const busy = await measureLatency(world, async () => {
    const steps = createSteps();
    const { id } = await api.backUp(clusterName, replica);
    const backup = await waitFor({ what: 'the backup', timeoutMs: workTimeoutMs, everyMs: world.lookMs }, async () => {
      executorMb = Math.max(executorMb, world.readExecutorMb(replica));
      const found = await api.backup(clusterName, id);
      steps.see(found.progress?.step);
      return found.state === 'open' ? null : found;
    });
    if (backup.state !== 'complete') throw new Error(`the backup failed: ${backup.message}`);
    return { ...steps.end(), id };
  });
  await waitVerified(world, busy.result.id);
  const [ours, floor] = [busy.result, quiet.result];
  const p99QuietMs = (busy.p99BeforeMs + quiet.p99BeforeMs) / 2;
  const p99Percent = (100 * busy.p99Ms) / p99QuietMs;
  const more = { executorMb, p99Ms: busy.p99Ms, p99QuietMs, p99Percent, p99OfCopyMs: quiet.p99Ms };
  return { ours, floor, more };
}

/** A new backup is verified by itself: what is measured next would wait for that, or share the disk with it. */
export async function waitVerified({ api }: DataWorld, id: string): Promise<void> {
  const look = async () => (await api.backup(clusterName, id)).verifiedAt !== null;
  await waitFor({ what: 'the verification', timeoutMs: workTimeoutMs, everyMs: 100 }, look);
}

/** How long each step took, as it was seen from outside. */
export function createSteps() {
  const startedAt = now();
  const seen: { readonly name: string; readonly at: number }[] = [];
  return {
    see(name: string | undefined) {
      if (name && seen.at(-1)?.name !== name) seen.push({ name, at: now() });
    },
    end(): Sample {
      const endedAt = now();
      const told = seen.map(({ name, at }, index) => `${name} ${Math.round((seen[index + 1]?.at ?? endedAt) - at)}`);
      return { totalMs: endedAt - startedAt, workMs: null, detail: `(${told.join(', ')})` };
    },
  };
}

/**
 * `cp -a` of the replica's data files onto its backup volume, and `sync` of them. Both read from the disk: mysqld keeps
 * its files out of the page cache, and what an earlier round left there is dropped first.
 */
export async function copyFiles(world: DataWorld): Promise<Sample> {
  const { data, backup } = await world.directories(world.replica);
  const target = join(backup, 'bench-copy');
  mkdirSync(target);
  try {
    const drop = 'find "$1" -type f -exec dd if={} iflag=nocache count=0 status=none \\;';
    await runProgram('sh', ['-c', drop, 'sh', data]);
    const startedAt = now();
    const script = 'cd "$1" && cp -a $(ls -A | grep -vE "^(binlog|relay)") "$2" && sync -f "$2"';
    await runProgram('sh', ['-c', script, 'sh', data, target]);
    return { totalMs: now() - startedAt, workMs: null };
  } finally {
    rmSync(target, { recursive: true, force: true });
  }
}

async function runProgram(program: string, args: readonly string[]): Promise<void> {
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  const [code] = await once(child, 'exit');
  if (code !== 0) throw new Error(`${program} ended with ${code}`);
}

/** The replica filled anew from its own backup, with a hundredth of the data changed since, beside a CLONE over 1 Gbit/s. */
export async function rebuildRound(world: DataWorld, bytes: number): Promise<DataRound> {
  const { api, replica } = world;
  const { id } = await api.backUp(clusterName, replica);
  await waitFor({ what: 'the backup', timeoutMs: workTimeoutMs, everyMs: 100 }, async () => {
    const { state } = await api.backup(clusterName, id);
    return state === 'complete';
  });
  await waitVerified(world, id);
  const before = await readLogBytes(world);
  await fill(world, bytes / 100, () => {});
  const floor = await cloneThrottled(world);
  const startedAt = now();
  const steps = createSteps();
  const { id: rebuildId } = await api.rebuild(clusterName, replica);
  const rebuild = await waitFor({ what: 'the rebuild', timeoutMs: workTimeoutMs, everyMs: 20 }, async () => {
    const found = (await api.rebuilds(clusterName)).find((each) => each.id === rebuildId);
    steps.see(found?.progress?.step);
    return found?.state === 'open' ? null : found;
  });
  const filled = steps.end();
  if (rebuild.state !== 'done') throw new Error(`the rebuild failed: ${rebuild.message}`);
  await catchUp(world);
  const ours = { totalMs: now() - startedAt, workMs: null, detail: `${rebuild.way} ${filled.detail}` };
  // Whatever the primary logged since the backup is all that can have crossed the network.
  const networkBytes = (await readLogBytes(world)) - before;
  return { ours, floor, more: { networkMb: mb(networkBytes), cloneNetworkMb: floor.networkMb } };
}

const mb = (bytes: number): number => Math.round(bytes / 1e6);

/** Bytes of all binary logs; a purge in between would make it too small. */
async function readLogBytes({ openSocket, primary }: DataWorld): Promise<number> {
  const owner = await openSocket(primary);
  const rows = await owner.query<{ File_size: number }>('SHOW BINARY LOGS');
  await owner.close();
  return rows.reduce((sum, row) => sum + Number(row.File_size), 0);
}

/** Into a mysqld that has nothing to do with the cluster, from the primary, until it has restarted on the data. */
async function cloneThrottled(world: DataWorld): Promise<Sample & { readonly networkMb: number }> {
  const { host, port } = world.endpoints.primary() ?? { host: '', port: 0 };
  const owner = await world.openSocket(world.primary);
  for (const sql of [
    'SET SESSION sql_log_bin = 0',
    `CREATE USER IF NOT EXISTS ${cloneLogin.user} IDENTIFIED BY '${cloneLogin.password}'`,
    `GRANT BACKUP_ADMIN ON *.* TO ${cloneLogin.user}`,
  ])
    await owner.query(sql);
  await owner.close();
  const throttle = await startThrottle({ host, port }, gigabitBytesPerSec);
  const recipient = await startInstance({ memMb: 768 });
  try {
    const startedAt = now();
    const ended = recipient.ended();
    const session = await connect({ socketPath: recipient.socketPath }, { user: 'root' }, { clock: realClock });
    const caFile = join(recipient.dir, 'donor-ca.pem');
    writeFileSync(caFile, world.caPem);
    // A certificate of another authority than the donor's would be refused.
    await session.query("SET GLOBAL clone_ssl_ca = ?, GLOBAL clone_ssl_cert = '', GLOBAL clone_ssl_key = ''", [caFile]);
    await cloneFrom(session, { host: '127.0.0.1', port: throttle.port, ...cloneLogin });
    await ended;
    await recipient.start();
    const status = await readCloneStatus(recipient.root);
    if (status?.state !== 'Completed') throw new Error(`the CLONE did not complete: ${status?.error}`);
    return { totalMs: now() - startedAt, workMs: null, networkMb: mb(throttle.bytes()) };
  } finally {
    await throttle.close();
    await recipient.kill();
    rmSync(recipient.dir, { recursive: true, force: true });
  }
}
