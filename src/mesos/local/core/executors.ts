/** Executors on an agent: launch, subscribe, kill, shut down, and what follows from the end of their process. */

import { add, contains } from '../../resources.ts';
import { type ExecutorInfo, type FrameworkInfo, isTerminalTaskState, type TaskInfo } from '../../types.ts';
import {
  type AgentCore,
  type ExecutorRecord,
  executorKey,
  findExecutor,
  findTask,
  keyOf,
  type Live,
  persist,
  type TaskRecord,
} from './agent-state.ts';
import { plain } from './allocator.ts';
import { durationText } from './duration.ts';
import { executorEnvironment } from './environment.ts';
import { forgetExecutor, makeStatus, takeUpdate } from './updates.ts';
import { linkVolumes } from './volumes.ts';

const COMMAND_KILL_GRACE_MS = 3000;

export const newLive = (state: Live['state']): Live => ({
  state,
  streamId: null,
  registrationTimer: null,
  killTimer: null,
  reason: null,
  killedTasks: new Set(),
});

const milliseconds = (duration: { nanoseconds: number } | undefined): number | null =>
  duration ? duration.nanoseconds / 1e6 : null;

export function runTask(
  agent: AgentCore,
  run: { framework: FrameworkInfo; executor: ExecutorInfo | null; task: TaskInfo },
): void {
  const { framework, task } = run;
  const frameworkId = framework.id?.value ?? '';
  agent.checkpoint.frameworks[frameworkId] = framework;
  const info: ExecutorInfo = run.executor ?? {
    executor_id: task.task_id,
    framework_id: { value: frameworkId },
    resources: [],
    ...(task.command ? { command: task.command } : {}),
  };
  const known = findExecutor(agent, frameworkId, info.executor_id.value);
  const executor = known && !known.isGone ? known : createExecutor(agent, frameworkId, info, run.executor === null);
  const record: TaskRecord = {
    info: task,
    state: 'TASK_STAGING',
    forwarded: null,
    isDelivered: false,
    pending: [],
    seen: [],
  };
  executor.tasks[task.task_id.value] = record;
  const live = agent.live.get(keyOf(executor));
  if (known === executor && live?.state === 'terminating') {
    endTask(agent, executor, record, 'TASK_FAILED', 'REASON_EXECUTOR_TERMINATED', 'Executor is terminating');
    return;
  }
  if (!contains(agent.checkpoint.total, reservedParts(info, task))) {
    endTask(
      agent,
      executor,
      record,
      'TASK_DROPPED',
      'REASON_RESOURCES_UNKNOWN',
      'The checkpointed resources being used by the task or its executor are unknown to the agent',
    );
    // Else the master would hold the executor's part for one that never starts.
    if (executor !== known) processGone(agent, executor, -1);
    return;
  }
  persist(agent);
  if (executor !== known) {
    startExecutor(agent, executor, task);
    return;
  }
  try {
    linkVolumes(agent, executor, task.resources);
  } catch (error) {
    const problem = `Failed to link volumes: ${error instanceof Error ? error.message : error}`;
    endTask(agent, executor, record, 'TASK_FAILED', 'REASON_CONTAINER_UPDATE_FAILED', problem);
    return;
  }
  deliver(agent, executor, record);
}

/** What must be there before a task may use it: reservations and volumes. */
const reservedParts = (executor: ExecutorInfo, task: TaskInfo) =>
  add(plain(executor.resources), plain(task.resources)).filter(({ reservations }) => (reservations?.length ?? 0) > 0);

function createExecutor(agent: AgentCore, frameworkId: string, info: ExecutorInfo, isCommand: boolean): ExecutorRecord {
  const containerId = agent.newId();
  const id = info.executor_id.value;
  const home = `${agent.options.workDir}/slaves/${agent.checkpoint.agentId}/frameworks/${frameworkId}/executors/${id}/runs`;
  const executor: ExecutorRecord = {
    frameworkId,
    info,
    isCommand,
    containerId,
    directory: `${home}/${containerId}`,
    process: null,
    isGone: false,
    tasks: {},
  };
  agent.checkpoint.executors[executorKey(frameworkId, id)] = executor;
  return executor;
}

