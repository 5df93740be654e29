/**
 * One seed: a world, a cluster or two, clients, faults at their times, then peace, and the questions: does the cluster
 * heal, was anything lost, is anything left over.
 */

import type { FrameworkInfo } from '../../src/mesos/types.ts';
import { markClusterDeleted } from '../../src/store/clusters.ts';
import { createSimulatedChannel } from './channel.ts';
import { type Clients, startClients } from './clients.ts';
import { openStoreView, startControlPlane } from './controller-process.ts';
import { drawFaults, type Fault } from './faults.ts';
import { findUnhealthy, type Unhealthy } from './health.ts';
import type { Mutant } from './member.ts';
import { createRandom } from './random.ts';
import { findAnomaly } from './register.ts';
import { createSimulatedScheduler } from './scheduler-client.ts';
import { strike } from './strike.ts';
import { createProcess, type Process } from './time.ts';
import type { Simulation } from './types.ts';
import { addCluster, createWorld, type World } from './world.ts';

const healMs = 300_000;
const deleteMs = 300_000;
const restartMs = { min: 200, max: 3000 } as const;

export interface RunOptions {
  readonly seed: number;
  /** Instead of those that the seed draws. */
  readonly faults?: readonly Fault[];
  /** Leaves out these of the faults: 1 is the first. The world and all else that is drawn stays the same. */
  readonly without?: readonly number[];
  readonly mutants?: readonly Mutant[];
  /** Changes the program under test of this run. */
  readonly sabotage?: (simulation: Simulation) => void;
}

export interface RunResult {
  readonly seed: number;
  /** null: all is well. */
  readonly failure: string | null;
  /** What the failure breaks: G1 to G6, register, leak, or `broken` for the simulation itself. */
  readonly guarantee: string | null;
  /** All that were drawn; their ids are their places in the list, from 1. */
  readonly faults: readonly Fault[];
  readonly story: readonly string[];
  readonly facts: {
    readonly members: number;
    readonly epochs: number;
    readonly acknowledged: number;
    readonly virtualMs: number;
    readonly healedAfterMs: number | null;
    readonly steps: number;
    /** The cluster refuses, and the world justifies it. */
    readonly refusal: string | null;
    /** How often each kind of fault struck something. */
    readonly hits: Readonly<Record<string, number>>;
  };
}

const frameworkInfo: FrameworkInfo = {
  user: 'root',
  name: 'selvedge',
  roles: ['selvedge'],
  failover_timeout: 1_209_600,
  checkpoint: true,
  capabilities: ['MULTI_ROLE', 'RESERVATION_REFINEMENT', 'PARTITION_AWARE', 'TASK_KILLING_STATE'].map((type) => ({
    type,
  })),
  offer_filters: { selvedge: { min_allocatable_resources: { quantities: [] } } },
};

export async function runSeed(options: RunOptions): Promise<RunResult> {
  const { seed } = options;
  const random = createRandom(seed).fork('run');
  const members = random.pick([3, 3, 3, 3, 3, 5, 2, 1]);
  const world = await createWorld({ random, agents: members + 1, mutants: new Set(options.mutants ?? []) });
  const hasBackup = random.chance(0.8);
  const durability = members === 1 ? 'async' : members === 2 ? random.pick(['async', 'one'] as const) : 'majority';
  const ackFlush = random.fork('flush').chance(0.3) ? 'disk' : 'os';
  const clusterId = await addCluster(world, { name: 'orders', members, hasBackup, durability, ackFlush });
  const faults =
    options.faults ??
    drawFaults(random.fork('faults'), { members, fromMs: 9000, toMs: 9000 + random.between(5, 40) * 1000 });
  const simulation = createSimulation(world, [clusterId], members, random.fork('plane').next);
  options.sabotage?.(simulation);
  simulation.startPlane();
  const clients = connectClients(simulation, clusterId);
  const run = createRunner(simulation);

  let failure: string | null = null;
  let unhealthy: Unhealthy | null = null;
  let healedAfterMs: number | null = null;
  const started = world.time.now();
  try {
    for (const [index, fault] of faults.entries()) {
      if (options.without?.includes(index + 1)) continue;
      await run.until(started + fault.at);
      world.story.tell(`FAULT ${index + 1}`, JSON.stringify({ ...fault, at: undefined }));
      await strike(simulation, fault);
    }
    await run.until(world.time.now() + 5000);
    const peaceAt = makePeace(simulation);
    // What lasts ends within the longest fault; whoever is refused until then is refused for good.
    await run.until(peaceAt + healMs, () => {
      unhealthy = findUnhealthy(simulation, clusterId);
      return unhealthy === null || (unhealthy.isJustified && world.time.now() > peaceAt + 90_000);
    });
    unhealthy = findUnhealthy(simulation, clusterId);
    const refusal: Unhealthy | null = unhealthy;
    if (refusal && !refusal.isJustified)
      world.checks.fail('G6', `not healthy ${healMs} ms after the last fault: ${refusal.why}`);
    healedAfterMs = world.time.now() - peaceAt;
    await run.until(world.time.now() + 1500);
    clients.stop();
    await run.until(world.time.now() + 1000);
    world.checks.checkPrimaries();
    const anomaly = findAnomaly(clients.history);
    if (anomaly) world.checks.fail('register', anomaly);
    if (random.chance(0.5)) await deleteCluster(simulation, clusterId, run);
    assertNothingLeft(simulation);
  } catch (error) {
    if (world.checks.violations.length === 0) failure = `the simulation broke: ${(error as Error).stack}`;
  } finally {
    clients.stop();
    for (const { controller, process } of simulation.planes) {
      controller.stop();
      process.kill();
    }
  }
  const [violation] = world.checks.violations;
  failure = violation?.message ?? failure;
  const epochs = (world.store.db.prepare('SELECT MAX(epoch) AS epoch FROM cluster').get() as { epoch: number }).epoch;
  world.store.close();
  return {
    seed,
    failure,
    guarantee: violation?.guarantee ?? (failure === null ? null : 'broken'),
    faults,
    story: world.story.lines(),
    facts: {
      members,
      epochs,
      acknowledged: clients.acknowledged.size,
      virtualMs: world.time.now() - started,
      healedAfterMs,
      steps: run.steps(),
      refusal: (unhealthy as Unhealthy | null)?.why ?? null,
      hits: Object.fromEntries(world.hits),
    },
  };
}

