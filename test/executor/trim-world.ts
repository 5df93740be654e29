/** A cluster whose primary is killed with a tail, again and again: who leads, and what to compare afterwards. */
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'vitest';
import type { CommandResult, Status } from '../../src/channel/protocol.ts';
import { realClock } from '../../src/clock.ts';
import { isGtidSubset, parseGtidSet, unionGtidSets } from '../../src/cluster/gtid-set.ts';
import { connect, type Session } from '../../src/mysql/connection.ts';
import { testDistribution } from '../mysql/instance.ts';
import { createWorld, type TestMember, type World } from './world.ts';

export interface TrimWorld {
  readonly world: World;
  primary: TestMember;
  epoch: number;
  lastId: number;
  /** Incarnations that trims or rebuilds made, by ordinal: what a relaunch names. */
  readonly identities: Map<number, Identity>;
}

export interface Identity {
  readonly incarnation: string;
  readonly serverUuid: string;
  readonly serverId: number;
}

let lastServerId = 5000;
export const newIdentity = (): Identity => {
  lastServerId += 1;
  return { incarnation: randomUUID(), serverUuid: randomUUID(), serverId: lastServerId };
};

/** Three members, member 0 the primary with k = 1, one table with some rows. */
export async function createTrimWorld(net: number): Promise<TrimWorld> {
  const world = await createWorld(3, net);
  const [primary, ...replicas] = world.members as [TestMember, ...TestMember[]];
  await Promise.all(world.members.map((each) => each.start(true)));
  for (const each of replicas) {
    await each.command({ kind: 'follow', source: primary.source });
    await each.command({ kind: 'setVoter', isVoter: true });
  }
  await primary.command({ kind: 'promote', k: 1, member: 0, timeoutMs: 10_000 });
  const team = await primary.team();
  await team.query('CREATE DATABASE shop');
  await team.query('CREATE TABLE shop.orders (id INT PRIMARY KEY, note VARCHAR(100))');
  for (let id = 1; id <= 20; id += 1) await team.query('INSERT INTO shop.orders VALUES (?, ?)', [id, `order ${id}`]);
  await team.close();
  return { world, primary, epoch: 1, lastId: 1000, identities: new Map() };
}

export const othersOf = ({ world, primary }: TrimWorld): TestMember[] =>
  world.members.filter((member) => member !== primary);

/** Begins statements on sessions of their own; none is waited for: they end with the primary. */
export async function begin(member: TestMember, statements: readonly string[]): Promise<void> {
  for (const statement of statements) {
    const team = await member.team();
    team.query(statement, [], { timeoutMs: null }).catch(() => {});
  }
}

export function insert(on: TrimWorld, count: number): string[] {
  return Array.from({ length: count }, () => {
    on.lastId += 1;
    return `INSERT INTO shop.orders VALUES (${on.lastId}, 'nobody acknowledged ${on.lastId}')`;
  });
}

/** Acknowledgements end, the statements wait, mysqld is killed, and another member becomes the primary. */
export async function crashWithTail(
  on: TrimWorld,
  statements: readonly string[],
  beforeKill: (old: TestMember) => Promise<void> = async () => {},
): Promise<TestMember> {
  const old = on.primary;
  await Promise.all(othersOf(on).map((each) => each.command({ kind: 'freeze' }, on.epoch)));
  await begin(old, statements);
  await waitForCommits(old, statements.length);
  await beforeKill(old);
  process.kill(mysqldPid(old), 'SIGKILL');
  await old.until(({ instance }) => instance === 'held');
  await promoteNext(on);
  return old;
}

/**
 * One session waits for the acknowledgement, the others behind it, in the queue of the group commit. A commit passes
 * through the same state just before it is in the binary log: only what stays is a wait.
 */
async function waitForCommits(member: TestMember, count: number): Promise<void> {
  const session = await ownSession(member);
  const sql = `SELECT STATE AS state FROM performance_schema.processlist
    WHERE USER = 'team' AND STATE IN ('Waiting for semi-sync ACK from replica', 'waiting for handler commit')`;
  let seen = 0;
  const look = async () => {
    seen = (await session.query(sql)).length === count ? seen + 1 : 0;
    return seen;
  };
  await expect.poll(look, { timeout: 20_000, interval: 50 }).toBeGreaterThan(5);
  await session.close();
}

export async function promoteNext(on: TrimWorld): Promise<void> {
  const frozen = await Promise.all(
    othersOf(on).map(async (each) => {
      const { gtidExecuted = '', gtidReceived = '' } = await each.command({ kind: 'freeze' }, on.epoch);
      return { each, gtidReceived, held: unionGtidSets(parseGtidSet(gtidExecuted), parseGtidSet(gtidReceived)) };
    }),
  );
  // A heartbeat may have come between the two: the one that has it was enough to commit it.
  const [one, another] = frozen as [(typeof frozen)[0], (typeof frozen)[0]];
  const isBehind = !isGtidSubset(another.held, one.held);
  const { each: next, gtidReceived } = isBehind ? another : one;
  const other = (isBehind ? one : another).each;
  await next.command({ kind: 'catchUp', gtidSet: gtidReceived, timeoutMs: 10_000 }, on.epoch);
  on.epoch += 1;
  const promoted = next.command({ kind: 'promote', k: 1, member: next.ordinal, timeoutMs: 20_000 }, on.epoch);
  await other.command({ kind: 'follow', source: next.source }, on.epoch);
  await promoted;
  on.primary = next;
}

