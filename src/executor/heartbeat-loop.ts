/**
 * The primary's heartbeat: one row committed each second, on a session of its own. One commit at a time: while it waits
 * for acknowledgements no further one is sent, and `heartbeatAt` grows old, which is what everybody reads from it.
 */
import { Refusal } from '../errors.ts';
import { commitHeartbeat } from '../mysql/heartbeat.ts';
import type { RunningInstance } from './instance.ts';
import type { MemberContext } from './member-context.ts';
import { freeStuckCommits } from './stuck-commits.ts';

const INTERVAL_MS = 1_000;
/** The driver closes the session at its deadline, which would free nothing: wait as long as a primary may block. */
const COMMIT_TIMEOUT_MS = 3_600_000;

interface Beat {
  readonly epoch: number;
  readonly member: number;
}

interface Loop {
  readonly instance: RunningInstance;
  readonly beat: Beat;
  isStopped: boolean;
  timer: unknown;
  pending: Promise<void> | null;
  pendingSince: number;
  /** When the last commit was complete; null before the first. */
  doneAt: number | null;
}

const loops = new WeakMap<MemberContext, Loop>();

/** Starts beating at once for this epoch. Does nothing when it already does. */
export function startHeartbeat(
  context: MemberContext,
  instance: RunningInstance,
  beat: { readonly epoch: number; readonly member?: number },
): void {
  const old = loops.get(context);
  if (old && !old.isStopped && old.instance === instance && old.beat.epoch === beat.epoch) return;
  if (old) halt(context, old);
  const loop: Loop = {
    instance,
    beat: { epoch: beat.epoch, member: beat.member ?? context.plan.ordinal },
    isStopped: false,
    timer: null,
    pending: null,
    pendingSince: 0,
    doneAt: null,
  };
  loops.set(context, loop);
  run(context, loop);
}

function run(context: MemberContext, loop: Loop): void {
  if (loop.isStopped || context.instance !== loop.instance) return;
  const began = context.clock.now();
  commitOnce(context, loop)
    .catch((error: unknown) => {
      if (!loop.isStopped && context.instance === loop.instance) context.log.warn({ err: error }, 'a heartbeat failed');
    })
    .finally(() => {
      if (loop.isStopped) return;
      const pauseMs = Math.max(0, INTERVAL_MS - (context.clock.now() - began));
      loop.timer = context.clock.setTimeout(() => run(context, loop), pauseMs);
    });
}

function commitOnce(context: MemberContext, loop: Loop): Promise<void> {
  if (loop.pending !== null) return loop.pending;
  const { instance, beat } = loop;
  const atMs = context.clock.now();
  const pending = commitHeartbeat(instance.beat, { ...beat, atMs }, COMMIT_TIMEOUT_MS).then(() => {
    loop.doneAt = context.clock.now();
    if (!loop.isStopped) context.heartbeatAt = loop.doneAt;
  });
  loop.pending = pending;
  loop.pendingSince = atMs;
  const clear = () => {
    loop.pending = null;
  };
  pending.then(clear, clear);
  freeStuckCommits(context, instance, { beat, pending });
  return pending;
}

/**
 * For how long no commit has completed, when one has been under way for more than `newsMs`; else null. Counted from the
 * last that did, since the pause between two of them is no sign of life; but never from longer ago than such a pause:
 * an executor that was stopped itself knows nothing of the time before.
 */
export function readPendingMs(context: MemberContext, newsMs: number): number | null {
  const loop = loops.get(context);
  if (!loop || loop.isStopped || loop.pending === null) return null;
  const now = context.clock.now();
  if (now - loop.pendingSince < newsMs) return null;
  return now - Math.max(loop.doneAt ?? loop.pendingSince, loop.pendingSince - INTERVAL_MS);
}

/** Sends no more heartbeats. One that waits goes on waiting: it ends with its acknowledgement or with mysqld. */
export async function stopHeartbeat(context: MemberContext): Promise<void> {
  const loop = loops.get(context);
  if (loop) halt(context, loop);
}

function halt(context: MemberContext, loop: Loop): void {
  loop.isStopped = true;
  context.clock.clearTimeout(loop.timer);
  loops.delete(context);
}

/** One more commit, begun after this call: resolves when it is complete under the k that holds now. */
export async function commitBarrier(context: MemberContext): Promise<void> {
  const loop = loops.get(context);
  if (!loop || loop.isStopped) throw new Refusal('NOT_PRIMARY', 'no heartbeat runs on this member');
  await loop.pending?.catch(() => {});
  if (loop.isStopped) throw new Refusal('NOT_PRIMARY', 'the heartbeat was stopped');
  await commitOnce(context, loop);
}