export function createSimulation(
  world: World,
  clusterIds: readonly string[],
  members: number,
  random: () => number,
): Simulation {
  const { time, story } = world;
  let lives = 0;
  const kill = (plane: Process, why: string) => {
    if (!plane.isAlive()) return;
    story.tell(plane.name, `dies: ${why}`);
    plane.kill();
    const found = simulation.planes.find(({ process }) => process === plane);
    if (found) time.after(0, () => found.controller.stop());
    simulation.planes = simulation.planes.filter(({ process }) => process !== plane);
    superviseSoon();
  };
  const superviseSoon = () =>
    time.after(restartMs.min + Math.floor(random() * (restartMs.max - restartMs.min)), () => {
      if (!simulation.active()) simulation.startPlane();
    });
  const strikeIf = (armed: 'commit' | 'command' | 'call', plane: Process, when: 'before' | 'after', what: string) => {
    const due = simulation.armed[armed];
    if (!due || due.when !== when || !plane.isAlive()) return;
    due.count -= 1;
    if (due.count > 0) return;
    simulation.armed[armed] = null;
    kill(plane, `${when} ${what}`);
  };
  const simulation: Simulation = {
    world,
    clusterIds,
    members,
    planes: [],
    kill,
    armed: { commit: null, command: null, call: null, lostAnswers: 0, late: { count: 0, ms: 0 } },
    active: () => simulation.planes.findLast(({ process }) => process.isAlive() && !process.isPaused()) ?? null,
    onCommit(process, when) {
      strikeIf('commit', process, when, 'a commit of the store');
    },
    startPlane() {
      lives += 1;
      const process = createProcess(time, `control ${lives}`);
      const store = openStoreView(world.store, process, (when) => {
        if (when === 'after') world.checks.onStored();
        simulation.onCommit(process, when);
      });
      const frameworkId = (
        world.store.db.prepare("SELECT value FROM setting WHERE name = 'framework_id'").get() as
          | { value: string }
          | undefined
      )?.value;
      startControlPlane({
        process,
        store,
        newId: world.newId,
        random,
        log: story.logger(process.name),
        openExecutor: (address) =>
          createSimulatedChannel(
            {
              time,
              net: world.net,
              process,
              find: world.findExecutor,
              onCommand(command, { taskId }, when, result) {
                const ordinal = taskId.split('.')[1];
                const {
                  secrets: _secrets,
                  version: _version,
                  ...rest
                } = command as typeof command & { secrets?: unknown };
                if (when === 'before') story.tell(process.name, `→ ${ordinal} ${JSON.stringify(rest)}`);
                else if (result?.outcome === 'refused')
                  story.tell(`member ${ordinal}`, `refuses ${command.kind}: ${result.code} ${result.message}`);
                strikeIf('command', process, when, `command ${command.kind}`);
              },
              losesAnswer() {
                if (simulation.armed.lostAnswers <= 0) return false;
                simulation.armed.lostAnswers -= 1;
                story.tell('net', 'loses an answer');
                return true;
              },
              lateness(command) {
                const { late } = simulation.armed;
                if (late.count <= 0 || (late.command && late.command !== command.kind)) return 0;
                if (late.epoch !== undefined && late.epoch !== command.epoch) return 0;
                late.count -= 1;
                return late.ms;
              },
            },
            address,
          ),
        openScheduler: (handlers) =>
          createSimulatedScheduler({
            time,
            net: world.net,
            mesos: world.mesos,
            process,
            frameworkInfo,
            frameworkId: frameworkId ?? null,
            newId: world.newId,
            random,
            handlers,
            onCall: (type, when) => strikeIf('call', process, when, `call ${type}`),
          }),
        onEnd: (reason) => kill(process, reason.message),
      }).then(
        (plane) => {
          if (process.isAlive()) simulation.planes.push(plane);
          else plane.controller.stop();
        },
        (error: Error) => {
          story.tell(process.name, `did not start: ${error.message}`);
          process.kill();
          superviseSoon();
        },
      );
    },
  };
  return simulation;
}

