/**
 * Messages of the Mesos v1 API as they stand on the wire (snake_case, enums as strings, bytes as base64), shared by
 * scheduler and executor API. Tolerant: unknown fields are kept, absent lists are []. Fixtures follow the .proto
 * files, not Mesos' documentation, which is wrong in places.
 */
import { z } from 'zod';

/** Unknown fields stay at run time (a resource must be sent back exactly as it was offered) but are not in the type. */
export const message = <S extends z.ZodRawShape>(shape: S) => z.looseObject(shape) as unknown as z.ZodObject<S>;

/** Mesos omits empty lists. */
export const list = <T extends z.ZodType>(item: T) => z.array(item).default([]);

/** int64: a bare number (inexact beyond 2^53, as nanoseconds since 1970 are) or, on input, a string. */
const int64 = z.union([
  z.number(),
  z
    .string()
    .regex(/^-?\d+$/)
    .transform(Number),
]);

export const id = message({ value: z.string() });
export type Id = z.infer<typeof id>;

/** DurationInfo and TimeInfo. */
export const nanoseconds = message({ nanoseconds: int64 });

const label = message({ key: z.string(), value: z.string().optional() });
const labels = message({ labels: list(label) });
export type Labels = z.infer<typeof labels>;

const reservation = message({
  type: z.enum(['STATIC', 'DYNAMIC']).optional(),
  role: z.string().optional(),
  principal: z.string().optional(),
  labels: labels.optional(),
});
export type Reservation = z.infer<typeof reservation>;

const diskSource = message({
  /** A kind that a newer Mesos adds must not hide all other offers. */
  type: z.enum(['UNKNOWN', 'PATH', 'MOUNT', 'BLOCK', 'RAW']).catch('UNKNOWN'),
  path: message({ root: z.string().optional() }).optional(),
  mount: message({ root: z.string().optional() }).optional(),
  id: z.string().optional(),
  profile: z.string().optional(),
  vendor: z.string().optional(),
});
export type DiskSource = z.infer<typeof diskSource>;

const diskInfo = message({
  persistence: message({ id: z.string(), principal: z.string().optional() }).optional(),
  volume: message({
    mode: z.enum(['RW', 'RO']).optional(),
    container_path: z.string(),
    host_path: z.string().optional(),
  }).optional(),
  source: diskSource.optional(),
});

const range = message({ begin: int64, end: int64 });
export type Range = z.infer<typeof range>;

/**
 * The last element of `reservations` is the innermost. `role` and `reservation` are the form of Mesos before
 * RESERVATION_REFINEMENT; normalise() in resources.ts turns them into the new one.
 */
export const resource = message({
  name: z.string(),
  type: z.enum(['SCALAR', 'RANGES', 'SET', 'TEXT']),
  scalar: message({ value: z.number() }).optional(),
  ranges: message({ range: list(range) }).optional(),
  set: message({ item: list(z.string()) }).optional(),
  role: z.string().optional(),
  reservation: message({ principal: z.string().optional(), labels: labels.optional() }).optional(),
  reservations: z.array(reservation).optional(),
  allocation_info: message({ role: z.string().optional() }).optional(),
  disk: diskInfo.optional(),
  revocable: message({}).optional(),
  shared: message({}).optional(),
  provider_id: id.optional(),
});
export type Resource = z.infer<typeof resource>;

export const attribute = message({
  name: z.string(),
  type: z.enum(['SCALAR', 'RANGES', 'SET', 'TEXT']),
  scalar: message({ value: z.number() }).optional(),
  ranges: message({ range: list(range) }).optional(),
  text: message({ value: z.string() }).optional(),
});
export type Attribute = z.infer<typeof attribute>;

export const url = message({
  scheme: z.string().optional(),
  address: message({ hostname: z.string().optional(), ip: z.string().optional(), port: z.number() }),
  path: z.string().optional(),
});

export const unavailability = message({ start: nanoseconds, duration: nanoseconds.optional() });

/** One agent and one role. `executor_ids`: executors of ours that lived there when the offer was made. */
export const offer = message({
  id,
  framework_id: id,
  agent_id: id,
  hostname: z.string(),
  url: url.optional(),
  allocation_info: message({ role: z.string().optional() }).optional(),
  resources: list(resource),
  attributes: list(attribute),
  executor_ids: list(id),
  unavailability: unavailability.optional(),
});
export type Offer = z.infer<typeof offer>;

export const frameworkInfo = message({
  user: z.string(),
  name: z.string(),
  id: id.optional(),
  roles: z.array(z.string()).optional(),
  role: z.string().optional(),
  principal: z.string().optional(),
  /** Seconds. */
  failover_timeout: z.number().optional(),
  checkpoint: z.boolean().optional(),
  hostname: z.string().optional(),
  webui_url: z.string().optional(),
  capabilities: z.array(message({ type: z.string() })).optional(),
  labels: labels.optional(),
  offer_filters: z.record(z.string(), z.unknown()).optional(),
});
export type FrameworkInfo = z.infer<typeof frameworkInfo>;

const commandInfo = message({
  shell: z.boolean().optional(),
  value: z.string().optional(),
  arguments: z.array(z.string()).optional(),
  user: z.string().optional(),
  uris: z
    .array(
      message({
        value: z.string(),
        executable: z.boolean().optional(),
        extract: z.boolean().optional(),
        cache: z.boolean().optional(),
        output_file: z.string().optional(),
      }),
    )
    .optional(),
  environment: message({
    variables: list(message({ name: z.string(), type: z.string().optional(), value: z.string().optional() })),
  }).optional(),
});
export type CommandInfo = z.infer<typeof commandInfo>;

