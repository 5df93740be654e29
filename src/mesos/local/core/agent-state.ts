/** What an agent knows. `AgentCheckpoint` is what must survive its death: written whole before anybody is told. */
import type { Clock } from '../../../clock.ts';
import type {
  CommandInfo,
  ExecutorInfo,
  FrameworkInfo,
  Resource,
  TaskInfo,
  TaskState,
  TaskStatus,
} from '../../types.ts';
import type { AgentInfo, ToMaster, Wire } from './messages.ts';

export interface TaskRecord {
  readonly info: TaskInfo;
  /** Newest state known, sent or not. */
  state: TaskState;
  /** Last status forwarded to the master. */
  forwarded: TaskStatus | null;
  /** Given to the executor. */
  isDelivered: boolean;
  /** Updates that are not acknowledged by the scheduler, oldest first; the first one is in flight. */
  readonly pending: TaskStatus[];
  /** uuids of all updates taken, against repetitions. */
  readonly seen: string[];
}

export interface ExecutorRecord {
  readonly frameworkId: string;
  readonly info: ExecutorInfo;
  /** A task with a command of its own: the agent plays the executor. */
  readonly isCommand: boolean;
  readonly containerId: string;
  readonly directory: string;
  process: StartedProcess | null;
  isGone: boolean;
  readonly tasks: Record<string, TaskRecord>;
}

export interface PendingOperation {
  readonly uuid: string;
  readonly frameworkId: string;
  readonly operationId: string;
  readonly statusUuid: string;
}

export interface AgentCheckpoint {
  agentId: string | null;
  /** As configured when it was written: with other resources an agent does not start again. */
  readonly configured: readonly Resource[];
  total: readonly Resource[];
  readonly frameworks: Record<string, FrameworkInfo>;
  /** By framework id and executor id, joined by a slash. */
  readonly executors: Record<string, ExecutorRecord>;
  operations: PendingOperation[];
}

/** `startTime` tells the process from the next one that gets its pid; what it holds is the shell's affair. */
export interface StartedProcess {
  readonly pid: number;
  readonly startTime: string;
}

export interface Fork {
  readonly containerId: string;
  readonly command: CommandInfo;
  readonly directory: string;
  readonly environment: Readonly<Record<string, string>>;
}

export interface AgentEffects {
  toMaster(message: ToMaster): void;
  /** Whole checkpoint, durable when it returns. */
  persist(checkpoint: AgentCheckpoint): void;
  send(streamId: string, event: Wire): void;
  close(streamId: string): void;
  makeDirectory(path: string): void;
  /** With all that is in it. */
  removeDirectory(path: string): void;
  emptyDirectory(path: string): void;
  /** Replaces what is there. */
  symlink(target: string, path: string): void;
  removeSymlink(path: string): void;
  /** Calls back with null, or with what went wrong. */
  fetch(uris: NonNullable<CommandInfo['uris']>, directory: string, done: (problem: string | null) => void): void;
  /** In a session of its own; null if it could not be started. Its end is reported by processExited. */
  fork(fork: Fork): StartedProcess | null;
  /** A process that an earlier life of the agent started: false if it is gone, else its end will be reported. */
  adopt(containerId: string, process: StartedProcess): boolean;
  /** The process, what it started, and its session. */
  killTree(process: StartedProcess, signal: 'SIGTERM' | 'SIGKILL'): void;
  /** What is left of the session of a process that ended. */
  killSession(process: StartedProcess): void;
}

export interface AgentOptions {
  readonly workDir: string;
  readonly info: AgentInfo;
  readonly registrationTimeoutMs: number;
  readonly reregistrationTimeoutMs: number;
  readonly shutdownGraceMs: number;
  readonly updateRetryMs: number;
}

export const UPDATE_RETRY_MAX_MS = 10 * 60_000;

/** How a live executor stands; lost with the agent's process. */
export interface Live {
  state: 'registering' | 'running' | 'terminating' | 'reconnecting';
  streamId: string | null;
  registrationTimer: unknown;
  killTimer: unknown;
  /** Why its tasks fail when its process ends. */
  reason: { readonly code: string; readonly text: string } | null;
  /** Was to be told to shut down, but is not subscribed. */
  readonly killedTasks: Set<string>;
}

export interface AgentCore {
  readonly options: AgentOptions;
  readonly clock: Clock;
  readonly newId: () => string;
  readonly effects: AgentEffects;
  readonly warn: (fields: Record<string, unknown>, message: string) => void;
  readonly checkpoint: AgentCheckpoint;
  readonly live: Map<string, Live>;
  /** Retry timers by task (framework/executor/task) or operation uuid. */
  readonly retries: Map<string, unknown>;
  phase: 'recovering' | 'registering' | 'running' | 'stopped';
  registerTimer: unknown;
  recoveryTimer: unknown;
}

export const persist = (agent: AgentCore): void => agent.effects.persist(agent.checkpoint);

export const executorKey = (frameworkId: string, executorId: string): string => `${frameworkId}/${executorId}`;

export const keyOf = (executor: ExecutorRecord): string =>
  executorKey(executor.frameworkId, executor.info.executor_id.value);

export function findExecutor(agent: AgentCore, frameworkId: string, executorId: string): ExecutorRecord | null {
  return agent.checkpoint.executors[executorKey(frameworkId, executorId)] ?? null;
}

export function findTask(
  agent: AgentCore,
  frameworkId: string,
  taskId: string,
): { executor: ExecutorRecord; task: TaskRecord } | null {
  for (const executor of Object.values(agent.checkpoint.executors)) {
    const task = executor.frameworkId === frameworkId ? executor.tasks[taskId] : undefined;
    if (task) return { executor, task };
  }
  return null;
}
