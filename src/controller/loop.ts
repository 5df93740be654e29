/**
 * One loop per cluster, level-triggered: gather, derive, do one thing, repeat when woken. It keeps the machines that
 * the facts ask for running, and decides what no machine decides: when a change of the primary begins, and the next
 * step of the voters.
 */
import { type AnyActorLogic, type AnyActorRef, createActor } from 'xstate';
import { setClusterGone } from '../store/clusters.ts';
import { listFailovers, openFailover } from '../store/failovers.ts';
import { isAutomationOn, keepCooldown, mayFailOver, wasTriedInVain } from './automation.ts';
import { provideBackup } from './backup-actors.ts';
import { createBackupKeeper } from './backup-keeping.ts';
import { type Context, emit } from './context.ts';
import { provideFailover } from './failover-actors.ts';
import {
  type ClusterView,
  gather,
  isHeldForRestore,
  isInPlace,
  isRunning,
  type MemberView,
  primaryOf,
} from './gather.ts';
import { judge } from './judge.ts';
import { isRetired } from './lending.ts';
import { provideMember } from './member-actors.ts';
import { provideRebuild } from './rebuild-actors.ts';
import { createRefills } from './refilling.ts';
import { provideRestore } from './restore-actors.ts';
import { provideRetirement } from './retirement-actors.ts';
import { provideRemoval, provideVerify } from './verify-actors.ts';
import { stepVoters } from './voter-actor.ts';

const tickMs = 1000;
/** A refused failover is tried again after this long, as more members may be reached by then. */
const retryRefusedMs = 5000;

export interface ClusterLoop {
  readonly clusterId: string;
  /** False when nothing of the cluster is left. */
  isDone(): boolean;
  /** Live machines by key; tests assert that none is left. */
  machines(): ReadonlyMap<string, AnyActorRef>;
  stop(): void;
}

/** `onView` receives what each tick gathered: the API's picture of the cluster. */
export function startLoop(context: Context, clusterId: string, onView: (view: ClusterView) => void): ClusterLoop {
  const machines = new Map<string, AnyActorRef>();
  const keeper = createBackupKeeper(context);
  const refills = createRefills(context);
  const logics = {
    member: provideMember(context),
    failover: provideFailover(context),
    backup: provideBackup(context),
    rebuild: provideRebuild(context),
    restore: provideRestore(context),
    verify: provideVerify(context),
    removal: provideRemoval(context),
    retirement: provideRetirement(context),
  };
  /** Machines that came to their end; a member that is gone has no more work, whatever its row says. */
  const ended = new Set<string>();
  let isDone = false;
  let isStopped = false;
  let isTicking = false;
  let isWoken = false;
  let timer: unknown;
  let hadIntent = '';
  let wasWhole: boolean | null = null;

  function ensureMachine(key: string, logic: AnyActorLogic, input: unknown): void {
    if (machines.has(key) || ended.has(key)) return;
    const actor = createActor(logic, { input: input as never, clock: context.clock as never });
    machines.set(key, actor);
    actor.subscribe({
      complete: () => {
        machines.delete(key);
        if (key.startsWith('member.')) ended.add(key);
        wake();
      },
      error: (error) => {
        // A machine only dies of a fault of ours: the next tick starts it again from facts.
        context.log.error({ err: error, machine: key }, 'a machine died');
        machines.delete(key);
      },
    });
    actor.start();
  }

  async function tick(): Promise<void> {
    const view = await gather(context, clusterId);
    onView(view);
    const { cluster } = view;
    if (cluster.deletedAt !== null) {
      isDone = true;
      return stop();
    }
    for (const { ordinal, member } of view.members) {
      if (member.desired === 'gone' && member.phase === 'gone') continue;
      ensureMachine(`member.${ordinal}`, logics.member, { clusterId, ordinal });
    }
    if (view.restore)
      ensureMachine(`restore.${view.restore.id}`, logics.restore, { clusterId, restoreId: view.restore.id });
    tellIntent(isRetired(view) ? 'retired' : cluster.desired);
    await tellWhole(view);
    if (cluster.desired === 'deleted') return finishDeletion(view);
    if (cluster.desired === 'retained') return lookRetained(view);
    if (view.failover)
      ensureMachine(`failover.${view.failover.id}`, logics.failover, { clusterId, failoverId: view.failover.id });
    for (const { id } of view.backups) ensureMachine(`backup.${id}`, logics.backup, { clusterId, backupId: id });
    for (const { id, state } of view.verifications)
      if (state === 'open') ensureMachine(`verify.${id}`, logics.verify, { clusterId, verificationId: id });
    for (const { id, state } of view.kept)
      if (state === 'removing') ensureMachine(`removal.${id}`, logics.removal, { clusterId, backupId: id });
    for (const { id } of view.rebuilds) ensureMachine(`rebuild.${id}`, logics.rebuild, { clusterId, rebuildId: id });
    if (view.failover || isHeldForRestore(view)) return;
    await keepCooldown(context, view);
    if (await openNeededFailover(context, view)) return wake();
    if (await stepVoters(context, view)) wake();
    await keeper.look(view);
    await refills.look(view);
  }

  /** Machines that wait learn at once that a person changed their mind, or that their task is to end now. */
  function tellIntent(desired: string): void {
    if (hadIntent !== '' && hadIntent !== desired) {
      for (const [key, actor] of machines) if (key.startsWith('member.')) actor.send({ type: 'intent.changed' });
    }
    hadIntent = desired;
  }

  /** The moments at which all members serve, and at which they no longer do. */
  async function tellWhole(view: ClusterView): Promise<void> {
    const { cluster, members } = view;
    // After a start of the control plane nobody is connected yet: that is no change.
    if (wasWhole === null && members.some(({ isLive, isConnected }) => isLive && !isConnected)) return;
    const away = members.filter((member) => !member.isConnected || !isInPlace(view, member));
    const isWhole = cluster.activatedAt !== null && away.length === 0;
    const isNews = wasWhole !== null && wasWhole !== isWhole && cluster.desired === 'present';
    wasWhole = isWhole;
    if (isNews && isWhole) await emit(context, 'cluster.ready', cluster, `all ${members.length} members serve`);
    if (isNews && !isWhole) {
      const ordinals = away.map(({ ordinal }) => ordinal).join(', ');
      await emit(context, 'cluster.degraded', cluster, `not in their place: ${ordinals}`);
    }
  }

  /** Nothing else works on it any more; the store has closed what was open. */
  function lookRetained({ cluster }: ClusterView): void {
    for (const [key, actor] of machines) {
      if (key.startsWith('member.') || key === 'retirement') continue;
      actor.stop();
      machines.delete(key);
    }
    if (cluster.retained?.downAt === undefined) ensureMachine('retirement', logics.retirement, { clusterId });
  }

  async function finishDeletion(view: ClusterView): Promise<void> {
    const isAllGone = view.members.every(
      ({ isLive, bundle }) => !isLive && (bundle === null || bundle.state === 'released'),
    );
    if (!isAllGone || [...machines.keys()].some((key) => key.startsWith('member.'))) return;
    const isChanged = await setClusterGone(context.store, context.leader, clusterId, context.clock.now());
    if (isChanged) await emit(context, 'cluster.deleted', view.cluster, 'nothing of it is left on Mesos');
    wake();
  }

  async function run(): Promise<void> {
    isTicking = true;
    try {
      do {
        isWoken = false;
        await tick();
      } while (isWoken && !isStopped);
    } catch (error) {
      if (!isStopped) context.log.error({ err: error, clusterId }, 'a tick failed');
    } finally {
      isTicking = false;
      if (!isStopped) timer = context.clock.setTimeout(wake, tickMs);
    }
  }

  function wake(): void {
    if (isStopped) return;
    isWoken = true;
    if (isTicking) return;
    context.clock.clearTimeout(timer);
    void run();
  }

  const off = context.wakes.listen(clusterId, wake);
  function stop(): void {
    isStopped = true;
    context.clock.clearTimeout(timer);
    off();
    for (const actor of machines.values()) actor.stop();
    machines.clear();
  }
  wake();
  return { clusterId, isDone: () => isDone, machines: () => machines, stop };
}

