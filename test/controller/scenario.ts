/**
 * The whole controller in the simulated world (test/simulation), with faults that the test names instead of drawn
 * ones. Time is virtual: five minutes of cooldown take a moment. The guarantees are checked after every step.
 */
import type { ClusterSpec } from '../../src/cluster/types.ts';
import type { ClusterView } from '../../src/controller/gather.ts';
import { getCluster } from '../../src/store/clusters.ts';
import { listEvents } from '../../src/store/events.ts';
import { listFailovers, openFailover } from '../../src/store/failovers.ts';
import { listRebuilds } from '../../src/store/rebuilds.ts';
import type { ClusterRow, EventRow, FailoverRow, RebuildRow } from '../../src/store/rows.ts';
import type { FaultBody } from '../simulation/faults.ts';
import { findUnhealthy } from '../simulation/health.ts';
import type { SimulatedMember } from '../simulation/member.ts';
import { createRandom } from '../simulation/random.ts';
import { connectClients, createRunner, createSimulation } from '../simulation/simulation.ts';
import { strike } from '../simulation/strike.ts';
import type { Simulation } from '../simulation/types.ts';
import { addCluster, createWorld } from '../simulation/world.ts';

export interface Scenario {
  readonly simulation: Simulation;
  readonly clusterId: string;
  strike(...faults: FaultBody[]): Promise<void>;
  /** Lets virtual time pass. */
  run(ms: number): Promise<void>;
  /** Milliseconds of virtual time until `isDone`; throws with the end of the story when it does not come. */
  until(what: string, isDone: () => boolean | Promise<boolean>, withinMs?: number): Promise<number>;
  /** Until all members serve and all voters acknowledge. */
  untilHealthy(withinMs?: number): Promise<number>;
  cluster(): Promise<ClusterRow>;
  failovers(): Promise<FailoverRow[]>;
  rebuilds(): Promise<RebuildRow[]>;
  events(kind: string): Promise<EventRow[]>;
  /** What the controller gathered last. */
  view(): ClusterView;
  member(ordinal: number): SimulatedMember;
  isWritable(ordinal: number): boolean;
  /** As a person asks for it; the controller is woken. */
  change(
    kind: 'failover' | 'switchover',
    more?: { candidate?: number; force?: boolean; maxPauseMs?: number },
  ): Promise<FailoverRow>;
  wake(): void;
  restartControlPlane(): Promise<void>;
  stop(): void;
}

export interface ScenarioOptions {
  readonly members?: number;
  readonly durability?: ClusterSpec['durability'];
  readonly ackFlush?: ClusterSpec['ackFlush'];
  readonly hasBackup?: boolean;
  readonly seed?: number;
  /** Writers, as teams have them. */
  readonly hasClients?: boolean;
  /** Do not wait until the cluster is healthy. */
  readonly isFresh?: boolean;
}

/** Answers when the cluster is healthy. Stop it at the end of the test. */
export async function createScenario(options: ScenarioOptions = {}): Promise<Scenario> {
  const { members = 3, hasBackup = true, seed = 1 } = options;
  const random = createRandom(seed).fork('scenario');
  const world = await createWorld({ random, agents: members + 1, mutants: new Set() });
  const durability = options.durability ?? (members > 2 ? 'majority' : 'async');
  const clusterId = await addCluster(world, {
    ...{ name: 'orders', members, hasBackup, durability, ackFlush: options.ackFlush ?? 'os' },
  });
  const simulation = createSimulation(world, [clusterId], members, random.fork('plane').next);
  const { until: runUntil } = createRunner(simulation);
  const { time, store } = world;
  const member = (ordinal: number) => {
    const found = world.findMember(clusterId, ordinal)?.member;
    if (!found) throw new Error(`no executor of member ${ordinal} runs`);
    return found;
  };

  const until: Scenario['until'] = async (what, isDone, withinMs = 60_000) => {
    const from = time.now();
    for (;;) {
      if (await isDone()) return time.now() - from;
      if (time.now() - from >= withinMs) {
        throw new Error(`not within ${withinMs} ms: ${what}\n${world.story.lines().slice(-40).join('\n')}`);
      }
      await runUntil(time.now() + 10);
    }
  };
  let clients: { stop(): void } | null = null;
  const scenario: Scenario = {
    simulation,
    clusterId,
    until,
    member,
    run: (ms) => runUntil(time.now() + ms),
    async strike(...faults) {
      for (const fault of faults) await strike(simulation, { ...fault, at: time.now() });
    },
    untilHealthy: (withinMs = 120_000) => {
      let why = '';
      const isHealthy = () => {
        why = findUnhealthy(simulation, clusterId)?.why ?? '';
        return why === '';
      };
      return until('healthy', isHealthy, withinMs).catch((error: Error) => {
        throw new Error(`${why}: ${error.message}`);
      });
    },
    cluster: () => getCluster(store, clusterId),
    failovers: () => listFailovers(store, clusterId),
    rebuilds: () => listRebuilds(store, clusterId),
    events: async (kind) => (await listEvents(store)).filter((event) => event.kind === kind),
    view: () => simulation.active()!.controller.view(clusterId)!,
    isWritable: (ordinal) => world.findMember(clusterId, ordinal)?.member?.instance?.isReadOnly === false,
    async change(kind, more = {}) {
      const { candidate = null, ...asked } = more;
      const row = await openFailover(store, {
        ...{ id: world.newId(), clusterId, kind, reason: 'asked for', requestedBy: 'a person', candidate },
        options: asked,
      });
      scenario.wake();
      return row;
    },
    wake: () => simulation.active()?.controller.wake(clusterId),
    async restartControlPlane() {
      await strike(simulation, { kind: 'killController', at: time.now() });
      await until('another control plane', () => simulation.active() !== null);
    },
    stop() {
      clients?.stop();
      for (const { controller, process } of simulation.planes) {
        controller.stop();
        process.kill();
      }
      store.close();
    },
  };
  simulation.startPlane();
  if (options.hasClients) clients = connectClients(simulation, clusterId);
  if (!options.isFresh) await scenario.untilHealthy();
  return scenario;
}
