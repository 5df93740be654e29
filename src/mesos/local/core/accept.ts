/** ACCEPT and DECLINE. Operations run in order against what remains; a failed one is skipped. */
import { add, findRest, subtract } from '../../resources.ts';
import type { ExecutorInfo, OfferOperation, Resource, TaskInfo } from '../../types.ts';
import { plain, refuse, removeOffer, touch } from './allocator.ts';
import { type Agent, type Framework, hasCapability, type Master, type Offer, taskKey } from './master-state.ts';
import { runOperation, sendOperationStatus } from './operations.ts';
import { sendMasterUpdate } from './tasks.ts';
import { findTaskFault } from './validation.ts';

export interface Acceptance {
  readonly offerIds: readonly string[];
  readonly operations: readonly OfferOperation[];
  readonly refuseSeconds: number | undefined;
}

export function decline(
  master: Master,
  framework: Framework,
  { offerIds, refuseSeconds }: { offerIds: readonly string[]; refuseSeconds: number | undefined },
): void {
  for (const id of offerIds) {
    const offer = findOffer(master, framework, id);
    if (!offer) {
      master.warn({ offer: id }, 'DECLINE of an offer that is no longer valid');
      continue;
    }
    removeOffer(master, offer, false);
    refuse(master, framework, { ...offer, seconds: refuseSeconds });
  }
}

function findOffer(master: Master, framework: Framework, id: string): Offer | null {
  const offer = master.offers.get(id);
  return offer && offer.frameworkId === framework.id ? offer : null;
}

export function accept(master: Master, framework: Framework, acceptance: Acceptance): void {
  const { offerIds, operations } = acceptance;
  const offers = [...new Set(offerIds)].map((id) => findOffer(master, framework, id)).filter((offer) => offer !== null);
  const fault = findOffersFault(master, framework, offerIds);
  // Valid or not: the offers of the list are used up.
  for (const offer of offers) removeOffer(master, offer, false);
  if (fault) {
    refuseAll(master, framework, operations, fault);
    return;
  }
  const { agentId, role } = offers[0]!;
  const agent = master.agents.get(agentId);
  if (!agent?.isConnected) {
    dropTasks(master, framework, operations, agentId, agent !== undefined);
    return;
  }
  const offered = add(...offers.map((offer) => plain(offer.resources)));
  let remaining: Resource[] = offered;
  for (const operation of operations) {
    remaining = runOne(master, { framework, agent, role, remaining }, operation);
  }
  touch(agent);
  // What an operation made comes back at the next tick; only what was not touched counts as declined.
  const untouched = remaining.filter((resource) => findRest(offered, [resource]) !== null);
  refuse(master, framework, { agentId, role, resources: untouched, seconds: acceptance.refuseSeconds });
}

function findOffersFault(master: Master, framework: Framework, ids: readonly string[]): string | null {
  if (ids.length === 0) return 'No offers specified';
  const seen = new Set<string>();
  for (const id of ids) {
    if (seen.has(id)) return `Duplicate offer ${id} in offer list`;
    seen.add(id);
  }
  let first: Offer | null = null;
  for (const id of ids) {
    const offer = master.offers.get(id);
    if (!offer) return `Offer ${id} is no longer valid`;
    if (offer.frameworkId !== framework.id)
      return `Offer ${id} has invalid framework ${offer.frameworkId} while framework ${framework.id} is expected`;
    first ??= offer;
    if (offer.role !== first.role)
      return `Aggregated offers must be allocated to the same role. Offer ${id} uses role ${offer.role} but another is using role ${first.role}`;
    if (offer.agentId !== first.agentId)
      return `Aggregated offers must belong to one single agent. Offer ${id} uses agent ${offer.agentId} and agent ${first.agentId}`;
  }
  return null;
}

const tasksOf = (operation: OfferOperation): readonly TaskInfo[] => {
  if (operation.type === 'LAUNCH') return operation.launch.task_infos;
  return operation.type === 'LAUNCH_GROUP' ? operation.launch_group.task_group.tasks : [];
};

function refuseAll(master: Master, framework: Framework, operations: readonly OfferOperation[], fault: string): void {
  for (const operation of operations) {
    for (const task of tasksOf(operation))
      sendMasterUpdate(master, framework, {
        taskId: task.task_id.value,
        agentId: task.agent_id.value,
        state: hasCapability(framework, 'PARTITION_AWARE') ? 'TASK_DROPPED' : 'TASK_LOST',
        reason: 'REASON_INVALID_OFFERS',
        message: `Task launched with invalid offers: ${fault}`,
      });
    if (operation.id && tasksOf(operation).length === 0)
      sendOperationStatus(master, framework, {
        operationId: operation.id.value,
        state: 'OPERATION_ERROR',
        message: `Operation attempted with invalid offers: ${fault}`,
      });
  }
}

