/** Executors as processes of this machine, in the manner of Mesos' posix launcher. They outlive this process. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import type { Clock } from '../../../clock.ts';
import type { Fork, StartedProcess } from '../core/agent-state.ts';

const POLL_MS = 200;
const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
/** A process may fork while its tree is being killed. */
const KILL_ROUNDS = 5;

interface Stat {
  readonly pid: number;
  readonly state: string;
  readonly parent: number;
  readonly session: number;
  readonly startTicks: string;
}

const bootId = (): string => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();

function readStat(pid: number): Stat | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The name may hold blanks and parentheses: count from its end.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return { pid, state: fields[0]!, parent: Number(fields[1]), session: Number(fields[3]), startTicks: fields[19]! };
  } catch {
    return null; // it ended
  }
}

const allStats = (): Stat[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((name) => readStat(Number(name)))
    .filter((stat): stat is Stat => stat !== null && stat.state !== 'Z');

const startToken = (stat: Stat): string => `${bootId()}/${stat.startTicks}`;

export function isAlive({ pid, startTime }: StartedProcess): boolean {
  const stat = readStat(pid);
  return stat !== null && stat.state !== 'Z' && startToken(stat) === startTime;
}

function signal(pid: number, name: 'SIGTERM' | 'SIGKILL'): void {
  try {
    process.kill(pid, name);
  } catch {
    // it ended in the meantime
  }
}

/** The process, its descendants, and everything in its session. */
export function killTree(target: StartedProcess, name: 'SIGTERM' | 'SIGKILL'): void {
  if (!isAlive(target)) {
    killSession(target);
    return;
  }
  for (let round = 0; round < (name === 'SIGKILL' ? KILL_ROUNDS : 1); round += 1) {
    const stats = allStats();
    const doomed = new Set([target.pid]);
    for (let size = 0; size !== doomed.size; ) {
      size = doomed.size;
      for (const { pid, parent, session } of stats) if (doomed.has(parent) || session === target.pid) doomed.add(pid);
    }
    const living = stats.filter(({ pid }) => doomed.has(pid));
    if (living.length === 0) return;
    for (const { pid } of living) signal(pid, name);
  }
}

/** Members of the session of a leader that ended. A pid is not given out again while its session has members. */
export function killSession({ pid: leader, startTime }: StartedProcess): void {
  if (!startTime.startsWith(`${bootId()}/`)) return;
  const current = readStat(leader);
  if (current && startToken(current) !== startTime) return; // the pid belongs to a stranger now
  for (let round = 0; round < KILL_ROUNDS; round += 1) {
    const members = allStats().filter(({ session, pid }) => session === leader && pid !== leader);
    if (members.length === 0) return;
    for (const { pid } of members) signal(pid, 'SIGKILL');
  }
}

export interface Processes {
  fork(fork: Fork): StartedProcess | null;
  adopt(containerId: string, target: StartedProcess): boolean;
  /** Stops watching; the processes run on. */
  stop(): void;
}

/** `onExit`: raw wait status, or -1 for a process that was adopted (nobody but its parent can know). */
export function createProcesses(clock: Clock, onExit: (containerId: string, status: number) => void): Processes {
  const children = new Map<string, ChildProcess>();
  const timers = new Map<string, unknown>();

  const watch = (containerId: string, target: StartedProcess) => {
    const poll = () => {
      if (isAlive(target)) timers.set(containerId, clock.setTimeout(poll, POLL_MS));
      else {
        timers.delete(containerId);
        onExit(containerId, -1);
      }
    };
    timers.set(containerId, clock.setTimeout(poll, POLL_MS));
  };

  return {
    fork(fork) {
      const child = spawnDetached(fork);
      if (!child || child.pid === undefined) return null;
      const { pid } = child;
      const stat = readStat(pid);
      children.set(fork.containerId, child);
      child.once('exit', (code, name) => {
        children.delete(fork.containerId);
        onExit(fork.containerId, name ? constants.signals[name] : (code ?? 0) << 8);
      });
      child.unref();
      return { pid, startTime: stat ? startToken(stat) : `${bootId()}/0` };
    },
    adopt(containerId, target) {
      if (children.has(containerId)) return true; // the agent restarted, this process did not
      if (timers.has(containerId)) return true;
      if (!isAlive(target)) return false;
      watch(containerId, target);
      return true;
    },
    stop() {
      for (const timer of timers.values()) clock.clearTimeout(timer);
      timers.clear();
    },
  };
}

function spawnDetached({ command, directory, environment }: Fork): ChildProcess | null {
  const isShell = command.shell ?? true;
  const value = command.value ?? '';
  const [file, args] = isShell ? ['/bin/sh', ['-c', value]] : [value, (command.arguments ?? []).slice(1)];
  const files: number[] = [];
  try {
    for (const name of ['stdout', 'stderr']) files.push(openSync(`${directory}/${name}`, 'a'));
    const child = spawn(file, args, {
      cwd: directory,
      env: { PATH: process.env['PATH'] ?? DEFAULT_PATH, PWD: directory, ...environment },
      detached: true,
      stdio: ['ignore', ...files],
      ...(isShell ? {} : { argv0: command.arguments?.[0] ?? value }),
    });
    child.on('error', () => undefined); // seen as the missing pid
    return child;
  } catch {
    return null; // a name that no system call takes, or a volume that is linked as `stdout`
  } finally {
    for (const each of files) closeSync(each);
  }
}
