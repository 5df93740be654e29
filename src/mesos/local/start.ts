/** mesos-local: a master and its agents on this machine, real HTTP, real processes, real directories. */
import { once } from 'node:events';
import type { Server } from 'node:http';
import { join } from 'node:path';
import type { Clock } from '../../clock.ts';
import type { Logger } from '../../log.ts';
import type { Attribute, Resource } from '../types.ts';
import { processExited } from './core/agent.ts';
import type { AgentCheckpoint, AgentEffects } from './core/agent-state.ts';
import { type AgentPlace, type Cluster, startCluster, stopCluster } from './core/cluster.ts';
import type { HttpAnswer, MasterDoor } from './core/http-table.ts';
import { emptyRegistry } from './core/master.ts';
import type { Registry } from './core/master-state.ts';
import { answerFault, createFaults, type Faults } from './faults.ts';
import * as disk from './shell/disk.ts';
import { agentHandler, masterHandler, type Shell, serve } from './shell/http.ts';
import { createProcesses, isAlive, killSession, killTree, type Processes } from './shell/processes.ts';
import { createStreams } from './shell/streams.ts';

export type LocalDisk =
  | { readonly type: 'root'; readonly sizeMb: number }
  /** `root`: absolute, or under the agent's work directory. */
  | { readonly type: 'path' | 'mount'; readonly root: string; readonly sizeMb: number };

export interface LocalAgent {
  /** Default: `<subnet>.11`, `.12`, … */
  readonly address?: string;
  readonly port?: number;
  readonly hostname?: string;
  readonly cpus: number;
  readonly memMb: number;
  /** `31000-31099`, several separated by commas. */
  readonly ports: string;
  readonly disks: readonly LocalDisk[];
  readonly attributes?: Readonly<Record<string, string>>;
}

export interface LocalMesosOptions {
  readonly workDir: string;
  readonly masterAddress?: string;
  /** 0 (default): a free one. */
  readonly masterPort?: number;
  /** First three bytes of the agents' addresses, default 127.0.0. */
  readonly subnet?: string;
  readonly agentPort?: number;
  readonly agents: readonly LocalAgent[];
  readonly roles?: readonly string[];
  /** Principal to secret: Basic authentication is required then. */
  readonly credentials?: Readonly<Record<string, string>>;
  readonly allocationIntervalMs?: number;
  readonly clock: Clock;
  readonly log: Logger;
  /** Version 4 uuids: update uuids are made of them. */
  readonly newId: () => string;
  readonly heartbeatMs?: number;
  readonly agentPingTimeoutMs?: number;
  readonly maxAgentPingTimeouts?: number;
  readonly agentReregisterTimeoutMs?: number;
  readonly executorRegistrationTimeoutMs?: number;
  readonly executorReregistrationTimeoutMs?: number;
  readonly executorShutdownGraceMs?: number;
  readonly updateRetryMs?: number;
  /** Port of a second listener that behaves as a master which does not lead; 0 = a free one. */
  readonly nonLeadingPort?: number;
  /** Serve `POST /faults`. */
  readonly allowFaultsOverHttp?: boolean;
}

export interface LocalMesos {
  readonly masterUrl: string;
  readonly nonLeadingUrl: string | null;
  readonly agents: readonly {
    readonly key: string;
    readonly url: string;
    readonly workDir: string;
    readonly hostname: string;
  }[];
  readonly faults: Faults;
  /** With `keepExecutors` all that was launched runs on, to be found again by the next start on the work directory. */
  stop(how?: { readonly keepExecutors?: boolean }): Promise<void>;
}

const VERSION = '1.12.0';
const FIRST_HOST = 11;
const DEFAULTS = {
  allocationIntervalMs: 1000,
  heartbeatMs: 15_000,
  agentPingTimeoutMs: 15_000,
  maxAgentPingTimeouts: 5,
  agentReregisterTimeoutMs: 600_000,
  executorRegistrationTimeoutMs: 60_000,
  executorReregistrationTimeoutMs: 2000,
  executorShutdownGraceMs: 5000,
  updateRetryMs: 10_000,
};

interface Located extends LocalAgent {
  readonly key: string;
  readonly ip: string;
  readonly at: number;
  readonly workDir: string;
}