/** Operations other than launches are not answered at all then, not even those with an id. */
function dropTasks(
  master: Master,
  framework: Framework,
  operations: readonly OfferOperation[],
  agentId: string,
  isKnown: boolean,
): void {
  for (const task of operations.flatMap(tasksOf))
    sendMasterUpdate(master, framework, {
      taskId: task.task_id.value,
      agentId,
      state: hasCapability(framework, 'PARTITION_AWARE') ? 'TASK_DROPPED' : 'TASK_LOST',
      reason: isKnown ? 'REASON_AGENT_DISCONNECTED' : 'REASON_AGENT_REMOVED',
      message: isKnown ? 'Agent disconnected' : 'Agent removed',
    });
}

interface Place {
  readonly framework: Framework;
  readonly agent: Agent;
  readonly role: string;
  readonly remaining: Resource[];
}

/** Answers what remains after it. */
function runOne(master: Master, place: Place, operation: OfferOperation): Resource[] {
  const { framework, remaining } = place;
  const refuseOperation = (fault: string): Resource[] => {
    master.warn({ type: operation.type, operation: operation.id?.value, fault }, 'Refused an operation');
    if (operation.id)
      sendOperationStatus(master, framework, {
        operationId: operation.id.value,
        state: 'OPERATION_ERROR',
        message: fault,
      });
    return remaining;
  };
  switch (operation.type) {
    case 'RESERVE':
    case 'UNRESERVE':
    case 'CREATE':
    case 'DESTROY': {
      const result = runOperation(master, place, operation);
      return 'fault' in result ? refuseOperation(result.fault) : result.remaining;
    }
    case 'LAUNCH':
      return operation.launch.task_infos.reduce(
        (rest, task) => launch(master, { ...place, remaining: rest }, task),
        remaining,
      );
    case 'LAUNCH_GROUP':
      for (const task of operation.launch_group.task_group.tasks)
        sendMasterUpdate(master, framework, {
          taskId: task.task_id.value,
          agentId: place.agent.id,
          state: 'TASK_ERROR',
          reason: 'REASON_TASK_GROUP_INVALID',
          message: 'LAUNCH_GROUP is not supported by mesos-local',
        });
      return remaining;
    case 'GROW_VOLUME':
    case 'SHRINK_VOLUME':
      return refuseOperation(`${operation.type} is not supported by mesos-local`);
  }
}

function launch(master: Master, place: Place, task: TaskInfo): Resource[] {
  const { framework, agent, role, remaining } = place;
  const fault = findTaskFault(task, { master, framework, agent, role, remaining });
  if (fault) {
    sendMasterUpdate(master, framework, {
      taskId: task.task_id.value,
      agentId: agent.id,
      state: 'TASK_ERROR',
      reason: 'REASON_TASK_INVALID',
      message: fault,
    });
    return remaining;
  }
  const assign = (resources: readonly Resource[]) =>
    resources.map((resource) => ({ ...resource, allocation_info: { role } }));
  const executor: ExecutorInfo | null = task.executor
    ? {
        ...task.executor,
        type: 'CUSTOM',
        framework_id: { value: framework.id },
        resources: assign(task.executor.resources),
      }
    : null;
  const info: TaskInfo = { ...task, resources: assign(task.resources), ...(executor ? { executor } : {}) };
  const key = taskKey(framework.id, executor?.executor_id.value ?? '');
  const isNew = executor !== null && !agent.executors.has(key);
  if (executor && isNew) agent.executors.set(key, { frameworkId: framework.id, info: executor });
  const record = {
    frameworkId: framework.id,
    agentId: agent.id,
    executorId: executor?.executor_id.value ?? null,
    info,
    state: 'TASK_STAGING' as const,
    status: null,
    statuses: [],
  };
  framework.tasks.set(task.task_id.value, record);
  agent.tasks.set(taskKey(framework.id, task.task_id.value), record);
  touch(agent);
  const { executor: _, ...bare } = info;
  master.effects.toAgent(agent.key, { kind: 'run', framework: framework.info, executor, task: executor ? bare : info });
  return subtract(remaining, add(plain(info.resources), isNew ? plain(executor.resources) : []));
}