export function connectClients({ world }: Simulation, clusterId: string): Clients {
  const select = world.store.db.prepare(
    `SELECT b.ip, b.bundle FROM cluster c JOIN member m ON m.cluster_id = c.id AND m.ordinal = c.primary_ordinal
     JOIN bundle b ON b.id = m.bundle_id WHERE c.id = ? AND c.activated_at IS NOT NULL`,
  );
  return startClients({
    time: world.time,
    net: world.net,
    random: world.random.fork('clients'),
    writers: 2,
    findInstance: ({ host, port }) => world.servers.at.get(`${host}:${port}`) ?? null,
    askEndpoint() {
      const row = select.get(clusterId) as { ip: string; bundle: string } | undefined;
      return row ? { host: row.ip, port: JSON.parse(row.bundle).ports.mysql } : null;
    },
    onAcknowledged: (transaction) => world.checks.onAcknowledged(clusterId, transaction),
  });
}

interface Runner {
  /** Runs to a moment of virtual time, or until `isDone` (looked at twice a second). Throws at a violation. */
  until(at: number, isDone?: () => boolean): Promise<void>;
  steps(): number;
}

export function createRunner({ world }: Simulation): Runner {
  const { time, checks } = world;
  let steps = 0;
  return {
    steps: () => steps,
    async until(at, isDone) {
      let lookAt = time.now() + 500;
      while (time.now() < at) {
        const hasRun = await time.step(isDone ? Math.min(at, lookAt) : at);
        steps += 1;
        if (checks.violations.length > 0) throw new Error('a guarantee was broken');
        if (!isDone || hasRun) continue;
        if (isDone()) return;
        lookAt = time.now() + 500;
      }
    },
  };
}

/** No more faults: what was cut is mended, what was away comes back. */
function makePeace(simulation: Simulation): number {
  const { world } = simulation;
  world.story.tell('PEACE', 'no more faults');
  simulation.armed.commit = null;
  simulation.armed.command = null;
  simulation.armed.call = null;
  simulation.armed.lostAnswers = 0;
  simulation.armed.late.count = 0;
  return world.time.now();
}

async function deleteCluster(simulation: Simulation, clusterId: string, run: Runner): Promise<void> {
  const { world } = simulation;
  world.story.tell('person', 'deletes the cluster');
  await markClusterDeleted(world.store, clusterId, 'a person');
  simulation.active()?.controller.wake(clusterId);
  const select = world.store.db.prepare('SELECT deleted_at FROM cluster WHERE id = ?');
  const isGone = () => (select.get(clusterId) as { deleted_at: number | null }).deleted_at !== null;
  await run.until(world.time.now() + deleteMs, () => isGone() && findReserved(world).length === 0);
  if (!isGone()) world.checks.fail('G5', `the cluster is not gone ${deleteMs} ms after its deletion`);
  const left = findReserved(world);
  if (left.length > 0) world.checks.fail('G5', `reserved after the deletion: ${left.join(', ')}`);
  await run.until(world.time.now() + 3000);
  const machines = simulation.active()?.controller.machines() ?? [];
  if (machines.length > 0) world.checks.fail('leak', `machines after the deletion: ${machines.join(', ')}`);
}

function findReserved({ mesos }: World): string[] {
  return mesos.agentKeys.flatMap((key) =>
    (mesos.checkpoint(key)?.total ?? []).flatMap(({ reservations, name }) => {
      const label = reservations?.at(-1)?.labels?.labels.find((one) => one.key === 'selvedge.reservation')?.value;
      return label === undefined ? [] : [`${name} of ${label}`];
    }),
  );
}

/** A bundle that nobody owns any more must not stay reserved. */
function assertNothingLeft({ world, planes }: Simulation): void {
  for (const { controller, process } of planes) {
    if (process.isPaused()) continue;
    controller.stop();
    if (process.timers() > 0) world.checks.fail('leak', `${process.timers()} timers of ${process.name} after stop`);
  }
}
