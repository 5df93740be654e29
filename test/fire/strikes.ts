/**
 * What is done to the cluster. A strike answers when it has taken back what does not end by itself (a stopped process,
 * an agent that is away); that the cluster is whole again is waited for by whoever calls it.
 */
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { ApiError } from '../demo/api-client.ts';
import { findMember, isAlive, killProcess, type Process, signalProcess } from '../demo/processes.ts';
import { clusterName } from '../demo/steps.ts';
import { waitFor } from '../demo/wait.ts';
import type { Random } from '../simulation/random.ts';
import { ofDisks } from './disk-strikes.ts';
import { ofNetwork } from './network-strikes.ts';
import type { Strike } from './strike.ts';
import { agentOf, findMysqld, look, pause, postFault, primaryOf, replicasOf, type World } from './world.ts';

/** Detection takes 8 s; a stopped process that nobody ended by then is let go. */
const stoppedMs = 15_000;
const workTimeoutMs = 60_000;

function kill(world: World, ordinals: readonly number[]): string {
  const targets = ordinals.map((ordinal) => findMysqld(world, ordinal));
  for (const target of targets) if (target) killProcess(target);
  return `mysqld of ${ordinals.map((ordinal, index) => `${ordinal}${targets[index] ? '' : ' (was down)'}`).join(', ')}`;
}

function killExecutor({ clusterId }: World, ordinal: number): string {
  const found = findMember(clusterId, ordinal);
  if (found) killProcess(found.executor);
  return `executor of ${ordinal}${found ? '' : ' (was down)'}`;
}

/** SIGSTOP; SIGCONT after `ms`, or sooner when somebody ended it. True when it was ended. */
async function stopProcess(world: World, target: Process | null, ms: number): Promise<boolean> {
  if (!target) return false;
  signalProcess(target, 'SIGSTOP');
  try {
    const { signal } = world;
    await waitFor({ what: 'its end', timeoutMs: ms, signal }, () => !isAlive(target)).catch(() => {});
    return !isAlive(target);
  } finally {
    signalProcess(target, 'SIGCONT');
  }
}

async function restartControlPlane(world: World, downMs: number): Promise<void> {
  await world.plane.kill();
  await pause(world, downMs);
  await world.plane.start();
}

/** What the API says to a request that may come at a bad moment. */
async function ask(what: string, work: () => Promise<unknown>): Promise<string> {
  try {
    await work();
    return what;
  } catch (error) {
    if (error instanceof ApiError) return `${what} refused: ${error.code}`;
    return `${what} not answered`;
  }
}

const switchOver = ({ api }: World, candidate?: number) =>
  ask('switchover', () =>
    api.changePrimary(clusterName, {
      kind: 'switchover',
      reason: 'fire',
      ...(candidate === undefined ? {} : { candidate }),
    }),
  );
const failOver = ({ api }: World) =>
  ask('forced failover', () =>
    api.changePrimary(clusterName, { kind: 'failover', force: true, reason: 'fire: given up' }),
  );

/** Until no change of the primary is open. */
async function waitDecided({ api, signal }: World): Promise<string> {
  return waitFor({ what: 'the end of the change', timeoutMs: workTimeoutMs, signal }, async () => {
    const [newest] = await api.failovers(clusterName);
    return newest && newest.outcome !== 'open' && `${newest.outcome} ${newest.refusal?.code ?? ''}`.trim();
  });
}

async function backUp(world: World, ordinal: number, between: () => Promise<unknown>): Promise<string> {
  const { api, signal } = world;
  const { id } = await api.backUp(clusterName, ordinal);
  await between();
  return waitFor({ what: 'the end of the backup', timeoutMs: workTimeoutMs, signal }, async () => {
    const { state, code } = await api.backup(clusterName, id);
    return state !== 'open' && `backup of ${ordinal} ${state} ${code ?? ''}`.trim();
  });
}

