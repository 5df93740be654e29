/** Carries a fault out. What lasts ends by itself. */
import {
  cutSeat,
  failOverMaster,
  killSeat,
  mendSeat,
  rebootSeat,
  startSeat,
} from '../../src/mesos/local/core/cluster.ts';
import { openBackup } from '../../src/store/backups.ts';
import { getCluster } from '../../src/store/clusters.ts';
import { openFailover } from '../../src/store/failovers.ts';
import { openRebuild } from '../../src/store/rebuilds.ts';
import type { SimulatedExecutor } from './executor.ts';
import type { Fault, Target } from './faults.ts';
import { clientHost, controlHost } from './net.ts';
import type { Simulation } from './types.ts';

export async function strike(simulation: Simulation, fault: Fault): Promise<void> {
  const { world, armed } = simulation;
  const { time, net, mesos } = world;
  const clusterId = simulation.clusterIds[0]!;
  const executors = await findExecutors(simulation, clusterId);
  const executorOf = (target: Target) => executors.get(target === 'primary' ? executors.primary : target) ?? null;
  /** Host of a member, also when its task is not there now. */
  const hostOf = (target: Target) =>
    hostOfMember(simulation, clusterId, target === 'primary' ? executors.primary : target);
  const seatOf = (target: Target) => {
    const host = hostOf(target);
    return mesos.agentKeys.find((key) => mesos.hostOf(key) === host) ?? null;
  };
  const everybody = [...mesos.agentKeys.map(mesos.hostOf), controlHost, clientHost];
  const later = (ms: number, run: () => void) => void time.after(ms, run);
  switch (fault.kind) {
    case 'killController': {
      const plane = simulation.active();
      if (plane) simulation.kill(plane.process, 'SIGKILL');
      return;
    }
    case 'killAtCommit':
      armed.commit = { count: fault.count, when: fault.when };
      return;
    case 'killAtCommand':
      armed.command = { count: fault.count, when: fault.when };
      return;
    case 'killAtCall':
      armed.call = { count: fault.count, when: fault.when };
      return;
    case 'pauseController': {
      const plane = simulation.active();
      if (!plane) return;
      plane.process.pause();
      if (fault.hasSuccessor) later(200, () => simulation.active() ?? simulation.startPlane());
      later(fault.ms, () => {
        if (plane.process.isAlive()) world.story.tell(plane.process.name, 'wakes');
        plane.process.resume();
      });
      return;
    }
    case 'loseAnswers':
      armed.lostAnswers = fault.count;
      return;
    case 'lateCommands':
      armed.late.count = fault.count;
      armed.late.ms = fault.ms;
      return;
    case 'killMysqld':
      return executorOf(fault.target)?.member?.instanceKilled();
    case 'killAllMysqld':
      for (const executor of executors.values()) executor.member?.instanceKilled();
      return;
    case 'killExecutor': {
      const executor = executorOf(fault.target);
      if (executor) mesos.killExecutor(executor);
      return;
    }
    case 'killAgent': {
      const seat = seatOf(fault.target);
      if (!seat) return;
      killSeat(mesos.cluster, seat);
      return later(fault.ms, () => startSeat(mesos.cluster, seat));
    }
    case 'partitionAgent': {
      const seat = seatOf(fault.target);
      if (!seat) return;
      cutSeat(mesos.cluster, seat);
      return later(fault.ms, () => mendSeat(mesos.cluster, seat));
    }
    case 'rebootHost': {
      const seat = seatOf(fault.target);
      if (seat) reboot(simulation, seat, fault.keepsId);
      return;
    }
    case 'rebootAll':
      for (const seat of mesos.agentKeys) reboot(simulation, seat, true);
      return;
    case 'diskAway': {
      const seat = seatOf(fault.target);
      if (!seat) return;
      const hidden = world.disks.volumes().filter(({ path }) => path.startsWith(`/${mesos.hostOf(seat)}/`));
      reboot(simulation, seat, true);
      for (const volume of hidden) world.disks.hide(volume);
      // Whoever looked at the empty directory has to look again: the machine is restarted with its disk.
      return later(fault.ms, () => {
        for (const volume of hidden) world.disks.unhide(volume);
        reboot(simulation, seat, true);
      });
    }
    case 'mesosEvent':
      mesos.cluster.eventFaults.push(
        fault.how === 'delay' ? { type: fault.type, kind: 'delay', ms: 3000 } : { type: fault.type, kind: fault.how },
      );
      return;
    case 'loseCall':
      mesos.cluster.lostAnswers.push(fault.type);
      return;
    case 'cutStreams':
      return mesos.cutSchedulers();
    case 'masterAway':
      mesos.isLeading = false;
      mesos.cutSchedulers();
      return later(fault.ms, () => {
        mesos.isLeading = true;
      });
    case 'failOverMaster':
      return failOverMaster(mesos.cluster, { agents: mesos.agentKeys });
    case 'cutMembers': {
      const [a, b] = [hostOf(fault.a), hostOf(fault.b)];
      if (!a || !b || a === b) return;
      net.cut(a, b);
      return later(fault.ms, () => net.mend(a, b));
    }
    case 'cutControl': {
      const host = hostOf(fault.target);
      if (!host) return;
      net.cut(host, controlHost);
      return later(fault.ms, () => net.mend(host, controlHost));
    }
    case 'isolate': {
      const host = hostOf(fault.target);
      const seat = seatOf(fault.target);
      if (!host || !seat) return;
      const others = everybody.filter((other) => other !== host);
      for (const other of others) net.cut(host, other);
      cutSeat(mesos.cluster, seat);
      return later(fault.ms, () => {
        for (const other of others) net.mend(host, other);
        mendSeat(mesos.cluster, seat);
      });
    }
    case 'slowNet':
      net.setSlowness(fault.factor);
      return later(fault.ms, () => net.setSlowness(1));
    case 'slowApplier': {
      const instance = executorOf(fault.target)?.member?.instance;
      if (!instance) return;
      instance.applyMs = 2000;
      return later(fault.ms, () => {
        instance.applyMs = 2;
      });
    }
    default:
      return asPerson(simulation, clusterId, fault, executors.primary);
  }
}

