/** Offer operations on the agent: carried out, stored, and reported until the report is acknowledged. */
import { contains } from '../../resources.ts';
import { type AgentCore, type PendingOperation, persist, UPDATE_RETRY_MAX_MS } from './agent-state.ts';
import type { ToAgent } from './messages.ts';
import { applyConversion } from './operations.ts';
import { toBase64 } from './updates.ts';
import { createVolume, destroyVolume } from './volumes.ts';

/**
 * False if the agent has not got what goes: an earlier operation was lost on the way. It must register again then, so
 * that the master takes over what is really here. (A real agent dies of it and does the same.)
 */
export function applyOperation(agent: AgentCore, message: Extract<ToAgent, { kind: 'apply' }>): boolean {
  const { conversion, uuid, frameworkId, operationId } = message;
  if (!contains(agent.checkpoint.total, conversion.consumed)) {
    agent.warn({ type: conversion.type }, 'The master and the agent disagree about what is reserved');
    return false;
  }
  agent.checkpoint.total = applyConversion(agent.checkpoint.total, conversion);
  if (conversion.type === 'CREATE') for (const volume of conversion.converted) createVolume(agent, volume);
  if (conversion.type === 'DESTROY') for (const volume of conversion.consumed) destroyVolume(agent, volume);
  const pending: PendingOperation | null =
    operationId === null ? null : { uuid, frameworkId, operationId, statusUuid: toBase64(agent.newId()) };
  if (pending) agent.checkpoint.operations.push(pending);
  persist(agent);
  if (pending) report(agent, pending, agent.options.updateRetryMs);
  return true;
}

function report(agent: AgentCore, pending: PendingOperation, retryMs: number): void {
  agent.clock.clearTimeout(agent.retries.get(pending.uuid));
  agent.retries.delete(pending.uuid);
  if (agent.phase !== 'running' || !agent.checkpoint.operations.includes(pending)) return;
  const { uuid, frameworkId, operationId, statusUuid } = pending;
  agent.effects.toMaster({
    kind: 'operation',
    report: { uuid, frameworkId, operationId, state: 'OPERATION_FINISHED' },
    statusUuid,
  });
  const next = Math.min(retryMs * 2, UPDATE_RETRY_MAX_MS);
  agent.retries.set(
    uuid,
    agent.clock.setTimeout(() => report(agent, pending, next), retryMs),
  );
}

export function resendOperations(agent: AgentCore): void {
  for (const pending of agent.checkpoint.operations) report(agent, pending, agent.options.updateRetryMs);
}

export function acknowledgeOperation(agent: AgentCore, statusUuid: string): void {
  const pending = agent.checkpoint.operations.find((operation) => operation.statusUuid === statusUuid);
  if (!pending) return;
  agent.checkpoint.operations = agent.checkpoint.operations.filter((operation) => operation !== pending);
  agent.clock.clearTimeout(agent.retries.get(pending.uuid));
  agent.retries.delete(pending.uuid);
  persist(agent);
}
