/** What a master knows. One object, changed only by the functions of this folder; nothing here does I/O. */
import type { Clock } from '../../../clock.ts';
import type {
  ExecutorInfo,
  FrameworkInfo,
  OperationState,
  Resource,
  TaskInfo,
  TaskState,
  TaskStatus,
} from '../../types.ts';
import type { AgentInfo, ToAgent, Wire } from './messages.ts';

/** What survives a master: which agents were admitted, which of them were given up. Everything else is rebuilt. */
export interface Registry {
  readonly admitted: Readonly<Record<string, AgentInfo>>;
  /** Since when, UTC milliseconds. */
  readonly unreachable: Readonly<Record<string, number>>;
  readonly gone: readonly string[];
}

export interface MasterEffects {
  send(streamId: string, event: Wire): void;
  /** Ends the stream after what was sent. */
  close(streamId: string): void;
  toAgent(key: string, message: ToAgent): void;
  persist(registry: Registry): void;
}

export interface MasterOptions {
  readonly ip: string;
  readonly port: number;
  readonly version: string;
  /** null: every valid role is allowed. */
  readonly roles: readonly string[] | null;
  readonly allocationIntervalMs: number;
  readonly heartbeatMs: number;
  readonly agentPingTimeoutMs: number;
  readonly maxAgentPingTimeouts: number;
  readonly agentReregisterTimeoutMs: number;
}

export interface Task {
  readonly frameworkId: string;
  readonly agentId: string;
  /** null for a task with a command of its own. */
  readonly executorId: string | null;
  readonly info: TaskInfo;
  /** Newest state known: decides about resources. */
  state: TaskState;
  /** State of the last update that was forwarded: what reconciliation answers. */
  status: TaskStatus | null;
  readonly statuses: TaskStatus[];
}

export interface RefusedResources {
  readonly agentId: string;
  readonly role: string;
  readonly resources: readonly Resource[];
  readonly until: number;
}

export interface Framework {
  readonly id: string;
  info: FrameworkInfo;
  principal: string | null;
  streamId: string | null;
  /** Known from agents after a change of the master, not subscribed here yet. */
  isRecovered: boolean;
  readonly suppressed: Set<string>;
  refused: RefusedResources[];
  readonly tasks: Map<string, Task>;
  readonly unreachable: Map<string, Task>;
  readonly completed: Task[];
  readonly registeredAt: number;
  reregisteredAt: number;
  removalTimer: unknown;
  heartbeatTimer: unknown;
}

export interface Agent {
  readonly id: string;
  readonly key: string;
  readonly info: AgentInfo;
  total: readonly Resource[];
  isConnected: boolean;
  readonly tasks: Map<string, Task>;
  readonly executors: Map<string, { readonly frameworkId: string; readonly info: ExecutorInfo }>;
  readonly registeredAt: number;
  reregisteredAt: number | null;
  /** Computed when asked for, dropped by every change. */
  availableCache: readonly Resource[] | null;
  missedPings: number;
  pingTimer: unknown;
  /** KILLs for a disconnected agent: sent when it is back. */
  readonly pendingKills: ToAgent[];
}

export interface Offer {
  readonly id: string;
  readonly frameworkId: string;
  readonly agentId: string;
  readonly role: string;
  readonly resources: readonly Resource[];
  readonly executorIds: readonly string[];
}

export interface Operation {
  readonly uuid: string;
  readonly frameworkId: string;
  readonly agentId: string;
  readonly operationId: string;
  readonly type: string;
  state: OperationState;
  statusUuid: string | null;
}

export interface Master {
  readonly id: string;
  readonly options: MasterOptions;
  readonly clock: Clock;
  readonly newId: () => string;
  readonly effects: MasterEffects;
  readonly warn: (fields: Record<string, unknown>, message: string) => void;
  readonly frameworks: Map<string, Framework>;
  readonly completed: Framework[];
  readonly agents: Map<string, Agent>;
  /** Admitted by an earlier master and not back yet. */
  readonly recovered: Map<string, AgentInfo>;
  /** Given up, and since when. Their AgentInfo is kept, so that they can be told apart from strangers. */
  readonly unreachable: Map<string, { readonly info: AgentInfo; readonly since: number }>;
  readonly gone: Set<string>;
  readonly offers: Map<string, Offer>;
  readonly operations: Map<string, Operation>;
  nextFramework: number;
  nextAgent: number;
  nextOffer: number;
  allocationTimer: unknown;
  /** When it runs out, agents that did not come back to this master are given up. */
  recoveryTimer: unknown;
  /** Event driven allocation that is due in this turn: agents, or all. */
  pendingAllocation: Set<string> | 'all' | null;
  isStopped: boolean;
}

export const COMPLETED_FRAMEWORKS = 50;
export const COMPLETED_TASKS = 1000;

export function persistRegistry(master: Master): void {
  const admitted: Record<string, AgentInfo> = {};
  for (const [id, agent] of master.agents) admitted[id] = agent.info;
  for (const [id, info] of master.recovered) admitted[id] = info;
  const unreachable: Record<string, number> = {};
  for (const [id, { info, since }] of master.unreachable) {
    admitted[id] = info;
    unreachable[id] = since;
  }
  master.effects.persist({ admitted, unreachable, gone: [...master.gone] });
}

export const hasCapability = (framework: Framework, type: string): boolean =>
  framework.info.capabilities?.some((capability) => capability.type === type) ?? false;

export const rolesOf = (info: FrameworkInfo): readonly string[] =>
  info.roles ?? (info.role === undefined ? ['*'] : [info.role]);

export function sendTo(master: Master, framework: Framework, event: Wire): void {
  if (framework.streamId !== null) master.effects.send(framework.streamId, event);
}

export const agentText = (agent: Agent): string =>
  `agent ${agent.id} at slave(1)@${agent.info.ip}:${agent.info.port} (${agent.info.hostname})`;

export const taskKey = (frameworkId: string, taskId: string): string => `${frameworkId}/${taskId}`;
