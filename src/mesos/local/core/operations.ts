/**
 * RESERVE, UNRESERVE, CREATE, DESTROY on an agent's resources. The master applies them to its own picture at once and
 * tells the agent; the agent's FINISHED comes later, with a uuid. What the master refuses is answered by the master,
 * without uuid, and only if the operation has an id: otherwise nobody ever hears of it.
 */
import { add, findRest, formatResources, normalise, popReservation, subtract, withoutVolume } from '../../resources.ts';
import type { OfferOperation, OperationState, Resource } from '../../types.ts';
import { allocated, offersOf, plain, removeOffer, touch, usedResources } from './allocator.ts';
import { type Agent, agentText, type Framework, type Master, sendTo } from './master-state.ts';
import type { Conversion, OperationReport } from './messages.ts';
import {
  findCreateFault,
  findDestroyFault,
  findReserveFault,
  findUnreserveFault,
  type OperationContext,
} from './validation.ts';

export type ResourceOperation = Extract<OfferOperation, { type: Conversion['type'] }>;

export const resourcesOf = (operation: ResourceOperation): readonly Resource[] => {
  switch (operation.type) {
    case 'RESERVE':
      return operation.reserve.resources;
    case 'UNRESERVE':
      return operation.unreserve.resources;
    case 'CREATE':
      return operation.create.volumes;
    case 'DESTROY':
      return operation.destroy.volumes;
  }
};

/** Why the operation is refused, or null. The text of the real master, with the agent where it says the agent. */
export function findOperationFault(
  agent: Agent,
  operation: ResourceOperation,
  context: OperationContext,
): string | null {
  const resources = resourcesOf(operation);
  switch (operation.type) {
    case 'RESERVE':
      return findReserveFault(resources, context);
    case 'UNRESERVE':
      return findUnreserveFault(resources, context);
    case 'CREATE':
      return findCreateFault(resources, agent, context);
    case 'DESTROY':
      return findDestroyFault(plain(resources), agent, usedResources(agent));
  }
}

export function toConversion(operation: ResourceOperation): Conversion {
  const given = plain(resourcesOf(operation));
  switch (operation.type) {
    case 'RESERVE':
      return { type: 'RESERVE', consumed: given.map(popReservation), converted: given };
    case 'UNRESERVE':
      return { type: 'UNRESERVE', consumed: given, converted: given.map(popReservation) };
    case 'CREATE':
      return { type: 'CREATE', consumed: given.map(withoutVolume), converted: given };
    case 'DESTROY':
      return { type: 'DESTROY', consumed: given, converted: given.map(withoutVolume) };
  }
}

/** Throws if `total` does not hold what goes. A volume keeps the form in which it was created. */
export function applyConversion(total: readonly Resource[], { consumed, converted }: Conversion): Resource[] {
  return add(subtract(total, consumed), converted.map(normalise));
}

export function sendOperationStatus(
  master: Master,
  framework: Framework,
  status: { operationId: string; state: OperationState; message?: string; agentId?: string; uuid?: string },
): void {
  sendTo(master, framework, {
    type: 'UPDATE_OPERATION_STATUS',
    update_operation_status: {
      status: {
        operation_id: { value: status.operationId },
        state: status.state,
        ...(status.message === undefined ? {} : { message: status.message }),
        ...(status.uuid === undefined ? {} : { uuid: { value: status.uuid } }),
        ...(status.agentId === undefined ? {} : { agent_id: { value: status.agentId } }),
      },
    },
  });
}

/** Returns what is left of `remaining` after the operation, or why it was refused. */
export function runOperation(
  master: Master,
  from: { framework: Framework; agent: Agent; role: string; remaining: readonly Resource[] },
  operation: ResourceOperation,
): { remaining: Resource[] } | { fault: string } {
  const { framework, agent, role, remaining } = from;
  const roles = framework.info.roles ?? [framework.info.role ?? '*'];
  const fault = findOperationFault(agent, operation, { framework: { principal: framework.principal, roles }, role });
  if (fault) return { fault: `${fault}; on ${agentText(agent)}` };
  const conversion = toConversion(operation);
  if (conversion.type === 'DESTROY') rescindHolders(master, agent, conversion.consumed, remaining);
  const rest = findRest(remaining, conversion.consumed);
  if (!rest)
    return {
      fault: `${formatResources(allocated(remaining, role))} does not contain ${formatResources(allocated(conversion.consumed, role))}`,
    };
  applyOnAgent(master, { agent, framework, conversion, operationId: operation.id?.value ?? null });
  return { remaining: add(rest, conversion.converted) };
}

