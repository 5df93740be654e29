/** Tasks as the master sees them: updates, acknowledgements, KILL, reconciliation. */
import { isTerminalTaskState, type TaskState, type TaskStatus } from '../../types.ts';
import { touch } from './allocator.ts';
import {
  type Agent,
  COMPLETED_TASKS,
  type Framework,
  hasCapability,
  type Master,
  sendTo,
  type Task,
  taskKey,
} from './master-state.ts';
import type { ToAgent } from './messages.ts';

export interface MasterUpdate {
  readonly taskId: string;
  readonly agentId: string | null;
  readonly state: TaskState;
  readonly reason: string;
  readonly message: string;
  readonly extra?: Readonly<Record<string, unknown>>;
}

/** An update that the master makes itself: no uuid, so it must not be acknowledged. */
export function sendMasterUpdate(master: Master, framework: Framework, update: MasterUpdate): void {
  sendTo(master, framework, {
    type: 'UPDATE',
    update: {
      status: {
        task_id: { value: update.taskId },
        state: update.state,
        message: update.message,
        source: 'SOURCE_MASTER',
        reason: update.reason,
        ...(update.agentId === null ? {} : { agent_id: { value: update.agentId } }),
        timestamp: master.clock.now() / 1000,
        ...update.extra,
      },
    },
  });
}

/** For a framework that is not PARTITION_AWARE all the newer states are TASK_LOST. */
export const stateFor = (framework: Framework, state: TaskState): TaskState =>
  hasCapability(framework, 'PARTITION_AWARE') ? state : 'TASK_LOST';

/** From an agent. The newest state frees resources at once; the scheduler may learn of it much later. */
export function receiveUpdate(
  master: Master,
  agent: Agent,
  { frameworkId, status, latestState }: { frameworkId: string; status: TaskStatus; latestState: TaskState },
): void {
  const framework = master.frameworks.get(frameworkId);
  if (!framework) return;
  const task = agent.tasks.get(taskKey(frameworkId, status.task_id.value));
  if (task) {
    if (!isTerminalTaskState(task.state)) task.state = latestState;
    task.status = status;
    if (task.statuses.at(-1)?.uuid !== status.uuid) task.statuses.push(status);
    touch(agent);
  }
  sendTo(master, framework, { type: 'UPDATE', update: { status } });
}

export function removeTask(framework: Framework, agent: Agent | undefined, task: Task): void {
  const id = task.info.task_id.value;
  framework.tasks.delete(id);
  agent?.tasks.delete(taskKey(framework.id, id));
  touch(agent);
  framework.completed.push(task);
  if (framework.completed.length > COMPLETED_TASKS) framework.completed.shift();
}

export function acknowledge(
  master: Master,
  framework: Framework,
  { agentId, taskId, uuid }: { agentId: string; taskId: string; uuid: string },
): void {
  const agent = master.agents.get(agentId);
  if (!agent?.isConnected) return; // lost; the agent repeats the update
  const task = agent.tasks.get(taskKey(framework.id, taskId));
  if (task?.status && isTerminalTaskState(task.status.state) && task.status.uuid === uuid)
    removeTask(framework, agent, task);
  master.effects.toAgent(agent.key, { kind: 'acknowledge', frameworkId: framework.id, taskId, uuid });
}

export function kill(
  master: Master,
  framework: Framework,
  { taskId, agentId, policy }: { taskId: string; agentId: string | null; policy: unknown },
): void {
  const task = framework.tasks.get(taskId);
  if (!task) {
    reconcileOne(master, framework, { taskId, agentId });
    return;
  }
  if (agentId !== null && agentId !== task.agentId) {
    master.warn({ task: taskId, agent: agentId }, 'KILL names another agent than the task has: ignored');
    return;
  }
  const agent = master.agents.get(task.agentId);
  if (!agent) return;
  const message: ToAgent = { kind: 'kill', frameworkId: framework.id, taskId, policy };
  if (agent.isConnected) master.effects.toAgent(agent.key, message);
  else agent.pendingKills.push(message);
}

export function reconcile(
  master: Master,
  framework: Framework,
  asked: readonly { taskId: string; agentId: string | null }[],
): void {
  if (asked.length > 0) {
    for (const one of asked) reconcileOne(master, framework, one);
    return;
  }
  for (const task of framework.tasks.values()) answerKnown(master, framework, task);
}

function answerKnown(master: Master, framework: Framework, task: Task): void {
  const { status } = task;
  sendMasterUpdate(master, framework, {
    taskId: task.info.task_id.value,
    agentId: task.agentId,
    state: status?.state ?? 'TASK_STAGING',
    reason: 'REASON_RECONCILIATION',
    message: 'Reconciliation: Latest task state',
    extra: {
      ...(task.executorId === null ? {} : { executor_id: { value: task.executorId } }),
      ...(status?.healthy === undefined ? {} : { healthy: status.healthy }),
      ...(status && 'container_status' in status ? { container_status: status.container_status } : {}),
    },
  });
}

function reconcileOne(
  master: Master,
  framework: Framework,
  { taskId, agentId }: { taskId: string; agentId: string | null },
): void {
  const task = framework.tasks.get(taskId);
  if (task) {
    answerKnown(master, framework, task);
    return;
  }
  // An agent that is not back yet may know the task: the master says nothing at all.
  if (agentId === null ? master.recovered.size > 0 : master.recovered.has(agentId)) return;
  const answer = (state: TaskState, what: string, extra: Record<string, unknown> = {}) =>
    sendMasterUpdate(master, framework, {
      taskId,
      agentId,
      state: stateFor(framework, state),
      reason: 'REASON_RECONCILIATION',
      message: `Reconciliation: Task is ${what}`,
      extra,
    });
  if (agentId === null) {
    answer('TASK_UNKNOWN', 'unknown');
    return;
  }
  if (master.agents.has(agentId)) {
    answer('TASK_GONE', 'unknown to the agent');
    return;
  }
  const lost = master.unreachable.get(agentId);
  if (lost) {
    answer('TASK_UNREACHABLE', 'unreachable', { unreachable_time: { nanoseconds: lost.since * 1e6 } });
    return;
  }
  if (master.gone.has(agentId)) {
    answer('TASK_GONE_BY_OPERATOR', 'gone');
    return;
  }
  answer('TASK_UNKNOWN', 'unknown');
}
