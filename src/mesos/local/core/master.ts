/** A Mesos master without I/O: calls and agents' messages in, events out, time given. */
import type { Clock } from '../../../clock.ts';
import type { SchedulerCall } from '../../scheduler-api.ts';
import { accept, decline } from './accept.ts';
import { disconnectAgent, giveUpRecovered, receiveFromAgent } from './agents.ts';
import { startAllocator } from './allocator.ts';
import * as frameworks from './frameworks.ts';
import type { Framework, Master, MasterEffects, MasterOptions, Registry } from './master-state.ts';
import type { ToMaster } from './messages.ts';
import { acknowledgeOperation, reconcileOperations } from './operations.ts';
import { acknowledge, kill, reconcile } from './tasks.ts';

export const emptyRegistry: Registry = { admitted: {}, unreachable: {}, gone: [] };

export interface MasterSetup {
  readonly options: MasterOptions;
  readonly clock: Clock;
  readonly newId: () => string;
  readonly effects: MasterEffects;
  readonly warn: Master['warn'];
  /** What an earlier master left behind. */
  readonly registry: Registry;
}

/** Every master has an id of its own; those of its frameworks, agents and offers start with it. */
export function startMaster({ options, clock, newId, effects, warn, registry }: MasterSetup): Master {
  const master: Master = {
    id: newId(),
    options,
    clock,
    newId,
    effects,
    warn,
    frameworks: new Map(),
    completed: [],
    agents: new Map(),
    recovered: new Map(),
    unreachable: new Map(),
    gone: new Set(registry.gone),
    offers: new Map(),
    operations: new Map(),
    nextFramework: 0,
    nextAgent: 0,
    nextOffer: 0,
    allocationTimer: null,
    recoveryTimer: null,
    pendingAllocation: null,
    isStopped: false,
  };
  for (const [id, info] of Object.entries(registry.admitted)) {
    const since = registry.unreachable[id];
    if (since === undefined) master.recovered.set(id, info);
    else master.unreachable.set(id, { info, since });
  }
  startAllocator(master);
  master.recoveryTimer = clock.setTimeout(() => {
    if (!master.isStopped) giveUpRecovered(master);
  }, options.agentReregisterTimeoutMs);
  return master;
}

/** Ends its timers and its streams. */
export function stopMaster(master: Master): void {
  master.isStopped = true;
  master.clock.clearTimeout(master.allocationTimer);
  master.clock.clearTimeout(master.recoveryTimer);
  for (const agent of master.agents.values()) master.clock.clearTimeout(agent.pingTimer);
  for (const framework of master.frameworks.values()) {
    master.clock.clearTimeout(framework.heartbeatTimer);
    master.clock.clearTimeout(framework.removalTimer);
    if (framework.streamId !== null) master.effects.close(framework.streamId);
  }
}

export const fromAgent = (master: Master, key: string, message: ToMaster): void => {
  if (!master.isStopped) receiveFromAgent(master, key, message);
};

export const agentDisconnected = (master: Master, key: string): void => {
  if (!master.isStopped) disconnectAgent(master, key);
};

export type FrameworkCall = Exclude<SchedulerCall, { type: 'SUBSCRIBE' }>;

const refuseSeconds = (filters: { refuse_seconds?: number | undefined } | undefined) => filters?.refuse_seconds;

/** A call that passed the HTTP table. Answers the text of a 400 (UPDATE_FRAMEWORK only), or null. */
export function call(master: Master, framework: Framework, message: FrameworkCall): string | null {
  switch (message.type) {
    case 'TEARDOWN':
      frameworks.removeFramework(master, framework);
      break;
    case 'ACCEPT': {
      const { offer_ids, operations, filters } = message.accept;
      const offerIds = offer_ids.map(({ value }) => value);
      if (operations.length === 0) decline(master, framework, { offerIds, refuseSeconds: refuseSeconds(filters) });
      else accept(master, framework, { offerIds, operations, refuseSeconds: refuseSeconds(filters) });
      break;
    }
    case 'DECLINE':
      decline(master, framework, {
        offerIds: message.decline.offer_ids.map(({ value }) => value),
        refuseSeconds: refuseSeconds(message.decline.filters),
      });
      break;
    case 'REVIVE':
      frameworks.revive(master, framework, message.revive?.roles);
      break;
    case 'SUPPRESS':
      frameworks.suppress(master, framework, message.suppress?.roles);
      break;
    case 'UPDATE_FRAMEWORK':
      return frameworks.updateFramework(master, framework, {
        info: message.update_framework.framework_info,
        suppressedRoles: message.update_framework.suppressed_roles ?? [],
      });
    default:
      callOnTasks(master, framework, message);
  }
  return null;
}

function callOnTasks(
  master: Master,
  framework: Framework,
  message: Exclude<
    FrameworkCall,
    { type: 'TEARDOWN' | 'ACCEPT' | 'DECLINE' | 'REVIVE' | 'SUPPRESS' | 'UPDATE_FRAMEWORK' }
  >,
): void {
  switch (message.type) {
    case 'KILL': {
      const { task_id, agent_id, kill_policy } = message.kill;
      kill(master, framework, { taskId: task_id.value, agentId: agent_id?.value ?? null, policy: kill_policy });
      return;
    }
    case 'SHUTDOWN': {
      const agent = master.agents.get(message.shutdown.agent_id.value);
      const executorId = message.shutdown.executor_id.value;
      if (agent) master.effects.toAgent(agent.key, { kind: 'shutdownExecutor', frameworkId: framework.id, executorId });
      return;
    }
    case 'ACKNOWLEDGE': {
      const { agent_id, task_id, uuid } = message.acknowledge;
      acknowledge(master, framework, { agentId: agent_id.value, taskId: task_id.value, uuid });
      return;
    }
    case 'ACKNOWLEDGE_OPERATION_STATUS': {
      const { agent_id, operation_id, uuid } = message.acknowledge_operation_status;
      const agentId = agent_id?.value ?? '';
      acknowledgeOperation(master, framework, { agentId, operationId: operation_id.value, uuid });
      return;
    }
    case 'RECONCILE': {
      const asked = message.reconcile.tasks;
      const tasks = asked.map(({ task_id, agent_id }) => ({ taskId: task_id.value, agentId: agent_id?.value ?? null }));
      reconcile(master, framework, tasks);
      return;
    }
    case 'RECONCILE_OPERATIONS': {
      const asked = message.reconcile_operations.operations;
      const operations = asked.map(({ operation_id, agent_id }) => ({
        operationId: operation_id.value,
        agentId: agent_id?.value ?? null,
      }));
      reconcileOperations(master, framework, operations);
      return;
    }
    case 'MESSAGE': {
      const { agent_id, executor_id, data } = message.message;
      const agent = master.agents.get(agent_id.value);
      const to = { kind: 'message', frameworkId: framework.id, executorId: executor_id.value, data } as const;
      if (agent) master.effects.toAgent(agent.key, to);
      return;
    }
    case 'ACCEPT_INVERSE_OFFERS':
    case 'DECLINE_INVERSE_OFFERS':
    case 'REQUEST':
      return; // no inverse offers are ever made; the allocator of the real master ignores REQUEST too
  }
}
