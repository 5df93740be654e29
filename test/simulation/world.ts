/** Everything around the program, put together: time, net, disks, Mesos, executors, servers, the store's one database. */
import { join } from 'node:path';
import type { ClusterSpec } from '../../src/cluster/types.ts';
import { insertCluster } from '../../src/store/clusters.ts';
import { openStore, type Store } from '../../src/store/store.ts';
import { type Checks, createChecks } from './checks.ts';
import { createDisks, type Disks } from './disks.ts';
import { type SimulatedExecutor, startExecutor } from './executor.ts';
import { type Mutant, SimulatedMember, type TrimStep } from './member.ts';
import { createMesos, type SimulatedMesos } from './mesos.ts';
import type { Servers } from './mysql.ts';
import { createNet, type Net } from './net.ts';
import type { Random } from './random.ts';
import { createStory, type Story } from './story.ts';
import { createTime, type Process, type Time } from './time.ts';

const sqlDir = join(import.meta.dirname, '..', '..', 'sql');
const startOfTime = 1_800_000_000_000;

export interface World {
  readonly time: Time;
  readonly random: Random;
  readonly net: Net;
  readonly story: Story;
  readonly disks: Disks;
  readonly servers: Servers;
  readonly mesos: SimulatedMesos;
  readonly store: Store;
  readonly checks: Checks;
  readonly mutants: ReadonlySet<Mutant>;
  /** How often each kind of fault struck something. */
  readonly hits: Map<string, number>;
  /** Armed faults of executors. */
  readonly hooks: { onTrimStep: ((step: TrimStep, process: Process) => void) | null };
  newId(): string;
  findExecutor(host: string, port: number): SimulatedExecutor | null;
  /** The executor of a member, if it runs. */
  findMember(clusterId: string, ordinal: number): SimulatedExecutor | null;
}

export async function createWorld(options: {
  readonly random: Random;
  readonly agents: number;
  readonly mutants: ReadonlySet<Mutant>;
}): Promise<World> {
  const { random, mutants } = options;
  const time = createTime(startOfTime);
  const story = createStory(time.now);
  const net = createNet(random.fork('net'));
  let ids = 0;
  const newId = () => {
    ids += 1;
    return `00000000-0000-4000-8000-${ids.toString(16).padStart(12, '0')}`;
  };
  const store = await openStore({ path: ':memory:', key: Buffer.alloc(32, 7), clock: time.clock, newId, sqlDir });
  const disks = createDisks((volume) => checks.onDestroyed(volume));
  const servers: Servers = {
    time,
    net,
    random: random.fork('servers'),
    at: new Map(),
    nextTransaction: 0,
    issued: new Set(),
    onIssuedTwice: ({ owner }, gtid) =>
      checks.fail('G1', `member ${owner.ordinal} gave ${gtid} to a second transaction`),
    onCommitted: (instance, transaction) => checks.onCommitted(instance, transaction),
  };
  const checks = createChecks({ time, story, store, disks });
  const pace = random.fork('pace');
  const mesos: SimulatedMesos = createMesos({
    time,
    net,
    disks,
    newId,
    agents: options.agents,
    onPersist: (agentKey, checkpoint) => checks.onPersist(agentKey, checkpoint),
    startExecutor: (agentKey, host, fork, process) => {
      const executor = startExecutor({
        process,
        host,
        frameworkId: fork.environment['MESOS_FRAMEWORK_ID'] ?? '',
        executorId: fork.environment['MESOS_EXECUTOR_ID'] ?? '',
        directory: fork.directory,
        newId,
        startMs: pace.between(50, 300),
        findAgent: () => mesos.cluster.seats.get(agentKey)?.core ?? null,
        resolveVolume: (path) => disks.resolve(path),
        bindStream: (streamId, one) => mesos.bindExecutor(streamId, one),
        exit: (status) => mesos.exitExecutor(process, status),
        openMember: (one, plan, data, backup) => {
          const member = openMember({ process, plan, data, backup, bootId: mesos.bootId(host) });
          executors.set(`${plan.address}:${plan.ports.control}`, one);
          return member;
        },
      });
      return executor;
    },
  });
  const executors = new Map<string, SimulatedExecutor>();
  const hooks: World['hooks'] = { onTrimStep: null };

  function openMember(parts: Pick<SimulatedMember['options'], 'process' | 'bootId' | 'plan' | 'data' | 'backup'>) {
    const { ordinal } = parts.plan;
    const member = new SimulatedMember({
      ...parts,
      servers,
      mutants,
      log: story.logger(`executor ${ordinal}`),
      tell: (text) => story.tell(`executor ${ordinal}`, text),
      pace: (what) => {
        if (what === 'start') return pace.between(200, 1500);
        if (what === 'initialise') return pace.between(300, 1500);
        if (what === 'copy') return pace.between(500, 4000);
        return pace.between(1, 5);
      },
      onInitialise: (volume) => checks.onInitialise(volume),
      onWritable: (instance) => {
        story.tell(`member ${ordinal}`, `is writable in epoch ${instance.epoch} with k = ${instance.k}`);
        checks.onWritable(instance);
      },
      onTrusted: () => {},
      onTrimStep: (step) => hooks.onTrimStep?.(step, parts.process),
    });
    let last = member.phase;
    member.listen((status) => {
      if (status.instance === last) return;
      last = status.instance;
      story.tell(`member ${ordinal}`, `is ${last}${status.reason ? `: ${status.reason.message}` : ''}`);
    });
    return member;
  }

  return {
    time,
    random,
    net,
    story,
    disks,
    servers,
    mesos,
    store,
    checks,
    mutants,
    hits: new Map(),
    hooks,
    newId,
    findExecutor: (host, port) => executors.get(`${host}:${port}`) ?? null,
    findMember(clusterId, ordinal) {
      for (const { executor } of mesos.executors())
        if (executor.plan?.cluster === clusterId && executor.plan.ordinal === ordinal) return executor;
      return null;
    },
  };
}

export async function addCluster(
  world: World,
  shape: {
    readonly name: string;
    readonly members: number;
    readonly hasBackup: boolean;
    readonly durability: ClusterSpec['durability'];
    readonly ackFlush?: ClusterSpec['ackFlush'];
  },
): Promise<string> {
  const id = world.newId();
  const account = { user: 'u', password: 'p' };
  await insertCluster(world.store, {
    id,
    spec: {
      name: shape.name,
      members: shape.members,
      resources: { cpus: 1, memMb: 512 },
      volumes: {
        data: { type: 'root', sizeMb: 1024 },
        backup: shape.hasBackup ? { type: 'path', sizeMb: 1024 } : null,
      },
      durability: shape.durability,
      ackFlush: shape.ackFlush ?? 'os',
      placement: { spread: 'agent', attributes: {} },
    },
    secrets: { team: account, replication: account, clone: account, caCertPem: '', caKeyPem: '' },
    members: Array.from({ length: shape.members }, (_, ordinal) => ({
      ordinal,
      incarnation: world.newId(),
      serverUuid: world.newId(),
    })),
  });
  return id;
}
