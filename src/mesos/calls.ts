/** Bodies of scheduler calls; the client adds framework_id and the stream's id when it sends them. */
import type { SchedulerCall } from './scheduler-api.ts';
import type { OfferOperation } from './types.ts';

/** A call without the part that the client adds. SUBSCRIBE is the client's own. */
export type CallBody = SchedulerCall extends infer C
  ? C extends { type: 'SUBSCRIBE' }
    ? never
    : C extends SchedulerCall
      ? Omit<C, 'framework_id'>
      : never
  : never;

const ids = (values: readonly string[]) => values.map((value) => ({ value }));
const NANOSECONDS_PER_MS = 1e6;

export interface TaskRef {
  readonly taskId: string;
  /** Without it Mesos answers TASK_UNKNOWN for a task on an unreachable agent. */
  readonly agentId: string | null;
}

/** All offers must be of one agent. What is not used is declined for `refuseSeconds` (Mesos' default: 5). */
export const accept = (call: {
  readonly offerIds: readonly string[];
  readonly operations: readonly OfferOperation[];
  readonly refuseSeconds?: number;
}): CallBody => ({
  type: 'ACCEPT',
  accept: { offer_ids: ids(call.offerIds), operations: [...call.operations], ...filter(call.refuseSeconds) },
});

export const decline = (offerIds: readonly string[], refuseSeconds?: number): CallBody => ({
  type: 'DECLINE',
  decline: { offer_ids: ids(offerIds), ...filter(refuseSeconds) },
});

const filter = (refuseSeconds: number | undefined) =>
  refuseSeconds === undefined ? {} : { filters: { refuse_seconds: refuseSeconds } };

/** Clears all filters and triggers an allocation at once. No roles = all roles. */
export const revive = (roles: readonly string[] = []): CallBody => ({ type: 'REVIVE', revive: { roles: [...roles] } });

/** Also hides our own reserved volumes: REVIVE before any recovery. */
export const suppress = (roles: readonly string[] = []): CallBody => ({
  type: 'SUPPRESS',
  suppress: { roles: [...roles] },
});

/** Best effort: repeat until the task has ended. A wrong agent id is silently ignored by Mesos. */
export const kill = ({ taskId, agentId, graceMs }: TaskRef & { readonly graceMs?: number }): CallBody => ({
  type: 'KILL',
  kill: {
    task_id: { value: taskId },
    ...(agentId === null ? {} : { agent_id: { value: agentId } }),
    ...(graceMs === undefined ? {} : { kill_policy: { grace_period: { nanoseconds: graceMs * NANOSECONDS_PER_MS } } }),
  },
});

/** Ends an executor, also one that never subscribed. */
export const shutdown = (call: { readonly executorId: string; readonly agentId: string }): CallBody => ({
  type: 'SHUTDOWN',
  shutdown: { executor_id: { value: call.executorId }, agent_id: { value: call.agentId } },
});

/** Only for statuses with a uuid, after the fact is stored. Until then the agent withholds the task's next update. */
export const acknowledge = (call: {
  readonly taskId: string;
  readonly agentId: string;
  readonly uuid: string;
}): CallBody => ({
  type: 'ACKNOWLEDGE',
  acknowledge: { agent_id: { value: call.agentId }, task_id: { value: call.taskId }, uuid: call.uuid },
});

/** Only with the agent id that came with the status: another one can crash a master (MESOS-10011). */
export const acknowledgeOperation = (call: {
  readonly operationId: string;
  readonly agentId: string;
  /** status.uuid.value */
  readonly uuid: string;
}): CallBody => ({
  type: 'ACKNOWLEDGE_OPERATION_STATUS',
  acknowledge_operation_status: {
    agent_id: { value: call.agentId },
    operation_id: { value: call.operationId },
    uuid: call.uuid,
  },
});

/** No tasks = implicit: all that the master knows, neither unreachable nor completed ones. */
export const reconcile = (tasks: readonly TaskRef[] = []): CallBody => ({
  type: 'RECONCILE',
  reconcile: {
    tasks: tasks.map(({ taskId, agentId }) => ({
      task_id: { value: taskId },
      ...(agentId === null ? {} : { agent_id: { value: agentId } }),
    })),
  },
});

export const reconcileOperations = (
  operations: readonly { readonly operationId: string; readonly agentId: string }[],
): CallBody => ({
  type: 'RECONCILE_OPERATIONS',
  reconcile_operations: {
    operations: operations.map(({ operationId, agentId }) => ({
      operation_id: { value: operationId },
      agent_id: { value: agentId },
    })),
  },
});

/** Best effort, may be lost: a wake-up, never a command. */
export const sendMessage = (call: {
  readonly executorId: string;
  readonly agentId: string;
  readonly text: string;
}): CallBody => ({
  type: 'MESSAGE',
  message: {
    agent_id: { value: call.agentId },
    executor_id: { value: call.executorId },
    data: Buffer.from(call.text, 'utf8').toString('base64'),
  },
});

/** Kills all tasks and retires the framework id for ever. Reservations and volumes stay: release them before. */
export const teardown = (): CallBody => ({ type: 'TEARDOWN' });
