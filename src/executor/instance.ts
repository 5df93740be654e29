/**
 * A running mysqld with its sessions. Three persistent sessions are opened at once, because later no login may work
 * (account statements that wait for an acknowledgement lock everybody out): `admin` for commands, `probe` for status,
 * `beat` for the heartbeat, whose commit may wait for long.
 */
import { access, rm } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { type Clock, delay } from '../clock.ts';
import { Refusal } from '../errors.ts';
import { ensureOwnAccount, ownUser } from '../mysql/accounts.ts';
import { connect, type Session } from '../mysql/connection.ts';
import type { Distribution } from '../mysql/distribution.ts';
import { findDamage, measureLog } from './mysqld-log.ts';
import {
  type Exit,
  isCrash,
  killAndReap,
  type MysqldProcess,
  readLogTail,
  spawnMysqld,
  waitForExit,
} from './mysqld-process.ts';

/** Crash recovery of a large redo log takes minutes; as long as the process lives it works. */
const START_TIMEOUT_MS = 30 * 60_000;
const LOGIN_RETRY_MS = 15;
const LOGIN_TIMEOUT_MS = 10_000;

export interface RunningInstance {
  readonly process: MysqldProcess;
  /** Where its part of the error log begins, in bytes. */
  readonly logFrom: number;
  readonly admin: Session;
  readonly probe: Session;
  readonly beat: Session;
  /** SIGKILL and wait until reaped. */
  kill(): Promise<Exit>;
  /** SIGTERM and wait; SIGKILL when it takes longer. Only when no session waits for an acknowledgement. */
  terminate(timeoutMs: number): Promise<Exit>;
  /** Opens sessions anew that a timeout or a KILL has closed. Throws when mysqld takes no login. */
  repair(): Promise<void>;
}

export interface InstanceOptions {
  readonly distribution: Distribution;
  /** Null: everything stands in `extraArgs`. */
  readonly cnfPath: string | null;
  readonly extraArgs?: readonly string[];
  readonly lockPath: string;
  readonly logPath: string;
  readonly socketPath: string;
  readonly cwd: string;
  /** A read-only copy of a member: our account is there already. */
  readonly isCopy?: boolean;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Sees the process as soon as it exists, so that a fence can kill it while it starts. */
  onSpawn?(process: MysqldProcess): void;
}

/**
 * Starts mysqld and logs in. Throws INSTANCE_FAILED or DATA_DIR_DAMAGED with the gist of mysqld's log when it ends
 * before that, BUSY when another process holds the volume's lock; never leaves a process behind when it throws.
 */
export async function startInstance(options: InstanceOptions): Promise<RunningInstance> {
  const { clock, signal } = options;
  signal.throwIfAborted();
  await removeStaleSocket(options.socketPath);
  const logFrom = await measureLog(options.logPath);
  const [program = '', ...prefix] = options.distribution.program('mysqld');
  const process = spawnMysqld({
    argv: [
      program,
      ...prefix,
      options.cnfPath === null ? '--no-defaults' : `--defaults-file=${options.cnfPath}`,
      ...options.distribution.serverArgs,
      ...(options.extraArgs ?? []),
    ],
    lockPath: options.lockPath,
    logPath: options.logPath,
    cwd: options.cwd,
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', TZ: 'UTC' },
  });
  options.onSpawn?.(process);
  const sessions: Session[] = [];
  try {
    const login = (user: string) => openSession(options, user);
    const first = () => (options.isCopy ? login(ownUser) : ensureOwnAccount({ login, osUser: userInfo().username }));
    const { logPath, socketPath } = options;
    sessions.push(await waitForLogin(process, first, { clock, signal, logPath, logFrom, socketPath }));
    sessions.push(...(await Promise.all([openSession(options), openSession(options)])));
    signal.throwIfAborted();
  } catch (error) {
    await Promise.all(sessions.map((session) => session.close()));
    await killAndReap(process, clock);
    throw error;
  }
  const closeAll = () => Promise.all(sessions.map((session) => session.close()));
  let hasEnded = false;
  return {
    process,
    logFrom,
    get admin() {
      return sessions[0]!;
    },
    get probe() {
      return sessions[1]!;
    },
    get beat() {
      return sessions[2]!;
    },
    async repair() {
      for (const [index, session] of sessions.entries()) {
        if (!session.isClosed || hasEnded || process.hasExited()) continue;
        const fresh = await openSession(options);
        if (sessions[index] === session && !hasEnded) sessions[index] = fresh;
        else await fresh.close();
      }
    },
    async kill() {
      hasEnded = true;
      process.signal('SIGKILL');
      await closeAll();
      return killAndReap(process, clock);
    },
    async terminate(timeoutMs) {
      hasEnded = true;
      await closeAll();
      process.signal('SIGTERM');
      try {
        return await waitForExit(process, timeoutMs, clock);
      } catch {
        return killAndReap(process, clock);
      }
    },
  };
}

/** Another session over the socket, of the executor's own account unless told otherwise. */
export function openSession(
  options: Pick<InstanceOptions, 'socketPath' | 'clock'>,
  user: string = ownUser,
): Promise<Session> {
  const limits = { clock: options.clock, connectTimeoutMs: LOGIN_TIMEOUT_MS };
  return connect({ socketPath: options.socketPath }, { user }, limits);
}

async function waitForLogin(
  process: MysqldProcess,
  open: () => Promise<Session>,
  limits: {
    readonly clock: Clock;
    readonly signal: AbortSignal;
    readonly logPath: string;
    readonly logFrom: number;
    readonly socketPath: string;
  },
): Promise<Session> {
  const { clock, signal, socketPath } = limits;
  const deadline = clock.now() + START_TIMEOUT_MS;
  for (;;) {
    try {
      // Without a socket there is nothing to log in to: a try costs as much as a login, dozens of times a second.
      await access(socketPath);
      return await open();
    } catch (error) {
      signal.throwIfAborted();
      if (process.hasExited()) throw await explainExit(await process.exited, limits);
      if (clock.now() > deadline) {
        throw new Refusal('INSTANCE_FAILED', `mysqld took no login in time: ${(error as Error).message}`);
      }
    }
    await delay(clock, LOGIN_RETRY_MS, signal);
  }
}

async function explainExit(
  exit: Exit,
  { logPath, logFrom, signal }: { readonly logPath: string; readonly logFrom: number; readonly signal: AbortSignal },
): Promise<Refusal> {
  if (exit.kind === 'locked') return new Refusal('BUSY', 'another mysqld holds the lock of the data volume');
  const damage = await findDamage(logPath, logFrom, signal);
  const how = exit.kind === 'restart' ? 'asked to be started again' : `ended with ${exit.signal ?? exit.exitCode}`;
  const message = `mysqld ${how} while it started. ${damage ?? (await readLogTail(logPath))}`.trim();
  return new Refusal(damage === null ? 'INSTANCE_FAILED' : 'DATA_DIR_DAMAGED', message, { isCrash: isCrash(exit) });
}

/** A stale `.lock` beside the socket that names a living process id makes mysqld refuse (ids are used again). */
async function removeStaleSocket(path: string): Promise<void> {
  await Promise.all([rm(path, { force: true }), rm(`${path}.lock`, { force: true })]);
}
