/**
 * Hashing tables' files of a copy while mysqld is started and stopped on it to learn its GTID set: most of them it does
 * not touch. What it did touch is hashed again when it has ended. Rules:
 * - A checksum counts when size, time of writing and time of change are those from before mysqld was started. They are
 *   compared when mysqld has ended, so that no write of its is still under way.
 * - A file system's clock goes in steps (4 ms). Only a file that was written in an earlier step than mysqld's start is
 *   hashed early: whatever is written later gets another time.
 */
import type { BigIntStats } from 'node:fs';
import { rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Clock, delay } from '../clock.ts';
import { hashFile, listFiles } from './manifest.ts';

const STEP_MS = 5;
const STEPS_MAX = 40;
const LOOKS_AT_ONCE = 8;
/** So often a file is looked at while it is read: one that mysqld writes to is left for later. */
const LOOK_BYTES = 32 * 1024 * 1024;
/** Files of tables in schemas of their own. mysqld always writes to its own ones. */
const ofTables = /^(?!mysql\/|#)[^/]+\/[^/]+\.ibd$/;

interface Hashed {
  readonly bytes: number;
  readonly sha256: string;
}

interface Options {
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Told what was read; may hold it up. */
  onChunk(bytes: number): Promise<void>;
}

/**
 * Runs `work`, which starts mysqld on the copy and ends it, and hashes meanwhile. Answers when both are done; throws what
 * `work` throws. `find` tells null of a file that has to be hashed (again), also of one that could not be read.
 */
export async function hashBeside<T>(
  directory: string,
  options: Options,
  work: () => Promise<T>,
): Promise<{ result: T; find(path: string): Promise<Hashed | null> }> {
  const stamps = await findSettled(directory, options);
  const failed = new AbortController();
  const signal = AbortSignal.any([options.signal, failed.signal]);
  const found = new Map<string, Hashed>();
  const hashing = hashAll({ directory, stamps, found, signal, onChunk: options.onChunk });
  try {
    const result = await work();
    await hashing;
    const find = async (path: string) => {
      const hashed = found.get(path);
      return hashed && (await readStamp(join(directory, path))) === stamps.get(path) ? hashed : null;
    };
    return { result, find };
  } catch (error) {
    failed.abort(error);
    await hashing;
    throw error;
  }
}

const toStamp = ({ ino, size, mtimeNs, ctimeNs }: BigIntStats): string => `${ino} ${size} ${mtimeNs} ${ctimeNs}`;

const readStamp = async (path: string): Promise<string> => toStamp(await stat(path, { bigint: true }));

/** Tables' files by path, with their stamps; only those that were last written in an earlier step of the clock. */
async function findSettled(directory: string, { clock, signal }: Options): Promise<Map<string, string>> {
  const paths = await listFiles(directory);
  const files: { readonly path: string; readonly stats: BigIntStats }[] = [];
  const next = paths.filter((path) => ofTables.test(path)).values();
  const look = async () => {
    for (const path of next) files.push({ path, stats: await stat(join(directory, path), { bigint: true }) });
  };
  await Promise.all(Array.from({ length: LOOKS_AT_ONCE }, look));
  let now = await readFileClock(directory);
  for (let steps = 0; files.some(({ stats }) => stats.ctimeNs >= now) && steps < STEPS_MAX; steps += 1) {
    await delay(clock, STEP_MS, signal);
    now = await readFileClock(directory);
  }
  const settled = files.filter(({ stats: { mtimeNs, ctimeNs } }) => mtimeNs < now && ctimeNs < now);
  return new Map(settled.map(({ path, stats }) => [path, toStamp(stats)]));
}

/** What the file system takes for now. */
async function readFileClock(directory: string): Promise<bigint> {
  const path = `${directory}.clock`;
  await writeFile(path, 'now');
  const { ctimeNs } = await stat(path, { bigint: true });
  await rm(path);
  return ctimeNs;
}

interface Hashing extends Pick<Options, 'signal' | 'onChunk'> {
  readonly directory: string;
  readonly stamps: ReadonlyMap<string, string>;
  readonly found: Map<string, Hashed>;
}

/** Never rejects: what is not found is hashed later. */
async function hashAll({ directory, stamps, found, signal, onChunk }: Hashing): Promise<void> {
  for (const [name, stamp] of stamps) {
    const path = join(directory, name);
    let unseen = 0;
    const take = async (bytes: number) => {
      unseen += bytes;
      if (unseen >= LOOK_BYTES) {
        unseen = 0;
        if ((await readStamp(path)) !== stamp) throw new Error('mysqld writes to it');
      }
      await onChunk(bytes);
    };
    try {
      if ((await readStamp(path)) === stamp) found.set(name, await hashFile(path, signal, take));
    } catch {
      if (signal.aborted) return;
    }
  }
}