/** Other offers that hold a volume which is destroyed are taken back. */
function rescindHolders(master: Master, agent: Agent, volumes: readonly Resource[], own: readonly Resource[]): void {
  const missing = volumes.filter((volume) => !findRest(own, [volume]));
  for (const offer of offersOf(master, agent.id))
    if (missing.some((volume) => findRest(plain(offer.resources), [volume]))) removeOffer(master, offer, true);
}

export function applyOnAgent(
  master: Master,
  to: { agent: Agent; framework: Framework | null; conversion: Conversion; operationId: string | null },
): void {
  const { agent, framework, conversion, operationId } = to;
  agent.total = applyConversion(agent.total, conversion);
  touch(agent);
  const uuid = master.newId();
  if (framework && operationId !== null)
    master.operations.set(uuid, {
      uuid,
      frameworkId: framework.id,
      agentId: agent.id,
      operationId,
      type: conversion.type,
      state: 'OPERATION_PENDING',
      statusUuid: null,
    });
  master.effects.toAgent(agent.key, { kind: 'apply', uuid, frameworkId: framework?.id ?? '', operationId, conversion });
}

/** From the agent; repeated until it is acknowledged. */
export function receiveOperationStatus(
  master: Master,
  agent: Agent,
  report: OperationReport,
  statusUuid: string,
): void {
  const framework = master.frameworks.get(report.frameworkId);
  if (!framework) {
    const { frameworkId, operationId } = report;
    master.effects.toAgent(agent.key, { kind: 'acknowledgeOperation', frameworkId, operationId, statusUuid });
    return;
  }
  const known = master.operations.get(report.uuid);
  if (known) Object.assign(known, { state: report.state, statusUuid });
  else master.operations.set(report.uuid, { ...report, agentId: agent.id, type: 'UNKNOWN', statusUuid });
  sendOperationStatus(master, framework, {
    operationId: report.operationId,
    state: report.state,
    agentId: agent.id,
    uuid: statusUuid,
  });
}

export function acknowledgeOperation(
  master: Master,
  framework: Framework,
  { agentId, operationId, uuid }: { agentId: string; operationId: string; uuid: string },
): void {
  const agent = master.agents.get(agentId);
  if (!agent?.isConnected) return; // lost; the agent repeats the status
  for (const operation of [...master.operations.values()])
    if (operation.frameworkId === framework.id && operation.statusUuid === uuid)
      master.operations.delete(operation.uuid);
  const frameworkId = framework.id;
  master.effects.toAgent(agent.key, { kind: 'acknowledgeOperation', frameworkId, operationId, statusUuid: uuid });
}

export function reconcileOperations(
  master: Master,
  framework: Framework,
  asked: readonly { operationId: string; agentId: string | null }[],
): void {
  const own = [...master.operations.values()].filter(({ frameworkId }) => frameworkId === framework.id);
  if (asked.length === 0) {
    for (const { operationId, state, agentId } of own)
      sendOperationStatus(master, framework, {
        operationId,
        state,
        agentId,
        message: 'Reconciliation: Latest operation state',
      });
    return;
  }
  for (const { operationId, agentId } of asked) {
    const known = own.findLast((operation) => operation.operationId === operationId);
    const [state, message] = known
      ? ([known.state, 'Reconciliation: Latest operation state'] as const)
      : unknownOperation(master, agentId);
    const where = known?.agentId ?? agentId;
    sendOperationStatus(master, framework, {
      operationId,
      state,
      message,
      ...(where === null ? {} : { agentId: where }),
    });
  }
}

function unknownOperation(master: Master, agentId: string | null): readonly [OperationState, string] {
  if (agentId === null)
    return ['OPERATION_UNKNOWN', "Reconciliation: Operation is unknown and no 'agent_id' was provided"];
  if (master.recovered.has(agentId))
    return ['OPERATION_RECOVERING', 'Reconciliation: Agent is recovered but has not re-registered'];
  if (master.agents.has(agentId)) return ['OPERATION_UNKNOWN', 'Reconciliation: Operation is unknown'];
  if (master.unreachable.has(agentId)) return ['OPERATION_UNREACHABLE', 'Reconciliation: Agent is unreachable'];
  if (master.gone.has(agentId)) return ['OPERATION_GONE_BY_OPERATOR', 'Reconciliation: Agent is marked gone'];
  return ['OPERATION_UNKNOWN', 'Reconciliation: Both operation and agent are unknown'];
}
