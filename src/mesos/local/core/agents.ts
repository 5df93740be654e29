/** Agents as the master sees them: admitted, disconnected, unreachable, back, gone. */
import { isTerminalTaskState } from '../../types.ts';
import { offersOf, removeOffer, requestAllocation, touch } from './allocator.ts';
import { createFramework } from './frameworks.ts';
import { type Agent, type Master, persistRegistry, sendTo, type Task, taskKey } from './master-state.ts';
import type { AgentInfo, TaskReport, ToMaster } from './messages.ts';
import { receiveOperationStatus } from './operations.ts';
import { receiveUpdate, sendMasterUpdate, stateFor } from './tasks.ts';

type Reregistration = Extract<ToMaster, { kind: 'reregister' }>;

export function receiveFromAgent(master: Master, key: string, message: ToMaster): void {
  if (message.kind === 'register') {
    register(master, key, message);
    return;
  }
  if (message.kind === 'reregister') {
    reregister(master, key, message);
    return;
  }
  const agent = [...master.agents.values()].find((each) => each.key === key);
  if (agent) receiveFromRegistered(master, agent, message); // else it was given up and has to register again
}

function receiveFromRegistered(
  master: Master,
  agent: Agent,
  message: Exclude<ToMaster, { kind: 'register' | 'reregister' }>,
): void {
  switch (message.kind) {
    case 'update':
      receiveUpdate(master, agent, message);
      return;
    case 'operation':
      receiveOperationStatus(master, agent, message.report, message.statusUuid);
      return;
    case 'exited':
      removeExecutor(master, agent, message);
      return;
    case 'message': {
      const framework = master.frameworks.get(message.frameworkId);
      const { executorId, data } = message;
      if (framework)
        sendTo(master, framework, {
          type: 'MESSAGE',
          message: { agent_id: { value: agent.id }, executor_id: { value: executorId }, data },
        });
      return;
    }
    case 'pong':
      agent.missedPings = 0;
      return;
  }
}

function removeExecutor(
  master: Master,
  agent: Agent,
  { frameworkId, executorId, status }: { frameworkId: string; executorId: string; status: number },
): void {
  const key = taskKey(frameworkId, executorId);
  if (!agent.executors.delete(key)) return;
  touch(agent);
  const framework = master.frameworks.get(frameworkId);
  if (!framework) return;
  sendTo(master, framework, {
    type: 'FAILURE',
    failure: { agent_id: { value: agent.id }, executor_id: { value: executorId }, status },
  });
}

function createAgent(
  master: Master,
  id: string,
  key: string,
  message: { info: AgentInfo; total: Agent['total'] },
): Agent {
  const agent: Agent = {
    id,
    key,
    info: message.info,
    total: message.total,
    isConnected: true,
    tasks: new Map(),
    executors: new Map(),
    registeredAt: master.clock.now(),
    reregisteredAt: null,
    availableCache: null,
    missedPings: 0,
    pingTimer: null,
    pendingKills: [],
  };
  master.agents.set(id, agent);
  ping(master, agent);
  return agent;
}

function register(master: Master, key: string, message: { info: AgentInfo; total: Agent['total'] }): void {
  let known = [...master.agents.values()].find((agent) => agent.key === key);
  if (known && !known.isConnected) {
    // It restarted and lost its identity; what ran there under the old id is over for the master.
    forget(master, known);
    tellLost(master, known, {
      state: 'TASK_GONE',
      reason: 'REASON_AGENT_REMOVED',
      message: 'A new agent registered at the same address',
      extra: {},
    });
    known = undefined;
  }
  // Else the answer to an earlier registration was lost: the same agent gets the same id.
  const agent = known ?? createAgent(master, `${master.id}-S${master.nextAgent++}`, key, message);
  persistRegistry(master);
  master.effects.toAgent(key, { kind: 'registered', agentId: agent.id });
  requestAllocation(master, agent.id);
}

function ping(master: Master, agent: Agent): void {
  agent.pingTimer = master.clock.setTimeout(() => {
    if (master.isStopped || master.agents.get(agent.id) !== agent) return;
    if (agent.missedPings >= master.options.maxAgentPingTimeouts) return markUnreachable(master, agent);
    agent.missedPings += 1;
    master.effects.toAgent(agent.key, { kind: 'ping', isRegistered: true });
    ping(master, agent);
  }, master.options.agentPingTimeoutMs);
}

