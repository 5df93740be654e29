/** A Mesos agent without I/O: messages of the master, calls of executors and ends of processes in, effects out. */
import type { Clock } from '../../../clock.ts';
import { add, contains } from '../../resources.ts';
import type { TaskInfo } from '../../types.ts';
import { acknowledgeOperation, applyOperation, resendOperations } from './agent-operations.ts';
import {
  type AgentCheckpoint,
  type AgentCore,
  type AgentEffects,
  type AgentOptions,
  type ExecutorRecord,
  findExecutor,
  findTask,
  keyOf,
  persist,
  type TaskRecord,
} from './agent-state.ts';
import {
  destroy,
  endTask,
  killTask,
  newLive,
  processGone,
  runTask,
  shutdownExecutor,
  shutdownFramework,
} from './executors.ts';
import type { TaskReport, ToAgent, ToMaster } from './messages.ts';
import { acknowledged, resendUpdates, stopRetries } from './updates.ts';

export {
  executorDisconnected,
  messageFromExecutor,
  subscribeExecutor,
  updateFromExecutor,
} from './executor-calls.ts';

const REGISTER_RETRY_MS = 1000;

export interface AgentSetup {
  readonly options: AgentOptions;
  readonly clock: Clock;
  readonly newId: () => string;
  readonly effects: AgentEffects;
  readonly warn: AgentCore['warn'];
  /** What an earlier life of this agent left behind; null for a fresh work directory. */
  readonly checkpoint: AgentCheckpoint | null;
}

/** Recovers and registers. Throws if its resources are configured otherwise than when it was checkpointed. */
export function startAgent({ options, clock, newId, effects, warn, checkpoint }: AgentSetup): AgentCore {
  const configured = add(options.info.resources);
  if (checkpoint && !(contains(checkpoint.configured, configured) && contains(configured, checkpoint.configured)))
    throw new Error(`Incompatible agent info detected: ${options.info.hostname} had other resources before`);
  const agent: AgentCore = {
    options,
    clock,
    newId,
    effects,
    warn,
    checkpoint: checkpoint ?? {
      agentId: null,
      configured,
      total: configured,
      frameworks: {},
      executors: {},
      operations: [],
    },
    live: new Map(),
    retries: new Map(),
    phase: 'recovering',
    registerTimer: null,
    recoveryTimer: null,
  };
  recover(agent);
  return agent;
}

/** Its process dies: executors run on. */
export function stopAgent(agent: AgentCore): void {
  agent.phase = 'stopped';
  agent.clock.clearTimeout(agent.registerTimer);
  agent.clock.clearTimeout(agent.recoveryTimer);
  stopRetries(agent);
  for (const live of agent.live.values()) {
    agent.clock.clearTimeout(live.registrationTimer);
    agent.clock.clearTimeout(live.killTimer);
    if (live.streamId) agent.effects.close(live.streamId);
  }
  agent.live.clear();
}

/** Executors that still run have a moment to subscribe again; those that do not are killed. */
function recover(agent: AgentCore): void {
  const { effects, options } = agent;
  const waiting: ExecutorRecord[] = [];
  for (const executor of Object.values(agent.checkpoint.executors)) {
    if (executor.isGone) continue;
    if (!agent.checkpoint.frameworks[executor.frameworkId]?.checkpoint) {
      abandon(agent, executor);
      continue;
    }
    agent.live.set(keyOf(executor), newLive(executor.isCommand ? 'running' : 'reconnecting'));
    if (executor.process && effects.adopt(executor.containerId, executor.process)) waiting.push(executor);
    else processGone(agent, executor, -1);
  }
  if (!waiting.some((executor) => !executor.isCommand)) {
    register(agent);
    return;
  }
  agent.recoveryTimer = agent.clock.setTimeout(() => {
    for (const executor of waiting) {
      const live = agent.live.get(keyOf(executor));
      if (live?.state !== 'reconnecting') continue;
      live.state = 'terminating';
      live.reason = { code: 'REASON_EXECUTOR_REREGISTRATION_TIMEOUT', text: 'Executor did not reregister in time' };
      destroy(agent, executor);
    }
    register(agent);
  }, options.reregistrationTimeoutMs);
}

/** A framework without checkpoints: a new agent knows nothing of its tasks, and nobody is told. */
function abandon(agent: AgentCore, executor: ExecutorRecord): void {
  if (executor.process) agent.effects.killTree(executor.process, 'SIGKILL');
  delete agent.checkpoint.executors[keyOf(executor)];
  persist(agent);
}

function register(agent: AgentCore): void {
  if (agent.phase === 'stopped') return;
  agent.phase = 'registering';
  stopRetries(agent);
  agent.clock.clearTimeout(agent.registerTimer);
  agent.effects.toMaster(registration(agent));
  agent.registerTimer = agent.clock.setTimeout(() => {
    if (agent.phase === 'registering') register(agent);
  }, REGISTER_RETRY_MS);
}

/** There is a new master, or the way to it is open again. */
export function masterDetected(agent: AgentCore): void {
  if (agent.phase === 'registering' || agent.phase === 'running') register(agent);
}

