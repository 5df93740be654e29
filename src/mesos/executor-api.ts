/** Events and calls of the v1 executor API, `POST /api/v1/executor` on the agent. */
import { z } from 'zod';
import {
  attribute,
  executorInfo,
  frameworkInfo,
  id,
  killPolicy,
  list,
  message,
  taskInfo,
  taskStatus,
} from './types.ts';

const agentInfo = message({ hostname: z.string(), id: id.optional(), attributes: list(attribute) });

export const executorEvent = z.discriminatedUnion('type', [
  message({
    type: z.literal('SUBSCRIBED'),
    subscribed: message({
      executor_info: executorInfo,
      framework_info: frameworkInfo,
      agent_info: agentInfo,
      container_id: id.optional(),
    }),
  }),
  message({ type: z.literal('LAUNCH'), launch: message({ task: taskInfo }) }),
  message({
    type: z.literal('LAUNCH_GROUP'),
    launch_group: message({ task_group: message({ tasks: list(taskInfo) }) }),
  }),
  message({ type: z.literal('KILL'), kill: message({ task_id: id, kill_policy: killPolicy.optional() }) }),
  message({ type: z.literal('ACKNOWLEDGED'), acknowledged: message({ task_id: id, uuid: z.string() }) }),
  message({ type: z.literal('MESSAGE'), message: message({ data: z.string() }) }),
  message({ type: z.literal('SHUTDOWN') }),
  message({ type: z.literal('ERROR'), error: message({ message: z.string() }) }),
  message({ type: z.literal('HEARTBEAT') }),
]);
export type ExecutorEvent = z.infer<typeof executorEvent>;

const update = message({ status: taskStatus });
const head = { executor_id: id, framework_id: id };

export const executorCall = z.discriminatedUnion('type', [
  message({
    ...head,
    type: z.literal('SUBSCRIBE'),
    subscribe: message({ unacknowledged_tasks: list(taskInfo), unacknowledged_updates: list(update) }),
  }),
  message({ ...head, type: z.literal('UPDATE'), update }),
  message({ ...head, type: z.literal('MESSAGE'), message: message({ data: z.string() }) }),
  message({ ...head, type: z.literal('HEARTBEAT') }),
]);
export type ExecutorCall = z.infer<typeof executorCall>;