function startExecutor(agent: AgentCore, executor: ExecutorRecord, task: TaskInfo): void {
  const { effects, clock, options } = agent;
  const live = newLive('registering');
  agent.live.set(keyOf(executor), live);
  try {
    effects.makeDirectory(executor.directory);
    effects.symlink(executor.directory, `${executor.directory.slice(0, executor.directory.lastIndexOf('/'))}/latest`);
    linkVolumes(agent, executor, [...executor.info.resources, ...task.resources]);
  } catch (error) {
    failLaunch(agent, executor, `Failed to prepare the sandbox: ${error instanceof Error ? error.message : error}`);
    return;
  }
  if (!executor.isCommand)
    // Counts from here: fetching is part of it.
    live.registrationTimer = clock.setTimeout(() => {
      if (live.state !== 'registering' && live.state !== 'terminating') return;
      if (live.streamId !== null) return;
      const text = `Executor did not register within ${durationText(options.registrationTimeoutMs)}`;
      live.reason ??= { code: 'REASON_EXECUTOR_REGISTRATION_TIMEOUT', text };
      live.state = 'terminating';
      destroy(agent, executor);
    }, options.registrationTimeoutMs);
  effects.fetch(executor.info.command?.uris ?? [], executor.directory, (problem) => {
    if (agent.phase === 'stopped' || executor.isGone) return;
    if (problem !== null)
      return failLaunch(
        agent,
        executor,
        `Failed to fetch all URIs for container '${executor.containerId}': ${problem}`,
      );
    if (live.state === 'terminating') return processGone(agent, executor, 9);
    fork(agent, executor, live);
  });
}

function failLaunch(agent: AgentCore, executor: ExecutorRecord, problem: string): void {
  const live = agent.live.get(keyOf(executor));
  if (live) live.reason = { code: 'REASON_CONTAINER_LAUNCH_FAILED', text: `Failed to launch container: ${problem}` };
  processGone(agent, executor, 256);
}

function fork(agent: AgentCore, executor: ExecutorRecord, live: Live): void {
  const { containerId, directory, info } = executor;
  const environment = executorEnvironment(agent, executor);
  const started = agent.effects.fork({ containerId, directory, command: info.command ?? {}, environment });
  if (!started) {
    failLaunch(agent, executor, 'the command could not be started');
    return;
  }
  executor.process = started;
  persist(agent);
  if (!executor.isCommand) return;
  live.state = 'running';
  for (const task of Object.values(executor.tasks)) {
    task.isDelivered = true;
    for (const state of ['TASK_STARTING', 'TASK_RUNNING'] as const)
      takeUpdate(agent, executor, task, makeStatus(agent, task, { state, source: 'SOURCE_EXECUTOR' }));
  }
}

/** LAUNCH to a subscribed executor; to another one when it subscribes. */
function deliver(agent: AgentCore, executor: ExecutorRecord, task: TaskRecord): void {
  const live = agent.live.get(keyOf(executor));
  if (!live?.streamId || live.state !== 'running') return;
  task.isDelivered = true;
  persist(agent);
  agent.effects.send(live.streamId, { type: 'LAUNCH', launch: { task: task.info } });
}

export function deliverQueued(agent: AgentCore, executor: ExecutorRecord): void {
  for (const task of Object.values(executor.tasks))
    if (!task.isDelivered && !isTerminalTaskState(task.state)) deliver(agent, executor, task);
}

export function endTask(
  agent: AgentCore,
  executor: ExecutorRecord,
  task: TaskRecord,
  state: 'TASK_FAILED' | 'TASK_DROPPED' | 'TASK_KILLED' | 'TASK_FINISHED' | 'TASK_GONE',
  reason: string | null,
  message: string,
): void {
  if (isTerminalTaskState(task.state)) return;
  const source = executor.isCommand && reason === null ? 'SOURCE_EXECUTOR' : 'SOURCE_AGENT';
  takeUpdate(
    agent,
    executor,
    task,
    makeStatus(agent, task, { state, source, message, ...(reason === null ? {} : { reason }) }),
  );
}

export function killTask(agent: AgentCore, frameworkId: string, taskId: string, policy: unknown): void {
  const found = findTask(agent, frameworkId, taskId);
  if (!found || isTerminalTaskState(found.task.state)) return;
  const { executor, task } = found;
  const live = agent.live.get(keyOf(executor));
  if (executor.isCommand) {
    killCommand(agent, executor, task, live);
    return;
  }
  if (!task.isDelivered) {
    const why = 'Killed before delivery to the executor';
    endTask(agent, executor, task, 'TASK_KILLED', 'REASON_TASK_KILLED_DURING_LAUNCH', why);
    return;
  }
  if (!live?.streamId) return; // best effort: whoever kills repeats it
  const kill_policy = policy ?? task.info.kill_policy;
  const kill = { task_id: task.info.task_id, ...(kill_policy ? { kill_policy } : {}) };
  agent.effects.send(live.streamId, { type: 'KILL', kill });
}

function killCommand(agent: AgentCore, executor: ExecutorRecord, task: TaskRecord, live: Live | undefined): void {
  if (executor.process === null || !live) {
    if (live) live.state = 'terminating';
    endTask(agent, executor, task, 'TASK_KILLED', 'REASON_TASK_KILLED_DURING_LAUNCH', 'Killed during launch');
    return;
  }
  if (live.killTimer !== null) return;
  const framework = agent.checkpoint.frameworks[executor.frameworkId];
  if (framework?.capabilities?.some(({ type }) => type === 'TASK_KILLING_STATE'))
    takeUpdate(agent, executor, task, makeStatus(agent, task, { state: 'TASK_KILLING', source: 'SOURCE_EXECUTOR' }));
  live.killedTasks.add(task.info.task_id.value);
  const { process } = executor;
  agent.effects.killTree(process, 'SIGTERM');
  const graceMs = milliseconds(task.info.kill_policy?.grace_period) ?? COMMAND_KILL_GRACE_MS;
  live.killTimer = agent.clock.setTimeout(() => {
    if (!executor.isGone) agent.effects.killTree(process, 'SIGKILL');
  }, graceMs);
}