/** As the API does it: the intent is stored, the loop is woken. A refusal is an answer. */
async function asPerson(
  simulation: Simulation,
  clusterId: string,
  fault: Extract<Fault, { kind: 'switchover' | 'failover' | 'rebuild' | 'backup' }>,
  primary: number,
): Promise<void> {
  const { store, newId, story } = simulation.world;
  const common = { id: newId(), clusterId, reason: 'asked for', requestedBy: 'a person' };
  try {
    if (fault.kind === 'switchover' || fault.kind === 'failover')
      await openFailover(store, {
        ...common,
        kind: fault.kind,
        candidate: fault.candidate,
        options: fault.kind === 'failover' ? { force: fault.force } : {},
      });
    else {
      const ordinal = fault.target === 'primary' ? primary : fault.target;
      if (fault.kind === 'backup') await openBackup(store, { ...common, ordinal });
      else await openRebuild(store, { ...common, ordinal, incarnation: newId(), serverUuid: newId() });
    }
  } catch (error) {
    story.tell('person', `is refused: ${(error as Error).message}`);
  }
  simulation.active()?.controller.wake(clusterId);
}

function reboot(simulation: Simulation, seat: string, keepsId: boolean): void {
  const { mesos, time } = simulation.world;
  // Without a way to the master nobody saw the agent go: it would be taken for the same one.
  const isSeen = !mesos.cluster.seats.get(seat)?.isCut;
  rebootSeat(mesos.cluster, seat, { keepsId: keepsId || !isSeen });
  time.after(1500, () => startSeat(mesos.cluster, seat));
}

async function findExecutors(
  { world, members }: Simulation,
  clusterId: string,
): Promise<Map<number, SimulatedExecutor> & { readonly primary: number }> {
  const { primary } = await getCluster(world.store, clusterId);
  const found = new Map<number, SimulatedExecutor>();
  for (let ordinal = 0; ordinal < members; ordinal++) {
    const executor = world.findMember(clusterId, ordinal);
    if (executor) found.set(ordinal, executor);
  }
  return Object.assign(found, { primary: primary ?? 0 });
}

function hostOfMember({ world }: Simulation, clusterId: string, ordinal: number): string | null {
  const row = world.store.db
    .prepare('SELECT b.ip FROM member m JOIN bundle b ON b.id = m.bundle_id WHERE m.cluster_id = ? AND m.ordinal = ?')
    .get(clusterId, ordinal) as { ip: string } | undefined;
  return row?.ip ?? null;
}
