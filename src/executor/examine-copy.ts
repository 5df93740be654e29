/**
 * What a copy of a running instance holds: its exact GTID set, for which mysqld is started on it, and the SHA-256 of every
 * file as it lies there after that.
 */
import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { readGtids } from '../mysql/gtid.ts';
import { copyArgs } from './copy-instance.ts';
import { isMissing } from './durable.ts';
import { hashBeside } from './early-hash.ts';
import { startInstance } from './instance.ts';
import type { WorkHandle } from './long-work.ts';
import { type BackupFiles, hashFiles } from './manifest.ts';
import type { MemberContext } from './member-context.ts';
import { createThrottle } from './throttle.ts';
import type { Volume } from './volumes.ts';

const STOP_TIMEOUT_MS = 5 * 60_000;
/** Of no use to another instance: identity, pid files, logs' indexes, temporary and persisted settings. */
const leftOut = /^(auto\.cnf|mysqld-auto\.cnf|.*\.pid|.*\.pem|ibtmp1|ib_buffer_pool|(binlog|relay|copy)[.-].*)$/;

interface ExamineOptions {
  readonly volume: Volume;
  readonly copiedBytes: number;
  readonly bytesPerSec: number | null;
  readonly isPacked: boolean;
}

/**
 * The second part of the work: mysqld is started on the copy, and every file is read once more. What mysqld does not
 * touch is hashed meanwhile. A third part packs them.
 */
export async function examineCopy(
  context: MemberContext,
  dataDir: string,
  { volume, copiedBytes, bytesPerSec, isPacked }: ExamineOptions,
  work: WorkHandle,
): Promise<{ gtidSet: string; files: BackupFiles }> {
  const { clock } = context;
  const { signal } = work;
  const throttle = createThrottle(clock, bytesPerSec);
  let done = 0;
  const onChunk = async (bytes: number) => {
    done += bytes;
    work.progress(copiedBytes + done, copiedBytes + Math.max(copiedBytes, done) * (isPacked ? 2 : 1));
    await throttle.take(bytes, signal);
  };
  const { result: gtidSet, find } = await hashBeside(dataDir, { clock, signal, onChunk }, async () => {
    const learned = await learnGtidSet(context, volume, dataDir, signal);
    work.step('hashing');
    return learned;
  });
  await removeLeftOut(dataDir);
  return { gtidSet, files: await hashFiles(dataDir, { signal, find, onChunk }) };
}

/** Starts the copy where it lies: socket only, nothing can write, no binary log. Answers its exact GTID set. */
async function learnGtidSet(
  context: MemberContext,
  volume: Volume,
  dataDir: string,
  signal: AbortSignal,
): Promise<string> {
  const socketPath = join(context.paths.runDir, 'b');
  const logPath = `${context.paths.log}.backup`;
  const copy = await startInstance({
    distribution: await context.findDistribution(),
    cnfPath: null,
    // The copy is not written to: a log as small as it can be is less to hash and to keep.
    extraArgs: [...copyArgs({ dataDir, socketPath, logPath }), '--innodb-redo-log-capacity=8M'],
    lockPath: join(volume.path, 'lock'),
    logPath,
    socketPath,
    cwd: volume.path,
    isCopy: true,
    clock: context.clock,
    signal,
  });
  try {
    const { executed } = await readGtids(copy.admin);
    signal.throwIfAborted();
    const exit = await copy.terminate(STOP_TIMEOUT_MS);
    if (exit.kind !== 'ended' || exit.exitCode !== 0) throw new Error('the copy did not stop cleanly');
    return executed;
  } catch (error) {
    await copy.kill();
    throw error;
  }
}

async function removeLeftOut(dataDir: string): Promise<void> {
  for (const name of await readdir(dataDir)) {
    if (!leftOut.test(name)) continue;
    const path = join(dataDir, name);
    const isFile = await stat(path).then((found) => found.isFile(), rethrowUnlessMissing);
    if (isFile) await rm(path, { force: true });
  }
}

function rethrowUnlessMissing(error: unknown): boolean {
  if (isMissing(error)) return false;
  throw error;
}
