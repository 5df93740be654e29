/** mesos-local: a master and its agents on this machine, real HTTP, real processes, real directories. */
import { once } from 'node:events';
import type { Server } from 'node:http';
import { join } from 'node:path';
import { type Clock, guardedClock } from '../../clock.ts';
import type { Logger } from '../../log.ts';
import { processExited } from './core/agent.ts';
import { startCluster, stopCluster } from './core/cluster.ts';
import type { HttpAnswer, MasterDoor } from './core/http-table.ts';
import { emptyRegistry } from './core/master.ts';
import type { Registry } from './core/master-state.ts';
import { answerFault, createFaults, type Faults } from './faults.ts';
import * as disk from './shell/disk.ts';
import { agentHandler, type Handler, masterHandler, type Shell, serve } from './shell/http.ts';
import { createPlace, DEFAULTS, type LocalAgent, type Located, locate, type Settings } from './shell/places.ts';
import { createProcesses, killTree, type Processes } from './shell/processes.ts';
import { createStreams, type Streams } from './shell/streams.ts';

export type { LocalAgent, LocalDisk } from './shell/places.ts';

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
  /** Cut event streams into pieces of so many bytes, to try readers. */
  readonly chunkBytes?: number;
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

interface Parts {
  readonly options: LocalMesosOptions;
  readonly settings: Settings;
  readonly located: readonly Located[];
  readonly streams: Streams;
  readonly servers: Server[];
  readonly processes: Map<string, Processes>;
  /** null until everything listens. */
  shell: Shell | null;
  faults: Faults | null;
}

/** Master and agents are up and registering when it resolves. On a work directory of an earlier run it goes on from there. */
export async function startLocalMesos(options: LocalMesosOptions): Promise<LocalMesos> {
  const parts: Parts = {
    options,
    settings: { ...DEFAULTS, ...definedOf(options) },
    located: locate(options),
    streams: createStreams(options.chunkBytes),
    servers: [],
    processes: new Map(),
    shell: null,
    faults: null,
  };
  try {
    const leader = await listenAll(parts);
    const faults = startCore(parts, leader);
    const nonLeadingUrl = await listenNonLeading(parts, leader);
    return {
      masterUrl: `http://${leader.ip}:${leader.port}`,
      nonLeadingUrl,
      agents: parts.located.map(({ key, ip, at, workDir, hostname }) => ({
        key,
        url: `http://${ip}:${at}`,
        workDir,
        hostname: hostname ?? ip,
      })),
      faults,
      stop: ({ keepExecutors = false } = {}) => stopAll(parts, keepExecutors),
    };
  } catch (error) {
    await stopAll(parts, true); // what ran before this start is not ours to end
    throw error;
  }
}

interface Address {
  readonly ip: string;
  readonly port: number;
}

async function listenAll(parts: Parts): Promise<Address> {
  const { options, servers, located } = parts;
  const leading: MasterDoor = { credentials: options.credentials ?? null, phase: { kind: 'leading' } };
  const open = async (ip: string, port: number, handle: (shell: Shell) => Handler) => {
    const server = serve((path, request, response) => {
      if (parts.shell) return handle(parts.shell)(path, request, response);
      response.destroy(); // not up yet
    });
    servers.push(server);
    return listen(server, ip, port);
  };
  const ip = options.masterAddress ?? '127.0.0.1';
  const port = await open(ip, options.masterPort ?? 0, (shell) =>
    masterHandler(shell, () => parts.faults?.door() ?? leading),
  );
  for (const agent of located)
    await open(agent.ip, agent.at, (shell) =>
      agentHandler(shell, () => shell.cluster.seats.get(agent.key)?.core ?? null),
    );
  return { ip, port };
}

function startCore(parts: Parts, { ip, port }: Address): Faults {
  const { options, settings, streams, processes } = parts;
  // What fails in a timer may come from what arrived over HTTP: it is logged and does not end the process.
  const clock = guardedClock(options.clock, (error) =>
    options.log.error({ err: error }, 'mesos-local failed in a timer'),
  );
  const { credentials = null } = options;
  const registryPath = join(options.workDir, 'master', 'registry.json');
  const cluster = startCluster({
    clock,
    newId: options.newId,
    warn: (fields, message) => options.log.warn(fields, message),
    masterOptions: { ip, port, version: VERSION, roles: options.roles ?? null, ...settings },
    registry: (disk.readJson(registryPath) as Registry | null) ?? emptyRegistry,
    persistRegistry: (registry) => disk.writeJson(registryPath, registry),
    agents: [], // started below: their effects need the shell
    sendToScheduler: (id, event) => streams.send(id, event),
    closeScheduler: (id) => streams.close(id),
  });
  const faults = createFaults({
    cluster,
    streams,
    isLeading: { credentials, phase: { kind: 'leading' } },
    isRecovering: { credentials, phase: { kind: 'recovering' } },
  });
  parts.faults = faults;
  const answerFaults = (body: string): Promise<HttpAnswer> => answerFault(faults, body);
  parts.shell = {
    cluster,
    streams,
    newId: options.newId,
    faults: options.allowFaultsOverHttp ? answerFaults : null,
  };
  for (const agent of parts.located) {
    const own = createProcesses(clock, (containerId, status) => {
      // Through the clock: guarded, and in order with what else happens.
      clock.setTimeout(() => {
        const core = cluster.seats.get(agent.key)?.core;
        if (core) processExited(core, containerId, status);
      }, 0);
    });
    processes.set(agent.key, own);
    cluster.seats.set(agent.key, {
      place: createPlace(agent, settings, { streams, processes: own }),
      core: null,
      isCut: false,
    });
  }
  for (const { key } of parts.located) faults.startAgent(key);
  return faults;
}

const definedOf = (options: LocalMesosOptions): Partial<Settings> =>
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

async function listenNonLeading({ options, servers, shell }: Parts, leader: Address): Promise<string | null> {
  if (options.nonLeadingPort === undefined || !shell) return null;
  const to = `${leader.ip}:${leader.port}`;
  const door: MasterDoor = { credentials: options.credentials ?? null, phase: { kind: 'redirecting', to } };
  const server = serve(masterHandler(shell, () => door));
  servers.push(server);
  return `http://${leader.ip}:${await listen(server, leader.ip, options.nonLeadingPort)}`;
}

async function stopAll({ shell, servers, streams, processes }: Parts, keepExecutors: boolean): Promise<void> {
  if (shell) stopCluster(shell.cluster);
  for (const each of processes.values()) each.stop();
  if (shell && !keepExecutors)
    for (const { place } of shell.cluster.seats.values())
      for (const { process } of Object.values(place.load()?.executors ?? {})) if (process) killTree(process, 'SIGKILL');
  streams.cutAll();
  await Promise.all(servers.filter(({ listening }) => listening).map(close));
}

async function close(server: Server): Promise<void> {
  const isDown = once(server, 'close');
  server.close();
  server.closeAllConnections();
  await isDown;
}
