/** A cluster of two with a few gigabytes in it, for the benches of backup, verify, rebuild and restore. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { realClock } from '../../src/clock.ts';
import { connect, type Login, type Session } from '../../src/mysql/connection.ts';
import { readGtids, waitExecuted } from '../../src/mysql/gtid.ts';
import { type Api, createApiClient, watchEndpoints } from '../demo/api-client.ts';
import { type ControlPlane, createControlPlane } from '../demo/control-plane.ts';
import { diagnose } from '../demo/diagnosis.ts';
import type { Endpoints } from '../demo/endpoints.ts';
import { removeRunDirectories } from '../demo/homes.ts';
import { findMember, type MemberProcesses, readRssMb } from '../demo/processes.ts';
import { clusterName, waitReady } from '../demo/steps.ts';
import { waitFor } from '../demo/wait.ts';

export interface DataWorld {
  readonly plane: ControlPlane;
  readonly api: Api;
  readonly endpoints: Endpoints;
  readonly login: Login;
  readonly caPem: string;
  /** As they were last seen: a restore changes them (refresh). */
  primary: number;
  replica: number;
  /** A session of the team on the primary. */
  session: Session;
  /** Where its data files are, and its backup volume. */
  directories(ordinal: number): Promise<{ readonly data: string; readonly backup: string }>;
  /** The owner's session over the member's socket: not for a team, and closed by the caller. */
  openSocket(ordinal: number): Promise<Session>;
  readExecutorMb(ordinal: number): number;
  /** How often progress is asked for. The answers cost the same cores that commits are measured on. */
  readonly lookMs: number;
  diagnose(say: (text: string) => void): Promise<void>;
  destroy(): Promise<void>;
}

const readyTimeoutMs = 120_000;
const catchUpTimeoutMs = 300_000;
const mountTimeoutMs = 10_000;
const rowBytes = 8_000;
const rowsABatch = 1_000;

export interface DataWorldOptions {
  readonly signal: AbortSignal;
  /**
   * As on hosts of their own: the replica's volumes are in memory, and its processes have the second core, those of the
   * primary the first. Needs root and two cores.
   */
  readonly isApart: boolean;
}

export async function startDataWorld({ signal, isApart }: DataWorldOptions): Promise<DataWorld> {
  const plane = await createControlPlane({ agents: 2, signal });
  const apart = isApart ? mountMemory(plane.agentDirs[1] ?? '') : null;
  const end = () =>
    plane.destroy((dataDir) => {
      apart?.unmount();
      removeRunDirectories(dataDir);
    });
  try {
    await plane.start();
    const api = createApiClient(plane.apiUrl);
    const { id, credentials: login } = await api.create({
      name: clusterName,
      members: 2,
      resources: { cpus: 0.5, memMb: 768 },
      volumes: { data: { type: 'root', sizeMb: 12_000 }, backup: { type: 'path', sizeMb: 12_000 } },
    });
    const { primary } = await waitReady(api, signal, readyTimeoutMs);
    if (primary === null) throw new Error('the cluster has no primary');
    const getMember = (ordinal: number) => {
      const found = findMember(id, ordinal);
      if (!found) throw new Error(`member ${ordinal} does not run`);
      return found;
    };
    if (apart) {
      await requireApart(api, id, primary, plane);
      for (const ordinal of [0, 1]) pin(getMember(ordinal), ordinal === primary ? 0 : 1);
    }
    const { endpoints, stop } = watchEndpoints(api, clusterName);
    const { host, port } = await waitFor({ what: 'an endpoint', timeoutMs: 10_000, signal }, () => endpoints.primary());
    const caPem = login.caCertPem;
    const session = await connect({ host, port, caPem }, login, { clock: realClock, queryTimeoutMs: 120_000 });
    const world: DataWorld = {
      plane,
      api,
      endpoints,
      login,
      caPem,
      primary,
      replica: 1 - primary,
      session,
      async directories(ordinal) {
        const reservations = await api.reservations();
        const own = reservations.find((each) => each.clusterId === id && each.member === ordinal);
        const volume = own?.volumes.find(({ kind }) => kind === 'backup');
        if (!volume?.path) throw new Error(`member ${ordinal} has no backup volume`);
        const backup = join(volume.path, 'volumes', 'roles', 'mysql', volume.persistenceId);
        return { data: readSetting(getMember(ordinal), 'datadir'), backup };
      },
      openSocket: (ordinal) =>
        connect({ socketPath: readSetting(getMember(ordinal), 'socket') }, { user: 'selvedge' }, { clock: realClock }),
      lookMs: isApart ? 500 : 20,
      readExecutorMb: (ordinal) => readRssMb(getMember(ordinal).executor) ?? 0,
      diagnose: (say) => diagnose(plane, api, say),
      async destroy() {
        stop();
        await world.session.close();
        await end();
      },
    };
    return world;
  } catch (error) {
    await end();
    throw error;
  }
}

