/**
 * The floor: plain mysqlds and the least statements, no control plane, no executor, nothing stored. What cannot be
 * beaten by a system that does the same with more certainty.
 */
import type { Session } from '../../src/mysql/connection.ts';
import { subtractGtids, waitExecuted } from '../../src/mysql/gtid.ts';
import { createEndpoints, type Endpoint, type KnownEndpoints } from '../demo/endpoints.ts';
import { now } from '../demo/wait.ts';
import { type Instance, startInstance } from '../mysql/instance.ts';

export const floorLogin = { user: 'team', password: 'floor' };
const replicationLogin = { user: 'replication', password: 'floor' };

export interface FloorMember {
  readonly instance: Instance;
  readonly session: Session;
  readonly endpoint: Endpoint;
}

export interface Floor {
  readonly members: readonly FloorMember[];
  readonly endpoints: KnownEndpoints;
  readonly caPem: string;
  primary(): FloorMember;
  setPrimary(member: FloorMember): void;
  destroy(): Promise<void>;
}

export interface FloorOptions {
  readonly hasOwnSession?: boolean;
  /** Of each replica; by default as many as a member of ours has. */
  readonly appliers?: number | null;
}

/** Copy, start three, accounts, CHANGE REPLICATION SOURCE, START REPLICA, semi-sync; ends when the team may write. */
export async function provisionFloor(options: FloorOptions = {}): Promise<Floor> {
  const members = await Promise.all([0, 1, 2].map((ordinal) => startFloorMember(ordinal, options)));
  const [first, ...others] = members as [FloorMember, FloorMember, FloorMember];
  await Promise.all(others.map((each) => follow(each, first)));
  await openForWrites(first);
  const endpoints = createEndpoints();
  let primary = first;
  const floor: Floor = {
    members,
    endpoints,
    caPem: first.instance.caPem,
    primary: () => primary,
    setPrimary(member) {
      primary = member;
      endpoints.set(
        member.endpoint,
        members.filter((each) => each !== member).map((each) => each.endpoint),
      );
    },
    destroy: async () => {
      await Promise.all(members.map(({ instance }) => instance.kill()));
    },
  };
  floor.setPrimary(first);
  return floor;
}

async function startFloorMember(
  ordinal: number,
  { hasOwnSession = false, appliers = null }: FloorOptions,
): Promise<FloorMember> {
  const instance = await startInstance({ memMb: 512, hasOwnSession });
  const session = instance.root;
  for (const sql of [
    'SET SESSION sql_log_bin = 0',
    'SET GLOBAL super_read_only = OFF',
    `CREATE USER ${replicationLogin.user} IDENTIFIED BY '${replicationLogin.password}'`,
    `GRANT REPLICATION SLAVE ON *.* TO ${replicationLogin.user}`,
    `CREATE USER ${floorLogin.user} IDENTIFIED BY '${floorLogin.password}'`,
    `GRANT SELECT, INSERT, CREATE ON *.* TO ${floorLogin.user}`,
    'SET SESSION sql_log_bin = 1',
    'SET GLOBAL super_read_only = ON',
    'SET GLOBAL rpl_semi_sync_replica_enabled = ON',
    'SET GLOBAL offline_mode = OFF',
    ...(appliers === null ? [] : [`SET GLOBAL replica_parallel_workers = ${appliers}`]),
  ])
    await session.query(sql);
  return { instance, session, endpoint: { ordinal, host: instance.address, port: instance.port } };
}

async function follow(replica: FloorMember, source: FloorMember): Promise<void> {
  const { address, port } = source.instance;
  await replica.session.query(
    `CHANGE REPLICATION SOURCE TO SOURCE_HOST = ?, SOURCE_PORT = ?, SOURCE_USER = ?, SOURCE_PASSWORD = ?,
       SOURCE_SSL = 1, SOURCE_CONNECT_RETRY = 1, SOURCE_HEARTBEAT_PERIOD = 1, SOURCE_AUTO_POSITION = 1`,
    [address, port, replicationLogin.user, replicationLogin.password],
  );
  await replica.session.query('START REPLICA');
}