/** The connection broke, as when the process died: offers go at once, tasks stay. */
export function disconnectAgent(master: Master, key: string): void {
  const agent = [...master.agents.values()].find((each) => each.key === key);
  if (!agent?.isConnected) return;
  agent.isConnected = false;
  for (const offer of offersOf(master, agent.id)) removeOffer(master, offer, true);
  for (const task of [...agent.tasks.values()]) {
    const framework = master.frameworks.get(task.frameworkId);
    if (!framework || framework.info.checkpoint === true) continue;
    framework.tasks.delete(task.info.task_id.value);
    agent.tasks.delete(taskKey(task.frameworkId, task.info.task_id.value));
    sendMasterUpdate(master, framework, {
      taskId: task.info.task_id.value,
      agentId: agent.id,
      state: 'TASK_LOST',
      reason: 'REASON_AGENT_DISCONNECTED',
      message: `Agent ${agent.info.hostname} disconnected`,
    });
  }
  touch(agent);
}

/** Its tasks may well run on. */
export function markUnreachable(master: Master, agent: Agent): void {
  const since = master.clock.now();
  forget(master, agent);
  master.unreachable.set(agent.id, { info: agent.info, since });
  persistRegistry(master);
  tellLost(master, agent, {
    state: 'TASK_UNREACHABLE',
    reason: 'REASON_AGENT_REMOVED',
    message: 'health check timed out',
    extra: { unreachable_time: { nanoseconds: since * 1e6 } },
  });
}

export function markGone(master: Master, agentId: string): boolean {
  const agent = master.agents.get(agentId);
  if (!agent && !master.unreachable.has(agentId) && !master.recovered.has(agentId)) return master.gone.has(agentId);
  master.gone.add(agentId);
  master.unreachable.delete(agentId);
  master.recovered.delete(agentId);
  if (agent) {
    forget(master, agent);
    master.effects.toAgent(agent.key, { kind: 'refused', why: 'Agent has been marked gone' });
  }
  persistRegistry(master);
  const how = {
    state: 'TASK_GONE_BY_OPERATOR',
    reason: 'REASON_AGENT_REMOVED_BY_OPERATOR',
    message: 'Agent has been marked gone',
    extra: {},
  } as const;
  if (agent) tellLost(master, agent, how);
  for (const framework of master.frameworks.values())
    for (const [taskId, task] of framework.unreachable) {
      if (task.agentId !== agentId) continue;
      framework.unreachable.delete(taskId);
      sendMasterUpdate(master, framework, { taskId, agentId, ...how, state: stateFor(framework, how.state) });
    }
  return true;
}

function forget(master: Master, agent: Agent): void {
  master.agents.delete(agent.id);
  master.clock.clearTimeout(agent.pingTimer);
  for (const offer of offersOf(master, agent.id)) removeOffer(master, offer, true);
}

function tellLost(
  master: Master,
  agent: Agent,
  how: {
    state: 'TASK_UNREACHABLE' | 'TASK_GONE' | 'TASK_GONE_BY_OPERATOR';
    reason: string;
    message: string;
    extra: Record<string, unknown>;
  },
): void {
  for (const task of agent.tasks.values()) {
    const framework = master.frameworks.get(task.frameworkId);
    if (!framework) continue;
    const taskId = task.info.task_id.value;
    framework.tasks.delete(taskId);
    if (isTerminalTaskState(task.state)) framework.completed.push(task);
    else if (how.state === 'TASK_UNREACHABLE')
      framework.unreachable.set(taskId, Object.assign(task, { state: how.state }));
    else framework.completed.push(Object.assign(task, { state: how.state }));
    sendMasterUpdate(master, framework, { taskId, agentId: agent.id, ...how, state: stateFor(framework, how.state) });
  }
  for (const framework of master.frameworks.values())
    sendTo(master, framework, { type: 'FAILURE', failure: { agent_id: { value: agent.id } } });
}

