/** Work that outlives its command's answer: one at a time, told in Status.work, ended by a fence or the end of the task. */
import type { CommandResult } from '../channel/protocol.ts';
import { Refusal } from '../errors.ts';
import { describe } from './command-queue.ts';
import { type MemberContext, reasonOf, type Work } from './member-context.ts';

/** Progress is published no more often than this. */
const REPORT_MS = 500;

export interface WorkHandle {
  readonly signal: AbortSignal;
  /** Names the step that begins. */
  step(name: string): void;
  /** `total`: null while it is not known. */
  progress(doneBytes: number, totalBytes: number | null): void;
}

/** Refuses with BUSY while other long work runs. */
export function requireIdle(context: MemberContext): void {
  if (context.work?.outcome !== 'running') return;
  throw new Refusal('BUSY', `a ${context.work.kind} runs`, { commandId: context.work.commandId });
}

/** A verification gives way to whatever else is asked for: it is begun anew later. */
export async function endVerification(context: MemberContext): Promise<void> {
  if (context.work?.kind !== 'verify' || context.work.outcome !== 'running') return;
  context.workAbort?.abort(new Refusal('SUPERSEDED', 'other work goes first'));
  await context.workEnded;
}

/** Begins the work and answers at once. `run` cleans up behind itself when it throws or its signal aborts. */
export function beginWork(
  context: MemberContext,
  what: { readonly kind: Work['kind']; readonly commandId: string },
  run: (handle: WorkHandle) => Promise<void>,
): CommandResult {
  const abort = new AbortController();
  const startedAt = context.clock.now();
  const base = { ...what, startedAt, doneBytes: 0, totalBytes: null, code: null, message: null };
  let work: Work = { ...base, step: 'starting', outcome: 'running' };
  let reportedAt = Number.NEGATIVE_INFINITY;
  const tell = (change: Partial<Work>, isUrgent: boolean) => {
    work = { ...work, ...change };
    context.work = work;
    if (!isUrgent && context.clock.now() - reportedAt < REPORT_MS) return;
    reportedAt = context.clock.now();
    context.changed();
  };
  const handle: WorkHandle = {
    signal: abort.signal,
    step: (step) => {
      abort.signal.throwIfAborted();
      context.log.info({ ...what, step }, 'long work comes to its next step');
      tell({ step }, true);
    },
    progress: (doneBytes, totalBytes) => tell({ doneBytes, totalBytes }, false),
  };
  context.workAbort = abort;
  context.refiller.giveWay(what.kind);
  tell({}, true);
  context.workEnded = run(handle)
    .then(
      () => tell({ outcome: 'done', step: 'done' }, true),
      (error: unknown) => {
        context.log.error({ err: error, ...what, step: work.step }, 'long work failed');
        const { code } = reasonOf(error, 'COMMAND_FAILED');
        tell({ outcome: 'failed', code, message: describe(error) }, true);
      },
    )
    .finally(() => {
      context.workAbort = null;
      context.wakeScheduler();
    });
  return { outcome: 'accepted' };
}

/** Work that needs nothing done: the same command was carried out before. */
export function tellDone(
  context: MemberContext,
  what: { readonly kind: Work['kind']; readonly commandId: string },
): CommandResult {
  const rest = { step: 'done', doneBytes: 0, totalBytes: null, outcome: 'done', code: null, message: null } as const;
  context.work = { ...what, ...rest };
  context.changed();
  return { outcome: 'accepted' };
}
