import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { CommandBody } from '../../src/channel/protocol.ts';
import { defaultArchivePolicy } from '../../src/cluster/archive.ts';
import { archiveDirectory, archived, compareLog, dataDirectory, logNames } from './archive-files.ts';
import { ownSession } from './trim-world.ts';
import { createWorld, type TestMember, type World } from './world.ts';

const patient = { timeout: 30_000 };
let world: World;
let member: TestMember;
let serverUuid = '';

beforeAll(async () => {
  world = await createWorld(1, 84);
  member = world.members[0]!;
  await member.start(true);
  await member.command({ kind: 'promote', k: 0, member: 0, timeoutMs: 10_000 });
  ({ serverUuid } = await member.status());
  const team = await member.team();
  await team.query('CREATE DATABASE shop');
  await team.query('CREATE TABLE shop.notes (id INT PRIMARY KEY AUTO_INCREMENT, note LONGTEXT)');
  await team.close();
});
afterAll(() => world?.destroy());

const policy = { ...defaultArchivePolicy, logKeepMs: 0 };
type Keep = Extract<CommandBody, { kind: 'keepLogs' }>;
const keep = (changes: Partial<Keep>): Keep => ({
  kind: 'keepLogs',
  executedByAll: null,
  backups: [],
  policy,
  ...changes,
});
const logs = () => logNames(dataDirectory(member));

/** `count` closed logs more, each of some 300 KB. */
async function fill(count: number): Promise<void> {
  const team = await member.team();
  const session = await ownSession(member);
  for (let nth = 0; nth < count; nth += 1) {
    await team.query("INSERT INTO shop.notes (note) VALUES (REPEAT('n', 300000))");
    await session.query('FLUSH BINARY LOGS');
  }
  await team.close();
  await session.close();
}

async function executed(): Promise<string> {
  const session = await ownSession(member);
  const [row] = await session.query<{ executed: string }>('SELECT @@GLOBAL.gtid_executed AS executed');
  await session.close();
  return row!.executed.replaceAll(/\s/g, '');
}

test('mysqld itself purges nothing', async () => {
  const session = await ownSession(member);
  const [row] = await session.query<{ isOn: number }>('SELECT @@GLOBAL.binlog_expire_logs_auto_purge AS isOn');
  await session.close();

  expect(Number(row!.isOn)).toBe(0);
});

test('a log that somebody lacks stays, one that all have goes once it is archived', async () => {
  await fill(2);
  const lacking = await executed();
  await fill(2);
  await archived(member);
  const before = logs();

  await member.command(keep({ executedByAll: null }));
  await member.command(keep({ executedByAll: lacking }));
  // The first log that holds more than `lacking` stays, and all after it: the two of the second filling and the open one.
  await expect.poll(logs, patient).toEqual(before.slice(-3));

  await member.command(keep({ executedByAll: await executed() }));
  await expect.poll(logs, patient).toEqual(before.slice(-1));
  expect(logNames(archiveDirectory(member, serverUuid))).toEqual(expect.arrayContaining(before));
});

test('what is not archived is not purged, though all have it', async () => {
  await archived(member);
  const [open = ''] = logs().slice(-1);
  const next = `binlog.${String(Number(open.slice(7)) + 1).padStart(6, '0')}`;
  const obstacle = join(archiveDirectory(member, serverUuid), next);
  mkdirSync(obstacle);
  await fill(3);
  await member.until(({ archive }) => archive?.error?.code === 'ARCHIVE_FAILED');

  await member.command(keep({ executedByAll: await executed() }));
  await expect.poll(() => logs()[0], patient).toBe(next);
  expect(logs()).toHaveLength(3);

  rmSync(obstacle, { recursive: true });
  await archived(member);
  await member.command(keep({ executedByAll: await executed() }));
  await expect.poll(() => logs().length, patient).toBe(1);
});

