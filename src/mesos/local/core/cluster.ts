/**
 * A master, its agents and the net between them, with all the ways in which they fail. No I/O: the shell gives it
 * sockets, disks and processes, the simulation gives it imitations.
 */
import type { Clock } from '../../../clock.ts';
import { fromMaster, masterDetected, startAgent, stopAgent } from './agent.ts';
import type { AgentCheckpoint, AgentCore, AgentEffects, AgentOptions } from './agent-state.ts';
import { agentDisconnected, fromAgent, startMaster, stopMaster } from './master.ts';
import type { Master, MasterOptions, Registry } from './master-state.ts';
import type { ToAgent, ToMaster, Wire } from './messages.ts';

export interface AgentPlace {
  /** Names the agent for the life of the cluster, whatever ids masters give it. */
  readonly key: string;
  readonly options: AgentOptions;
  readonly effects: Omit<AgentEffects, 'toMaster'>;
  /** What was persisted last; null at the first start. */
  load(): AgentCheckpoint | null;
}

export interface ClusterSetup {
  readonly clock: Clock;
  readonly newId: () => string;
  readonly warn: (fields: Record<string, unknown>, message: string) => void;
  readonly masterOptions: MasterOptions;
  readonly registry: Registry;
  persistRegistry(registry: Registry): void;
  readonly agents: readonly AgentPlace[];
  sendToScheduler(streamId: string, event: Wire): void;
  closeScheduler(streamId: string): void;
}

export interface AgentSeat {
  readonly place: AgentPlace;
  /** null while its process is dead. */
  core: AgentCore | null;
  /** Messages between it and the master are lost. Its executors reach it. */
  isCut: boolean;
}

type EventFault =
  | { readonly type: string; readonly kind: 'drop' | 'duplicate' }
  | { readonly type: string; readonly kind: 'delay'; readonly ms: number };

export interface Cluster {
  readonly setup: ClusterSetup;
  master: Master;
  registry: Registry;
  readonly seats: Map<string, AgentSeat>;
  readonly eventFaults: EventFault[];
  /** Types of calls whose next answer is lost after the call was carried out. */
  readonly lostAnswers: string[];
  /** Kinds of messages between master and agents whose next one is lost. */
  readonly lostMessages: (ToAgent['kind'] | ToMaster['kind'])[];
}

export function startCluster(setup: ClusterSetup): Cluster {
  const cluster: Cluster = {
    setup,
    master: undefined as unknown as Master, // set two lines below, before anything can look
    registry: setup.registry,
    seats: new Map(),
    eventFaults: [],
    lostAnswers: [],
    lostMessages: [],
  };
  cluster.master = createMaster(cluster);
  for (const place of setup.agents) {
    cluster.seats.set(place.key, { place, core: null, isCut: false });
    startSeat(cluster, place.key);
  }
  return cluster;
}

/** As if the process died: nothing is said to anybody. */
export function stopCluster(cluster: Cluster): void {
  for (const seat of cluster.seats.values()) if (seat.core) stopAgent(seat.core);
  stopMaster(cluster.master);
}

function createMaster(cluster: Cluster): Master {
  const { setup } = cluster;
  const master: Master = startMaster({
    options: setup.masterOptions,
    clock: setup.clock,
    newId: setup.newId,
    warn: setup.warn,
    registry: cluster.registry,
    effects: {
      send: (streamId, event) => sendEvent(cluster, streamId, event),
      close: (streamId) => setup.closeScheduler(streamId),
      toAgent: (key, message) => toAgent(cluster, () => master, key, message),
      persist(registry) {
        cluster.registry = registry;
        setup.persistRegistry(registry);
      },
    },
  });
  return master;
}

function toAgent(cluster: Cluster, from: () => Master, key: string, message: ToAgent): void {
  const seat = cluster.seats.get(key);
  if (!seat || seat.isCut || isLost(cluster, message.kind)) return;
  const to = seat.core;
  cluster.setup.clock.setTimeout(() => {
    if (to && to === seat.core && !seat.isCut && from() === cluster.master) fromMaster(to, message);
  }, 0);
}

