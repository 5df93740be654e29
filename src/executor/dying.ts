/**
 * A process that was sent SIGKILL and is not reaped yet. One that waits for a hung disk ends only when the disk answers;
 * until then nothing is proven, and the status goes on telling that it is there.
 */
import { readdir, readFile } from 'node:fs/promises';
import { Refusal } from '../errors.ts';
import type { MemberContext } from './member-context.ts';
import type { MysqldProcess } from './mysqld-process.ts';

/** Shorter than the controller waits for a fence. */
export const FENCE_TIMEOUT_MS = 6_000;

/** SIGKILL, and waits until it is reaped. Throws TIMED_OUT with the facts when the kernel does not end it in time. */
export async function killWithin(context: MemberContext, process: MysqldProcess, timeoutMs: number): Promise<void> {
  const { clock } = context;
  process.signal('SIGKILL');
  if (context.dying?.process !== process) {
    const dying = { process, since: clock.now() };
    context.dying = dying;
    void process.exited.then(() => {
      if (context.dying === dying) context.dying = null;
      context.changed();
    });
  }
  let timer: unknown;
  const late = new Promise<'late'>((resolve) => {
    timer = clock.setTimeout(() => resolve('late'), timeoutMs);
  });
  const outcome = await Promise.race([process.exited, late]);
  clock.clearTimeout(timer);
  if (outcome !== 'late') return;
  const threads = await readThreadStates(process.pid);
  const message = `mysqld ${process.pid} was sent SIGKILL and has not ended within ${timeoutMs} ms: its disk may hang`;
  throw new Refusal('TIMED_OUT', message, { pid: process.pid, threads });
}

/** Refuses while a process that was sent SIGKILL may still hold the files. */
export function requireNoneDying({ dying }: MemberContext): void {
  if (!dying) return;
  throw new Refusal('BUSY', `mysqld ${dying.process.pid} was sent SIGKILL and has not ended yet`);
}

/** How many threads of a process are in which state; D is uninterruptible. */
async function readThreadStates(pid: number): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  const threads = await readdir(`/proc/${pid}/task`).catch(() => []);
  for (const thread of threads) {
    const stat = await readFile(`/proc/${pid}/task/${thread}/stat`, 'latin1').catch(() => '');
    const state = stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3);
    if (state !== '') counts[state] = (counts[state] ?? 0) + 1;
  }
  return counts;
}