test('past the caps nobody is waited for; what is not archived is told first', async () => {
  await fill(4);
  await archived(member);
  const tiny = { ...policy, logShareMax: 0.0003 }; // of 2 GB: 640 KB

  await member.command(keep({ executedByAll: null, policy: tiny }));
  await expect.poll(() => logs().length, patient).toBeLessThan(4);
  expect((await member.until(({ logs: own }) => own?.forcedAt != null)).logs?.behindSince).toBeNull();

  const [open = ''] = logs().slice(-1);
  const obstacle = join(
    archiveDirectory(member, serverUuid),
    `binlog.${String(Number(open.slice(7)) + 1).padStart(6, '0')}`,
  );
  mkdirSync(obstacle);
  await fill(4);
  await member.until(({ archive }) => archive?.error != null);
  await member.command(keep({ executedByAll: await executed(), policy: tiny }));
  await member.until(({ logs: own }) => own?.behindSince != null);
  expect(logs().length).toBeGreaterThanOrEqual(4);

  rmSync(obstacle, { recursive: true });
  await archived(member);
  await member.command(keep({ executedByAll: await executed(), policy: tiny }));
  await member.until(({ logs: own }) => own?.behindSince === null);
});

test('the archive keeps to its share, says when a backup is cut off, and does not copy what expired again', async () => {
  await fill(4);
  await archived(member);
  const before = logNames(archiveDirectory(member, serverUuid));
  const small = { ...policy, archiveShare: 0.0005 }; // of 2 GB: 1 MB

  await member.command(keep({ executedByAll: null, backups: [''], policy: small }));
  const { archive } = await member.until(
    ({ logs: own, archive: told }) => own?.cutAt != null && told!.bytes < 1_100_000,
  );

  const kept = logNames(archiveDirectory(member, serverUuid));
  expect(kept.length).toBeLessThan(before.length);
  expect(kept).toEqual(before.slice(-kept.length));
  expect(archive?.spans).toHaveLength(1);
  await fill(1);
  await archived(member);
  expect(logNames(archiveDirectory(member, serverUuid))).not.toContain(before[0]);
});

test('a flipped bit in a closed log is found: put aside, and copied again while its source is there', async () => {
  await member.command(keep({ executedByAll: null }));
  await fill(2);
  await archived(member);
  const [gone = '', there = ''] = logNames(archiveDirectory(member, serverUuid)).slice(-3);
  const flip = (name: string) => {
    const path = join(archiveDirectory(member, serverUuid), name);
    const bytes = readFileSync(path);
    bytes[bytes.length >> 1]! ^= 4;
    writeFileSync(path, bytes);
  };
  const session = await ownSession(member);
  await session.query('PURGE BINARY LOGS TO ?', [there]);
  await session.close();
  await member.launch.destroy();
  flip(gone);
  flip(there);

  await member.relaunch();
  await member.start();

  const exists = (name: string) => existsSync(join(archiveDirectory(member, serverUuid), name));
  await expect.poll(() => exists(`${gone}.damaged`) && exists(`${there}.damaged`), patient).toBe(true);
  await expect.poll(() => exists(`${there}.json`), patient).toBe(true);
  expect(compareLog(member, serverUuid, there)).toBe('equal');
  expect(exists(gone)).toBe(false);
  // What went with it is a hole between two spans now.
  const { archive } = await member.until((status) => (status.archive?.spans.length ?? 0) > 1);
  expect(archive?.spans.length).toBe(2);
});

test('an archiver with a rate falls behind, says how far, and goes on when it may', async () => {
  await member.command({ kind: 'promote', k: 0, member: 0, timeoutMs: 10_000 });
  await archived(member);
  await member.command(keep({ maxBytesPerSec: 100_000 }));
  await fill(3);

  const { archive } = await member.until((status) => (status.archive?.pendingBytes ?? 0) > 200_000);
  expect(archive?.error).toBeNull();
  await member.command(keep({ maxBytesPerSec: null }));

  await archived(member);
  for (const name of logs()) expect(compareLog(member, serverUuid, name)).toBe('equal');
});
