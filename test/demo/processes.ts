/** Processes of this machine, as /proc tells: found by what belongs to them, ended one by one and never by name. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { waitFor } from './wait.ts';

export interface Process {
  readonly pid: number;
  readonly parent: number;
  /** With the pid it names one process for ever. */
  readonly startTicks: string;
  readonly command: readonly string[];
}

/** null when there is none, or only its exit code is left. */
export function readProcess(pid: number): Process | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The name may hold blanks and parentheses: count from its end.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (fields[0] === 'Z') return null;
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1);
    return { pid, parent: Number(fields[1]), startTicks: fields[19] ?? '', command };
  } catch {
    return null; // it ended
  }
}

function listProcesses(): Process[] {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return pids.map((name) => readProcess(Number(name))).filter((each) => each !== null);
}

const readOr = (read: () => string): string => {
  try {
    return read();
  } catch {
    return '';
  }
};
const environmentOf = (pid: number): string => readOr(() => readFileSync(`/proc/${pid}/environ`, 'utf8'));

/** All that work in or below `dir`, or were told of it by their command line or environment. */
export function findUsersOf(dir: string): Process[] {
  return listProcesses().filter(
    ({ pid, command }) =>
      pid !== process.pid &&
      (command.some((part) => part.includes(dir)) ||
        readOr(() => readlinkSync(`/proc/${pid}/cwd`)).startsWith(dir) ||
        environmentOf(pid).includes(`=${dir}/`)),
  );
}

export interface MemberProcesses {
  readonly executor: Process;
  /** null while it does not run. */
  readonly mysqld: Process | null;
  /** Text that changes with every launch. */
  readonly executorId: string;
}

/** Executor and mysqld of a member: the agent names the executor in its environment, and mysqld is its child. */
export function findMember(clusterId: string, ordinal: number): MemberProcesses | null {
  const all = listProcesses();
  for (const executor of all) {
    if (!executor.command.includes('executor')) continue;
    const id = new RegExp(`MESOS_EXECUTOR_ID=(${clusterId}\\.${ordinal}\\.[^\\0]+)`).exec(environmentOf(executor.pid));
    if (!id) continue;
    // One on a copy (a backup, a verification) has no file of settings.
    const isOwn = (command: readonly string[]) =>
      command.some((part) => /(^|\/)mysqld$/.test(part)) && command.some((part) => part.startsWith('--defaults-file='));
    const mysqld = all.find(({ parent, command }) => parent === executor.pid && isOwn(command));
    return { executor, mysqld: mysqld ?? null, executorId: id[1] ?? '' };
  }
  return null;
}

export function isAlive({ pid, startTicks }: Process): boolean {
  return readProcess(pid)?.startTicks === startTicks;
}

/** A signal for this very process: a pid that belongs to another one by now is left alone. */
export function signalProcess(target: Process, name: NodeJS.Signals): void {
  if (!isAlive(target)) return;
  try {
    process.kill(target.pid, name);
  } catch {
    // it ended in between
  }
}

export const killProcess = (target: Process): void => signalProcess(target, 'SIGKILL');

/** Ends all that use `dir`, again while some are left: an executor may start a mysqld meanwhile. */
export async function killUsersOf(dir: string): Promise<void> {
  await waitFor({ what: `the processes in ${dir} to end`, timeoutMs: 15_000 }, () => {
    const left = findUsersOf(dir);
    for (const each of left) killProcess(each);
    return left.length === 0;
  });
}

/** Resident memory in megabytes; null when it ended. */
export function readRssMb({ pid }: Pick<Process, 'pid'>): number | null {
  const match = /^VmRSS:\s+(\d+) kB/m.exec(readOr(() => readFileSync(`/proc/${pid}/status`, 'utf8')));
  return match ? Math.round(Number(match[1]) / 1024) : null;
}