/** Sends the rebuild and waits for its end. */
export async function trim(on: TrimWorld, member: TestMember, identity: Identity): Promise<Status> {
  const id = randomUUID();
  const result = await sendTrim(on, member, identity, id);
  expect(result, member.launch.logs()).toEqual({ outcome: 'accepted' });
  const status = await member.until(({ work }) => work?.commandId === id && work.outcome !== 'running');
  if (status.incarnation === identity.incarnation) on.identities.set(member.ordinal, identity);
  return status;
}

export async function sendTrim(
  on: TrimWorld,
  member: TestMember,
  identity: Identity,
  id: string = randomUUID(),
): Promise<CommandResult> {
  const { gtidExecuted: keep } = await on.primary.until(({ isWritable }) => isWritable);
  return member.launch.send(
    { kind: 'rebuild', ...identity, from: { kind: 'trim', keep }, secrets: member.secrets },
    { epoch: on.epoch, leaderToken: 9, id },
  );
}

/** Follows, catches up, votes; then everything is equal. */
export async function rejoin(on: TrimWorld, member: TestMember): Promise<void> {
  await member.command({ kind: 'follow', source: on.primary.source }, on.epoch);
  await member.command({ kind: 'setVoter', isVoter: true }, on.epoch);
  const team = await on.primary.team();
  on.lastId += 1;
  await team.query('INSERT INTO shop.orders VALUES (?, ?)', [on.lastId, 'after the rejoin']);
  await team.close();
  // Asked now: the status is as old as the last poll, and would not name the row just written.
  await member.command({ kind: 'catchUp', gtidSet: await executedOn(on.primary), timeoutMs: 10_000 }, on.epoch);
  expect(await checksums(member)).toEqual(await checksums(on.primary));
  const { replication } = await member.until((status) => status.replication?.receiver === 'on');
  expect(replication?.applierError).toBe('');
}

async function executedOn(member: TestMember): Promise<string> {
  const session = await ownSession(member);
  const [row] = await session.query<{ executed: string }>('SELECT @@GLOBAL.gtid_executed AS executed');
  await session.close();
  return (row?.executed ?? '').replaceAll(/\s/g, '');
}

export async function checksums(member: TestMember): Promise<unknown[]> {
  const session = await ownSession(member);
  try {
    const tables = await session.query<{ name: string }>(
      "SELECT CONCAT('`', TABLE_SCHEMA, '`.`', TABLE_NAME, '`') AS name FROM information_schema.TABLES " +
        "WHERE TABLE_SCHEMA = 'shop' ORDER BY 1",
    );
    return await session.query(`CHECKSUM TABLE ${tables.map(({ name }) => name).join(', ')}`);
  } finally {
    await session.close();
  }
}

/** As the executor itself logs in. */
export function ownSession(member: TestMember): Promise<Session> {
  return connect({ socketPath: join(runDirectory(member), 's') }, { user: 'selvedge' }, { clock: realClock });
}

function runDirectory(member: TestMember): string {
  const [directory] = readdirSync(join(member.root, 'run'));
  return join(member.root, 'run', directory!);
}

export const mysqldPid = (member: TestMember): number =>
  Number(readFileSync(join(runDirectory(member), 'pid'), 'utf8'));

export const volumeOf = (member: TestMember, kind: 'data' | 'backup'): string =>
  join(member.root, 'volumes', `${kind}-${member.ordinal}`);

export interface SavedTail {
  readonly manifest: { readonly gtidSet: string; readonly bytes: number; readonly files: { name: string }[] };
  /** What mysqlbinlog makes of the raw file now. */
  readonly decoded: string;
  /** What was saved as text. */
  readonly text: string;
}

export async function readTail(member: TestMember, id: string, kind: 'data' | 'backup' = 'backup'): Promise<SavedTail> {
  const directory = join(volumeOf(member, kind), 'tails', id);
  const [program = '', ...prefix] = (await testDistribution()).program('mysqlbinlog');
  const args = ['--no-defaults', '--verify-binlog-checksum', '-v', '--base64-output=decode-rows'];
  const { stdout } = await promisify(execFile)(program, [...prefix, ...args, join(directory, 'tail.binlog')], {
    maxBuffer: 256 * 1024 * 1024,
  });
  return {
    manifest: JSON.parse(readFileSync(join(directory, 'manifest.json'), 'utf8')),
    decoded: stdout,
    text: readFileSync(join(directory, 'tail.sql'), 'utf8'),
  };
}
