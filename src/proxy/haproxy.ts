/**
 * HAProxy as a child: a master that keeps a worker for the newest configuration, and earlier workers while they have
 * connections. It ends with this process however that ends (`setpriv --pdeathsig`): one that nobody tells of the next
 * primary leads clients to a former one.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Clock, delay } from '../clock.ts';
import type { Logger } from '../log.ts';
import { runCommands } from './runtime-socket.ts';

const READY_TIMEOUT_MS = 15_000;
const STOP_TIMEOUT_MS = 5_000;
const POLL_MS = 20;
const TAIL_LINES = 10;
/** On one line, which has at most 16 KB. */
const COMMANDS_MAX = 200;

export interface HaproxyOptions {
  /** Path of the program. */
  readonly program: string;
  /** Absolute, writable, short: sockets are in it. */
  readonly directory: string;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface Haproxy {
  /** Of the master. */
  readonly pid: number;
  /** Resolves when it has ended without being told to. */
  readonly ended: Promise<Error>;
  /** Commands for the newest worker, as one line. */
  run(commands: readonly string[]): Promise<void>;
  /** Ends the sessions with `backend/server` in the workers of earlier configurations. */
  cutEarlier(server: string): Promise<void>;
  /** A new worker takes the listening sockets over; connections stay with the old one. Rejects when it does not start. */
  reload(config: string): Promise<void>;
  stop(): Promise<void>;
}

/** HAProxy binds `<path>.<pid>.tmp` first, and a unix socket's path has 108 bytes. */
export const DIRECTORY_LENGTH_MAX = 70;
export const runtimeSocketOf = (directory: string): string => join(directory, 'runtime.sock');

/** Starts it, after ending one that an earlier process left behind. Rejects with its last words when it does not start. */
export async function startHaproxy(options: HaproxyOptions, config: string): Promise<Haproxy> {
  const { program, directory, clock, log } = options;
  const [configFile, pidFile] = [join(directory, 'haproxy.cfg'), join(directory, 'haproxy.pid')];
  const [masterSocket, runtimeSocket] = [join(directory, 'master.sock'), runtimeSocketOf(directory)];
  await endLeftover(clock, pidFile, configFile);
  writeWhole(configFile, config);
  // TERM, not KILL: the master takes its workers along, which the kernel would not.
  const argv = ['--pdeathsig', 'TERM', program, '-W', '-S', `${masterSocket},mode,600`, '-f', configFile];
  const child = spawn('setpriv', argv, { stdio: ['ignore', 'ignore', 'pipe'] });
  const { tail, exited } = watch(child, log);
  let isStopping = false;
  const ended = new Promise<Error>((resolve) => {
    void exited.then(() => {
      if (!isStopping) resolve(new Error(`HAProxy ended: ${tail().join('; ')}`));
    });
  });
  const workerPid = async () =>
    /^Pid: (\d+)$/m.exec(await runCommands(clock, runtimeSocket, ['show info']).catch(() => ''))?.[1] ?? null;
  const untilWorker = async (isWanted: (pid: string) => boolean) => {
    for (let waitedMs = 0; waitedMs < READY_TIMEOUT_MS; waitedMs += POLL_MS) {
      const pid = await workerPid();
      if (pid !== null && isWanted(pid)) return;
      if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) break;
      await delay(clock, POLL_MS);
    }
    throw new Error(`HAProxy did not start: ${tail().join('; ')}`);
  };
  const stop = async () => {
    isStopping = true;
    child.kill('SIGTERM');
    const timer = clock.setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
    await exited;
    clock.clearTimeout(timer);
    rmSync(pidFile, { force: true });
  };
  if (child.pid !== undefined) writeWhole(pidFile, `${child.pid}\n`);
  try {
    await untilWorker(() => true);
  } catch (error) {
    await stop();
    throw error;
  }

  const talk = async (socket: string, commands: readonly string[]) => {
    const answer = (await runCommands(clock, socket, commands)).trim();
    if (answer !== '') log.debug({ commands, answer }, 'HAProxy answered');
  };
  return {
    pid: child.pid ?? -1,
    ended,
    stop,
    run: async (commands) => {
      if (commands.length > 0) await talk(runtimeSocket, commands);
    },
    async cutEarlier(server) {
      for (const pid of earlierWorkers(await runCommands(clock, masterSocket, ['show proc']))) {
        // An earlier worker's backends are disabled: it takes no command on them, only on each session.
        const sessions = sessionsWith(server, await runCommands(clock, masterSocket, [`@!${pid} show sess`]));
        for (let at = 0; at < sessions.length; at += COMMANDS_MAX)
          await talk(
            masterSocket,
            sessions.slice(at, at + COMMANDS_MAX).map((id) => `@!${pid} shutdown session ${id}`),
          );
      }
    },
    async reload(next) {
      const before = await workerPid();
      writeWhole(configFile, next);
      // Before 2.7 the master closes the connection and says nothing.
      const answer = await runCommands(clock, masterSocket, ['reload']).catch(() => '');
      if (/Success=0/.test(answer)) throw new Error(`HAProxy does not take the configuration: ${answer.trim()}`);
      await untilWorker((pid) => pid !== before);
    },
  };
}

/** Of `show proc`: workers with at least one reload behind them. */
function earlierWorkers(table: string): string[] {
  return [...table.matchAll(/^(\d+)\s+worker\s+(\d+)/gm)].flatMap(([, pid = '', reloads]) =>
    Number(reloads) > 0 ? [pid] : [],
  );
}

/** Of `show sess`. */
function sessionsWith(server: string, table: string): string[] {
  const [backend, name] = server.split('/');
  return [...table.matchAll(/^(0x[0-9a-f]+): .* be=(\S+) srv=(\S+) /gm)].flatMap(([, id = '', be, srv]) =>
    be === backend && srv === name ? [id] : [],
  );
}

function watch(child: ChildProcess, log: Logger) {
  let lines: string[] = [];
  const exited = new Promise<void>((resolve) => {
    child.once('error', (error) => {
      lines.push(error.message);
      resolve();
    });
    child.once('close', () => resolve());
  });
  let rest = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    const parts = `${rest}${text}`.split('\n');
    rest = (parts.pop() ?? '').slice(-4096);
    for (const line of parts) {
      log.debug({ haproxy: line }, 'HAProxy says');
      if (/ALERT/.test(line)) lines = [...lines, line].slice(-TAIL_LINES);
    }
  });
  return { tail: () => lines, exited };
}

function writeWhole(file: string, text: string): void {
  writeFileSync(`${file}.new`, text, { mode: 0o600 });
  renameSync(`${file}.new`, file);
}

/** Only a process that was started with our very configuration: its number may be another's by now. */
async function endLeftover(clock: Clock, pidFile: string, configFile: string): Promise<void> {
  const pid = Number(readOr(pidFile));
  const isOurs = () => pid > 1 && readOr(`/proc/${pid}/cmdline`).split('\0').includes(configFile);
  for (let waitedMs = 0; isOurs(); waitedMs += POLL_MS) {
    if (waitedMs === 0) kill(pid, 'SIGTERM');
    if (waitedMs === STOP_TIMEOUT_MS) kill(pid, 'SIGKILL');
    if (waitedMs > 2 * STOP_TIMEOUT_MS) throw new Error(`HAProxy ${pid} of an earlier run does not end`);
    await delay(clock, POLL_MS);
  }
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It ended in between.
  }
}

function readOr(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