async function rebuild(world: World, ordinal: number): Promise<string> {
  const { api, signal } = world;
  const { id } = await api.rebuild(clusterName, ordinal);
  return waitFor({ what: 'the end of the rebuild', timeoutMs: workTimeoutMs, signal }, async () => {
    const found = (await api.rebuilds(clusterName)).find((each) => each.id === id);
    return found && found.state !== 'open' && `${ordinal} ${found.state} from ${found.way} ${found.code ?? ''}`.trim();
  });
}

const ofMysqld: readonly Strike[] = [
  {
    name: 'SIGKILL mysqld, primary',
    changesPrimary: 'yes',
    strike: async (world) => kill(world, [primaryOf(await look(world))]),
  },
  {
    name: 'SIGKILL mysqld, replica',
    changesPrimary: 'no',
    strike: async (world, random) => kill(world, [random.pick(replicasOf(await look(world)))]),
  },
  {
    name: 'SIGKILL mysqld, both replicas',
    changesPrimary: 'no',
    strike: async (world) => kill(world, replicasOf(await look(world))),
  },
  {
    name: 'SIGKILL mysqld, all',
    changesPrimary: 'maybe',
    strike: async (world) => kill(world, [0, 1, 2]),
  },
  {
    name: 'SIGKILL mysqld, primary, then a replica',
    changesPrimary: 'maybe',
    strike: async (world, random) => {
      const cluster = await look(world);
      const first = kill(world, [primaryOf(cluster)]);
      const ms = random.between(0, 1500);
      await pause(world, ms);
      return `${first}, ${ms} ms later ${kill(world, [random.pick(replicasOf(cluster))])}`;
    },
  },
  {
    name: 'SIGSTOP mysqld, primary',
    changesPrimary: 'yes',
    strike: async (world) => {
      const ordinal = primaryOf(await look(world));
      const isEnded = await stopProcess(world, findMysqld(world, ordinal), stoppedMs);
      return `member ${ordinal}, ${isEnded ? 'ended by its executor' : 'let go'}`;
    },
  },
  {
    name: 'SIGSTOP mysqld, primary, 1 to 4 s',
    changesPrimary: 'no',
    strike: async (world, random) => {
      const ordinal = primaryOf(await look(world));
      const ms = random.between(1000, 4000);
      await stopProcess(world, findMysqld(world, ordinal), ms);
      return `member ${ordinal}, ${ms} ms`;
    },
  },
  {
    name: 'SIGSTOP mysqld, replica',
    changesPrimary: 'no',
    strike: async (world, random) => {
      const ordinal = random.pick(replicasOf(await look(world)));
      const ms = random.between(1000, 10_000);
      await stopProcess(world, findMysqld(world, ordinal), ms);
      return `member ${ordinal}, ${ms} ms`;
    },
  },
];

const ofExecutors: readonly Strike[] = [
  {
    name: 'SIGKILL executor, primary',
    changesPrimary: 'yes',
    strike: async (world) => killExecutor(world, primaryOf(await look(world))),
  },
  {
    name: 'SIGKILL executor, replica',
    changesPrimary: 'no',
    strike: async (world, random) => killExecutor(world, random.pick(replicasOf(await look(world)))),
  },
  {
    name: 'SIGSTOP executor, primary, 2 to 6 s',
    changesPrimary: 'no',
    strike: async (world, random) => {
      const ordinal = primaryOf(await look(world));
      const ms = random.between(2000, 6000);
      await stopProcess(world, findMember(world.clusterId, ordinal)?.executor ?? null, ms);
      return `member ${ordinal}, ${ms} ms`;
    },
  },
];

