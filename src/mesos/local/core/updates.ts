/**
 * Status updates on their way to the scheduler: one in flight per task, in order, repeated after 10 s, doubling to
 * 10 minutes, until the scheduler acknowledges it. Each goes with the newest state, which the master uses at once.
 */
import { isTerminalTaskState, type TaskState, type TaskStatus } from '../../types.ts';
import {
  type AgentCore,
  type ExecutorRecord,
  findTask,
  keyOf,
  persist,
  type TaskRecord,
  UPDATE_RETRY_MAX_MS,
} from './agent-state.ts';
import { unlinkVolumes } from './volumes.ts';

const retryKey = (executor: ExecutorRecord, task: TaskRecord): string =>
  `${keyOf(executor)}/${task.info.task_id.value}`;

/** Version 4 uuid as 16 bytes in base64, as TaskStatus wants it. */
export const toBase64 = (uuid: string): string => Buffer.from(uuid.replaceAll('-', ''), 'hex').toString('base64');

export function isUuid4(base64: string): boolean {
  const bytes = Buffer.from(base64, 'base64');
  return bytes.length === 16 && (bytes[6]! & 0xf0) === 0x40 && (bytes[8]! & 0xc0) === 0x80;
}

/** Takes an update: stored first, then sent if nothing else of the task is in flight. A repetition changes nothing. */
export function takeUpdate(agent: AgentCore, executor: ExecutorRecord, task: TaskRecord, status: TaskStatus): void {
  if (status.uuid === undefined || task.seen.includes(status.uuid)) return;
  if (isTerminalTaskState(task.state)) {
    agent.warn({ task: task.info.task_id.value, state: status.state }, 'Update after the terminal one: ignored');
    return;
  }
  const full = {
    ...status,
    agent_id: { value: agent.checkpoint.agentId ?? '' },
    executor_id: executor.info.executor_id,
    ...(status.source === 'SOURCE_EXECUTOR' ? { container_status: containerStatus(agent, executor) } : {}),
  };
  task.seen.push(status.uuid);
  task.pending.push(full);
  task.state = status.state;
  persist(agent);
  if (isTerminalTaskState(status.state) && !executor.isCommand) unlinkVolumes(agent, executor, task.info.resources);
  if (task.pending.length === 1) forward(agent, executor, task, agent.options.updateRetryMs);
}

const containerStatus = ({ options }: AgentCore, { containerId, process }: ExecutorRecord) => ({
  container_id: { value: containerId },
  network_infos: [{ ip_addresses: [{ protocol: 'IPv4', ip_address: options.info.ip }] }],
  ...(process ? { executor_pid: process.pid } : {}),
});

function forward(agent: AgentCore, executor: ExecutorRecord, task: TaskRecord, retryMs: number): void {
  const key = retryKey(executor, task);
  agent.clock.clearTimeout(agent.retries.get(key));
  agent.retries.delete(key);
  const status = task.pending[0];
  if (!status || agent.phase !== 'running') return; // sent when the agent is registered again
  task.forwarded = status;
  agent.effects.toMaster({ kind: 'update', frameworkId: executor.frameworkId, status, latestState: task.state });
  const next = Math.min(retryMs * 2, UPDATE_RETRY_MAX_MS);
  agent.retries.set(
    key,
    agent.clock.setTimeout(() => forward(agent, executor, task, next), retryMs),
  );
}

/** All that is in flight again, at once: the scheduler or the master is new. */
export function resendUpdates(agent: AgentCore, frameworkId: string | null): void {
  for (const executor of Object.values(agent.checkpoint.executors)) {
    if (frameworkId !== null && executor.frameworkId !== frameworkId) continue;
    for (const task of Object.values(executor.tasks)) forward(agent, executor, task, agent.options.updateRetryMs);
  }
}

export function stopRetries(agent: AgentCore): void {
  for (const timer of agent.retries.values()) agent.clock.clearTimeout(timer);
  agent.retries.clear();
}

export function acknowledged(agent: AgentCore, frameworkId: string, taskId: string, uuid: string): void {
  const found = findTask(agent, frameworkId, taskId);
  if (!found || found.task.pending[0]?.uuid !== uuid) return; // late or repeated
  const { executor, task } = found;
  task.pending.shift();
  agent.clock.clearTimeout(agent.retries.get(retryKey(executor, task)));
  agent.retries.delete(retryKey(executor, task));
  if (task.pending.length === 0 && isTerminalTaskState(task.state)) {
    delete executor.tasks[taskId];
    forgetExecutor(agent, executor);
  }
  persist(agent);
  if (task.pending.length > 0) forward(agent, executor, task, agent.options.updateRetryMs);
}

/** An executor is kept until its process is gone and all of its updates are acknowledged. */
export function forgetExecutor(agent: AgentCore, executor: ExecutorRecord): void {
  if (executor.isGone && Object.keys(executor.tasks).length === 0) delete agent.checkpoint.executors[keyOf(executor)];
}

export function makeStatus(
  agent: AgentCore,
  task: TaskRecord,
  update: { state: TaskState; source: 'SOURCE_AGENT' | 'SOURCE_EXECUTOR'; reason?: string; message?: string },
): TaskStatus {
  return {
    task_id: task.info.task_id,
    state: update.state,
    ...(update.message === undefined ? {} : { message: update.message }),
    source: update.source,
    ...(update.reason === undefined ? {} : { reason: update.reason }),
    timestamp: agent.clock.now() / 1000,
    uuid: toBase64(agent.newId()),
  };
}