/** With a running applier: only who to follow is changed, the relay log stays. */
async function repoint(replica: FloorMember, source: FloorMember): Promise<void> {
  const { address, port } = source.instance;
  await replica.session.query('CHANGE REPLICATION SOURCE TO SOURCE_HOST = ?, SOURCE_PORT = ?', [address, port]);
  await replica.session.query('START REPLICA IO_THREAD');
}

async function openForWrites({ session }: FloorMember): Promise<void> {
  await session.query('SET GLOBAL rpl_semi_sync_source_wait_for_replica_count = 1');
  await session.query('SET GLOBAL rpl_semi_sync_source_enabled = ON');
  await session.query('SET GLOBAL super_read_only = OFF');
  await session.query('SET GLOBAL read_only = OFF');
}

const readHoldings = async (session: Session) => {
  const [row] = await session.query<{ executed: string; received: string }>(
    `SELECT @@GLOBAL.gtid_executed AS executed, RECEIVED_TRANSACTION_SET AS received
     FROM performance_schema.replication_connection_status WHERE CHANNEL_NAME = ''`,
  );
  return { executed: row?.executed ?? '', received: row?.received ?? '' };
};

/** SIGKILL, then: stop receivers, compare, wait applied, semi-sync and writable on one, repoint the other. */
export function failOverFloor(floor: Floor): { readonly killedAt: number; readonly ended: Promise<void> } {
  const old = floor.primary();
  const reaped = old.instance.ended();
  const killedAt = now();
  process.kill(old.instance.pid, 'SIGKILL');
  return { killedAt, ended: reaped.then(() => promoteOther(floor, old)) };
}

async function promoteOther(floor: Floor, old: FloorMember): Promise<void> {
  const replicas = floor.members.filter((each) => each !== old);
  const held = await Promise.all(
    replicas.map(async ({ session }) => {
      await session.query('STOP REPLICA IO_THREAD');
      return readHoldings(session);
    }),
  );
  const [one, other] = replicas as [FloorMember, FloorMember];
  const [ofOne, ofOther] = held as [(typeof held)[0], (typeof held)[0]];
  const isOtherAhead = (await subtractGtids(one.session, ofOther.received, ofOne.received)) !== '';
  const [chosen, follower, received] = isOtherAhead ? [other, one, ofOther.received] : [one, other, ofOne.received];
  if (!(await waitExecuted(chosen.session, received, 10_000))) throw new Error('the floor did not apply its relay log');
  await Promise.all([openForWrites(chosen), repoint(follower, chosen)]);
  floor.setPrimary(chosen);
}

/** super_read_only on the old, wait applied on the new, semi-sync and writable, repoint the others. */
export function switchFloorOver(floor: Floor): { readonly startedAt: number; readonly ended: Promise<void> } {
  return { startedAt: now(), ended: handOver(floor, floor.primary()) };
}

async function handOver(floor: Floor, old: FloorMember): Promise<void> {
  const [chosen, follower] = floor.members.filter((each) => each !== old) as [FloorMember, FloorMember];
  await old.session.query('SET GLOBAL super_read_only = ON');
  const { executed } = await readGtidExecuted(old.session);
  if (!(await waitExecuted(chosen.session, executed, 10_000))) throw new Error('the floor did not catch up');
  const repointFollower = async () => {
    await follower.session.query('STOP REPLICA IO_THREAD');
    await repoint(follower, chosen);
  };
  const open = async () => {
    await chosen.session.query('STOP REPLICA IO_THREAD');
    await openForWrites(chosen);
  };
  await Promise.all([open(), repointFollower(), follow(old, chosen)]);
  floor.setPrimary(chosen);
  // Nobody waits for these. Turning semi-sync off takes MySQL a second: its receiver of acknowledgements looks that often.
  await chosen.session.query('STOP REPLICA');
  await chosen.session.query('RESET REPLICA ALL');
  await old.session.query('SET GLOBAL rpl_semi_sync_source_enabled = OFF');
}

async function readGtidExecuted(session: Session): Promise<{ readonly executed: string }> {
  const [row] = await session.query<{ executed: string }>('SELECT @@GLOBAL.gtid_executed AS executed');
  return { executed: row?.executed ?? '' };
}
