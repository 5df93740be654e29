/** Asks Mesos about every launch whose state is in doubt: all of them after a subscription, the doubtful ones again and again. */
import { reconcile } from '../mesos/calls.ts';
import type { TaskStatus } from '../mesos/types.ts';
import { listLiveLaunches } from '../store/launches.ts';
import type { LaunchRow } from '../store/rows.ts';
import type { Context } from './context.ts';

/** Mesos answers a batch of this size without a pause. */
const batchSize = 1000;
const doubtEveryMs = 15_000;
const allEveryMs = 15 * 60_000;
/** An ACCEPT is young: its task will be told of by itself. */
const youngMs = 5000;

const doubtfulStates: ReadonlySet<string> = new Set(['INTENDED', 'TASK_STAGING', 'TASK_UNREACHABLE', 'TASK_UNKNOWN']);

export interface Reconciler {
  /** A new subscription: every live launch is asked for. */
  begin(): Promise<void>;
  answered(status: TaskStatus): void;
  tick(isConnected: boolean): Promise<void>;
}

export function createReconciler(context: Context): Reconciler {
  /** Launches not answered since the subscription. Mesos stays silent about agents that have not come back yet. */
  const unanswered = new Set<string>();
  let doubtAt = 0;
  let allAt = 0;

  async function ask(launches: readonly LaunchRow[]): Promise<void> {
    for (let from = 0; from < launches.length; from += batchSize) {
      await context.call(reconcile(launches.slice(from, from + batchSize)));
    }
  }

  async function begin(): Promise<void> {
    const launches = await listLiveLaunches(context.store);
    for (const { taskId } of launches) unanswered.add(taskId);
    doubtAt = context.clock.now();
    allAt = doubtAt;
    await ask(launches);
  }

  return {
    begin,
    answered: (status) => void unanswered.delete(status.task_id.value),
    async tick(isConnected) {
      const now = context.clock.now();
      if (!isConnected || now - doubtAt < doubtEveryMs) return;
      doubtAt = now;
      if (now - allAt >= allEveryMs) return begin();
      const launches = await listLiveLaunches(context.store);
      const live = new Set(launches.map(({ taskId }) => taskId));
      for (const taskId of unanswered) if (!live.has(taskId)) unanswered.delete(taskId);
      const isDoubtful = ({ taskId, taskState, createdAt }: LaunchRow) =>
        unanswered.has(taskId) || (doubtfulStates.has(taskState) && now - createdAt > youngMs);
      await ask(launches.filter(isDoubtful));
    },
  };
}
