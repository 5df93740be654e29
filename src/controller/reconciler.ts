/** Drives mesos/reconcile.ts: which launches are in doubt, and what Mesos answered. */
import { reconcile } from '../mesos/calls.ts';
import {
  noteAnswer,
  planReconciliation,
  type Reconciliation,
  startReconciliation,
  trackTask,
} from '../mesos/reconcile.ts';
import type { TaskStatus } from '../mesos/types.ts';
import { listLiveLaunches, listLiveLaunchesIn } from '../store/launches.ts';
import type { Context } from './context.ts';

/** An ACCEPT that is older than this and was not answered by any update is asked for. */
const youngMs = 5000;
const silentStates = ['INTENDED', 'TASK_STAGING'] as const;
/**
 * A task whose executor is not heard of is asked for after so long, and again as often. The master tells once that a task
 * went with its agent, and does not tell it again when that update is lost.
 */
const unheardMs = 30_000;

export interface Reconciler {
  /** A new subscription: every live launch is asked for. */
  begin(): Promise<void>;
  answered(status: TaskStatus): void;
  tick(isConnected: boolean): Promise<void>;
}

export function createReconciler(context: Context): Reconciler {
  const moment = () => ({ now: context.clock.now(), random: context.random });
  let state: Reconciliation = startReconciliation([], context.clock.now());
  /** When tasks whose executors are not heard of were asked for. */
  const unheard = new Map<string, number>();

  async function send(): Promise<void> {
    const plan = planReconciliation(state, moment());
    state = plan.next;
    // An empty RECONCILE would ask for everything.
    if (plan.batch.length > 0) await context.call(reconcile(plan.batch));
  }

  /** A launch whose ACCEPT got no answer: was it carried out? */
  async function trackSilent(): Promise<void> {
    const { now } = moment();
    for (const { taskId, agentId, createdAt } of await listLiveLaunchesIn(context.store, silentStates)) {
      if (now - createdAt < youngMs || state.tasks.has(taskId)) continue;
      state = trackTask(state, { taskId, agentId }, now);
    }
  }

  async function trackUnheard(): Promise<void> {
    const { now } = moment();
    const { executors, store } = context;
    const broken = executors.connected().filter((taskId) => now - (executors.brokenSince(taskId) ?? now) >= unheardMs);
    for (const taskId of unheard.keys()) if (!broken.includes(taskId)) unheard.delete(taskId);
    const due = broken.filter((taskId) => now - (unheard.get(taskId) ?? 0) >= unheardMs && !state.tasks.has(taskId));
    if (due.length === 0) return;
    for (const { taskId, agentId } of await listLiveLaunches(store)) {
      if (!due.includes(taskId)) continue;
      unheard.set(taskId, now);
      state = trackTask(state, { taskId, agentId }, now);
    }
  }

  return {
    async begin() {
      state = startReconciliation(await listLiveLaunches(context.store), context.clock.now());
      await send();
    },
    answered(status) {
      const answer = { taskId: status.task_id.value, agentId: status.agent_id?.value ?? null, taskState: status.state };
      state = noteAnswer(state, answer, moment());
    },
    async tick(isConnected) {
      if (!isConnected) return;
      await trackSilent();
      await trackUnheard();
      await send();
    },
  };
}
