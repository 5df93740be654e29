/** Events and calls of the v1 scheduler API, `POST /api/v1/scheduler`. Parsed on both sides: ours and mesos/local. */
import { z } from 'zod';
import {
  filters,
  frameworkInfo,
  id,
  killPolicy,
  list,
  message,
  offer,
  offerOperation,
  operationStatus,
  taskStatus,
  unavailability,
  url,
} from './types.ts';

const masterInfo = message({
  id: z.string(),
  ip: z.number().optional(),
  port: z.number().optional(),
  pid: z.string().optional(),
  hostname: z.string().optional(),
  version: z.string().optional(),
  address: message({ hostname: z.string().optional(), ip: z.string().optional(), port: z.number() }).optional(),
});
export type MasterInfo = z.infer<typeof masterInfo>;

const inverseOffer = message({
  id,
  framework_id: id,
  agent_id: id.optional(),
  url: url.optional(),
  unavailability,
});

const subscribed = message({
  framework_id: id,
  heartbeat_interval_seconds: z.number().optional(),
  master_info: masterInfo.optional(),
});

export const schedulerEvent = z.discriminatedUnion('type', [
  message({ type: z.literal('SUBSCRIBED'), subscribed }),
  message({ type: z.literal('HEARTBEAT') }),
  message({ type: z.literal('OFFERS'), offers: message({ offers: list(offer) }) }),
  message({ type: z.literal('INVERSE_OFFERS'), inverse_offers: message({ inverse_offers: list(inverseOffer) }) }),
  message({ type: z.literal('RESCIND'), rescind: message({ offer_id: id }) }),
  message({ type: z.literal('RESCIND_INVERSE_OFFER'), rescind_inverse_offer: message({ inverse_offer_id: id }) }),
  message({ type: z.literal('UPDATE'), update: message({ status: taskStatus }) }),
  message({
    type: z.literal('UPDATE_OPERATION_STATUS'),
    update_operation_status: message({ status: operationStatus }),
  }),
  message({ type: z.literal('MESSAGE'), message: message({ agent_id: id, executor_id: id, data: z.string() }) }),
  message({
    type: z.literal('FAILURE'),
    /** Without executor_id: the agent was removed. `status`: raw wait status (9 = SIGKILL, 768 = exit 3). */
    failure: message({ agent_id: id.optional(), executor_id: id.optional(), status: z.number().optional() }),
  }),
  message({ type: z.literal('ERROR'), error: message({ message: z.string() }) }),
]);
export type SchedulerEvent = z.infer<typeof schedulerEvent>;

const frameworkId = { framework_id: id };
const inverseOffers = message({ inverse_offer_ids: list(id), filters: filters.optional() });
const subscribe = message({
  framework_info: frameworkInfo,
  suppressed_roles: z.array(z.string()).optional(),
  offer_constraints: z.record(z.string(), z.unknown()).optional(),
});

export const schedulerCall = z.discriminatedUnion('type', [
  message({ type: z.literal('SUBSCRIBE'), framework_id: id.optional(), subscribe }),
  message({ ...frameworkId, type: z.literal('UPDATE_FRAMEWORK'), update_framework: subscribe }),
  message({ ...frameworkId, type: z.literal('TEARDOWN') }),
  message({
    ...frameworkId,
    type: z.literal('ACCEPT'),
    accept: message({ offer_ids: list(id), operations: list(offerOperation), filters: filters.optional() }),
  }),
  message({
    ...frameworkId,
    type: z.literal('DECLINE'),
    decline: message({ offer_ids: list(id), filters: filters.optional() }),
  }),
  message({ ...frameworkId, type: z.literal('ACCEPT_INVERSE_OFFERS'), accept_inverse_offers: inverseOffers }),
  message({ ...frameworkId, type: z.literal('DECLINE_INVERSE_OFFERS'), decline_inverse_offers: inverseOffers }),
  message({ ...frameworkId, type: z.literal('REVIVE'), revive: message({ roles: list(z.string()) }).optional() }),
  message({ ...frameworkId, type: z.literal('SUPPRESS'), suppress: message({ roles: list(z.string()) }).optional() }),
  message({
    ...frameworkId,
    type: z.literal('KILL'),
    kill: message({ task_id: id, agent_id: id.optional(), kill_policy: killPolicy.optional() }),
  }),
  message({
    ...frameworkId,
    type: z.literal('SHUTDOWN'),
    shutdown: message({ executor_id: id, agent_id: id }),
  }),
  message({
    ...frameworkId,
    type: z.literal('ACKNOWLEDGE'),
    acknowledge: message({ agent_id: id, task_id: id, uuid: z.string() }),
  }),
  message({
    ...frameworkId,
    type: z.literal('ACKNOWLEDGE_OPERATION_STATUS'),
    acknowledge_operation_status: message({
      agent_id: id.optional(),
      resource_provider_id: id.optional(),
      operation_id: id,
      uuid: z.string(),
    }),
  }),
  message({
    ...frameworkId,
    type: z.literal('RECONCILE'),
    reconcile: message({ tasks: list(message({ task_id: id, agent_id: id.optional() })) }),
  }),
  message({
    ...frameworkId,
    type: z.literal('RECONCILE_OPERATIONS'),
    reconcile_operations: message({ operations: list(message({ operation_id: id, agent_id: id.optional() })) }),
  }),
  message({
    ...frameworkId,
    type: z.literal('MESSAGE'),
    message: message({ agent_id: id, executor_id: id, data: z.string() }),
  }),
  message({ ...frameworkId, type: z.literal('REQUEST'), request: z.unknown() }),
]);
export type SchedulerCall = z.infer<typeof schedulerCall>;
