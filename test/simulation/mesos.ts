/** The core of the local Mesos in the simulated world: its disks, processes and wires are models. */
import { processExited } from '../../src/mesos/local/core/agent.ts';
import type { AgentCheckpoint, Fork } from '../../src/mesos/local/core/agent-state.ts';
import { type AgentPlace, type Cluster, startCluster } from '../../src/mesos/local/core/cluster.ts';
import { disconnect } from '../../src/mesos/local/core/frameworks.ts';
import { emptyRegistry } from '../../src/mesos/local/core/master.ts';
import type { Wire } from '../../src/mesos/local/core/messages.ts';
import type { Resource } from '../../src/mesos/types.ts';
import type { Disks } from './disks.ts';
import type { SimulatedExecutor } from './executor.ts';
import type { Net } from './net.ts';
import { createProcess, type Process, type Time } from './time.ts';

export interface SchedulerStream {
  event(event: Wire): void;
  closed(): void;
}

export interface SimulatedMesos {
  readonly cluster: Cluster;
  readonly agentKeys: readonly string[];
  hostOf(agentKey: string): string;
  /** Of the host's kernel. */
  bootId(host: string): string;
  /** The host starts anew. */
  countBoot(host: string): void;
  /** Master's door: false while it recovers. */
  isLeading: boolean;
  openStream(streamId: string, stream: SchedulerStream): void;
  /** The scheduler's end is gone. */
  dropStream(streamId: string): void;
  cutSchedulers(): void;
  bindExecutor(streamId: string, executor: SimulatedExecutor): void;
  executors(): readonly { readonly agentKey: string; readonly executor: SimulatedExecutor }[];
  killExecutor(executor: SimulatedExecutor): void;
  exitExecutor(process: Process, status: number): void;
  checkpoint(agentKey: string): AgentCheckpoint | null;
}

const scalar = (name: string, value: number, more: Partial<Resource> = {}): Resource => ({
  name,
  type: 'SCALAR',
  scalar: { value },
  ...more,
});

const resources = (): Resource[] => [
  { name: 'ports', type: 'RANGES', ranges: { range: [{ begin: 31_000, end: 31_999 }] } },
  scalar('cpus', 8),
  scalar('mem', 16_384),
  scalar('disk', 20_480),
  scalar('disk', 4096, { disk: { source: { type: 'PATH', path: { root: '/disks/path0' } } } }),
];

/** What the other side gets of it. */
const overTheWire = <T>(event: T): T => JSON.parse(JSON.stringify(event));

