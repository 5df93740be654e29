/** What executors say to their agent over the executor API. */
import { isTerminalTaskState, type TaskInfo, type TaskStatus } from '../../types.ts';
import { type AgentCore, type ExecutorRecord, keyOf } from './agent-state.ts';
import { deliverQueued, shutdownExecutor } from './executors.ts';
import { makeStatus, takeUpdate } from './updates.ts';

export interface ExecutorSubscription {
  readonly streamId: string;
  readonly unacknowledgedTasks: readonly TaskInfo[];
  readonly unacknowledgedUpdates: readonly TaskStatus[];
}

export function subscribeExecutor(
  agent: AgentCore,
  executor: ExecutorRecord,
  subscription: ExecutorSubscription,
): void {
  const live = agent.live.get(keyOf(executor));
  const { streamId } = subscription;
  if (!live) {
    agent.effects.close(streamId);
    return;
  }
  if (live.streamId !== null) agent.effects.close(live.streamId);
  live.streamId = streamId;
  agent.clock.clearTimeout(live.registrationTimer);
  const isBack = live.state !== 'registering';
  if (live.state === 'terminating') {
    agent.effects.send(streamId, { type: 'SHUTDOWN' });
    return;
  }
  live.state = 'running';
  if (isBack) takeBack(agent, executor, subscription);
  const { info } = agent.options;
  agent.effects.send(streamId, {
    type: 'SUBSCRIBED',
    subscribed: {
      executor_info: executor.info,
      framework_info: agent.checkpoint.frameworks[executor.frameworkId],
      agent_info: {
        hostname: info.hostname,
        port: info.port,
        id: { value: agent.checkpoint.agentId ?? '' },
        ...(info.attributes.length > 0 ? { attributes: info.attributes } : {}),
        resources: info.resources,
      },
      container_id: { value: executor.containerId },
    },
  });
  deliverQueued(agent, executor);
  // All its tasks were killed before it came: it has nothing to do.
  const isIdle = Object.values(executor.tasks).every(({ state }) => isTerminalTaskState(state));
  if (isIdle && !isBack) shutdownExecutor(agent, executor);
}

/** Updates that the agent had not stored, and tasks that were sent but never arrived. */
function takeBack(agent: AgentCore, executor: ExecutorRecord, subscription: ExecutorSubscription): void {
  for (const status of subscription.unacknowledgedUpdates) {
    const task = executor.tasks[status.task_id.value];
    if (task) takeUpdate(agent, executor, task, status);
  }
  const listed = new Set(subscription.unacknowledgedTasks.map(({ task_id }) => task_id.value));
  for (const [taskId, task] of Object.entries(executor.tasks))
    if (task.isDelivered && task.state === 'TASK_STAGING' && !listed.has(taskId))
      takeUpdate(
        agent,
        executor,
        task,
        makeStatus(agent, task, {
          state: 'TASK_DROPPED',
          source: 'SOURCE_AGENT',
          reason: 'REASON_AGENT_RESTARTED',
          message: 'Task dropped: the agent restarted before it was delivered',
        }),
      );
}

export function executorDisconnected(agent: AgentCore, streamId: string): void {
  for (const live of agent.live.values()) if (live.streamId === streamId) live.streamId = null;
}

export function updateFromExecutor(agent: AgentCore, executor: ExecutorRecord, status: TaskStatus): void {
  const task = executor.tasks[status.task_id.value];
  // Also for a task that is forgotten: the executor would repeat it for ever.
  if (task) takeUpdate(agent, executor, task, status);
  else agent.warn({ task: status.task_id.value }, 'Update for a task that the agent does not know');
  const live = agent.live.get(keyOf(executor));
  if (live?.streamId)
    agent.effects.send(live.streamId, {
      type: 'ACKNOWLEDGED',
      acknowledged: { task_id: status.task_id, uuid: status.uuid },
    });
}

export function messageFromExecutor(agent: AgentCore, executor: ExecutorRecord, data: string): void {
  const { frameworkId, info } = executor;
  agent.effects.toMaster({ kind: 'message', frameworkId, executorId: info.executor_id.value, data });
}