/** Asked first if it listens; after the grace period it is killed with all that it started. */
export function shutdownExecutor(agent: AgentCore, executor: ExecutorRecord): void {
  const live = agent.live.get(keyOf(executor));
  if (!live || executor.isGone || live.state === 'terminating') return;
  live.state = 'terminating';
  live.reason ??= { code: 'REASON_EXECUTOR_TERMINATED', text: 'Executor terminated' };
  if (executor.isCommand) {
    destroy(agent, executor);
    return;
  }
  if (live.streamId) agent.effects.send(live.streamId, { type: 'SHUTDOWN' });
  const graceMs = milliseconds(executor.info.shutdown_grace_period) ?? agent.options.shutdownGraceMs;
  live.killTimer = agent.clock.setTimeout(() => destroy(agent, executor), graceMs);
}

/** SIGKILL for the process, what it started and its session. What follows comes with its end. */
export function destroy(agent: AgentCore, executor: ExecutorRecord): void {
  if (executor.isGone) return;
  if (executor.process) agent.effects.killTree(executor.process, 'SIGKILL');
}

/** TEARDOWN or failover_timeout: nobody is left to hear of updates. */
export function shutdownFramework(agent: AgentCore, frameworkId: string): void {
  for (const executor of Object.values(agent.checkpoint.executors)) {
    if (executor.frameworkId !== frameworkId) continue;
    for (const taskId of Object.keys(executor.tasks)) {
      agent.clock.clearTimeout(agent.retries.get(`${keyOf(executor)}/${taskId}`));
      agent.retries.delete(`${keyOf(executor)}/${taskId}`);
      delete executor.tasks[taskId];
    }
    shutdownExecutor(agent, executor);
    forgetExecutor(agent, executor);
  }
  agent.checkpoint.operations = agent.checkpoint.operations.filter(
    (operation) => operation.frameworkId !== frameworkId,
  );
  if (!Object.values(agent.checkpoint.executors).some((executor) => executor.frameworkId === frameworkId))
    delete agent.checkpoint.frameworks[frameworkId];
  persist(agent);
}

/**
 * The executor's process ended (raw wait status; -1 if nobody could see it). What is left of its session dies too,
 * as with Mesos' posix launcher; what made a session of its own survives. FAILURE goes before the updates.
 */
export function processGone(agent: AgentCore, executor: ExecutorRecord, status: number): void {
  if (executor.isGone) return;
  executor.isGone = true;
  const live = agent.live.get(keyOf(executor));
  agent.live.delete(keyOf(executor));
  agent.clock.clearTimeout(live?.registrationTimer);
  agent.clock.clearTimeout(live?.killTimer);
  if (live?.streamId) agent.effects.close(live.streamId);
  if (executor.process) agent.effects.killSession(executor.process);
  persist(agent);
  if (!executor.isCommand) {
    const { frameworkId } = executor;
    agent.effects.toMaster({ kind: 'exited', frameworkId, executorId: executor.info.executor_id.value, status });
  }
  for (const task of Object.values(executor.tasks)) {
    if (isTerminalTaskState(task.state)) continue;
    if (executor.isCommand && live?.reason === null) endCommand(agent, executor, task, { live, status });
    else {
      const reason = live?.reason ?? { code: 'REASON_EXECUTOR_TERMINATED', text: 'Executor terminated' };
      endTask(agent, executor, task, 'TASK_FAILED', reason.code, reason.text);
    }
  }
  forgetExecutor(agent, executor);
  persist(agent);
}

function endCommand(
  agent: AgentCore,
  executor: ExecutorRecord,
  task: TaskRecord,
  { live, status }: { live: Live; status: number },
): void {
  if (status < 0) {
    endTask(agent, executor, task, 'TASK_FAILED', null, 'Command ended while the agent was away');
    return;
  }
  const wasKilled = live.killedTasks.has(task.info.task_id.value);
  const state = wasKilled ? 'TASK_KILLED' : status === 0 ? 'TASK_FINISHED' : 'TASK_FAILED';
  const signal = status & 0x7f;
  const how = signal === 0 ? `exited with status ${status >> 8}` : `terminated with signal ${signalName(signal)}`;
  endTask(agent, executor, task, state, null, `Command ${how}`);
}

const signalName = (signal: number): string =>
  signal === 15 ? 'Terminated' : signal === 9 ? 'Killed' : String(signal);
