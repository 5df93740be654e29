/** The core with a clock of its own and imitated effects: no sockets, no processes, no waiting. */
import type { Clock } from '../../../src/clock.ts';
import {
  executorDisconnected,
  processExited,
  subscribeExecutor,
  updateFromExecutor,
} from '../../../src/mesos/local/core/agent.ts';
import type { AgentCheckpoint, Fork, StartedProcess } from '../../../src/mesos/local/core/agent-state.ts';
import { type AgentPlace, type Cluster, startCluster } from '../../../src/mesos/local/core/cluster.ts';
import { disconnect, subscribe } from '../../../src/mesos/local/core/frameworks.ts';
import { decideSchedulerRequest, type MasterDoor } from '../../../src/mesos/local/core/http-table.ts';
import { call, emptyRegistry } from '../../../src/mesos/local/core/master.ts';
import { toBase64 } from '../../../src/mesos/local/core/updates.ts';
import type { Resource, TaskState } from '../../../src/mesos/types.ts';
import { type Event, frameworkInfo } from './scheduler.ts';

export interface FakeClock extends Clock {
  /** Runs all timers that fall due, in order. */
  advance(ms: number): void;
}

export function createFakeClock(): FakeClock {
  let now = 1_800_000_000_000;
  let sequence = 0;
  const timers = new Map<number, { at: number; fn: () => void }>();
  return {
    now: () => now,
    setTimeout(fn, timeoutMs) {
      sequence += 1;
      timers.set(sequence, { at: now + timeoutMs, fn });
      return sequence;
    },
    clearTimeout: (timer) => void timers.delete(timer as number),
    advance(ms) {
      const end = now + ms;
      for (let runs = 0; runs < 1_000_000; runs += 1) {
        const [due] = [...timers].filter(([, { at }]) => at <= end).sort(([a, x], [b, y]) => x.at - y.at || a - b);
        if (!due) break;
        timers.delete(due[0]);
        now = Math.max(now, due[1].at);
        due[1].fn();
      }
      now = end;
    },
  };
}

export interface World {
  readonly clock: FakeClock;
  readonly cluster: Cluster;
  readonly effects: string[];
  readonly forks: Fork[];
  readonly checkpoints: Map<string, AgentCheckpoint>;
  readonly executorEvents: Event[];
  uuid(): string;
}

const IP = '127.0.0.';

export function createWorld({
  agents = 1,
  resources,
  credentials = null,
}: {
  agents?: number;
  resources?: readonly Resource[];
  credentials?: MasterDoor['credentials'];
} = {}): World & {
  door: MasterDoor;
} {
  const clock = createFakeClock();
  let counter = 0;
  const uuid = () => {
    counter += 1;
    return `00000000-0000-4000-8000-${String(counter).padStart(12, '0')}`;
  };
  const checkpoints = new Map<string, AgentCheckpoint>();
  const effects: string[] = [];
  const forks: Fork[] = [];
  const executorEvents: Event[] = [];
  const streams = new Map<string, Event[]>();
  allStreams = streams;
  const running = new Map<number, string>();
  const place = (index: number): AgentPlace => {
    const key = `${IP}${11 + index}:5051`;
    const exit = (containerId: string, status: number) =>
      void clock.setTimeout(() => {
        const core = cluster.seats.get(key)?.core;
        if (core) processExited(core, containerId, status);
      }, 0);
    const kill = ({ pid }: StartedProcess, signal: string) => {
      effects.push(`${signal} ${pid}`);
      const containerId = running.get(pid);
      if (containerId === undefined) return;
      running.delete(pid);
      exit(containerId, signal === 'SIGKILL' ? 9 : 15);
    };
    return {
      key,
      load: () => structuredClone(checkpoints.get(key) ?? null),
      options: {
        workDir: `/w${index}`,
        info: {
          hostname: `h${index}`,
          ip: `${IP}${11 + index}`,
          port: 5051,
          attributes: [],
          resources: resources ?? defaultResources(),
        },
        registrationTimeoutMs: 20_000,
        reregistrationTimeoutMs: 2000,
        shutdownGraceMs: 5000,
        updateRetryMs: 10_000,
      },
      effects: {
        persist: (checkpoint) => void checkpoints.set(key, structuredClone(checkpoint)),
        send: (streamId, event) => executorEvents.push({ ...structuredClone(event), streamId }),
        close: (streamId) => effects.push(`close ${streamId}`),
        makeDirectory: (path) => effects.push(`mkdir ${path}`),
        removeDirectory: (path) => effects.push(`rmdir ${path}`),
        emptyDirectory: (path) => effects.push(`empty ${path}`),
        symlink: (target, path) => effects.push(`symlink ${path} -> ${target}`),
        removeSymlink: (path) => effects.push(`unlink ${path}`),
        fetch: (_uris, _directory, done) => done(null),
        fork(fork) {
          forks.push(fork);
          const pid = 1000 + forks.length;
          running.set(pid, fork.containerId);
          return { pid, startTime: 'boot/1' };
        },
        adopt: (_containerId, { pid }) => running.has(pid),
        killTree: kill,
        killSession: ({ pid }) => effects.push(`killSession ${pid}`),
      },
    };
  };
  const cluster: Cluster = startCluster({
    clock,
    newId: uuid,
    warn: () => undefined,
    masterOptions: {
      ip: '127.0.0.1',
      port: 5050,
      version: '1.12.0',
      roles: null,
      allocationIntervalMs: 1000,
      heartbeatMs: 15_000,
      agentPingTimeoutMs: 15_000,
      maxAgentPingTimeouts: 5,
      agentReregisterTimeoutMs: 600_000,
    },
    registry: emptyRegistry,
    persistRegistry: () => undefined,
    agents: Array.from({ length: agents }, (_, index) => place(index)),
    sendToScheduler: (streamId, event) => streams.get(streamId)?.push(structuredClone(event)),
    closeScheduler: (streamId) => streams.get(streamId)?.push({ type: 'closed' }),
  });
  clock.advance(1);
  return {
    clock,
    cluster,
    effects,
    forks,
    checkpoints,
    executorEvents,
    uuid,
    door: { credentials, phase: { kind: 'leading' } },
  };
}