function locate(options: LocalMesosOptions): Located[] {
  return options.agents.map((agent, index) => {
    const ip = agent.address ?? `${options.subnet ?? '127.0.0'}.${FIRST_HOST + index}`;
    const at = agent.port ?? options.agentPort ?? 5051;
    return { ...agent, ip, at, key: `${ip}:${at}`, workDir: join(options.workDir, 'agents', `${ip}-${at}`) };
  });
}

function resourcesOf(agent: Located): Resource[] {
  const scalar = (name: string, value: number, more: Partial<Resource> = {}): Resource => ({
    name,
    type: 'SCALAR',
    scalar: { value },
    ...more,
  });
  const range = agent.ports.split(',').map((text) => {
    const [begin, end] = text.trim().split('-').map(Number);
    if (begin === undefined || Number.isNaN(begin)) throw new Error(`ports of agent ${agent.key}: '${agent.ports}'`);
    return { begin, end: end ?? begin };
  });
  const disks = agent.disks.map((each) => {
    if (each.type === 'root') return scalar('disk', each.sizeMb);
    const root = diskRoot(agent, each.root);
    const source =
      each.type === 'path'
        ? ({ type: 'PATH', path: { root } } as const)
        : ({ type: 'MOUNT', mount: { root } } as const);
    return scalar('disk', each.sizeMb, { disk: { source } });
  });
  return [
    { name: 'ports', type: 'RANGES', ranges: { range } },
    scalar('cpus', agent.cpus),
    scalar('mem', agent.memMb),
    ...disks,
  ];
}

const diskRoot = (agent: Located, root: string): string => (root.startsWith('/') ? root : join(agent.workDir, root));

const attributesOf = (agent: Located): Attribute[] =>
  Object.entries(agent.attributes ?? {}).map(([name, value]) => ({ name, type: 'TEXT', text: { value } }));

/** Master and agents are up and registering when it resolves. On a work directory of an earlier run it goes on from there. */
export async function startLocalMesos(options: LocalMesosOptions): Promise<LocalMesos> {
  const settings = { ...DEFAULTS, ...definedOf(options) };
  const located = locate(options);
  const streams = createStreams();
  const servers: Server[] = [];
  const processes = new Map<string, Processes>();
  let shell: Shell | null = null;
  const { credentials = null } = options;
  const isLeading: MasterDoor = { credentials, phase: { kind: 'leading' } };
  const isRecovering: MasterDoor = { credentials, phase: { kind: 'recovering' } };
  let faults: Faults | null = null;

  const master = serve((path, request, response) => {
    if (shell) return masterHandler(shell, () => faults?.door() ?? isLeading)(path, request, response);
    response.destroy();
  });
  servers.push(master);
  const ip = options.masterAddress ?? '127.0.0.1';
  try {
    const port = await listen(master, ip, options.masterPort ?? 0);
    const places = located.map((agent) =>
      createPlace(agent, options, settings, { streams, processes, getShell: () => shell }),
    );
    for (const agent of located) {
      const server = serve((path, request, response) => {
        if (shell)
          return agentHandler(shell, () => shell?.cluster.seats.get(agent.key)?.core ?? null)(path, request, response);
        response.destroy();
      });
      servers.push(server);
      await listen(server, agent.ip, agent.at);
    }
    const registryPath = join(options.workDir, 'master', 'registry.json');
    const cluster = startCluster({
      clock: options.clock,
      newId: options.newId,
      warn: (fields, message) => options.log.warn(fields, message),
      masterOptions: { ip, port, version: VERSION, roles: options.roles ?? null, ...settings },
      registry: (disk.readJson(registryPath) as Registry | null) ?? emptyRegistry,
      persistRegistry: (registry) => disk.writeJson(registryPath, registry),
      agents: [],
      sendToScheduler: (id, event) => streams.send(id, event),
      closeScheduler: (id) => streams.close(id),
    });
    const createdFaults = createFaults({ cluster, streams, isLeading, isRecovering });
    faults = createdFaults;
    const answerFaults = (body: string): Promise<HttpAnswer> => answerFault(createdFaults, body);
    shell = {
      cluster,
      streams,
      newId: options.newId,
      door: () => createdFaults.door(),
      faults: options.allowFaultsOverHttp ? answerFaults : null,
    };
    for (const place of places) cluster.seats.set(place.key, { place, core: null, isCut: false });
    for (const place of places) createdFaults.startAgent(place.key);
    const nonLeadingUrl = await startNonLeading(options, shell, servers, { ip, port });
    return {
      masterUrl: `http://${ip}:${port}`,
      nonLeadingUrl,
      agents: located.map((agent) => ({
        key: agent.key,
        url: `http://${agent.ip}:${agent.at}`,
        workDir: agent.workDir,
        hostname: agent.hostname ?? agent.ip,
      })),
      faults: createdFaults,
      stop: ({ keepExecutors = false } = {}) => stopAll(cluster, { servers, streams, processes, keepExecutors }),
    };
  } catch (error) {
    for (const each of servers) each.close();
    throw error;
  }
}