function registration(agent: AgentCore): ToMaster {
  const { checkpoint, options } = agent;
  if (checkpoint.agentId === null) return { kind: 'register', info: options.info, total: checkpoint.total };
  const executors = Object.values(checkpoint.executors);
  const tasks: TaskReport[] = executors.flatMap((executor) =>
    Object.values(executor.tasks).map((task) => ({
      frameworkId: executor.frameworkId,
      executorId: executor.isCommand ? null : executor.info.executor_id.value,
      info: task.info,
      state: task.state,
      status: task.forwarded,
    })),
  );
  return {
    kind: 'reregister',
    agentId: checkpoint.agentId,
    info: options.info,
    total: checkpoint.total,
    frameworks: Object.values(checkpoint.frameworks),
    executors: executors
      .filter(({ isGone, isCommand }) => !isGone && !isCommand)
      .map(({ frameworkId, info }) => ({ frameworkId, info })),
    tasks,
    operations: checkpoint.operations.map((operation) => ({ ...operation, state: 'OPERATION_FINISHED' })),
  };
}

export function fromMaster(agent: AgentCore, message: ToAgent): void {
  if (agent.phase === 'stopped') return;
  switch (message.kind) {
    case 'registered':
      agent.checkpoint.agentId = message.agentId;
      persist(agent);
      registered(agent);
      return;
    case 'reregistered':
      registered(agent);
      for (const one of message.expected) reportUnknown(agent, one);
      for (const frameworkId of message.completedFrameworks)
        if (agent.checkpoint.frameworks[frameworkId]) shutdownFramework(agent, frameworkId);
      return;
    case 'refused':
      agent.warn({ why: message.why }, 'The master refused the agent');
      retire(agent);
      return;
    case 'ping':
      agent.effects.toMaster({ kind: 'pong' });
      if (!message.isRegistered) masterDetected(agent);
      return;
    default:
      if (agent.phase === 'running') fromRegisteredMaster(agent, message);
  }
}

/** Marked gone: its executors end and it never registers again under this id. */
function retire(agent: AgentCore): void {
  for (const executor of Object.values(agent.checkpoint.executors)) destroy(agent, executor);
  stopAgent(agent);
}

function registered(agent: AgentCore): void {
  agent.clock.clearTimeout(agent.registerTimer);
  agent.phase = 'running';
  resendUpdates(agent, null);
  resendOperations(agent);
}

function fromRegisteredMaster(
  agent: AgentCore,
  message: Exclude<ToAgent, { kind: 'registered' | 'reregistered' | 'refused' | 'ping' }>,
): void {
  switch (message.kind) {
    case 'run':
      runTask(agent, message);
      return;
    case 'kill':
      killTask(agent, message.frameworkId, message.taskId, message.policy);
      return;
    case 'shutdownExecutor': {
      const executor = findExecutor(agent, message.frameworkId, message.executorId);
      if (executor) shutdownExecutor(agent, executor);
      return;
    }
    case 'shutdownFramework':
      shutdownFramework(agent, message.frameworkId);
      return;
    case 'updateFramework': {
      const id = message.framework.id?.value ?? '';
      if (!agent.checkpoint.frameworks[id]) return;
      agent.checkpoint.frameworks[id] = message.framework;
      persist(agent);
      resendUpdates(agent, id);
      resendOperations(agent);
      return;
    }
    case 'acknowledge':
      acknowledged(agent, message.frameworkId, message.taskId, message.uuid);
      return;
    case 'acknowledgeOperation':
      acknowledgeOperation(agent, message.statusUuid);
      return;
    case 'apply':
      if (!applyOperation(agent, message)) register(agent);
      return;
    case 'message': {
      const executor = findExecutor(agent, message.frameworkId, message.executorId);
      const live = executor ? agent.live.get(keyOf(executor)) : undefined;
      if (live?.streamId) agent.effects.send(live.streamId, { type: 'MESSAGE', message: { data: message.data } });
      return;
    }
  }
}

/** The master believes that a task is here which never arrived, or is forgotten. */
function reportUnknown(
  agent: AgentCore,
  { frameworkId, taskId, executorId }: { frameworkId: string; taskId: string; executorId: string | null },
): void {
  if (findTask(agent, frameworkId, taskId)) return;
  const known = executorId === null ? null : findExecutor(agent, frameworkId, executorId);
  const executor: ExecutorRecord = known ?? {
    frameworkId,
    info: { executor_id: { value: executorId ?? taskId }, resources: [] },
    isCommand: executorId === null,
    containerId: agent.newId(),
    directory: '',
    process: null,
    isGone: true,
    tasks: {},
  };
  const info: TaskInfo = {
    name: taskId,
    task_id: { value: taskId },
    agent_id: { value: agent.checkpoint.agentId ?? '' },
    resources: [],
  };
  const task: TaskRecord = { info, state: 'TASK_STAGING', forwarded: null, isDelivered: false, pending: [], seen: [] };
  if (!known) agent.checkpoint.executors[keyOf(executor)] = executor;
  executor.tasks[taskId] = task;
  endTask(agent, executor, task, 'TASK_DROPPED', 'REASON_RECONCILIATION', 'Reconciliation: task unknown to the agent');
}

export function processExited(agent: AgentCore, containerId: string, status: number): void {
  if (agent.phase === 'stopped') return;
  const executor = Object.values(agent.checkpoint.executors).find((each) => each.containerId === containerId);
  if (executor) processGone(agent, executor, status);
}
