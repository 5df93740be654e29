/**
 * What the agent has not confirmed to have stored. Both lists go into every SUBSCRIBE: a running task that is not
 * listed after a restart of the agent is reported TASK_DROPPED although it runs.
 */
import type { TaskInfo, TaskStatus } from './types.ts';

export type SentStatus = TaskStatus & { readonly uuid: string };

export interface Unacknowledged {
  /** False if this task was launched before: agents may repeat a LAUNCH. */
  addTask(task: TaskInfo): boolean;
  addUpdate(status: SentStatus): void;
  acknowledge(taskId: string, uuid: string): void;
  /** The agent will never take it. */
  dropUpdate(uuid: string): void;
  readonly tasks: readonly TaskInfo[];
  /** In the order in which they were made. */
  readonly updates: readonly SentStatus[];
  hasUpdates(taskId: string | null): boolean;
}

export function createUnacknowledged(): Unacknowledged {
  const known = new Set<string>();
  const tasks = new Map<string, TaskInfo>();
  const updates = new Map<string, SentStatus>();
  return {
    addTask(task) {
      if (known.has(task.task_id.value)) return false;
      known.add(task.task_id.value);
      tasks.set(task.task_id.value, task);
      return true;
    },
    addUpdate: (status) => void updates.set(status.uuid, status),
    acknowledge(taskId, uuid) {
      tasks.delete(taskId);
      updates.delete(uuid);
    },
    dropUpdate: (uuid) => void updates.delete(uuid),
    get tasks() {
      return [...tasks.values()];
    },
    get updates() {
      return [...updates.values()];
    },
    hasUpdates: (taskId) => [...updates.values()].some(({ task_id }) => taskId === null || task_id.value === taskId),
  };
}

/** Base64 of the 16 bytes. Throws unless it is version 4: another uuid makes an agent abort. */
export function encodeUuid(uuid: string): string {
  if (!/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/i.test(uuid)) {
    throw new Error('uuid of a status update is not version 4');
  }
  return Buffer.from(uuid.replaceAll('-', ''), 'hex').toString('base64');
}
