/** The backup volume is never filled: what a backup needs is estimated before, and a reserve stays free. */
import { lstat, readdir, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { Refusal } from '../errors.ts';
import type { MemberContext } from './member-context.ts';
import { measureDirectory, measureVolume, type Volume } from './volumes.ts';

const MIB = 1024 * 1024;
/** Of the volume; the archive of binary logs goes on in it while full backups wait. */
const RESERVE_SHARE = 0.05;
const RESERVE_MIN_BYTES = 64 * MIB;
/** The instance grows while it is copied. */
const GROWTH = 1.05;
/** Beside the data, not in it: a backup has none of these. */
const isLog = (name: string) => /^(binlog|relay)[.-]/.test(name);

/**
 * Bytes that a backup may take. Throws BACKUP_NO_SPACE with the numbers when what it needs (the data directory's bytes
 * now, without logs) does not fit. `partial` is what an earlier try left: it goes first, so it counts as room. One that
 * is packed needs room for its largest file twice.
 */
export async function requireRoom(
  { paths }: MemberContext,
  volume: Volume,
  { partial, isPacked }: { readonly partial: string; readonly isPacked: boolean },
): Promise<number> {
  const twice = isPacked ? await measureLargest(paths.dataDir) : 0;
  const neededBytes = Math.ceil(((await measureData(paths.dataDir)) + twice) * GROWTH);
  const { totalBytes, freeBytes } = await measureFree(volume);
  const reserveBytes = Math.max(RESERVE_MIN_BYTES, Math.ceil(totalBytes * RESERVE_SHARE));
  const roomBytes = Math.max(0, freeBytes + (await measureDirectory(partial)) - reserveBytes);
  if (neededBytes > roomBytes) throw noSpace({ neededBytes, roomBytes, freeBytes, reserveBytes, totalBytes });
  return roomBytes - twice;
}

async function measureLargest(dataDir: string): Promise<number> {
  const entries = await readdir(dataDir, { recursive: true, withFileTypes: true });
  let largest = 0;
  for (const entry of entries) {
    if (entry.isFile() && !isLog(entry.name))
      largest = Math.max(largest, await sizeOnDisk(join(entry.parentPath, entry.name)));
  }
  return largest;
}

/** Throws BACKUP_NO_SPACE when so many bytes do not fit beside the reserve. */
export async function requireScratch(volume: Volume, neededBytes: number): Promise<void> {
  const { totalBytes, freeBytes } = await measureFree(volume);
  const reserveBytes = Math.max(RESERVE_MIN_BYTES, Math.ceil(totalBytes * RESERVE_SHARE));
  const roomBytes = Math.max(0, freeBytes - reserveBytes);
  if (neededBytes > roomBytes) throw noSpace({ neededBytes, roomBytes, freeBytes, reserveBytes, totalBytes });
}

/** The refusal, with all numbers in `facts`. */
export function noSpace(facts: {
  readonly neededBytes: number;
  readonly roomBytes: number;
  readonly freeBytes?: number;
  readonly reserveBytes?: number;
  readonly totalBytes?: number;
}): Refusal {
  const toMb = (bytes: number) => `${Math.ceil(bytes / MIB)} MB`;
  const message = `it needs ${toMb(facts.neededBytes)}, there is room for ${toMb(facts.roomBytes)}`;
  return new Refusal('BACKUP_NO_SPACE', message, facts);
}

/** A volume that shares a file system has at most what is free there. */
async function measureFree(volume: Volume): Promise<{ totalBytes: number; freeBytes: number }> {
  const [{ totalMb, usedMb }, fs] = await Promise.all([measureVolume(volume), statfs(volume.path)]);
  const free = Math.min((totalMb - usedMb) * MIB, fs.bavail * fs.bsize);
  return { totalBytes: totalMb * MIB, freeBytes: Math.max(0, free) };
}

async function measureData(dataDir: string): Promise<number> {
  const whole = await measureDirectory(dataDir);
  const names = (await readdir(dataDir)).filter(isLog);
  const logs = await Promise.all(names.map((name) => sizeOnDisk(join(dataDir, name))));
  return whole - logs.reduce((sum, bytes) => sum + bytes, 0);
}

async function sizeOnDisk(path: string): Promise<number> {
  return lstat(path).then(
    ({ blocks }) => blocks * 512,
    () => 0,
  );
}
