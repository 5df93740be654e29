import { existsSync, mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { realClock } from '../../src/clock.ts';
import { hashStart } from '../../src/executor/archive-segments.ts';
import { walkBinaryLog } from '../../src/mysql/binlog-events.ts';
import { archiveDirectory, archived, compareLog, dataDirectory, logNames, sizeOf } from './archive-files.ts';
import {
  crashWithTail,
  createTrimWorld,
  insert,
  mysqldPid,
  newIdentity,
  ownSession,
  rejoin,
  type TrimWorld,
  trim,
} from './trim-world.ts';
import type { TestMember } from './world.ts';

/** Guarantee 7: what a restore to a point in time stands on. One cluster, whose primary is struck again and again. */
let on: TrimWorld;
const patient = { timeout: 30_000 };
const signal = new AbortController().signal;

beforeAll(async () => {
  on = await createTrimWorld(83);
});
afterAll(() => on?.world.destroy());

async function rotate(member: TestMember): Promise<void> {
  const session = await ownSession(member);
  await session.query('FLUSH BINARY LOGS');
  await session.close();
}

async function write(member: TestMember, count: number, bytes = 100): Promise<void> {
  const team = await member.team();
  await team.query('CREATE TABLE IF NOT EXISTS shop.notes (id INT PRIMARY KEY AUTO_INCREMENT, note LONGTEXT)');
  for (let nth = 0; nth < count; nth += 1)
    await team.query("INSERT INTO shop.notes (note) VALUES (REPEAT('n', ?))", [bytes]);
  await team.close();
}

/** Every log of the data directory has an equal in the archive; the last one as far as it is whole. */
async function expectAllArchived(member: TestMember): Promise<void> {
  const { serverUuid } = await member.status();
  await expect
    .poll(async () => {
      await archived(member);
      return logNames(dataDirectory(member)).map((name) => compareLog(member, serverUuid, name));
    }, patient)
    .toEqual(logNames(dataDirectory(member)).map(() => 'equal'));
}

test('under load with rotations every byte of every member is archived, and closed logs are sealed', async () => {
  for (let round = 0; round < 4; round += 1) {
    await write(on.primary, 20);
    await write(on.primary, 2, 700_000);
    await rotate(on.world.members[round % 3]!);
  }

  for (const member of on.world.members) {
    await member.command({ kind: 'catchUp', gtidSet: (await on.primary.status()).gtidExecuted, timeoutMs: 10_000 });
    await expectAllArchived(member);
    const { serverUuid } = await member.status();
    const directory = archiveDirectory(member, serverUuid);
    for (const name of logNames(directory).slice(0, -1)) {
      const path = join(directory, name);
      const sidecar = JSON.parse(readFileSync(`${path}.json`, 'utf8'));
      const walked = await walkBinaryLog(path, { signal });
      expect(sidecar).toMatchObject({ version: 1, serverUuid, name, bytes: sizeOf(path), gtidSet: walked.gtidSet });
      expect(sidecar.previousGtids).toBe(walked.head.previousGtids);
      expect(sidecar.sha256).toBe(await hashStart(path, sizeOf(path), signal));
    }
  }
});

test('the spans of the status say what is archived', async () => {
  await write(on.primary, 5);

  await expectAllArchived(on.primary);
  const { gtidExecuted, serverUuid } = await on.primary.status();
  const { spans, bytes } = await archived(on.primary);

  expect(spans).toMatchObject([{ serverUuid, fromGtids: '' }]);
  const session = await ownSession(on.primary);
  const sql = "SELECT GTID_SUBTRACT(?, ?) = '' AS isWhole";
  const [row] = await session.query<{ isWhole: number }>(sql, [gtidExecuted, spans[0]!.gtidSet]);
  await session.close();
  expect(Number(row!.isWhole)).toBe(1);
  expect(bytes).toBeGreaterThan(5_000_000);
});

test('an executor that was killed is taken over from amid its work: no byte is missing or doubled', async () => {
  const replica = on.world.members[1]!;
  const { serverUuid } = await replica.status();
  await write(on.primary, 5, 500_000);
  await replica.launch.destroy();
  const directory = archiveDirectory(replica, serverUuid);
  const names = logNames(directory);
  // What a kill may leave: a sidecar that was not written, one that is half, an open copy with a torn or foreign end.
  rmSync(join(directory, `${names[0]}.json`));
  writeFileSync(join(directory, `${names[1]}.json`), '{"version":1,');
  writeFileSync(
    join(directory, names.at(-1)!),
    Buffer.concat([readFileSync(join(directory, names.at(-1)!)), Buffer.alloc(99, 7)]),
  );
  writeFileSync(join(directory, 'README'), 'not ours');
  mkdirSync(join(archiveDirectory(replica), 'lost+found'), { recursive: true });

  await replica.relaunch();
  await replica.start();
  await replica.command({ kind: 'follow', source: on.primary.source });
  await replica.command({ kind: 'setVoter', isVoter: true });
  await write(on.primary, 3);
  await replica.command({ kind: 'catchUp', gtidSet: (await on.primary.status()).gtidExecuted, timeoutMs: 10_000 });

  await expectAllArchived(replica);
  await expect.poll(() => existsSync(join(directory, `${names[1]}.json`)), patient).toBe(true);
  expect(readFileSync(join(directory, 'README'), 'utf8')).toBe('not ours');
});

test('a sealed log that was cut or lost is copied again as long as its source is there', async () => {
  const member = on.world.members[2]!;
  const { serverUuid } = await member.status();
  const directory = archiveDirectory(member, serverUuid);
  const [first, second] = logNames(directory);
  truncateSync(join(directory, first!), 300);
  rmSync(join(directory, second!));

  await expect
    .poll(
      () => [first, second].map((name) => existsSync(join(directory, name!)) && compareLog(member, serverUuid, name!)),
      patient,
    )
    .toEqual(['equal', 'equal']);
});

test('a mysqld that was killed leaves nothing out: its last bytes are archived while it is down', async () => {
  const replica = on.world.members[2]!;
  await write(on.primary, 10);
  process.kill(mysqldPid(replica), 'SIGKILL');
  await replica.until(({ instance }) => instance === 'starting');
  await replica.until(({ replication }) => replication?.receiver === 'on');
  await replica.command({ kind: 'setVoter', isVoter: true });
  await write(on.primary, 3);
  await replica.command({ kind: 'catchUp', gtidSet: (await on.primary.status()).gtidExecuted, timeoutMs: 20_000 });

  await expectAllArchived(replica);
});

test('a trim cuts the tail out of the archive too, and the new identity goes on in a directory of its own', async () => {
  const old = on.primary;
  const { serverUuid: before } = await old.status();
  await crashWithTail(on, insert(on, 2), async () => {
    const size = sizeOf(join(dataDirectory(old), logNames(dataDirectory(old)).at(-1)!));
    const copy = join(archiveDirectory(old, before), logNames(dataDirectory(old)).at(-1)!);
    await expect.poll(() => sizeOf(copy), patient).toBe(size); // the archive has the tail
  });
  const name = logNames(dataDirectory(old)).at(-1)!;
  const withTail = sizeOf(join(archiveDirectory(old, before), name));

  const identity = newIdentity();
  const status = await trim(on, old, identity);
  expect(status.work, old.launch.logs()).toMatchObject({ outcome: 'done' });
  await rejoin(on, old);
  await archived(old);

  expect(compareLog(old, before, name)).toBe('equal');
  expect(sizeOf(join(archiveDirectory(old, before), name))).toBeLessThan(withTail);
  const [next, ...others] = logNames(archiveDirectory(old, identity.serverUuid));
  expect(others).toEqual([]);
  expect(Number(next!.slice(7))).toBe(Number(name.slice(7)) + 1);
  expect(compareLog(old, identity.serverUuid, next!)).toBe('equal');
  const { spans } = await archived(old);
  expect(spans.map(({ serverUuid }) => serverUuid).sort()).toEqual([before, identity.serverUuid].sort());
});

test('a member that was cloned begins another directory and keeps the old one', async () => {
  const member = on.world.members.find((each) => each !== on.primary)!;
  const { serverUuid: before } = await member.status();
  const identity = newIdentity();
  const kept = logNames(archiveDirectory(member, before));

  await member.command({ kind: 'rebuild', ...identity, from: { kind: 'clone', donor: on.primary.source } }, on.epoch);
  const { work } = await member.until((status) => status.work?.outcome !== 'running');
  expect(work, member.launch.logs()).toMatchObject({ outcome: 'done' });
  await rejoin(on, member);
  await archived(member);

  expect(logNames(archiveDirectory(member, before))).toEqual(kept);
  expect(existsSync(join(archiveDirectory(member, before), `${kept.at(-1)}.json`))).toBe(true);
  for (const name of logNames(archiveDirectory(member, identity.serverUuid))) {
    expect(compareLog(member, identity.serverUuid, name)).toBe('equal');
  }
});

test('an archive that cannot be written is told, ends nothing, and goes on when it can', async () => {
  const member = on.primary;
  const { serverUuid } = await member.status();
  await archived(member);
  const directory = archiveDirectory(member, serverUuid);
  const [name] = logNames(dataDirectory(member)).slice(-1);
  // A directory in the place of the next log.
  const next = `binlog.${String(Number(name!.slice(7)) + 1).padStart(6, '0')}`;
  mkdirSync(join(directory, next));
  await rotate(member);
  await write(member, 3);

  const { archive, instance } = await member.until((status) => status.archive?.error != null);
  expect(archive?.error?.code).toBe('ARCHIVE_FAILED');
  expect(archive?.pendingBytes).toBeGreaterThan(0);
  expect(instance).toBe('running');
  rmSync(join(directory, next), { recursive: true });

  await expectAllArchived(member);
  expect(realClock.now() - (await archived(member)).archivedAt!).toBeLessThan(60_000);
});
