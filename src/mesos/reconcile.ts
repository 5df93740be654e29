/**
 * Which tasks to ask Mesos about, and when. Pure: the controller keeps the value, sends the batches, notes the answers.
 * - After every subscription each live task is asked for, by task and agent id, until it was answered. A master that
 *   has just failed over says nothing about agents that are not back yet, so silence means ask again, ever more slowly.
 * - UNREACHABLE and UNKNOWN are no answers to rest on: an agent may come back without the task, and then Mesos says
 *   nothing unless asked. Such tasks are asked for again for as long as they are in doubt.
 */
import type { TaskRef } from './calls.ts';
import type { TaskState } from './types.ts';

export const MAX_BATCH = 1000;
const BATCH_GAP_MS = 1000;
const SILENT = { firstMs: 5000, maxMs: 60_000 } as const;
const IN_DOUBT = { minMs: 30_000, maxMs: 60_000 } as const;

interface Asked extends TaskRef {
  /** Times asked without an answer. */
  readonly attempts: number;
  readonly dueAt: number;
}

export interface Reconciliation {
  readonly tasks: ReadonlyMap<string, Asked>;
  /** Not before then is another batch sent. */
  readonly quietUntil: number;
}

export interface Moment {
  /** UTC milliseconds. */
  readonly now: number;
  /** In [0, 1). */
  readonly random: () => number;
}

/** From a new subscription on: everything is asked anew, at once. */
export function startReconciliation(tasks: readonly TaskRef[], now: number): Reconciliation {
  const asked = tasks.map(({ taskId, agentId }): [string, Asked] => [
    taskId,
    { taskId, agentId, attempts: 0, dueAt: now },
  ]);
  return { tasks: new Map(asked), quietUntil: now };
}

/** A task whose state is in doubt for another reason; due at once. */
export function trackTask(state: Reconciliation, task: TaskRef, now: number): Reconciliation {
  const { taskId, agentId } = task;
  return { ...state, tasks: new Map(state.tasks).set(taskId, { taskId, agentId, attempts: 0, dueAt: now }) };
}

/** Proof from elsewhere that nothing is left to ask: the volume is on offer, or the row is gone. */
export function forgetTask(state: Reconciliation, taskId: string): Reconciliation {
  const tasks = new Map(state.tasks);
  tasks.delete(taskId);
  return { ...state, tasks };
}

/** Every status update is an answer, whether it was asked for or not. */
export function noteAnswer(
  state: Reconciliation,
  answer: TaskRef & { readonly taskState: TaskState },
  { now, random }: Moment,
): Reconciliation {
  const { taskId, agentId, taskState } = answer;
  if (taskState !== 'TASK_UNREACHABLE' && taskState !== 'TASK_UNKNOWN') return forgetTask(state, taskId);
  const dueAt = now + IN_DOUBT.minMs + Math.round(random() * (IN_DOUBT.maxMs - IN_DOUBT.minMs));
  const known = agentId ?? state.tasks.get(taskId)?.agentId ?? null;
  return { ...state, tasks: new Map(state.tasks).set(taskId, { taskId, agentId: known, attempts: 0, dueAt }) };
}

export interface ReconcilePlan {
  /** To send now as one explicit RECONCILE; empty = nothing to do (never send it then: it would mean all tasks). */
  readonly batch: readonly TaskRef[];
  readonly next: Reconciliation;
  /** When to plan again; null if nothing is open. */
  readonly wakeAt: number | null;
}

export function planReconciliation(state: Reconciliation, { now, random }: Moment): ReconcilePlan {
  const due = now < state.quietUntil ? [] : [...state.tasks.values()].filter(({ dueAt }) => dueAt <= now);
  const batch = due.sort((a, b) => a.dueAt - b.dueAt).slice(0, MAX_BATCH);
  const tasks = new Map(state.tasks);
  for (const task of batch) {
    const pauseMs = Math.min(SILENT.firstMs * 2 ** Math.min(task.attempts, 10), SILENT.maxMs);
    // Spread over half the pause: a thousand tasks must not come due together for ever.
    const dueAt = now + Math.round(pauseMs * (0.75 + random() / 2));
    tasks.set(task.taskId, { ...task, attempts: task.attempts + 1, dueAt });
  }
  const quietUntil = batch.length > 0 ? now + BATCH_GAP_MS : state.quietUntil;
  const firstDue = [...tasks.values()].reduce((first, { dueAt }) => Math.min(first, dueAt), Number.POSITIVE_INFINITY);
  return {
    batch: batch.map(({ taskId, agentId }) => ({ taskId, agentId })),
    next: { tasks, quietUntil },
    wakeAt: tasks.size === 0 ? null : Math.max(firstDue, quietUntil),
  };
}
