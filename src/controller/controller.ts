/**
 * The framework's controller: one subscription to Mesos, one loop per cluster, and what they share. It leads before it
 * subscribes; a newer leader, or another scheduler with the framework's id, ends both.
 */
import type { MemberSecrets, Status } from '../channel/protocol.ts';
import type { Clock } from '../clock.ts';
import type { Verdict } from '../cluster/detection.ts';
import { defaultLimits } from '../cluster/detection.ts';
import type { Logger } from '../log.ts';
import { accept, acknowledge, acknowledgeOperation, decline, revive } from '../mesos/calls.ts';
import type { SchedulerEvent } from '../mesos/scheduler-api.ts';
import type { SchedulerClient, SchedulerHandlers } from '../mesos/scheduler-client.ts';
import { listClusterIds } from '../store/clusters.ts';
import { isLeading, setFrameworkId } from '../store/leadership.ts';
import type { BundleRow, ClusterSecrets, Leader } from '../store/rows.ts';
import type { Store } from '../store/store.ts';
import { type Archives, createArchives } from './archives.ts';
import { createAudits } from './audit.ts';
import { type Context, type ExecutorCommand, emit, type FrameworkIdentity } from './context.ts';
import { createExecutors, type ExecutorAddress, type ExecutorClient } from './executors.ts';
import { type ClusterView, primaryOf } from './gather.ts';
import { judge } from './judge.ts';
import { type ClusterLoop, startLoop } from './loop.ts';
import { createMarket, type Market } from './market.ts';
import { type Plan, type PlanRequest, planChange } from './plan.ts';
import { createPrimarySets, lastKnownOf } from './primary-sets.ts';
import { createRates } from './rates.ts';
import { createReconciler } from './reconciler.ts';
import { createReservations, type Orphan, resumeReleases } from './reservations.ts';
import { type ShareOptions, shareMember } from './sharing.ts';
import { connectAllExecutors, recordOperationStatus, recordTaskStatus } from './tasks.ts';
import { describeVoterWaits } from './voter-actor.ts';
import { createWakes } from './wakes.ts';

const tickMs = 1000;

export interface ControllerOptions {
  readonly store: Store;
  readonly leader: Leader;
  readonly clock: Clock;
  readonly newId: () => string;
  readonly newToken: () => string;
  readonly random: () => number;
  readonly log: Logger;
  readonly identity: FrameworkIdentity;
  readonly executorCommand: ExecutorCommand;
  readonly openExecutor: (executor: ExecutorAddress) => ExecutorClient;
  readonly openScheduler: (handlers: SchedulerHandlers) => SchedulerClient;
  readonly memberSecrets: (
    secrets: ClusterSecrets,
    member: { readonly commonName: string; readonly ip: string; readonly hostname: string },
  ) => Promise<MemberSecrets>;
  /** The controller cannot go on: another leader or scheduler took over, or Mesos refuses us for good. */
  readonly onEnd: (reason: Error) => void;
}

export interface Controller {
  start(): Promise<void>;
  stop(): void;
  wake(clusterId?: string): void;
  isConnected(): boolean;
  /** What the cluster's last tick gathered; null before the first. */
  view(clusterId: string): ClusterView | null;
  views(): readonly ClusterView[];
  /** Runs after every tick of a cluster. */
  onView(listener: (view: ClusterView) => void): () => void;
  /** For the API: recent offers and what is known of the agents. */
  readonly market: Pick<Market, 'recent' | 'known'>;
  /** Bundles of all members, as of the last ticks. */
  bundles(): readonly BundleRow[];
  orphans(): readonly Orphan[];
  /** What the witnesses say of the cluster's primary; null without one. */
  verdict(clusterId: string): Verdict | null;
  /** What the durability audit found in this epoch; null when it holds. */
  audit(clusterId: string): string | null;
  /** What its voters should be and cannot become yet. */
  voterWaits(view: ClusterView): readonly string[];
  /** What its primary is known to have had, for a cluster whose primary does not answer now. */
  lastKnown(view: ClusterView): string;
  /** What the archives of binary logs cover. */
  readonly archives: Pick<Archives, 'window' | 'willBeRebuilt'>;
  /** What a change of the primary would do now; null before the first tick of the cluster. */
  plan(clusterId: string, request: PlanRequest): Plan | null;
  /** Lets whoever gets the answer read a member's backup volume for a while. */
  share(clusterId: string, ordinal: number, options: ShareOptions): ReturnType<typeof shareMember>;
  /** Keys of the machines that run now. */
  machines(): readonly string[];
}

