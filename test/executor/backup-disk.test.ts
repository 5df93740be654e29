/** A backup volume that is full or write-protected while a backup is taken: on a file system of its own. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { volumeOf } from './trim-world.ts';
import { createWorld, type TestMember, type World } from './world.ts';

let world: World;
let member: TestMember;
let disk: { readonly path: string; readonly image: string } | null = null;
const run = (program: string, ...args: string[]) =>
  execFileSync(program, args, { stdio: 'pipe', timeout: 20_000 }).toString();
const until = (what: Parameters<TestMember['until']>[0]) => member.until(what, 60_000);
const rate = 1024 * 1024;

/** The backup volume on a loop device. Null, with the reason printed, where that is not allowed. */
function mountDisk(): typeof disk {
  const path = volumeOf(member, 'backup');
  const image = join(member.root, 'disk.img');
  try {
    mkdirSync(path, { recursive: true });
    run('truncate', '-s', '900M', image);
    run('mkfs.ext4', '-q', '-E', 'lazy_itable_init=1,root_owner', image);
    run('mount', '-o', 'loop,errors=remount-ro', image, path);
    return { path, image };
  } catch (error) {
    console.log(`no disk can be mounted here: ${(error as Error).message.split('\n')[0]}`);
    return null;
  }
}

beforeAll(async () => {
  world = await createWorld(1, 63);
  member = world.members[0]!;
  await member.launch.destroy();
  disk = mountDisk();
  await member.relaunch();
  if (disk) await member.start(true);
}, 120_000);
afterAll(async () => {
  await member?.launch.destroy();
  if (disk) {
    run('umount', '-l', disk.path);
    rmSync(disk.image, { force: true });
  }
  await world?.destroy();
});

/** A backup that is held to a rate, and is in the middle of CLONE when this returns. */
async function begin(id: string): Promise<void> {
  await member.command({ kind: 'backup', backupId: id, maxBytesPerSec: rate });
  const copied = join(volumeOf(member, 'backup'), 'backups', `${id}.partial`, 'data', 'ibdata1');
  await vi.waitFor(() => expect(existsSync(copied)).toBe(true), { timeout: 30_000, interval: 10 });
}

const halves = () => readdirSync(join(disk!.path, 'backups')).filter((name) => name.endsWith('.partial'));

test('another fills the volume: the backup fails, what is half goes, with room the next one works', async (context) => {
  if (!disk) return context.skip('no disk can be mounted here'); // mountDisk has printed why
  await begin('full');
  const filler = join(disk.path, 'filler');
  writeFileSync(filler, '');
  let offset = 0;
  for (let size = statfsSync(disk.path).bavail * 4096; size >= 4096; size = Math.floor(size / 2)) {
    try {
      run('fallocate', '-o', String(offset), '-l', String(size), filler);
      offset += size;
    } catch {
      // so much is not free any more
    }
  }

  const failed = await until(({ work }) => work?.outcome === 'failed');

  expect(failed.backups).toEqual([]);
  expect(failed.instance).toBe('running');
  expect(halves()).toEqual([]);
  const refused = await member.launch.send({ kind: 'backup', backupId: 'full' }, { epoch: 1, leaderToken: 9 });
  expect(refused).toMatchObject({ outcome: 'refused', code: 'BACKUP_NO_SPACE' });
  rmSync(filler);
  await member.command({ kind: 'backup', backupId: 'full' });
  const status = await until(({ work }) => work?.outcome === 'done');
  expect(status.backups).toMatchObject([{ id: 'full', isBad: false }]);
}, 180_000);

test('the volume becomes read-only: backup and verification fail, the mended one holds what it held', async (context) => {
  if (!disk) return context.skip('no disk can be mounted here'); // mountDisk has printed why
  await begin('next');
  const device = run('findmnt', '-no', 'SOURCE', disk.path).trim();
  writeFileSync(`/sys/fs/ext4/${basename(device)}/trigger_fs_error`, 'fire');

  const failed = await until(({ work }) => work?.outcome === 'failed');

  expect(failed.backups).toMatchObject([{ id: 'full', isBad: false, verifiedAt: null }]);
  // Where an fsync fails amid CLONE, InnoDB ends mysqld (os_file_fsync, seen with 9.7.4): it is started again.
  await until(({ instance }) => instance === 'running');
  await member.launch.send({ kind: 'verify', backupId: 'full' }, { epoch: 1, leaderToken: 9 });
  const unread = await until(({ work }) => work?.kind === 'verify' && work.outcome === 'failed');
  expect(unread.work?.code, unread.work?.message ?? '').not.toBe('BACKUP_DAMAGED');
  expect(unread.backups).toMatchObject([{ id: 'full', isBad: false, verifiedAt: null }]);
  const again = await member.launch.send({ kind: 'backup', backupId: 'next' }, { epoch: 1, leaderToken: 9 });
  if (again.outcome !== 'refused') {
    expect((await until(({ work }) => work?.kind === 'backup' && work.outcome === 'failed')).backups).toHaveLength(1);
  }

  await member.launch.destroy();
  run('umount', disk.path);
  try {
    run('e2fsck', '-fy', disk.image);
  } catch {
    // it tells that it has mended something
  }
  run('mount', '-o', 'loop', disk.image, disk.path);
  await member.relaunch();
  const mended = await until(({ areBackupsKnown }) => areBackupsKnown === true);
  expect(mended.backups).toMatchObject([{ id: 'full', isBad: false, verifiedAt: null }]);
  expect(halves()).toEqual([]);
  await member.start();
  await member.command({ kind: 'verify', backupId: 'full' });
  await until(({ work }) => work?.kind === 'verify' && work.outcome === 'done');
  await member.command({ kind: 'backup', backupId: 'next' });
  const status = await until(({ work }) => work?.kind === 'backup' && work.outcome === 'done');
  expect(status.backups.map(({ id }) => id)).toEqual(['full', 'next']);
}, 240_000);