const ofControlPlane: readonly Strike[] = [
  {
    name: 'SIGKILL control plane and Mesos',
    changesPrimary: 'no',
    strike: async (world, random) => {
      const ms = random.between(200, 3000);
      await restartControlPlane(world, ms);
      return `away for ${ms} ms`;
    },
  },
  {
    name: 'SIGKILL control plane, then primary',
    changesPrimary: 'maybe',
    strike: async (world, random) => {
      const ordinal = primaryOf(await look(world));
      await world.plane.kill();
      const told = kill(world, [ordinal]);
      await restartControlPlane(world, random.between(0, 1500));
      return told;
    },
  },
  {
    name: 'SIGKILL primary, then control plane',
    changesPrimary: 'maybe',
    strike: async (world, random) => {
      const told = kill(world, [primaryOf(await look(world))]);
      const ms = random.between(0, 400);
      await pause(world, ms);
      await restartControlPlane(world, random.between(0, 1000));
      return `${told}, ${ms} ms later the control plane`;
    },
  },
  {
    name: 'SIGSTOP control plane, 2 to 10 s',
    changesPrimary: 'no',
    strike: async (world, random) => {
      const ms = random.between(2000, 10_000);
      const { plane } = world;
      process.kill(plane.pid(), 'SIGSTOP');
      try {
        await pause(world, ms);
      } finally {
        process.kill(plane.pid(), 'SIGCONT');
      }
      return `${ms} ms`;
    },
  },
];

const ofServicePort: readonly Strike[] = [
  {
    name: 'SIGKILL proxy',
    changesPrimary: 'no',
    strike: async (world, random) => {
      const ms = random.between(0, 1000);
      await world.servicePort.kill();
      await pause(world, ms);
      await world.servicePort.start();
      return `away for ${ms} ms`;
    },
  },
  {
    name: 'SIGKILL proxy, then the primary',
    changesPrimary: 'yes',
    strike: async (world) => {
      const ordinal = primaryOf(await look(world));
      await world.servicePort.kill();
      const told = kill(world, [ordinal]);
      await world.servicePort.start();
      return told;
    },
  },
];

const ofMesos: readonly Strike[] = [
  {
    name: 'agent killed and started',
    changesPrimary: 'no',
    strike: async (world, random) => {
      const agent = await agentOf(world, random.between(0, 2));
      await postFault(world, { kind: 'killAgent', agent });
      const ms = random.between(500, 4000);
      await pause(world, ms);
      await postFault(world, { kind: 'startAgent', agent });
      return `${agent}, ${ms} ms`;
    },
  },
  {
    name: 'agent cut off and back',
    changesPrimary: 'no',
    strike: async (world, random) => {
      const agent = await agentOf(world, random.between(0, 2));
      await postFault(world, { kind: 'partitionAgent', agent });
      const ms = random.between(500, 6000);
      await pause(world, ms);
      await postFault(world, { kind: 'returnAgent', agent });
      return `${agent}, ${ms} ms`;
    },
  },
  {
    name: 'host rebooted',
    changesPrimary: 'maybe',
    strike: async (world, random) => {
      const ordinal = random.between(0, 2);
      const agent = await agentOf(world, ordinal);
      await postFault(world, { kind: 'returnWithoutTasks', agent });
      return `${agent}, member ${ordinal}${ordinal === primaryOf(world.seen) ? ', the primary' : ''}`;
    },
  },
  {
    name: 'streams cut',
    changesPrimary: 'no',
    strike: async (world) => {
      await postFault(world, { kind: 'cutStreams' });
      return 'all';
    },
  },
  {
    name: 'another master',
    changesPrimary: 'no',
    strike: async (world) => {
      await postFault(world, { kind: 'failOverMaster' });
      return 'all agents go there';
    },
  },
  {
    name: 'answers and updates lost, then SIGKILL executor',
    changesPrimary: 'no',
    strike: async (world, random) => {
      const ordinal = random.pick(replicasOf(await look(world)));
      await postFault(world, { kind: 'loseAnswer', call: random.pick(['ACCEPT', 'REVIVE', 'ACKNOWLEDGE']) });
      const event = random.pick(['UPDATE', 'OFFERS', 'FAILURE']);
      await postFault(world, { kind: random.pick(['dropNext', 'duplicateNext']), event });
      return `${event}, ${killExecutor(world, ordinal)}`;
    },
  },
];

