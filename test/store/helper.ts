import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Clock } from '../../src/clock.ts';
import type { Bundle, ClusterSpec, VoterRule } from '../../src/cluster/types.ts';
import { insertBundle } from '../../src/store/bundles.ts';
import { insertCluster } from '../../src/store/clusters.ts';
import type { ClusterRow, Leader } from '../../src/store/rows.ts';
import { openStore, type Store } from '../../src/store/store.ts';

export const sqlDir = join(import.meta.dirname, '..', '..', 'sql');
export const testKey = Buffer.alloc(32, 7);

export interface TestClock extends Clock {
  advance(ms: number): void;
}

/** Time stands still until a test moves it; timers are not used by the store. */
export function testClock(startAt = 1_000_000): TestClock {
  let now = startAt;
  return {
    now: () => now,
    setTimeout: () => {
      throw new Error('the store sets no timers');
    },
    clearTimeout: () => {},
    advance: (ms) => {
      now += ms;
    },
  };
}

let count = 0;
export const newId = () => `00000000-0000-4000-8000-${String(++count).padStart(12, '0')}`;

const open: Store[] = [];
const directories: string[] = [];

export async function testStore(path = ':memory:', clock: Clock = testClock()): Promise<Store> {
  const store = await openStore({ path, key: testKey, clock, newId, sqlDir });
  open.push(store);
  return store;
}

export function testDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'selvedge-store-'));
  directories.push(directory);
  return directory;
}

export function cleanUp(): void {
  for (const store of open.splice(0)) store.close();
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true });
}

export const aSpec = (name = 'orders', members = 3): ClusterSpec => ({
  name,
  members,
  resources: { cpus: 1, memMb: 1024 },
  volumes: { data: { type: 'mount', sizeMb: 2048 }, backup: { type: 'path', sizeMb: 4096 } },
  durability: 'majority',
  ackFlush: 'os',
  placement: { spread: 'agent', attributes: {} },
});

export const someSecrets = {
  team: { user: 'orders', password: 'team-secret' },
  replication: { user: 'selvedge_repl', password: 'repl-secret' },
  clone: { user: 'selvedge_clone', password: 'clone-secret' },
  caCertPem: 'CERT',
  caKeyPem: 'KEY',
};

export function aCluster(store: Store, name = 'orders', members = 3): Promise<ClusterRow> {
  return insertCluster(store, {
    id: newId(),
    spec: aSpec(name, members),
    secrets: someSecrets,
    members: Array.from({ length: members }, (_, ordinal) => ({
      ordinal,
      incarnation: newId(),
      serverUuid: newId(),
    })),
  });
}

export const aRule = (epoch: number, change: Partial<VoterRule> = {}): VoterRule => ({
  epoch,
  version: 1,
  primary: 0,
  voters: [0, 1, 2].map((ordinal) => ({ ordinal, incarnation: `incarnation-${ordinal}` })),
  k: 1,
  ...change,
});

export const someBundle: Bundle = {
  cpus: 1,
  memMb: 1024,
  ports: { mysql: 31000, control: 31001, health: 31002 },
  data: { type: 'mount', path: '/disk', sizeMb: 9000, persistenceId: 'data-1' },
  backup: { type: 'path', path: '/bulk', sizeMb: 4096, persistenceId: 'backup-1' },
};

export async function aBundle(store: Store, leader: Leader, clusterId: string, ordinal = 0) {
  return insertBundle(store, leader, {
    id: newId(),
    clusterId,
    ordinal,
    agentId: 'agent-1',
    hostname: 'one.example',
    ip: '127.0.0.11',
    bundle: someBundle,
    resources: [{ name: 'cpus', type: 'SCALAR', scalar: { value: 1 } }],
  });
}