function reregister(master: Master, key: string, message: Reregistration): void {
  const { agentId } = message;
  if (master.gone.has(agentId)) {
    master.effects.toAgent(key, { kind: 'refused', why: 'Agent has been marked gone' });
    return;
  }
  const known = master.agents.get(agentId);
  if (known) {
    reconnectAgent(master, known, message);
    return;
  }
  master.recovered.delete(agentId);
  const wasUnreachable = master.unreachable.delete(agentId);
  const agent = createAgent(master, agentId, key, message);
  agent.reregisteredAt = master.clock.now();
  persistRegistry(master);
  adoptFrameworks(master, message);
  for (const { frameworkId, info } of message.executors)
    agent.executors.set(taskKey(frameworkId, info.executor_id.value), { frameworkId, info });
  for (const report of message.tasks) adoptTask(master, agent, report, wasUnreachable);
  // Tasks that did not come back with it are erased and nobody is told: only reconciliation finds out.
  for (const framework of master.frameworks.values())
    for (const [taskId, task] of framework.unreachable)
      if (task.agentId === agentId) framework.unreachable.delete(taskId);
  answerReregistration(master, agent, message);
  requestAllocation(master, agent.id);
}

function adoptFrameworks(master: Master, message: Reregistration): void {
  for (const info of message.frameworks) {
    const id = info.id?.value ?? '';
    if (master.frameworks.has(id) || master.completed.some((framework) => framework.id === id)) continue;
    const framework = createFramework(master, id, info, info.principal ?? null);
    framework.isRecovered = true;
    master.frameworks.set(id, framework);
  }
}

function adoptTask(master: Master, agent: Agent, report: TaskReport, wasUnreachable: boolean): void {
  const framework = master.frameworks.get(report.frameworkId);
  if (!framework) return;
  const { status, executorId, info, state } = report;
  const taskId = info.task_id.value;
  const task: Task = {
    frameworkId: framework.id,
    agentId: agent.id,
    executorId,
    info,
    state,
    status,
    statuses: status ? [status] : [],
  };
  const wasLost = wasUnreachable && framework.unreachable.delete(taskId);
  framework.tasks.set(taskId, task);
  agent.tasks.set(taskKey(framework.id, taskId), task);
  if (!wasLost) return;
  const { uuid: _, ...last } = status ?? { state: 'TASK_STAGING' as const };
  sendMasterUpdate(master, framework, {
    taskId,
    agentId: agent.id,
    state: last.state,
    reason: 'REASON_AGENT_REREGISTERED',
    message: 'Unreachable agent re-reregistered',
    extra: {
      ...(executorId === null ? {} : { executor_id: { value: executorId } }),
      ...(status?.healthy === undefined ? {} : { healthy: status.healthy }),
    },
  });
}

/** It was never given up: tasks are not touched, and the allocator takes its time till the next batch. */
function reconnectAgent(master: Master, agent: Agent, message: Reregistration): void {
  agent.isConnected = true;
  agent.missedPings = 0;
  agent.reregisteredAt = master.clock.now();
  agent.total = message.total;
  const alive = new Set(message.executors.map(({ frameworkId, info }) => taskKey(frameworkId, info.executor_id.value)));
  for (const key of [...agent.executors.keys()]) if (!alive.has(key)) agent.executors.delete(key);
  for (const report of message.tasks) {
    const task = agent.tasks.get(taskKey(report.frameworkId, report.info.task_id.value));
    if (task && !isTerminalTaskState(task.state)) task.state = report.state;
  }
  touch(agent);
  answerReregistration(master, agent, message);
  for (const kill of agent.pendingKills.splice(0)) master.effects.toAgent(agent.key, kill);
}

function answerReregistration(master: Master, agent: Agent, message: Reregistration): void {
  const reported = new Set(message.tasks.map(({ frameworkId, info }) => taskKey(frameworkId, info.task_id.value)));
  const expected = [...agent.tasks.entries()]
    .filter(([key]) => !reported.has(key))
    .map(([, task]) => ({
      frameworkId: task.frameworkId,
      taskId: task.info.task_id.value,
      executorId: task.executorId,
    }));
  master.effects.toAgent(agent.key, {
    kind: 'reregistered',
    expected,
    completedFrameworks: master.completed.map(({ id }) => id),
  });
  for (const framework of master.frameworks.values())
    if (framework.streamId !== null)
      master.effects.toAgent(agent.key, { kind: 'updateFramework', framework: framework.info });
}

/** Agents of an earlier master that did not come back in time. */
export function giveUpRecovered(master: Master): void {
  for (const [id, info] of master.recovered) master.unreachable.set(id, { info, since: master.clock.now() });
  if (master.recovered.size === 0) return;
  const ids = [...master.recovered.keys()];
  master.recovered.clear();
  persistRegistry(master);
  for (const framework of master.frameworks.values())
    for (const id of ids) sendTo(master, framework, { type: 'FAILURE', failure: { agent_id: { value: id } } });
}
