/**
 * What master and agents say to each other. Real Mesos does this with libprocess messages; nobody outside sees them,
 * so plain values do. A message may be lost (partition, dead process): whoever sends must be able to live with it.
 */
import type {
  Attribute,
  ExecutorInfo,
  FrameworkInfo,
  OperationState,
  Resource,
  TaskInfo,
  TaskState,
  TaskStatus,
} from '../../types.ts';

/** An event as it goes onto a stream. */
export type Wire = { readonly type: string } & Readonly<Record<string, unknown>>;

export interface AgentInfo {
  readonly hostname: string;
  readonly ip: string;
  readonly port: number;
  readonly attributes: readonly Attribute[];
  /** As configured, without reservations. */
  readonly resources: readonly Resource[];
}

export interface TaskReport {
  readonly frameworkId: string;
  readonly executorId: string | null;
  readonly info: TaskInfo;
  /** Newest state that the agent knows, sent to the master or not. */
  readonly state: TaskState;
  readonly status: TaskStatus | null;
}

export interface ExecutorReport {
  readonly frameworkId: string;
  readonly info: ExecutorInfo;
}

export interface OperationReport {
  /** Unique per operation, unlike the id which the framework chose. */
  readonly uuid: string;
  readonly frameworkId: string;
  readonly operationId: string;
  readonly state: OperationState;
}

export type ToMaster =
  | { readonly kind: 'register'; readonly info: AgentInfo; readonly total: readonly Resource[] }
  | {
      readonly kind: 'reregister';
      readonly agentId: string;
      readonly info: AgentInfo;
      readonly total: readonly Resource[];
      readonly frameworks: readonly FrameworkInfo[];
      readonly executors: readonly ExecutorReport[];
      readonly tasks: readonly TaskReport[];
      readonly operations: readonly OperationReport[];
    }
  | {
      readonly kind: 'update';
      readonly frameworkId: string;
      readonly status: TaskStatus;
      readonly latestState: TaskState;
    }
  | { readonly kind: 'exited'; readonly frameworkId: string; readonly executorId: string; readonly status: number }
  | { readonly kind: 'message'; readonly frameworkId: string; readonly executorId: string; readonly data: string }
  | { readonly kind: 'operation'; readonly report: OperationReport; readonly statusUuid: string }
  | { readonly kind: 'pong' };

/** RESERVE and the like, as the agent is to carry it out: what goes, what comes. */
export interface Conversion {
  readonly type: 'RESERVE' | 'UNRESERVE' | 'CREATE' | 'DESTROY';
  readonly consumed: readonly Resource[];
  readonly converted: readonly Resource[];
}

export type ToAgent =
  | { readonly kind: 'registered'; readonly agentId: string }
  | {
      readonly kind: 'reregistered';
      /** Tasks that the master believes to be here: the agent drops those that it does not know. */
      readonly expected: readonly {
        readonly frameworkId: string;
        readonly taskId: string;
        readonly executorId: string | null;
      }[];
      readonly completedFrameworks: readonly string[];
    }
  | { readonly kind: 'refused'; readonly why: string }
  | {
      readonly kind: 'run';
      readonly framework: FrameworkInfo;
      readonly executor: ExecutorInfo | null;
      readonly task: TaskInfo;
    }
  | { readonly kind: 'kill'; readonly frameworkId: string; readonly taskId: string; readonly policy: unknown }
  | { readonly kind: 'shutdownExecutor'; readonly frameworkId: string; readonly executorId: string }
  | { readonly kind: 'shutdownFramework'; readonly frameworkId: string }
  | { readonly kind: 'updateFramework'; readonly framework: FrameworkInfo }
  | { readonly kind: 'acknowledge'; readonly frameworkId: string; readonly taskId: string; readonly uuid: string }
  | {
      readonly kind: 'acknowledgeOperation';
      readonly frameworkId: string;
      readonly operationId: string;
      readonly statusUuid: string;
    }
  | {
      readonly kind: 'apply';
      readonly uuid: string;
      readonly frameworkId: string;
      readonly operationId: string | null;
      readonly conversion: Conversion;
    }
  | { readonly kind: 'message'; readonly frameworkId: string; readonly executorId: string; readonly data: string }
  | { readonly kind: 'ping'; readonly isRegistered: boolean };