function isLost(cluster: Cluster, kind: ToAgent['kind'] | ToMaster['kind']): boolean {
  const index = cluster.lostMessages.indexOf(kind);
  if (index !== -1) cluster.lostMessages.splice(index, 1);
  return index !== -1;
}

function toMaster(cluster: Cluster, seat: AgentSeat, message: ToMaster): void {
  if (seat.isCut || isLost(cluster, message.kind)) return;
  const { master } = cluster;
  cluster.setup.clock.setTimeout(() => {
    if (master === cluster.master && !seat.isCut) fromAgent(master, seat.place.key, message);
  }, 0);
}

function sendEvent(cluster: Cluster, streamId: string, event: Wire): void {
  const { setup, eventFaults } = cluster;
  const index = eventFaults.findIndex(({ type }) => type === event.type);
  const [fault] = index === -1 ? [] : eventFaults.splice(index, 1);
  if (fault?.kind === 'drop') return;
  if (fault?.kind === 'delay') {
    setup.clock.setTimeout(() => setup.sendToScheduler(streamId, event), fault.ms);
    return;
  }
  setup.sendToScheduler(streamId, event);
  if (fault?.kind === 'duplicate') setup.sendToScheduler(streamId, event);
}

export function getSeat(cluster: Cluster, key: string): AgentSeat {
  const seat = cluster.seats.get(key);
  if (!seat) throw new Error(`there is no agent ${key}`);
  return seat;
}

/** Starts the process of an agent on what it left behind. */
export function startSeat(cluster: Cluster, key: string): void {
  const seat = getSeat(cluster, key);
  if (seat.core) return;
  const { place } = seat;
  const { clock, newId, warn } = cluster.setup;
  seat.core = startAgent({
    options: place.options,
    clock,
    newId,
    warn,
    checkpoint: place.load(),
    effects: { ...place.effects, toMaster: (message) => toMaster(cluster, seat, message) },
  });
}

/** SIGKILL for the agent: the master sees the broken connection at once, executors run on. */
export function killSeat(cluster: Cluster, key: string): void {
  const seat = getSeat(cluster, key);
  if (!seat.core) return;
  stopAgent(seat.core);
  seat.core = null;
  if (!seat.isCut) agentDisconnected(cluster.master, key);
}

/** The net between agent and master is cut; nobody notices before the pings run out. */
export function cutSeat(cluster: Cluster, key: string): void {
  getSeat(cluster, key).isCut = true;
}

export function mendSeat(cluster: Cluster, key: string): void {
  const seat = getSeat(cluster, key);
  seat.isCut = false;
  if (seat.core) masterDetected(seat.core);
}

/**
 * The host restarts: every executor dies and no update of them is left. With `keepsId` false the agent comes back as
 * a new one; reservations and volumes are there either way. The process is started again by startSeat.
 */
export function rebootSeat(cluster: Cluster, key: string, { keepsId }: { keepsId: boolean }): void {
  const { place } = getSeat(cluster, key);
  killSeat(cluster, key);
  const checkpoint = place.load();
  if (!checkpoint) return;
  for (const { process, isGone } of Object.values(checkpoint.executors))
    if (process && !isGone) place.effects.killTree(process, 'SIGKILL');
  place.effects.persist({
    ...checkpoint,
    agentId: keepsId ? checkpoint.agentId : null,
    executors: {},
    frameworks: {},
    operations: [],
  });
}

/** A new master takes over: new id, streams end without a word, agents come back when they notice. */
export function failOverMaster(cluster: Cluster, { agents }: { agents: readonly string[] }): void {
  stopMaster(cluster.master);
  cluster.master = createMaster(cluster);
  for (const key of agents) agentFindsMaster(cluster, key);
}

export function agentFindsMaster(cluster: Cluster, key: string): void {
  const { core } = getSeat(cluster, key);
  if (core) masterDetected(core);
}
