/** A cluster and an agent to vary from. */
import type { AgentOffer, ClusterSpec, OfferedDisk } from '../../src/cluster/types.ts';

export const root = (sizeMb: number): OfferedDisk => ({ type: 'root', path: null, sizeMb });
export const path = (name: string, sizeMb: number): OfferedDisk => ({ type: 'path', path: name, sizeMb });
export const mount = (name: string, sizeMb: number): OfferedDisk => ({ type: 'mount', path: name, sizeMb });

export function sampleSpec(change: Partial<ClusterSpec> = {}): ClusterSpec {
  return {
    name: 'orders',
    members: 3,
    resources: { cpus: 0.3, memMb: 512 },
    volumes: { data: { type: 'mount', sizeMb: 1000 }, backup: { type: 'path', sizeMb: 2000 } },
    durability: 'majority',
    ackFlush: 'os',
    placement: { spread: 'agent', attributes: {} },
    ...change,
  };
}

export function sampleOffer(change: Partial<AgentOffer> = {}): AgentOffer {
  return {
    agentId: 'agent-1',
    hostname: 'host-1',
    ip: '127.0.0.11',
    cpus: 2,
    memMb: 2048,
    ports: [{ begin: 31000, end: 31010 }],
    disks: [root(5000), path('/p1', 4000), mount('/m1', 1500)],
    attributes: { rack: 'a' },
    isUnavailable: false,
    ...change,
  };
}
