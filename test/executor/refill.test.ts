/** A log that one member's archive lost comes back from another one's: real mysqld, real transfers. */
import { createHash, randomUUID } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startedFacts } from '../../src/channel/protocol.ts';
import { findOwnGap } from '../../src/cluster/refill.ts';
import { archiveDirectory, archived, dataDirectory, logNames } from './archive-files.ts';
import { ownSession } from './trim-world.ts';
import { createWorld, type TestMember, type World } from './world.ts';

const patient = { timeout: 60_000 };
const token = randomUUID();
let world: World;
let donor: TestMember;
let member: TestMember;
/** Of the donor. */
let donorUuid = '';
let ownUuid = '';

beforeAll(async () => {
  world = await createWorld(2, 97);
  [donor, member] = world.members as [TestMember, TestMember];
  for (const answer of await Promise.all(world.members.map((each) => each.start(true)))) {
    expect(answer).toMatchObject({ outcome: 'done' });
  }
  await member.command({ kind: 'follow', source: donor.source });
  await donor.command({ kind: 'promote', k: 0, member: 0, timeoutMs: 20_000 });
  donorUuid = (await donor.status()).serverUuid;
  ownUuid = (await member.status()).serverUuid;
  const team = await donor.team();
  await team.query('CREATE DATABASE shop');
  await team.query('CREATE TABLE shop.notes (id INT PRIMARY KEY AUTO_INCREMENT, note LONGTEXT)');
  await team.close();
}, 120_000);
afterAll(() => world?.destroy());

async function execute(on: TestMember, sql: string, values: readonly string[] = []): Promise<void> {
  const session = await ownSession(on);
  try {
    await session.query(sql, values);
  } finally {
    await session.close();
  }
}

/**
 * Some writes, all in logs that are closed and archived at the member; then one of these logs is lost: purged, and gone
 * from its archive. Answers what its archive lacks.
 */
async function loseOneLog(): Promise<string> {
  await execute(member, 'FLUSH LOCAL BINARY LOGS');
  const team = await donor.team();
  for (let nth = 0; nth < 8; nth += 1) await team.query("INSERT INTO shop.notes (note) VALUES (REPEAT('n', 100000))");
  await team.close();
  await member.command({ kind: 'catchUp', gtidSet: (await donor.status()).gtidExecuted, timeoutMs: 20_000 });
  await execute(member, 'FLUSH LOCAL BINARY LOGS');
  await archived(member);
  const [lost = '', current = ''] = logNames(dataDirectory(member)).slice(-2);
  const own = archiveDirectory(member, ownUuid);
  await expect.poll(() => existsSync(join(own, `${lost}.json`)), patient).toBe(true);
  await execute(member, 'PURGE BINARY LOGS TO ?', [current]);
  rmSync(join(own, lost));
  rmSync(join(own, `${lost}.json`));
  await expect.poll(readGap, patient).not.toBe('');
  return readGap();
}

async function readGap(): Promise<string> {
  const { gtidExecuted } = await donor.status();
  return findOwnGap({ spans: (await member.status()).archive!.spans, from: '' }, gtidExecuted);
}

async function share(maxBytesPerSec: number | null = null): Promise<void> {
  const tokenSha256 = createHash('sha256').update(token).digest('hex');
  await donor.command({ kind: 'share', tokenSha256, expiresInMs: 600_000, maxBytesPerSec, closeLog: true });
}

async function send(gtidSet: string, shareMax = 0.3): Promise<string> {
  const { address, ports } = donor.launch.plan;
  const facts = donor.launch.updates.find(({ data }) => data !== undefined)!;
  const { fingerprint } = startedFacts.parse(JSON.parse(Buffer.from(facts.data!, 'base64').toString()));
  const at = { ordinal: 0, address, port: ports.control, fingerprint, token };
  const id = randomUUID();
  const options = { id, epoch: 1, leaderToken: 9 };
  const answer = await member.launch.send({ kind: 'refillArchive', donor: at, gtidSet, shareMax }, options);
  if (answer.outcome === 'refused') throw new Error(`${answer.code}: ${answer.message}`);
  return id;
}

