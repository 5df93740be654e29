import { expect, test } from 'vitest';
import {
  accept,
  acknowledge,
  acknowledgeOperation,
  type CallBody,
  decline,
  kill,
  reconcile,
  reconcileOperations,
  revive,
  sendMessage,
  shutdown,
  suppress,
  teardown,
} from '../../src/mesos/calls.ts';
import { schedulerCall } from '../../src/mesos/scheduler-api.ts';

const agent_id = { value: 'S1' };

test.each<[CallBody, object]>([
  [accept({ offerIds: ['O'], operations: [] }), { accept: { offer_ids: [{ value: 'O' }], operations: [] } }],
  [decline(['O'], 600), { decline: { offer_ids: [{ value: 'O' }], filters: { refuse_seconds: 600 } } }],
  [revive(['mysql']), { revive: { roles: ['mysql'] } }],
  [suppress(), { suppress: { roles: [] } }],
  [kill({ taskId: 'T', agentId: 'S1' }), { kill: { task_id: { value: 'T' }, agent_id } }],
  [
    kill({ taskId: 'T', agentId: null, graceMs: 60_000 }),
    { kill: { task_id: { value: 'T' }, kill_policy: { grace_period: { nanoseconds: 60_000_000_000 } } } },
  ],
  [shutdown({ executorId: 'E', agentId: 'S1' }), { shutdown: { executor_id: { value: 'E' }, agent_id } }],
  [
    acknowledge({ taskId: 'T', agentId: 'S1', uuid: 'dQ==' }),
    { acknowledge: { agent_id, task_id: { value: 'T' }, uuid: 'dQ==' } },
  ],
  [
    acknowledgeOperation({ operationId: 'op', agentId: 'S1', uuid: 'dQ==' }),
    { acknowledge_operation_status: { agent_id, operation_id: { value: 'op' }, uuid: 'dQ==' } },
  ],
  [
    reconcile([
      { taskId: 'T', agentId: 'S1' },
      { taskId: 'U', agentId: null },
    ]),
    { reconcile: { tasks: [{ task_id: { value: 'T' }, agent_id }, { task_id: { value: 'U' } }] } },
  ],
  [
    reconcileOperations([{ operationId: 'op', agentId: 'S1' }]),
    { reconcile_operations: { operations: [{ operation_id: { value: 'op' }, agent_id }] } },
  ],
  [
    sendMessage({ executorId: 'E', agentId: 'S1', text: 'ä' }),
    { message: { agent_id, executor_id: { value: 'E' }, data: 'w6Q=' } },
  ],
  [teardown(), {}],
])('%j has the shape that Mesos wants', (call, content) => {
  const { type, ...rest } = call;

  expect(rest).toEqual(content);
  expect(schedulerCall.parse({ framework_id: { value: 'F' }, ...call })).toMatchObject({ type });
});
