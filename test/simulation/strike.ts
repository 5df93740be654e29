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
import { firstState } from './disks.ts';
import type { SimulatedExecutor } from './executor.ts';
import type { Fault, Target } from './faults.ts';
import { loseRelay } from './mysql.ts';
import { clientHost, controlHost } from './net.ts';
import type { Simulation } from './types.ts';

export async function strike(simulation: Simulation, fault: Fault): Promise<void> {
  const { world, armed } = simulation;
  const hit = (what: string = fault.kind) => void world.hits.set(what, (world.hits.get(what) ?? 0) + 1);
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
      if (plane) hit();
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
      armed.late.command = fault.command;
      armed.late.epoch = fault.epoch;
      return;
    case 'killMysqld': {
      const member = executorOf(fault.target)?.member;
      if (member?.instance) hit();
      return member?.instanceKilled();
    }
    case 'stopMysqld': {
      const instance = executorOf(fault.target)?.member?.instance;
      if (!instance) return;
      hit();
      instance.stop();
      return later(fault.ms, () => instance.resume());
    }
    case 'hangDisk':
    case 'fullDisk': {
      const { data, backup } = executorOf(fault.target)?.member?.options ?? {};
      const disk = (fault.kind === 'fullDisk' && fault.volume === 'backup' ? backup : data)?.disk;
      if (!disk) return;
      hit(fault.kind === 'hangDisk' ? 'hangDisk' : `fullDisk ${fault.volume}`);
      disk.set(fault.kind === 'hangDisk' ? 'hung' : 'full');
      return later(fault.ms, () => disk.set('well'));
    }
    case 'emptyVolume': {
      const executor = executorOf(fault.target);
      const { data, backup } = executor?.member?.options ?? {};
      // Whoever is about to be the primary is it already, for this purpose.
      const chosen = world.store.db.prepare("SELECT facts FROM failover WHERE outcome = 'open'").get();
      const heir = chosen ? (JSON.parse(String(chosen['facts'])) as { chosen?: number }).chosen : undefined;
      const isSpared = fault.sparesPrimary === true && [executors.primary, heir].includes(fault.target as number);
      if (!executor || !data?.marker || (isSpared && fault.volume !== 'backup')) return;
      hit(`emptyVolume ${fault.volume}`);
      executor.member?.instanceKilled();
      mesos.killExecutor(executor);
      if (fault.volume !== 'backup') Object.assign(data, { marker: null, data: null, state: firstState, tails: 0 });
      if (fault.volume !== 'data' && backup) Object.assign(backup, { marker: null, backups: [], tails: 0 });
      return;
    }
    case 'purgeLogs': {
      const data = executorOf(fault.target)?.member?.instance?.data;
      if (!data) return;
      hit();
      // All logs but the last: a replica that lacks what was in them needs a copy.
      for (const { key, n } of data.log.slice(0, Math.max(0, data.committed - 5))) data.purged.add(key, n);
      return;
    }
    case 'leaveTail': {
      const primary = executorOf('primary');
      if (!primary) return;
      hit();
      const others = mesos.agentKeys.map(mesos.hostOf).filter((host) => host !== primary.host);
      for (const other of others) net.cut(primary.host, other);
      later(fault.ms - 500, () => primary.member?.instanceKilled());
      later(fault.ms, () => {
        for (const other of others) net.mend(primary.host, other);
      });
      const { killAt } = fault;
      const hook: typeof world.hooks.onTrimStep = (step, process) => {
        hit('trim');
        if (step !== killAt) return;
        world.hooks.onTrimStep = null;
        const found = mesos.executors().find(({ executor }) => executor.process === process);
        if (!found) return;
        hit(`trim killed at ${step}`);
        mesos.killExecutor(found.executor);
      };
      world.hooks.onTrimStep = hook;
      return later(60_000, () => {
        if (world.hooks.onTrimStep === hook) world.hooks.onTrimStep = null;
      });
    }
    case 'killAllMysqld':
      for (const executor of executors.values()) executor.member?.instanceKilled();
      return;
    case 'killExecutor': {
      const executor = executorOf(fault.target);
      if (!executor) return;
      hit();
      return mesos.killExecutor(executor);
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
      if (!seat) return;
      hit();
      const { keepsId, behindMs } = fault;
      if (behindMs === undefined) return reboot(simulation, seat, keepsId);
      const instance = executorOf(fault.target)?.member?.instance;
      if (instance) instance.applyMs = 2000;
      return later(behindMs, () => reboot(simulation, seat, keepsId));
    }
    case 'rebootAll':
      hit();
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
      hit();
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
        // Half of the pauses are so short that their lease ends while the control plane is away.
        options: fault.kind === 'failover' ? { force: fault.force } : fault.at % 2 === 1 ? { maxPauseMs: 500 } : {},
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
  const { mesos, time, disks, random, hits } = simulation.world;
  // Without a way to the master nobody saw the agent go: it would be taken for the same one.
  const isSeen = !mesos.cluster.seats.get(seat)?.isCut;
  const host = mesos.hostOf(seat);
  rebootSeat(mesos.cluster, seat, { keepsId: keepsId || !isSeen });
  mesos.countBoot(host);
  for (const volume of disks.volumes()) {
    if (!volume.path.startsWith(`/${host}/`)) continue;
    volume.disk.set('well');
    const lost = volume.data ? loseRelay(volume.data, random) : 0;
    if (lost > 0) hits.set('relay log lost', (hits.get('relay log lost') ?? 0) + 1);
  }
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