let allStreams = new Map<string, Event[]>();

const scalar = (name: string, value: number, more: Partial<Resource> = {}): Resource => ({
  name,
  type: 'SCALAR',
  scalar: { value },
  ...more,
});

export const roots = { path: '/disks/path0', mount: '/disks/mount0' };

export const defaultResources = (): Resource[] => [
  { name: 'ports', type: 'RANGES', ranges: { range: [{ begin: 31_000, end: 31_999 }] } },
  scalar('cpus', 4),
  scalar('mem', 8192),
  scalar('disk', 10_240),
  scalar('disk', 2048, { disk: { source: { type: 'PATH', path: { root: roots.path } } } }),
  scalar('disk', 256, { disk: { source: { type: 'MOUNT', mount: { root: roots.mount } } } }),
];

export interface FakeScheduler {
  readonly id: string;
  readonly streamId: string;
  /** Everything since the last take. */
  take(): Event[];
  /** Offers of everything since the last take, in order. */
  takeOffers(): Event[];
  call(body: Record<string, unknown>): { status: number; body: string };
  accept(offers: readonly Event[], operations: unknown[], refuseSeconds?: number): void;
  disconnect(): void;
}

export function connect(world: World & { door: MasterDoor }, more: Record<string, unknown> = {}): FakeScheduler {
  const { cluster } = world;
  const info = { ...frameworkInfo, ...more } as typeof frameworkInfo & { id?: { value: string } };
  const streamId = world.uuid();
  const events: Event[] = [];
  allStreams.set(streamId, events);
  subscribe(cluster.master, { info, suppressedRoles: [], streamId, principal: null });
  const first = events.find(({ type }) => type === 'SUBSCRIBED');
  const id = first?.subscribed.framework_id.value ?? '';
  const scheduler: FakeScheduler = {
    id,
    streamId,
    take: () => events.splice(0),
    takeOffers: () => events.splice(0).flatMap(({ offers }) => offers?.offers ?? []),
    call(body) {
      const decision = decideSchedulerRequest(cluster.master, world.door, '/api/v1/scheduler', {
        method: 'POST',
        contentType: 'application/json',
        accept: 'application/json',
        streamId,
        authorization: undefined,
        body: JSON.stringify({ framework_id: { value: id }, ...body }),
      });
      if (decision.kind === 'answer') return decision;
      if (decision.kind === 'call') call(cluster.master, decision.framework, decision.call);
      return { status: 202, body: '' };
    },
    accept(offers, operations, refuseSeconds = 0) {
      scheduler.call({
        type: 'ACCEPT',
        accept: {
          offer_ids: offers.map((offer) => offer.id),
          operations,
          filters: { refuse_seconds: refuseSeconds },
        },
      });
      world.clock.advance(5);
    },
    disconnect: () => disconnect(cluster.master, streamId),
  };
  world.clock.advance(1);
  return scheduler;
}

/** An executor's side: subscribe and send updates. */
export function executor(world: World, frameworkId: string, executorId: string, agent = `${IP}11:5051`) {
  const core = () => {
    const found = world.cluster.seats.get(agent)?.core;
    if (!found) throw new Error('the agent is dead');
    return found;
  };
  const record = () => {
    const found = core().checkpoint.executors[`${frameworkId}/${executorId}`];
    if (!found) throw new Error(`no executor ${executorId}`);
    return found;
  };
  return {
    subscribe(streamId = `stream-${executorId}`) {
      subscribeExecutor(core(), record(), { streamId, unacknowledgedTasks: [], unacknowledgedUpdates: [] });
      world.clock.advance(1);
    },
    disconnect: (streamId = `stream-${executorId}`) => executorDisconnected(core(), streamId),
    update(taskId: string, state: TaskState, uuid = toBase64(world.uuid())) {
      updateFromExecutor(core(), record(), { task_id: { value: taskId }, state, source: 'SOURCE_EXECUTOR', uuid });
      world.clock.advance(2);
    },
    exit(status: number) {
      processExited(core(), record().containerId, status);
      world.clock.advance(2);
    },
  };
}

/** `cpus(u1):2; mem:4` with labels instead of reservations, sorted: what an offer holds, for people. */
export function show(offer: Event): string {
  return offer.resources
    .map(({ name, scalar: value, ranges, reservations, disk }: Event) => {
      const label = reservations?.[0]?.labels?.labels[0]?.value;
      const what = disk?.persistence ? `[${disk.persistence.id}]` : disk?.source ? `[${disk.source.type}]` : '';
      const amount = value ? value.value : ranges.range.map(({ begin, end }: Event) => `${begin}-${end}`).join(',');
      return `${name}${label ? `(${label})` : reservations ? '(reserved)' : ''}${what}:${amount}`;
    })
    .sort()
    .join('; ');
}
