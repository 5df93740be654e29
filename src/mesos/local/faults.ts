/** What can go wrong on purpose. Each function says what a scheduler may see of it. */
import { z } from 'zod';
import {
  agentFindsMaster,
  type Cluster,
  cutSeat,
  failOverMaster,
  getSeat,
  killSeat,
  mendSeat,
  rebootSeat,
  startSeat,
} from './core/cluster.ts';
import { answer, type HttpAnswer, type MasterDoor } from './core/http-table.ts';
import type { ToAgent, ToMaster } from './core/messages.ts';
import type { Streams } from './shell/streams.ts';

export interface Faults {
  /** SIGKILL for the agent's process: RESCIND at once, unreachable after the ping timeouts; executors run on. */
  killAgent(agent: string): void;
  /** Starts a killed agent on what it left behind: same id, executors found again. */
  startAgent(agent: string): void;
  /** Cuts the net between agent and master: nothing is seen before the ping timeouts. */
  partitionAgent(agent: string): void;
  /** Mends it: the agent registers again. */
  returnAgent(agent: string): void;
  /** The host restarts: executors are dead, the agent is back with its id and without tasks. If it was unreachable, nobody is told. */
  returnWithoutTasks(agent: string): void;
  /** The same, with a new agent id; old reservations and volumes. */
  returnWithNewId(agent: string): void;
  /** The next event of a type (`OFFERS`, `UPDATE`, …) is lost, late, or comes twice. */
  dropNext(eventType: string): void;
  delayNext(eventType: string, ms: number): void;
  duplicateNext(eventType: string): void;
  /**
   * The next message between master and an agent is lost: `apply` (an operation that the master believes in), `run`,
   * `kill`, `acknowledge`, `update`, `exited`, ….
   */
  dropMessage(kind: ToAgent['kind'] | ToMaster['kind']): void;
  /** The next call of a type is carried out and its answer is lost: the connection breaks. */
  loseAnswer(callType: string): void;
  /** Breaks every scheduler's stream. */
  cutStreams(): void;
  /** New master id, streams end. Agents in the list (default: all) find the new master; the others are "recovered" until agentFindsMaster. */
  failOverMaster(how?: { readonly agents?: readonly string[] }): void;
  agentFindsMaster(agent: string): void;
  /** 503 until it is taken back. */
  setRecovering(isRecovering: boolean): void;
  /** What the master's door does now; for the HTTP shell. */
  door(): MasterDoor;
}

export function createFaults(parts: {
  cluster: Cluster;
  streams: Streams;
  isLeading: MasterDoor;
  isRecovering: MasterDoor;
}): Faults {
  const { cluster, streams } = parts;
  let current = parts.isLeading;
  const reboot = (agent: string, keepsId: boolean) => {
    rebootSeat(cluster, agent, { keepsId });
    getSeat(cluster, agent).isCut = false;
    startSeat(cluster, agent);
  };
  return {
    killAgent: (agent) => killSeat(cluster, agent),
    startAgent: (agent) => startSeat(cluster, agent),
    partitionAgent: (agent) => cutSeat(cluster, agent),
    returnAgent: (agent) => mendSeat(cluster, agent),
    returnWithoutTasks: (agent) => reboot(agent, true),
    returnWithNewId: (agent) => reboot(agent, false),
    dropNext: (type) => cluster.eventFaults.push({ type, kind: 'drop' }),
    delayNext: (type, ms) => cluster.eventFaults.push({ type, kind: 'delay', ms }),
    duplicateNext: (type) => cluster.eventFaults.push({ type, kind: 'duplicate' }),
    dropMessage: (kind) => cluster.lostMessages.push(kind),
    loseAnswer: (type) => cluster.lostAnswers.push(type),
    cutStreams() {
      for (const { streamId } of cluster.master.frameworks.values()) if (streamId !== null) streams.cut(streamId);
    },
    failOverMaster: ({ agents } = {}) => failOverMaster(cluster, { agents: agents ?? [...cluster.seats.keys()] }),
    agentFindsMaster: (agent) => agentFindsMaster(cluster, agent),
    setRecovering(isRecovering) {
      current = isRecovering ? parts.isRecovering : parts.isLeading;
    },
    door: () => current,
  };
}

const agent = z.object({ agent: z.string() });
const faultRequest = z.discriminatedUnion('kind', [
  agent.extend({ kind: z.literal('killAgent') }),
  agent.extend({ kind: z.literal('startAgent') }),
  agent.extend({ kind: z.literal('partitionAgent') }),
  agent.extend({ kind: z.literal('returnAgent') }),
  agent.extend({ kind: z.literal('returnWithoutTasks') }),
  agent.extend({ kind: z.literal('returnWithNewId') }),
  agent.extend({ kind: z.literal('agentFindsMaster') }),
  z.object({ kind: z.literal('dropNext'), event: z.string() }),
  z.object({ kind: z.literal('delayNext'), event: z.string(), ms: z.number().nonnegative() }),
  z.object({ kind: z.literal('duplicateNext'), event: z.string() }),
  z.object({
    kind: z.literal('dropMessage'),
    message: z.enum(['run', 'kill', 'apply', 'acknowledge', 'acknowledgeOperation', 'update', 'exited', 'operation']),
  }),
  z.object({ kind: z.literal('loseAnswer'), call: z.string() }),
  z.object({ kind: z.literal('cutStreams') }),
  z.object({ kind: z.literal('failOverMaster'), agents: z.array(z.string()).optional() }),
  z.object({ kind: z.literal('setRecovering'), isRecovering: z.boolean() }),
]);

/** `POST /faults`: one fault as JSON, by the names above. */
export async function answerFault(faults: Faults, body: string): Promise<HttpAnswer> {
  let json: unknown;
  try {
    json = JSON.parse(body);
  } catch {
    return answer(400, 'The body is not JSON');
  }
  const parsed = faultRequest.safeParse(json);
  if (!parsed.success) return answer(400, z.prettifyError(parsed.error));
  const fault = parsed.data;
  try {
    switch (fault.kind) {
      case 'dropNext':
      case 'duplicateNext':
        faults[fault.kind](fault.event);
        break;
      case 'delayNext':
        faults.delayNext(fault.event, fault.ms);
        break;
      case 'dropMessage':
        faults.dropMessage(fault.message);
        break;
      case 'loseAnswer':
        faults.loseAnswer(fault.call);
        break;
      case 'cutStreams':
        faults.cutStreams();
        break;
      case 'failOverMaster':
        faults.failOverMaster(fault.agents ? { agents: fault.agents } : {});
        break;
      case 'setRecovering':
        faults.setRecovering(fault.isRecovering);
        break;
      default:
        faults[fault.kind](fault.agent);
    }
  } catch (error) {
    return answer(400, error instanceof Error ? error.message : String(error));
  }
  return answer(202, '');
}