export function createMesos(options: {
  readonly time: Time;
  readonly net: Net;
  readonly disks: Disks;
  readonly newId: () => string;
  readonly agents: number;
  startExecutor(agentKey: string, host: string, fork: Fork, process: Process): SimulatedExecutor;
  onPersist(agentKey: string, checkpoint: AgentCheckpoint): void;
}): SimulatedMesos {
  const { time, net, disks, newId } = options;
  const streams = new Map<string, { stream: SchedulerStream; lastAt: number }>();
  const byStream = new Map<string, SimulatedExecutor>();
  const running = new Map<string, { agentKey: string; containerId: string; executor: SimulatedExecutor }>();
  const checkpoints = new Map<string, AgentCheckpoint>();
  const boots = new Map<string, number>();
  let pids = 1000;

  function ended(pid: string, status: number): void {
    const found = running.get(pid);
    if (!found) return;
    running.delete(pid);
    found.executor.process.kill();
    time.after(1, () => {
      const core = cluster.seats.get(found.agentKey)?.core;
      if (core) processExited(core, found.containerId, status);
    });
  }

  const place = (index: number): AgentPlace => {
    const host = `127.0.0.${11 + index}`;
    const key = `${host}:5051`;
    return {
      key,
      load: () => structuredClone(checkpoints.get(key) ?? null),
      options: {
        workDir: `/${host}`,
        info: { hostname: `host${index}`, ip: host, port: 5051, attributes: [], resources: resources() },
        registrationTimeoutMs: 60_000,
        reregistrationTimeoutMs: 2000,
        shutdownGraceMs: 5000,
        updateRetryMs: 10_000,
      },
      effects: {
        persist(checkpoint) {
          checkpoints.set(key, checkpoint);
          options.onPersist(key, checkpoint);
        },
        send: (streamId, event) => {
          const copy = overTheWire(event);
          time.after(0, () => byStream.get(streamId)?.receive(copy));
        },
        close: (streamId) => {
          const executor = byStream.get(streamId);
          byStream.delete(streamId);
          time.after(0, () => executor?.streamClosed());
        },
        makeDirectory: (path) => disks.makeDirectory(pathOn(host, path)),
        removeDirectory: (path) => disks.remove(pathOn(host, path)),
        emptyDirectory: (path) => disks.remove(pathOn(host, path)),
        symlink: (target, path) => disks.link(pathOn(host, target), path),
        removeSymlink: (path) => disks.unlink(path),
        fetch: (_uris, _directory, done) => void time.after(20, () => done(null)),
        fork(fork) {
          pids += 1;
          const pid = pids;
          const process = createProcess(time, `executor ${pid}`);
          const executor = options.startExecutor(key, host, fork, process);
          running.set(String(pid), { agentKey: key, containerId: fork.containerId, executor });
          return { pid, startTime: 'boot' };
        },
        adopt: (_containerId, { pid }) => running.has(String(pid)),
        killTree: ({ pid }, signal) => ended(String(pid), signal === 'SIGKILL' ? 9 : 15),
        killSession: () => {},
      },
    };
  };

  const agentKeys = Array.from({ length: options.agents }, (_, index) => `127.0.0.${11 + index}:5051`);
  const cluster = startCluster({
    clock: time.clock,
    newId,
    warn: () => {},
    masterOptions: {
      ip: '127.0.0.1',
      port: 5050,
      version: '1.12.0',
      roles: null,
      allocationIntervalMs: 1000,
      heartbeatMs: 15_000,
      agentPingTimeoutMs: 5000,
      maxAgentPingTimeouts: 3,
      agentReregisterTimeoutMs: 60_000,
    },
    registry: emptyRegistry,
    persistRegistry: () => {},
    agents: agentKeys.map((_, index) => place(index)),
    sendToScheduler(streamId, event) {
      const found = streams.get(streamId);
      if (!found) return;
      const copy = overTheWire(event);
      found.lastAt = Math.max(found.lastAt, time.now() + net.delay());
      time.after(found.lastAt - time.now(), () => {
        if (streams.get(streamId) === found || found.lastAt >= time.now()) found.stream.event(copy);
      });
    },
    closeScheduler: (streamId) => closeStream(streamId),
  });

  function closeStream(streamId: string): void {
    const found = streams.get(streamId);
    if (!found) return;
    streams.delete(streamId);
    found.lastAt = Math.max(found.lastAt, time.now() + net.delay());
    time.after(found.lastAt - time.now(), () => found.stream.closed());
  }

  const mesos: SimulatedMesos = {
    cluster,
    agentKeys,
    hostOf: (agentKey) => agentKey.split(':')[0]!,
    bootId: (host) => `boot-${host}-${boots.get(host) ?? 0}`,
    countBoot: (host) => void boots.set(host, (boots.get(host) ?? 0) + 1),
    isLeading: true,
    openStream: (streamId, stream) => void streams.set(streamId, { stream, lastAt: 0 }),
    dropStream(streamId) {
      if (!streams.delete(streamId)) return;
      time.after(net.delay(), () => disconnect(cluster.master, streamId));
    },
    cutSchedulers() {
      for (const streamId of [...streams.keys()]) {
        closeStream(streamId);
        disconnect(cluster.master, streamId);
      }
    },
    bindExecutor: (streamId, executor) => void byStream.set(streamId, executor),
    executors: () => [...running.values()],
    killExecutor(executor) {
      for (const [pid, one] of running) if (one.executor === executor) ended(pid, 9);
    },
    exitExecutor(process, status) {
      for (const [pid, one] of running) if (one.executor.process === process) ended(pid, status);
    },
    checkpoint: (agentKey) => checkpoints.get(agentKey) ?? null,
  };
  return mesos;
}

/** Roots of path disks are the same on every host. */
const pathOn = (host: string, path: string) => (path.startsWith(`/${host}`) ? path : `/${host}${path}`);