const definedOf = (options: LocalMesosOptions): Partial<typeof DEFAULTS> =>
  Object.fromEntries(
    Object.keys(DEFAULTS)
      .map((name) => [name, options[name as keyof typeof DEFAULTS]])
      .filter(([, value]) => value !== undefined),
  );

async function listen(server: Server, address: string, port: number): Promise<number> {
  const isUp = once(server, 'listening');
  server.listen(port, address);
  await isUp;
  const bound = server.address();
  return bound !== null && typeof bound === 'object' ? bound.port : port;
}

async function startNonLeading(
  options: LocalMesosOptions,
  shell: Shell,
  servers: Server[],
  leader: { ip: string; port: number },
): Promise<string | null> {
  if (options.nonLeadingPort === undefined) return null;
  const door: MasterDoor = {
    credentials: options.credentials ?? null,
    phase: { kind: 'redirecting', to: `${leader.ip}:${leader.port}` },
  };
  const server = serve((path, request, response) => masterHandler(shell, () => door)(path, request, response));
  servers.push(server);
  return `http://${leader.ip}:${await listen(server, leader.ip, options.nonLeadingPort)}`;
}

function createPlace(
  agent: Located,
  options: LocalMesosOptions,
  settings: typeof DEFAULTS,
  parts: { streams: ReturnType<typeof createStreams>; processes: Map<string, Processes>; getShell: () => Shell | null },
): AgentPlace {
  for (const each of agent.disks) if (each.type !== 'root') disk.makeDirectory(diskRoot(agent, each.root));
  const path = join(agent.workDir, 'meta', 'checkpoint.json');
  const processes = createProcesses(options.clock, (containerId, status) => {
    const core = parts.getShell()?.cluster.seats.get(agent.key)?.core;
    if (core) processExited(core, containerId, status);
  });
  parts.processes.set(agent.key, processes);
  const effects: Omit<AgentEffects, 'toMaster'> = {
    ...disk,
    persist: (checkpoint) => disk.writeJson(path, checkpoint),
    send: (id, event) => parts.streams.send(id, event),
    close: (id) => parts.streams.close(id),
    fetch(uris, directory, done) {
      disk.fetchUris(uris, directory).then(
        () => done(null),
        (error: Error) => done(`exited with status 1 (${error.message})`),
      );
    },
    fork: (fork) => processes.fork(fork),
    adopt: (containerId, target) => processes.adopt(containerId, target),
    killTree,
    killSession,
  };
  return {
    key: agent.key,
    effects,
    load: () => disk.readJson(path) as AgentCheckpoint | null,
    options: {
      workDir: agent.workDir,
      info: {
        hostname: agent.hostname ?? agent.ip,
        ip: agent.ip,
        port: agent.at,
        attributes: attributesOf(agent),
        resources: resourcesOf(agent),
      },
      registrationTimeoutMs: settings.executorRegistrationTimeoutMs,
      reregistrationTimeoutMs: settings.executorReregistrationTimeoutMs,
      shutdownGraceMs: settings.executorShutdownGraceMs,
      updateRetryMs: settings.updateRetryMs,
    },
  };
}

async function stopAll(
  cluster: Cluster,
  parts: {
    servers: readonly Server[];
    streams: ReturnType<typeof createStreams>;
    processes: Map<string, Processes>;
    keepExecutors: boolean;
  },
): Promise<void> {
  stopCluster(cluster);
  for (const processes of parts.processes.values()) processes.stop();
  if (!parts.keepExecutors)
    for (const { place } of cluster.seats.values())
      for (const { process } of Object.values(place.load()?.executors ?? {})) {
        if (!process) continue;
        if (isAlive(process)) killTree(process, 'SIGKILL');
        else killSession(process);
      }
  parts.streams.cutAll();
  await Promise.all(
    parts.servers.map(async (server) => {
      const isDown = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await isDown;
    }),
  );
}