const byHand: readonly Strike[] = [
  {
    name: 'switchover',
    changesPrimary: 'yes',
    strike: async (world) => {
      await look(world);
      return `${await switchOver(world)} ${await waitDecided(world)}`;
    },
  },
  {
    name: 'switchover, then SIGKILL the old primary',
    changesPrimary: 'maybe',
    strike: async (world, random) => {
      const old = primaryOf(await look(world));
      const asked = await switchOver(world);
      const ms = random.between(0, 150);
      await pause(world, ms);
      const told = kill(world, [old]);
      return `${asked}, ${ms} ms later ${told}: ${await waitDecided(world)}`;
    },
  },
  {
    name: 'switchover, then SIGKILL the candidate',
    changesPrimary: 'maybe',
    strike: async (world, random) => {
      const candidate = random.pick(replicasOf(await look(world)));
      const asked = await switchOver(world, candidate);
      const ms = random.between(0, 150);
      await pause(world, ms);
      const told = kill(world, [candidate]);
      return `${asked}, ${ms} ms later ${told}: ${await waitDecided(world)}`;
    },
  },
  {
    name: 'switchover, then SIGKILL the control plane',
    changesPrimary: 'maybe',
    strike: async (world, random) => {
      await look(world);
      const asked = await switchOver(world);
      const ms = random.between(0, 150);
      await pause(world, ms);
      await restartControlPlane(world, random.between(0, 1000));
      return `${asked}, ${ms} ms later the control plane: ${await waitDecided(world)}`;
    },
  },
  {
    name: 'forced failover',
    changesPrimary: 'yes',
    strike: async (world) => {
      await look(world);
      return `${await failOver(world)} ${await waitDecided(world)}`;
    },
  },
  {
    name: 'forced failover, then SIGKILL a replica',
    changesPrimary: 'maybe',
    strike: async (world, random) => {
      const ordinal = random.pick(replicasOf(await look(world)));
      const asked = await failOver(world);
      await pause(world, random.between(0, 100));
      return `${asked}, ${kill(world, [ordinal])}`;
    },
  },
];

const ofData: readonly Strike[] = [
  {
    name: 'backup',
    changesPrimary: 'no',
    strike: async (world, random) => backUp(world, random.pick(replicasOf(await look(world))), async () => {}),
  },
  {
    name: 'backup, SIGKILL its mysqld',
    changesPrimary: 'no',
    strike: async (world, random) => {
      const ordinal = random.pick(replicasOf(await look(world)));
      return backUp(world, ordinal, async () => {
        await pause(world, random.between(50, 1000));
        kill(world, [ordinal]);
      });
    },
  },
  {
    name: 'rebuild',
    changesPrimary: 'no',
    strike: async (world, random) => rebuild(world, random.pick(replicasOf(await look(world)))),
  },
  {
    name: "replica's data destroyed",
    changesPrimary: 'no',
    strike: async (world, random) => {
      const ordinal = random.pick(replicasOf(await look(world)));
      const files = join(world.homes[ordinal]?.dataDir ?? '', 'data');
      const mysqld = findMysqld(world, ordinal);
      for (const name of readdirSync(files)) rmSync(join(files, name), { recursive: true, force: true });
      if (mysqld) killProcess(mysqld);
      return `member ${ordinal}`;
    },
  },
];

const strikes: readonly Strike[] = [
  ...ofMysqld,
  ...ofExecutors,
  ...ofControlPlane,
  ...ofServicePort,
  ...ofMesos,
  ...byHand,
  ...ofData,
];

/** Every strike that the world has the means for once in an order of the seed's, then again in another one. */
export function* drawStrikes(world: Pick<World, 'disks' | 'network'>, random: Random): Generator<Strike> {
  for (;;) {
    const deck = [...strikes, ...(world.disks ? ofDisks : []), ...(world.network ? ofNetwork : [])];
    while (deck.length > 0) yield* deck.splice(random.between(0, deck.length - 1), 1);
  }
}
