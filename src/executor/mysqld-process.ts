/**
 * One mysqld as a child process. It is started through `flock -n -F <volume>/lock`: flock becomes mysqld and the lock
 * lives exactly as long as mysqld does, so a second one on the same volume cannot start (two raced on one data
 * directory once: 12 GB of log in ten minutes). It stays in the executor's session and process group: that is how the
 * agent's kill finds it. And it dies with the executor (`setpriv --pdeathsig`): without one nobody could fence it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { open, truncate } from 'node:fs/promises';
import type { Clock } from '../clock.ts';

/** flock's exit code when another process holds the lock. */
const LOCKED = 75;
/** mysqld's exit code for "start me again" (CLONE, RESTART), given when MYSQLD_PARENT_PID names its parent. */
const RESTART = 16;
const KILL_WAIT_MS = 60_000;
const MAX_LOG_BYTES = 64 * 1024 * 1024;
const LOG_TAIL_BYTES = 16 * 1024;

export type Exit =
  | { readonly kind: 'restart' }
  | { readonly kind: 'locked' }
  | { readonly kind: 'ended'; readonly exitCode: number | null; readonly signal: string | null };

export interface MysqldProcess {
  readonly pid: number;
  /** Resolves when the process was reaped. Never rejects. */
  readonly exited: Promise<Exit>;
  hasExited(): boolean;
  signal(name: 'SIGTERM' | 'SIGKILL' | 'SIGSTOP' | 'SIGCONT'): void;
}

export interface ProcessOptions {
  /** Command and arguments of mysqld. */
  readonly argv: readonly string[];
  readonly lockPath: string;
  /** Both outputs are appended to it. */
  readonly logPath: string;
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
}

/** Starts mysqld. A failure to start the program at all shows as an exit. */
export function spawnMysqld(options: ProcessOptions): MysqldProcess {
  const log = openSync(options.logPath, 'a', 0o600);
  let child: ChildProcess;
  try {
    const flock = ['flock', '-n', '-E', String(LOCKED), '-F', options.lockPath];
    child = spawn('setpriv', ['--pdeathsig', 'KILL', ...flock, ...options.argv], {
      cwd: options.cwd,
      env: { ...options.env, MYSQLD_PARENT_PID: String(process.pid) },
      stdio: ['ignore', log, log],
      detached: false,
    });
  } finally {
    closeSync(log);
  }
  let hasExited = false;
  const exited = new Promise<Exit>((resolve) => {
    const end = (exit: Exit) => {
      hasExited = true;
      resolve(exit);
    };
    child.once('error', () => end({ kind: 'ended', exitCode: 127, signal: null }));
    child.once('exit', (exitCode, signal) => {
      if (exitCode === RESTART) end({ kind: 'restart' });
      else if (exitCode === LOCKED) end({ kind: 'locked' });
      else end({ kind: 'ended', exitCode, signal });
    });
  });
  return {
    pid: child.pid ?? -1,
    exited,
    hasExited: () => hasExited,
    signal: (name) => {
      if (!hasExited) child.kill(name);
    },
  };
}

/** How a process ended, in words. */
export function describeExit(exit: Exit): string {
  if (exit.kind === 'ended') return exit.signal ?? `exit code ${exit.exitCode}`;
  return exit.kind === 'restart' ? 'it asked to be started again' : 'another process holds the lock of the volume';
}

const crashSignals: ReadonlySet<string> = new Set(['SIGABRT', 'SIGSEGV', 'SIGBUS', 'SIGILL', 'SIGFPE']);

/** It ended by a failure of its own: no kill, and nothing that it explained. It catches most such signals: exit code 2. */
export function isCrash(exit: Exit): boolean {
  return exit.kind === 'ended' && (exit.signal === null ? exit.exitCode === 2 : crashSignals.has(exit.signal));
}

/** SIGKILL, then waits until the process is reaped. Throws when the kernel does not end it within a minute (a hung disk). */
export async function killAndReap(process: MysqldProcess, clock: Clock): Promise<Exit> {
  process.signal('SIGKILL');
  return waitForExit(process, KILL_WAIT_MS, clock);
}

/** Waits for the end of the process; throws after `timeoutMs`. */
export async function waitForExit(process: MysqldProcess, timeoutMs: number, clock: Clock): Promise<Exit> {
  let timer: unknown;
  const timeout = new Promise<never>((_, reject) => {
    timer = clock.setTimeout(() => reject(new Error(`mysqld ${process.pid} did not end`)), timeoutMs);
  });
  try {
    return await Promise.race([process.exited, timeout]);
  } finally {
    clock.clearTimeout(timer);
  }
}

/** The last error lines of mysqld's log: what people need to know why it does not start. At most 500 characters. */
export async function readLogTail(path: string): Promise<string> {
  try {
    await using file = await open(path, 'r');
    const { size } = await file.stat();
    const length = Math.min(size, LOG_TAIL_BYTES);
    const { buffer } = await file.read(Buffer.alloc(length), 0, length, size - length);
    const lines = buffer.toString('utf8').trim().split('\n');
    const errors = lines.filter((line) => line.includes('[ERROR]'));
    const chosen = (errors.length > 0 ? errors : lines).slice(-3);
    return chosen
      .map((line) => line.replace(/^\S+ \d+ /, '').slice(0, 250))
      .join(' ')
      .slice(0, 500);
  } catch {
    return '';
  }
}

/** Empties a log that has grown past 64 MB: mysqld appends, so it goes on at the start. */
export async function boundLog(path: string): Promise<void> {
  try {
    await using file = await open(path, 'r');
    if ((await file.stat()).size > MAX_LOG_BYTES) await truncate(path, 0);
  } catch {
    // no log yet
  }
}