export const executorInfo = message({
  type: z.enum(['UNKNOWN', 'DEFAULT', 'CUSTOM']).optional(),
  executor_id: id,
  framework_id: id.optional(),
  name: z.string().optional(),
  source: z.string().optional(),
  command: commandInfo.optional(),
  resources: list(resource),
  shutdown_grace_period: nanoseconds.optional(),
  labels: labels.optional(),
  data: z.string().optional(),
});
export type ExecutorInfo = z.infer<typeof executorInfo>;

export const killPolicy = message({ grace_period: nanoseconds.optional() });

const discoveryInfo = message({
  visibility: z.enum(['FRAMEWORK', 'CLUSTER', 'EXTERNAL']),
  name: z.string().optional(),
  ports: message({
    ports: list(message({ number: z.number(), name: z.string().optional(), protocol: z.string().optional() })),
  }).optional(),
  labels: labels.optional(),
});

export const taskInfo = message({
  name: z.string(),
  task_id: id,
  agent_id: id,
  resources: list(resource),
  executor: executorInfo.optional(),
  command: commandInfo.optional(),
  kill_policy: killPolicy.optional(),
  data: z.string().optional(),
  labels: labels.optional(),
  discovery: discoveryInfo.optional(),
});
export type TaskInfo = z.infer<typeof taskInfo>;

export const taskStates = [
  'TASK_STAGING',
  'TASK_STARTING',
  'TASK_RUNNING',
  'TASK_KILLING',
  'TASK_FINISHED',
  'TASK_FAILED',
  'TASK_KILLED',
  'TASK_ERROR',
  'TASK_LOST',
  'TASK_DROPPED',
  'TASK_UNREACHABLE',
  'TASK_GONE',
  'TASK_GONE_BY_OPERATOR',
  'TASK_UNKNOWN',
] as const;
export type TaskState = (typeof taskStates)[number];

const endedTaskStates: ReadonlySet<TaskState> = new Set([
  'TASK_FINISHED',
  'TASK_FAILED',
  'TASK_KILLED',
  'TASK_ERROR',
  'TASK_LOST',
  'TASK_DROPPED',
  'TASK_GONE',
  'TASK_GONE_BY_OPERATOR',
]);

/** Terminal for Mesos' accounting of resources. UNREACHABLE and UNKNOWN are not: the task may run and come back. */
export const isTerminalTaskState = (state: TaskState): boolean => endedTaskStates.has(state);

/** `uuid`: base64 of 16 bytes; only statuses that have one are acknowledged. `timestamp`: seconds. */
export const taskStatus = message({
  task_id: id,
  /** A state that a newer Mesos adds is taken as TASK_UNKNOWN: it may run, and it is asked for again. */
  state: z.enum(taskStates).catch('TASK_UNKNOWN'),
  source: z.string().optional(),
  reason: z.string().optional(),
  message: z.string().optional(),
  agent_id: id.optional(),
  executor_id: id.optional(),
  timestamp: z.number().optional(),
  uuid: z.string().optional(),
  healthy: z.boolean().optional(),
  data: z.string().optional(),
  labels: labels.optional(),
  unreachable_time: nanoseconds.optional(),
});
export type TaskStatus = z.infer<typeof taskStatus>;

export const operationStates = [
  'OPERATION_UNSUPPORTED',
  'OPERATION_PENDING',
  'OPERATION_FINISHED',
  'OPERATION_FAILED',
  'OPERATION_ERROR',
  'OPERATION_DROPPED',
  'OPERATION_UNREACHABLE',
  'OPERATION_GONE_BY_OPERATOR',
  'OPERATION_RECOVERING',
  'OPERATION_UNKNOWN',
] as const;
export type OperationState = (typeof operationStates)[number];

/** `uuid` is wrapped here, unlike in TaskStatus. Errors of the master carry neither uuid nor agent_id. */
export const operationStatus = message({
  operation_id: id.optional(),
  state: z.enum(operationStates).catch('OPERATION_UNKNOWN'),
  message: z.string().optional(),
  converted_resources: list(resource),
  uuid: id.optional(),
  agent_id: id.optional(),
  resource_provider_id: id.optional(),
});
export type OperationStatus = z.infer<typeof operationStatus>;

const operationHead = { id: id.optional() };
/** In the order given; `id` asks for feedback and is refused on LAUNCH. */
export const offerOperation = z.discriminatedUnion('type', [
  message({ ...operationHead, type: z.literal('RESERVE'), reserve: message({ resources: list(resource) }) }),
  message({ ...operationHead, type: z.literal('UNRESERVE'), unreserve: message({ resources: list(resource) }) }),
  message({ ...operationHead, type: z.literal('CREATE'), create: message({ volumes: list(resource) }) }),
  message({ ...operationHead, type: z.literal('DESTROY'), destroy: message({ volumes: list(resource) }) }),
  message({ ...operationHead, type: z.literal('LAUNCH'), launch: message({ task_infos: list(taskInfo) }) }),
  message({
    ...operationHead,
    type: z.literal('LAUNCH_GROUP'),
    launch_group: message({ executor: executorInfo, task_group: message({ tasks: list(taskInfo) }) }),
  }),
  message({
    ...operationHead,
    type: z.literal('GROW_VOLUME'),
    grow_volume: message({ volume: resource, addition: resource }),
  }),
  message({
    ...operationHead,
    type: z.literal('SHRINK_VOLUME'),
    shrink_volume: message({ volume: resource, subtract: message({ value: z.number() }) }),
  }),
]);
export type OfferOperation = z.infer<typeof offerOperation>;

/** `refuse_seconds`: absent = 5, 0 = no filter. */
export const filters = message({ refuse_seconds: z.number().optional() });
