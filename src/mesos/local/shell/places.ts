/** The configured agents as the core wants them: addresses, resources, directories, effects. */
import { join } from 'node:path';
import type { Attribute, Resource } from '../../types.ts';
import type { AgentCheckpoint, AgentEffects } from '../core/agent-state.ts';
import type { AgentPlace } from '../core/cluster.ts';
import * as disk from './disk.ts';
import { killSession, killTree, type Processes } from './processes.ts';
import type { Streams } from './streams.ts';

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

const FIRST_HOST = 11;
export const DEFAULTS = {
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

export type Settings = typeof DEFAULTS;

export interface Located extends LocalAgent {
  readonly key: string;
  readonly ip: string;
  readonly at: number;
  readonly workDir: string;
}

/** Where each agent listens and keeps its things. */
export function locate(options: {
  readonly workDir: string;
  readonly subnet?: string;
  readonly agentPort?: number;
  readonly agents: readonly LocalAgent[];
}): Located[] {
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

/** Its disks are made; a path or mount disk is a directory. */
export function createPlace(
  agent: Located,
  settings: Settings,
  { streams, processes }: { streams: Streams; processes: Processes },
): AgentPlace {
  for (const each of agent.disks) if (each.type !== 'root') disk.makeDirectory(diskRoot(agent, each.root));
  const path = join(agent.workDir, 'meta', 'checkpoint.json');
  const effects: Omit<AgentEffects, 'toMaster'> = {
    ...disk,
    persist: (checkpoint) => disk.writeJson(path, checkpoint),
    send: (id, event) => streams.send(id, event),
    close: (id) => streams.close(id),
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