async function ended(id: string) {
  const isEnded = ({ archive }: Awaited<ReturnType<TestMember['status']>>) =>
    archive?.refill?.commandId === id && archive.refill.outcome !== 'running';
  return (await member.until(isEnded, 60_000)).archive!.refill!;
}

const fetched = (): string[] => {
  const directory = archiveDirectory(member, donorUuid);
  return existsSync(directory) ? readdirSync(directory).sort() : [];
};

test('what is lost is fetched from the donor, byte for byte, once, with a sidecar', async () => {
  const gap = await loseOneLog();
  await share();

  const first = await ended(await send(gap));

  expect(first, member.launch.logs()).toMatchObject({ outcome: 'done', donor: 0, code: null });
  expect(first.segments).toBeGreaterThan(0);
  expect(first.doneBytes).toBe(first.totalBytes);
  expect(await readGap()).toBe('');
  const names = fetched().filter((name) => !name.endsWith('.json'));
  expect(names).toHaveLength(first.segments);
  for (const name of names) {
    const [copy, source] = [member, donor].map((each) => join(archiveDirectory(each, donorUuid), name)) as [
      string,
      string,
    ];
    expect(readFileSync(copy).equals(readFileSync(source))).toBe(true);
    const [sidecar, itsSidecar] = [copy, source].map((path) => JSON.parse(readFileSync(`${path}.json`, 'utf8')));
    const { ordinal: _, incarnation: __, ...told } = itsSidecar;
    expect(sidecar).toMatchObject(told);
  }
  const before = fetched();
  expect(await ended(await send(gap))).toMatchObject({ outcome: 'done', segments: 0, doneBytes: 0 });
  expect(fetched()).toEqual(before);
});

test('a slow one gives way to a backup, outlives a killed executor, and is gone on with', async () => {
  const gap = await loseOneLog();
  const before = fetched();
  await share(100_000);

  const id = await send(gap);
  await member.until(({ archive }) => (archive?.refill?.doneBytes ?? 0) > 0);
  await expect(send(gap)).rejects.toThrow('BUSY');
  await member.command({ kind: 'backup', backupId: 'b1' });
  expect(await ended(id)).toMatchObject({ outcome: 'failed', code: 'SUPERSEDED', segments: 0 });
  await member.until(({ work }) => work?.outcome === 'done', 60_000);

  await send(gap);
  await member.until(({ archive }) => (archive?.refill?.doneBytes ?? 0) > 0);
  await member.launch.destroy();
  await member.relaunch();
  await member.until(({ archive }) => archive?.refill === null);
  expect(fetched()).toEqual(before);

  await share();
  expect(await ended(await send(gap))).toMatchObject({ outcome: 'done' });
  expect(await readGap()).toBe('');
  expect(fetched().some((name) => name.endsWith('.partial'))).toBe(false);
  await member.start();
  await member.command({ kind: 'follow', source: donor.source });
});

test('a log that is not what the donor sealed, or has no room, is not taken', async () => {
  const gap = await loseOneLog();
  await share();
  const before = fetched();
  expect(await ended(await send(gap, 0.0001))).toMatchObject({ outcome: 'failed', code: 'ARCHIVE_FAILED' });

  // The donor's own check goes by what it sealed, and mends its bytes: so the sidecar, which it does not read again.
  for (const name of logNames(archiveDirectory(donor, donorUuid)).filter((each) => !before.includes(each))) {
    const path = join(archiveDirectory(donor, donorUuid), `${name}.json`);
    if (!existsSync(path)) continue;
    writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, 'utf8')), sha256: '0'.repeat(64) }));
  }

  expect(await ended(await send(gap))).toMatchObject({ outcome: 'failed', code: 'BACKUP_DAMAGED', segments: 0 });
  expect(fetched().filter((name) => !name.endsWith('.partial'))).toEqual(before);
  expect(await readGap()).toBe(gap);
});
