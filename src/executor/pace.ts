/**
 * A bounded rate for a process that takes no such option: whenever it has read more than its share it is stopped for a
 * moment (SIGSTOP). The disk is the tenants' too. SIGKILL ends it also while it is stopped.
 */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { type Clock, delay } from '../clock.ts';
import type { MysqldProcess } from './mysqld-process.ts';

const LOOK_MS = 100;
/** No single pause is longer: a rate that is far too low still moves, and an end is noticed. */
const PAUSE_MAX_MS = 2_000;

/**
 * Watches what a process reads, tells it, and holds it to `bytesPerSec` (null: only tells). Ends with the process, or
 * by the returned function, after which the process runs freely. Resolves when it has ended; never throws.
 */
export function paceProcess(
  process: MysqldProcess,
  options: { readonly clock: Clock; readonly bytesPerSec: number | null; onRead(bytes: number): void },
): () => Promise<void> {
  const { clock, bytesPerSec, onRead } = options;
  const ended = new AbortController();
  const pause = (ms: number) => delay(clock, ms, ended.signal).catch(() => {});
  const watch = async () => {
    const startedAt = clock.now();
    const base = await readBytes(process.pid);
    while (!ended.signal.aborted && !process.hasExited()) {
      const read = (await readBytes(process.pid)) - base;
      onRead(Math.max(0, read));
      const aheadMs = bytesPerSec === null ? 0 : (read / bytesPerSec) * 1000 - (clock.now() - startedAt);
      if (aheadMs < LOOK_MS) {
        await pause(LOOK_MS);
        continue;
      }
      process.signal('SIGSTOP');
      await pause(Math.min(aheadMs, PAUSE_MAX_MS));
      process.signal('SIGCONT');
    }
  };
  const watching = watch().finally(() => process.signal('SIGCONT'));
  return async () => {
    ended.abort();
    await watching.catch(() => {});
  };
}

/** `rchar`: also what comes from the page cache. 0 when the process is gone. */
async function readBytes(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/io`, 'utf8').catch(() => '');
  return Number(/^rchar: (\d+)$/m.exec(text)?.[1] ?? 0);
}

/**
 * Lowest best-effort I/O priority of a process or thread, for disks whose I/O scheduler looks at it. The idle class
 * would starve on a busy disk. Best effort itself: without `ionice` the work runs as it is.
 */
export function lowerPriority(id: number): void {
  execFile('ionice', ['-c', '2', '-n', '7', '-p', String(id)], () => {});
}