export function createController(options: ControllerOptions): Controller {
  const { store, leader, clock, log } = options;
  const wakes = createWakes();
  const primarySets = createPrimarySets({ store, leader });
  const views = new Map<string, ClusterView>();
  const listeners = new Set<(view: ClusterView) => void>();
  const loops = new Map<string, ClusterLoop>();
  let timer: unknown;
  let isStopped = false;
  let updates: Promise<void> = Promise.resolve();

  const scheduler = options.openScheduler({
    subscribed: (subscribed) =>
      inOrder(() => onSubscribed(subscribed.frameworkId, subscribed.masterInfo?.hostname ?? '')),
    event: (event) => inOrder(() => onEvent(event)),
    disconnected: (reason) => inOrder(() => emit(context, 'mesos.disconnected', null, reason)),
    failedOver: () => options.onEnd(new Error('another scheduler took the framework over')),
    removed: (message) => options.onEnd(new Error(`Mesos has removed the framework: ${message}`)),
    failed: (error) => options.onEnd(error),
  });

  const executors = createExecutors({
    open: options.openExecutor,
    leaderToken: leader.token,
    clock,
    newId: options.newId,
    log,
    onStatus: (clusterId, status, previous) => {
      primarySets.remember(clusterId, status);
      if (!previous || isNews(status, previous) || isSettling(clusterId)) wakes.wake(clusterId);
    },
  });

  const context: Context = {
    ...options,
    call: (call) => scheduler.call(call),
    wakes,
    executors,
    unansweredVoters: new Set(),
    rates: createRates(),
    lastKnownPrimaryGtid: primarySets.lastKnown,
    market: createMarket({
      clock,
      log,
      send: (call) => {
        if (call.type === 'REVIVE') return scheduler.call(revive());
        if (call.type === 'DECLINE') return scheduler.call(decline(call.offerIds, call.refuseSeconds));
        return scheduler.call(accept({ ...call.use, refuseSeconds: 1 }));
      },
      renew: (reason) => scheduler.renew(reason),
    }),
  };
  const reservations = createReservations(context);
  const audits = createAudits(context);
  const archives = createArchives(context);
  const reconciler = createReconciler(context);

  /** Facts are recorded one after the other, in the order in which Mesos told them. */
  function inOrder(record: () => Promise<void>): void {
    updates = updates.then(record).catch((error) => {
      if (!isStopped) log.error({ err: error }, 'an event of Mesos could not be recorded; it will be told again');
    });
  }

  async function onSubscribed(frameworkId: string, master: string): Promise<void> {
    await setFrameworkId(store, leader, frameworkId);
    context.market.reset();
    await emit(context, 'mesos.connected', null, `subscribed as ${frameworkId}`, { data: { master } });
    await reconciler.begin();
    wakes.wake();
  }

  async function onEvent(event: SchedulerEvent): Promise<void> {
    switch (event.type) {
      case 'OFFERS': {
        const { offers } = event.offers;
        try {
          await reservations.look(offers);
        } finally {
          // Mesos tells an offer once: one that is forgotten here would never be answered, nor offered again.
          context.market.add(offers);
        }
        return;
      }
      case 'RESCIND':
        return context.market.rescind(event.rescind.offer_id.value);
      case 'UPDATE': {
        const { status } = event.update;
        reconciler.answered(status);
        await recordTaskStatus(context, status);
        if (!status.uuid || !status.agent_id) return;
        return scheduler.call(
          acknowledge({ taskId: status.task_id.value, agentId: status.agent_id.value, uuid: status.uuid }),
        );
      }
      case 'UPDATE_OPERATION_STATUS': {
        const { status } = event.update_operation_status;
        await recordOperationStatus(context, status);
        if (!status.uuid || !status.agent_id || !status.operation_id) return;
        const [operationId, agentId, uuid] = [status.operation_id.value, status.agent_id.value, status.uuid.value];
        return scheduler.call(acknowledgeOperation({ operationId, agentId, uuid }));
      }
      default:
        // FAILURE, MESSAGE and the rest: hints that something may have changed.
        wakes.wake();
    }
  }

  /** While members come or go every status counts; in steady state only news does. */
  function isSettling(clusterId: string): boolean {
    return views.get(clusterId)?.members.some(({ member }) => member.phase !== 'serving') ?? true;
  }

  function verdict(clusterId: string): Verdict | null {
    const view = views.get(clusterId);
    const primary = view && primaryOf(view);
    return primary ? judge(context, view, primary) : null;
  }

  async function ensureLoops(): Promise<void> {
    for (const id of await listClusterIds(store)) {
      if (loops.has(id) || isStopped) continue;
      const onView = (view: ClusterView) => {
        views.set(id, view);
        audits.look(view);
        archives.look(view);
        for (const listener of listeners) listener(view);
      };
      loops.set(id, startLoop(context, id, onView));
    }
    for (const [id, loop] of loops) {
      if (!loop.isDone()) continue;
      loops.delete(id);
      primarySets.forget(id);
    }
  }

  async function tick(): Promise<void> {
    try {
      if (!(await isLeading(store, leader))) return options.onEnd(new Error('a newer leader took over'));
      await ensureLoops();
      context.market.sweep();
      await reconciler.tick(scheduler.isConnected);
      await primarySets.store(clock.now());
    } catch (error) {
      if (!isStopped) log.error({ err: error }, 'a tick of the controller failed');
    } finally {
      if (!isStopped) timer = clock.setTimeout(() => void tick(), tickMs);
    }
  }

  return {
    async start() {
      await emit(context, 'leader.elected', null, `leads with token ${leader.token}`);
      await primarySets.load();
      await audits.load();
      await connectAllExecutors(context);
      await resumeReleases(context);
      scheduler.start();
      await tick();
    },
    stop() {
      isStopped = true;
      clock.clearTimeout(timer);
      for (const loop of loops.values()) loop.stop();
      loops.clear();
      executors.close();
      scheduler.stop();
    },
    wake(clusterId) {
      if (clusterId === undefined || loops.has(clusterId)) return wakes.wake(clusterId);
      // A new cluster: its loop starts now, not at the next tick.
      ensureLoops().catch((error) => log.error({ err: error }, 'the loop of a new cluster did not start'));
    },
    isConnected: () => scheduler.isConnected,
    view: (clusterId) => views.get(clusterId) ?? null,
    views: () => [...views.values()],
    onView(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    market: context.market,
    bundles: () =>
      [...views.values()].flatMap(({ members }) =>
        members.flatMap(({ bundle }) => (bundle && bundle.state !== 'released' ? [bundle] : [])),
      ),
    orphans: () => reservations.orphans(),
    verdict,
    audit: (clusterId) => audits.finding(clusterId),
    voterWaits: (view) => describeVoterWaits(context, view),
    archives,
    lastKnown: ({ cluster }) => lastKnownOf(cluster, primarySets.lastKnown),
    plan(clusterId, request) {
      const view = views.get(clusterId);
      if (!view) return null;
      const lastKnown = primarySets.lastKnown(clusterId, view.cluster.epoch);
      return planChange(view, verdict(clusterId) ?? { kind: 'alive', note: null }, request, lastKnown);
    },
    share: (clusterId, ordinal, share) => shareMember(context, clusterId, ordinal, share),
    machines: () => [...loops].flatMap(([id, loop]) => [...loop.machines().keys()].map((key) => `${id} ${key}`)),
  };
}

/** GTID sets and lag move all the time; only what decisions hang on wakes a loop at once. */
function isNews(status: Status, previous: Status): boolean {
  return (
    status.instance !== previous.instance ||
    status.isWritable !== previous.isWritable ||
    status.epoch !== previous.epoch ||
    status.incarnation !== previous.incarnation ||
    status.isInitialised !== previous.isInitialised ||
    status.replication?.receiver !== previous.replication?.receiver ||
    status.replication?.applier !== previous.replication?.applier ||
    status.replication?.sourcePort !== previous.replication?.sourcePort ||
    status.replication?.sourceHost !== previous.replication?.sourceHost ||
    status.semiSync.isReplica !== previous.semiSync.isReplica ||
    status.semiSync.k !== previous.semiSync.k ||
    status.work?.outcome !== previous.work?.outcome ||
    status.work?.commandId !== previous.work?.commandId ||
    status.backups.length !== previous.backups.length ||
    hasBecomeOverdue(status, previous)
  );
}

/** A witness of death is complete: nobody waits for the next tick then. */
function hasBecomeOverdue(status: Status, previous: Status): boolean {
  const overdue = ({ heartbeatPending, probeFailing }: Status) =>
    [heartbeatPending, probeFailing].filter((doubt) => doubt && doubt.forMs >= defaultLimits.commitDeadlineMs).length;
  return overdue(status) > overdue(previous);
}