/** The first primary once every member runs; another one on proof that the primary has ended. */
async function openNeededFailover(context: Context, view: ClusterView): Promise<boolean> {
  const { cluster } = view;
  const open = async (kind: 'first' | 'failover', reason: string) => {
    const row = await openFailover(context.store, {
      id: context.newId(),
      clusterId: cluster.id,
      kind,
      reason,
      requestedBy: 'automation',
      leader: context.leader,
    });
    await emit(context, 'failover.started', cluster, reason, { data: { failover: row.id, kind } });
    return true;
  };
  if (cluster.epoch === 0) {
    const areReady = view.members.every(
      (member) => member.isConnected && isRunning(member) && member.member.initialisedAt !== null,
    );
    return areReady ? open('first', 'all members run') : false;
  }
  const primary = primaryOf(view);
  if (!primary || view.members.length === 1) return false;
  const verdict = judge(context, view, primary);
  if (verdict.kind === 'alive' || (verdict.kind === 'suspected' && !verdict.isAgreed)) return false;
  // In the cooldown a dead primary is started again: one that ended on damaged data is not, so nobody waits for it.
  const isLost = primary.isConnected && isDamaged(primary);
  const now = context.clock.now();
  if (!(isLost ? isAutomationOn(cluster, now) : mayFailOver(cluster, now))) return false;
  const [newest] = await listFailovers(context.store, cluster.id);
  const wasTried = wasTriedInVain(newest, cluster.epoch);
  if (wasTried && context.clock.now() - (newest?.endedAt ?? 0) < retryRefusedMs) return false;
  return open('failover', verdict.kind === 'dead' ? `${verdict.proof}: ${verdict.detail}` : verdict.missing);
}

const isDamaged = ({ status }: MemberView) =>
  status?.instance === 'failed' && status.reason?.code === 'DATA_DIR_DAMAGED';
