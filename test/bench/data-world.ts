/** A cluster of two with a few gigabytes in it, for the benches of backup, verify, rebuild and restore. */
import { readFileSync } from 'node:fs';
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
  diagnose(say: (text: string) => void): Promise<void>;
  destroy(): Promise<void>;
}

const readyTimeoutMs = 120_000;
const catchUpTimeoutMs = 300_000;
const rowBytes = 8_000;
const rowsABatch = 1_000;

export async function startDataWorld(signal: AbortSignal): Promise<DataWorld> {
  const plane = await createControlPlane({ agents: 2, signal });
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
    const { endpoints, stop } = watchEndpoints(api, clusterName);
    const { host, port } = await waitFor({ what: 'an endpoint', timeoutMs: 10_000, signal }, () => endpoints.primary());
    const caPem = login.caCertPem;
    const session = await connect({ host, port, caPem }, login, { clock: realClock, queryTimeoutMs: 120_000 });
    const getMember = (ordinal: number) => {
      const found = findMember(id, ordinal);
      if (!found) throw new Error(`member ${ordinal} does not run`);
      return found;
    };
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
      readExecutorMb: (ordinal) => readRssMb(getMember(ordinal).executor) ?? 0,
      diagnose: (say) => diagnose(plane, api, say),
      async destroy() {
        stop();
        await world.session.close();
        await plane.destroy(removeRunDirectories);
      },
    };
    return world;
  } catch (error) {
    await plane.destroy(removeRunDirectories);
    throw error;
  }
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
