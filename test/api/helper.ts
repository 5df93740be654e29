import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import type { FastifyInstance } from 'fastify';
import { pino } from 'pino';
import { createApi } from '../../src/api/api.ts';
import type { Auth, Role } from '../../src/api/auth.ts';
import type { BackupReader } from '../../src/api/download.ts';
import type {
  ChangePlan,
  DryRun,
  LiveChange,
  LiveMember,
  LiveOffer,
  LiveRecoveryWindow,
  LiveState,
  LiveView,
} from '../../src/api/live.ts';
import { realClock } from '../../src/clock.ts';
import { insertBundle } from '../../src/store/bundles.ts';
import { commitPrimary, setActivated } from '../../src/store/clusters.ts';
import { lead } from '../../src/store/leadership.ts';
import { listMembers } from '../../src/store/members.ts';
import { openStore, type Store } from '../../src/store/store.ts';
import { aRule, newId, someBundle, sqlDir, testKey } from '../store/helper.ts';

/** The controller's memory, as a test wants it. */
export class FakeLive implements LiveView {
  connected = true;
  readonly states = new Map<string, LiveState>();
  readonly members = new Map<string, LiveMember>();
  readonly lastOffers: LiveOffer[] = [];
  dryRun: DryRun = { placed: [{ ordinal: 0, agentId: 'agent-0', hostname: 'one.example' }], refused: [] };
  readonly listeners = new Set<(change: LiveChange) => void>();

  isConnected = () => this.connected;
  state = (clusterId: string) => this.states.get(clusterId) ?? null;
  member = (clusterId: string, ordinal: number) => this.members.get(`${clusterId}.${ordinal}`) ?? null;
  offers = () => this.lastOffers;
  place = () => this.dryRun;
  changePlan: ChangePlan | null = null;
  plan = () => this.changePlan;
  rehearsal = () => null;
  voterWaits = (): readonly string[] => [];
  readonly windows = new Map<string, LiveRecoveryWindow>();
  recoveryWindow = (clusterId: string) => this.windows.get(clusterId) ?? null;
  readonly copyable = new Map<string, ReturnType<LiveView['copyOptions']>>();
  copyOptions = (clusterId: string) => this.copyable.get(clusterId) ?? null;
  readonly restorable = new Map<string, ReturnType<LiveView['planRestore']>>();
  planRestore = (clusterId: string) => this.restorable.get(clusterId) ?? null;
  metrics = () => 'selvedge_up 1\n';
  subscribe = (listener: (change: LiveChange) => void) => {
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  };
  tell(clusterId: string): void {
    for (const listener of this.listeners) listener({ clusterId, kind: 'test' });
  }
}

export interface World {
  readonly app: FastifyInstance;
  readonly store: Store;
  readonly live: FakeLive;
  readonly woken: string[];
  readonly log: string[];
}

const content = { ibdata1: 'system', [`shop/${'long-'.repeat(40)}name.ibd`]: 'x'.repeat(5000), empty: '' };

/** Files of every tail. */
export const fakeTail: Readonly<Record<string, Buffer>> = {
  'tail.binlog': Buffer.from([0xfe, 0x62, 0x69, 0x6e, 0, 1, 2]),
  'tail.sql': Buffer.from(Array.from({ length: 300 }, (_, at) => `### row ${at} é\n`).join('')),
};

/** What every download answers: one name that fits no plain tar header, and one empty file. */
export const fakeBackup: BackupReader = {
  texts: [{ path: 'manifest.json', text: Buffer.from(JSON.stringify({ version: 1, id: 'fake' })) }],
  root: 'data',
  directories: ['shop', 'performance_schema'],
  files: Object.entries(content).map(([path, text]) => ({
    path,
    bytes: text.length,
    sha256: createHash('sha256').update(text).digest('hex'),
  })),
  async *read({ path }) {
    const text = content[path as keyof typeof content];
    if (text) yield Buffer.from(text);
  },
  close() {},
};

const worlds: World[] = [];

export async function aWorld(auth: Auth = { kind: 'none' }): Promise<World> {
  const store = await openStore({ path: ':memory:', key: testKey, clock: realClock, newId, sqlDir });
  const live = new FakeLive();
  const woken: string[] = [];
  const log: string[] = [];
  const app = createApi({
    store,
    live,
    auth,
    newId,
    clock: realClock,
    proxyHost: '127.0.0.1',
    wake: (clusterId) => woken.push(clusterId),
    readBackup: async () => fakeBackup,
    readTail: async ({ file, from }) => Readable.from([(fakeTail[file] ?? Buffer.alloc(0)).subarray(from)]),
    log: pino({ level: 'info' }, { write: (line: string) => log.push(line) }),
    createSecrets: async ({ teamUser }) => ({
      team: { user: teamUser, password: 'team-secret' },
      replication: { user: 'r', password: 'repl-secret' },
      clone: { user: 'c', password: 'clone-secret' },
      caCertPem: 'CERT',
      caKeyPem: 'KEY',
    }),
  });
  const world = { app, store, live, woken, log };
  worlds.push(world);
  return world;
}

/** Ends all; answers how many listeners were left behind. */
export async function closeWorlds(): Promise<number> {
  let left = 0;
  for (const { app, store, live } of worlds.splice(0)) {
    await app.close();
    store.close();
    left += live.listeners.size;
  }
  return left;
}

export const aRequest = (change: object = {}) => ({
  name: 'orders',
  resources: { cpus: 1, memMb: 1024 },
  volumes: { data: { type: 'mount', sizeMb: 2048 }, backup: { type: 'path', sizeMb: 4096 } },
  ...change,
});

export const token = (name: string, role: Role) => ({
  name,
  role,
  sha256: createHash('sha256').update(`secret-of-${name}`).digest('hex'),
});

/** A cluster whose members are placed, with member 0 as the primary of epoch 1. */
export async function aServingCluster({ app, store, live }: World, name = 'orders'): Promise<string> {
  const answer = await app.inject({ method: 'POST', url: '/v1/clusters', payload: aRequest({ name }) });
  const { id } = answer.json();
  const leader = await lead(store, 'test');
  for (const { ordinal } of await listMembers(store, id)) {
    await insertBundle(store, leader, {
      id: newId(),
      clusterId: id,
      ordinal,
      agentId: `agent-${ordinal}`,
      hostname: `host-${ordinal}`,
      ip: `127.0.0.1${ordinal}`,
      bundle: someBundle,
      resources: [],
    });
    live.members.set(`${id}.${ordinal}`, {
      instance: 'running',
      isWritable: ordinal === 0,
      gtidExecuted: 'a:1-5',
      lagMs: ordinal === 2 ? 5 : 10,
      volumes: { data: { totalMb: 9000, usedMb: 300 }, backup: null },
      taskState: 'TASK_RUNNING',
    });
  }
  await commitPrimary(store, leader, { clusterId: id, fromEpoch: 0, toEpoch: 1, primary: 0, rule: aRule(1) });
  await setActivated(store, leader, id, 1, 5);
  live.states.set(id, { state: 'ready', conditions: [] });
  return id;
}

/** Of an app that listens. */
export function portOf(app: FastifyInstance): number {
  const address = app.server.address();
  if (address === null || typeof address === 'string') throw new Error('the app does not listen on a port');
  return address.port;
}