function mountMemory(path: string): { unmount(): void } {
  mkdirSync(path, { recursive: true });
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=75%', 'tmpfs', path], { timeout: mountTimeoutMs });
  return { unmount: () => void execFileSync('umount', ['-l', path], { timeout: mountTimeoutMs }) };
}

/** What they start later inherits it. */
function pin({ executor, mysqld }: MemberProcesses, core: number): void {
  for (const each of [executor, mysqld])
    if (each) execFileSync('taskset', ['-a', '-p', '-c', String(core), String(each.pid)], { stdio: 'ignore' });
}

/** Placement decides who is where; the first member is the first primary. */
async function requireApart(api: Api, clusterId: string, primary: number, plane: ControlPlane): Promise<void> {
  const reservations = await api.reservations();
  const own = reservations.find((each) => each.clusterId === clusterId && each.member === primary);
  if (!own || plane.agentDirs[1]?.includes(own.host)) throw new Error('the primary is on the agent in memory');
}

/** After the primary has changed. */
export async function refresh(world: DataWorld): Promise<void> {
  const { primary } = await waitReady(world.api, undefined, readyTimeoutMs);
  if (primary === null) throw new Error('the cluster has no primary');
  world.primary = primary;
  world.replica = 1 - primary;
  const { host, port } = (await world.api.endpoints(clusterName)).primary ?? { host: '', port: 0 };
  await world.session.close();
  const { caPem, login } = world;
  world.session = await connect({ host, port, caPem }, login, { clock: realClock, queryTimeoutMs: 120_000 });
}

/** As its my.cnf says. */
function readSetting({ mysqld }: MemberProcesses, name: string): string {
  const cnf = mysqld?.command.find((part) => part.startsWith('--defaults-file='))?.slice('--defaults-file='.length);
  const value = cnf && new RegExp(`^${name} *= *(.*)$`, 'm').exec(readFileSync(cnf, 'utf8'))?.[1];
  if (!value) throw new Error(`mysqld has no ${name}`);
  return value;
}

/** Inserts so many bytes of noise, and waits until the replica has them. */
export async function fill(world: DataWorld, bytes: number, say: (text: string) => void): Promise<void> {
  const { session } = world;
  await session.query('CREATE DATABASE IF NOT EXISTS bulk');
  await session.query(
    'CREATE TABLE IF NOT EXISTS bulk.noise (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, n VARBINARY(8000) NOT NULL)',
  );
  await session.query('CREATE TABLE IF NOT EXISTS bulk.digits (d INT PRIMARY KEY)');
  await session.query('INSERT IGNORE INTO bulk.digits VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)');
  const noise = Array.from({ length: 7 }, () => 'RANDOM_BYTES(1024)').join(', ');
  const batches = Math.ceil(bytes / (rowBytes * rowsABatch));
  for (let batch = 1; batch <= batches; batch += 1) {
    await session.query(
      `INSERT INTO bulk.noise (n) SELECT CONCAT(${noise}, RANDOM_BYTES(832))
       FROM bulk.digits a, bulk.digits b, bulk.digits c`,
    );
    if (batch % 50 === 0) say(`  filled ${Math.round((100 * batch) / batches)} %`);
  }
  await catchUp(world);
}

/** Waits until the replica has executed all that the primary has. */
export async function catchUp({ session, openSocket, replica }: DataWorld): Promise<void> {
  const { executed } = await readGtids(session);
  const other = await openSocket(replica);
  const isThere = await waitExecuted(other, executed, catchUpTimeoutMs);
  await other.close();
  if (!isThere) throw new Error('the replica does not catch up');
}
