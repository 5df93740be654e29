/** What the API shows of the controller's memory, in the API's words. Answers at once, from the last tick's facts. */
import type { DryRun, LiveMember, LiveOffer, LiveState, LiveView, LiveWork } from '../api/live.ts';
import type { Status } from '../channel/protocol.ts';
import { findArchiveTroubles } from '../cluster/archive-troubles.ts';
import { findBackupTroubles } from '../cluster/backup-troubles.ts';
import { chooseAgent, couldEverFit } from '../cluster/choose-agent.ts';
import { withoutBundle } from '../cluster/placement.ts';
import { planRestore } from '../cluster/restore-plan.ts';
import { deriveState, type MemberFacts, type Trouble } from '../cluster/state.ts';
import { findFilling, findTroubles } from '../cluster/troubles.ts';
import type { AgentOffer, Bundle, ClusterSpec } from '../cluster/types.ts';
import { isAutomationOn } from '../controller/automation.ts';
import type { Controller } from '../controller/controller.ts';
import { type ClusterView, isInPlace, isRunning, type MemberView, primaryOf } from '../controller/gather.ts';
import { describeLoss } from '../controller/lost-volumes.ts';
import { rehearse } from '../controller/plan.ts';
import type { ConditionTime } from '../store/conditions.ts';
import type { ConditionTimes } from './condition-times.ts';
import { createMetrics } from './metrics.ts';
import { describeRetained, retainedOptions, retainedWindow } from './retained-view.ts';

/** `/primary` and `isPrimaryCommitting`: the last heartbeat commit is younger than this. */
const leaseMs = 3000;

export function createLiveView(options: {
  readonly controller: Controller;
  readonly now: () => number;
  readonly times: ConditionTimes;
}): LiveView {
  const { controller, now, times } = options;
  const filling: Filling = new Set();
  const startedAt = now();

  function stateOf(view: ClusterView): LiveState {
    return deriveState(factsOf(controller, view, { previous: times.of(view.cluster.id), filling, at: now() }));
  }
  const state = (clusterId: string) => {
    const view = controller.view(clusterId);
    return view ? stateOf(view) : null;
  };
  controller.onView((view) => times.keep(view, stateOf(view).conditions));

  return {
    isConnected: () => controller.isConnected(),
    state,
    plan: (clusterId, request) => controller.plan(clusterId, request),
    rehearsal(clusterId) {
      const view = controller.view(clusterId);
      return view ? rehearse(view) : null;
    },
    voterWaits(clusterId) {
      const view = controller.view(clusterId);
      return view ? controller.voterWaits(view) : [];
    },
    member(clusterId, ordinal) {
      const member = controller.view(clusterId)?.members.find((one) => one.ordinal === ordinal);
      return member ? liveMember(member) : null;
    },
    copyOptions(clusterId) {
      const view = controller.view(clusterId);
      if (!view) return null;
      return view.cluster.desired === 'retained' ? retainedOptions(view, { now: now(), startedAt }) : copyOptions(view);
    },
    recoveryWindow: (clusterId) => retainedWindow(controller.view(clusterId)) ?? controller.archives.window(clusterId),
    planRestore(clusterId, { until, backupId, left }) {
      const view = controller.view(clusterId);
      const facts = view && restoreFacts(view, { left, lastKnown: controller.lastKnown(view), at: now() });
      return facts ? planRestore(facts, { until, backupId }) : null;
    },
    offers: () => controller.market.recent().map(liveOffer),
    place: (spec) => place(controller, spec),
    subscribe: (listener) => controller.onView((view) => listener({ clusterId: view.cluster.id, kind: 'cluster' })),
    metrics: createMetrics({ controller, now, conditions: (clusterId) => state(clusterId)?.conditions ?? [] }),
  };
}

/** Proofs of a death by a mysqld that still runs. */
const hangs: ReadonlySet<string> = new Set(['no-commit', 'unresponsive']);

interface Look {
  readonly previous: readonly ConditionTime[];
  readonly filling: Filling;
  /** UTC milliseconds. */
  readonly at: number;
}

function factsOf(
  controller: Controller,
  view: ClusterView,
  { previous, filling, at }: Look,
): Parameters<typeof deriveState>[0] {
  const { cluster, failover } = view;
  const primary = primaryOf(view);
  const pending = primary?.status?.heartbeatPending ?? null;
  const verdict = controller.verdict(cluster.id);
  return {
    spec: cluster.spec,
    desired: cluster.desired,
    retained: describeRetained(view) ?? null,
    deletedAt: cluster.deletedAt,
    epoch: cluster.epoch,
    primary: cluster.primary,
    isActivated: cluster.activatedAt !== null,
    isPrimaryWritable: primary?.isConnected === true && primary.status?.isWritable === true,
    isPrimaryCommitting: primary?.status?.heartbeatAt != null && (pending?.forMs ?? 0) < leaseMs,
    rule: cluster.rule,
    members: view.members.map((member) => memberFacts(controller, view, { member, filling, at })),
    openFailover: failover && { kind: failover.kind, startedAt: failover.startedAt },
    failoverRefusal: view.lastRefusal,
    commitWaits: pending && { forMs: pending.forMs, connectedVoters: primary?.status?.semiSync.clients ?? 0 },
    hang: verdict?.kind === 'dead' && hangs.has(verdict.proof) ? verdict.detail : null,
    rehearsalRefusal: rehearse(view)?.refusal ?? null,
    suspicion: verdict?.kind === 'suspected' ? verdict.missing : null,
    isAutomationOff: !isAutomationOn(cluster, at),
    cooldownUntil: cluster.cooldownUntil,
    durabilityBroken: controller.audit(cluster.id),
    archiveTroubles: archiveTroublesOf(controller, view, at),
    backupTroubles: findBackupTroubles({
      backups: view.kept.filter((row) => row.state === 'complete'),
      newest: view.newestBackups,
      policy: cluster.backupPolicy,
      now: at,
    }),
    restoring: describeRestore(view),
    previous,
    now: at,
  };
}

function archiveTroublesOf({ archives }: Controller, { cluster }: ClusterView, now: number) {
  const window = archives.window(cluster.id);
  if (!window || cluster.epoch === 0) return [];
  const members = window.members.map(({ ordinal, archive, logs, isHeldUp }) => ({
    ordinal,
    error: isHeldUp ? (archive?.error ?? null) : null,
    isBehind: logs?.behindSince != null,
    cutAt: logs?.cutAt ?? null,
  }));
  return findArchiveTroubles({ ...window, members, now });
}

function memberFacts(
  controller: Controller,
  view: ClusterView,
  { member, filling, at }: { readonly member: MemberView; readonly filling: Filling; readonly at: number },
): MemberFacts {
  const { ordinal, status } = member;
  const isPlaced = member.bundle !== null;
  return {
    ordinal,
    role: ordinal === view.cluster.primary ? 'primary' : status?.replication ? 'replica' : 'none',
    isLive: member.isLive,
    isServing: member.isConnected && member.member.phase === 'serving' && isRunning(member) && isInPlace(view, member),
    isInitialised: member.member.initialisedAt !== null,
    waitingForResources: member.isLive || isPlaced ? null : whyNotPlaced(controller, view.cluster.id, ordinal),
    refusal: status?.instance === 'failed' && status.reason ? status.reason : null,
    troubles: [
      ...troublesOf(view, member),
      ...lossOf(view, member, at),
      ...fillingOf(view, member, filling),
      ...(controller.archives.willBeRebuilt(view, ordinal) ? [willBeRebuilt] : []),
    ],
  };
}

const willBeRebuilt: Trouble = {
  code: 'WillBeRebuilt',
  message: 'it was away for too long: binary logs that it needs are not kept any more, it will be rebuilt',
};

function lossOf(view: ClusterView, member: MemberView, now: number): Trouble[] {
  const isReplacing = member.bundle?.bundle.backup?.replacing !== undefined;
  const message = member.isConnected || isReplacing ? describeLoss(view, member, now) : null;
  return message === null ? [] : [{ code: 'VolumeLost', message }];
}

function troublesOf({ cluster }: ClusterView, { status, ordinal, isLive, isConnected, launch }: MemberView): Trouble[] {
  if (isLive && !isConnected && launch?.taskState === 'TASK_RUNNING') {
    return [{ code: 'NotReached', message: 'its executor is not reached; it may run on' }];
  }
  if (status?.instance !== 'running') return [];
  const { replication, lagMs, probeFailing, reason } = status;
  const isDamaged = reason?.code === 'DATA_DIR_DAMAGED';
  const damage: Trouble[] = isDamaged ? [{ code: 'DataDamaged', message: reason.message }] : [];
  const others = findTroubles({
    isReplica: ordinal !== cluster.primary,
    receiver: replication?.receiver ?? null,
    receiverError: replication?.receiverError ?? '',
    applier: replication?.applier ?? null,
    applierError: replication?.applierError ?? '',
    lagMs,
    probeFailing: probeFailing ?? null,
  });
  return [...damage, ...others];
}

/** Volumes that were called filling at the last look: `<cluster>.<ordinal>.<volume>`. */
type Filling = Set<string>;

function fillingOf(
  { cluster }: ClusterView,
  { ordinal, status, isConnected }: MemberView,
  filling: Filling,
): Trouble[] {
  if (!status || !isConnected) return [];
  const { data, backup } = status.volumes;
  const keyOf = (name: string) => `${cluster.id}.${ordinal}.${name}`;
  const signs = Object.entries({ data, backup }).flatMap(([name, volume]) =>
    volume ? [{ name, ...volume, wasFilling: filling.has(keyOf(name)) }] : [],
  );
  const found = findFilling(signs);
  for (const { name } of signs) filling.delete(keyOf(name));
  for (const { volume } of found) filling.add(keyOf(volume));
  return found.map(({ code, message }) => ({ code, message }));
}

/** How far the filling of a copy is; null when none runs. Times are those of the executor's own clock. */
function describeCopy(status: Status | null): string | null {
  const { work, at = 0 } = status ?? {};
  if (work?.kind !== 'copy' || work.outcome !== 'running') return null;
  const { step, doneBytes, totalBytes, startedAt } = work;
  if (!totalBytes || doneBytes <= 0) return `copy: ${step}`;
  const share = Math.min(1, doneBytes / totalBytes);
  const toMb = (bytes: number) => Math.round(bytes / 1048576);
  const done = `${Math.floor(share * 100)} % of ${toMb(totalBytes)} MB`;
  const leftMs = startedAt == null ? null : ((at - startedAt) * (1 - share)) / share;
  return `copy: ${step}, ${done}${leftMs === null || share === 1 ? '' : `, ${Math.ceil(leftMs / 1000)} s left`}`;
}

/** A restore that touched a volume is tried until it is done: people must know what stands in the way. */
function describeRestore({ restore }: ClusterView): string | null {
  if (!restore) return null;
  const { facts, steps, code, message, ordinal } = restore;
  const safety = facts.safety?.backup ? `; what was before is in safety backup ${facts.safety.backup}` : '';
  if (code !== null) return `Filling member ${ordinal} failed and is tried again: ${message} (${code})${safety}`;
  const last = steps.at(-1)?.name ?? 'asked for';
  return `A restore is open: ${facts.safety ? last : 'the safety backup is being made'}${safety}`;
}

function restoreFacts(
  view: ClusterView,
  { left, lastKnown, at }: { readonly left: readonly string[]; readonly lastKnown: string; readonly at: number },
): Parameters<typeof planRestore>[0] | null {
  const { primary, preferences, spec } = view.cluster;
  const { backups, within } = copyOptions(view)!;
  // A primary that takes no writes was last seen to have this.
  const present = within ?? lastKnown;
  if (primary === null || present === '') return null;
  const spans = view.members.flatMap(({ ordinal, status, isConnected }) =>
    ((isConnected && status?.archive?.spans) || []).map((span) => ({ ...span, ordinal })),
  );
  return { backups, histories: [present, ...left], spans, primary, members: spec.members, preferences, now: at };
}

function copyOptions(view: ClusterView): ReturnType<LiveView['copyOptions']> {
  const backups = view.members.flatMap(({ ordinal, status, isConnected }) =>
    (status?.backups ?? []).map(({ id, gtidSet, bytes, endedAt, isBad = false }) => {
      return { id, ordinal, gtidSet, bytes, endedAt, isBad, isReachable: isConnected };
    }),
  );
  const status = primaryOf(view)?.status;
  // Without a status of a running primary nothing is known: an ended one tells an empty set.
  return { backups, within: status?.isWritable ? status.gtidExecuted : null };
}

/** The failed stages of the last offers that were tried for the member. */
function whyNotPlaced(controller: Controller, clusterId: string, ordinal: number): string {
  const reasons = controller.market.recent().flatMap(({ free, tried }) =>
    tried
      .filter((trial) => trial.clusterId === clusterId && trial.ordinal === ordinal && trial.outcome === 'refused')
      .flatMap(({ stages }) => stages.filter(({ isPassed }) => !isPassed))
      .map(({ reason }) => `${free.hostname}: ${reason}`),
  );
  return reasons.length > 0 ? [...new Set(reasons)].slice(-4).join('; ') : 'no offer has come yet';
}

function liveMember({ status, launch, isConnected }: MemberView): LiveMember {
  return {
    instance: status && isConnected ? status.instance : 'unknown',
    isWritable: isConnected && status?.isWritable === true,
    gtidExecuted: status?.gtidExecuted ?? null,
    lagMs: status?.lagMs ?? null,
    volumes: { data: status?.volumes.data ?? null, backup: status?.volumes.backup ?? null },
    taskState: launch?.taskState ?? null,
    tails: status?.tails ?? [],
    work: status && isConnected ? liveWork(status) : null,
    message: describeCopy(status) ?? status?.reason?.message ?? status?.replication?.receiverError ?? null,
  };
}

/** Before so much is done the rate so far tells nothing. */
const shareTold = 0.03;

/** By the executor's own clock: that of this host may differ. */
function liveWork({ work, at }: Status): LiveWork | null {
  if (!work) return null;
  const { commandId, outcome, step, doneBytes, totalBytes, startedAt } = work;
  const share = totalBytes === null || totalBytes <= 0 ? null : Math.min(1, doneBytes / totalBytes);
  const percent = share === null ? null : Math.floor(share * 100);
  const isKnown = share !== null && share >= shareTold && startedAt != null;
  const etaMs = isKnown ? Math.max(0, Math.round(((at - startedAt) * (1 - share)) / share)) : null;
  return { commandId, isRunning: outcome === 'running', step, doneBytes, totalBytes, percent, etaMs };
}

function liveOffer({
  offerId,
  receivedAt,
  free,
  tried,
}: ReturnType<Controller['market']['recent']>[number]): LiveOffer {
  const { agentId, hostname, cpus, memMb, ports, disks } = free;
  return { agentId, hostname, offerIds: [offerId], receivedAt, cpus, memMb, ports, disks, tried };
}

/** A dry run on what the last offers told: nothing is reserved, and Mesos may say otherwise a second later. */
function place(controller: Controller, spec: ClusterSpec): DryRun {
  let offers = [...controller.market.known()];
  const agentsInUse: string[] = [];
  const placed: { ordinal: number; agentId: string; hostname: string }[] = [];
  const refused: { ordinal: number; agents: DryRun['refused'][number]['agents'] }[] = [];
  for (let ordinal = 0; ordinal < spec.members; ordinal++) {
    const newPersistenceIds = { data: `dry-data-${ordinal}`, backup: `dry-backup-${ordinal}` };
    const choice = chooseAgent({ spec, ordinal, offers, agentsInUse, membersByAgent: new Map(), newPersistenceIds });
    if (choice.kind === 'refused') {
      refused.push({ ordinal, agents: choice.refused });
      continue;
    }
    const { agentId, hostname } = choice.offer;
    placed.push({ ordinal, agentId, hostname });
    agentsInUse.push(agentId);
    offers = offers.map((offer) => (offer.agentId === agentId ? withoutBundle(offer, choice.bundle) : offer));
  }
  const ever = couldEverFit(spec, agentTotals(controller));
  if (ever.kind !== 'never') return { placed, refused };
  const reasons = ever.agents.flatMap(({ hostname, stages }) =>
    stages.filter(({ isPassed }) => !isPassed).map(({ reason }) => `${hostname}: ${reason}`),
  );
  return { placed, refused, neverFits: reasons.join('; ') };
}

/** What each known agent would offer if no member of ours were on it. */
function agentTotals(controller: Controller): AgentOffer[] {
  const bundles = controller.bundles();
  return controller.market
    .known()
    .map((free) =>
      bundles
        .filter(({ agentId }) => agentId === free.agentId)
        .reduce((sum, { bundle }) => withBundle(sum, bundle), free),
    );
}

function withBundle(offer: AgentOffer, bundle: Bundle): AgentOffer {
  const disks = [...offer.disks];
  for (const volume of bundle.backup ? [bundle.data, bundle.backup] : [bundle.data]) {
    const at = disks.findIndex((disk) => disk.type === volume.type && disk.path === volume.path);
    if (at < 0) disks.push({ type: volume.type, path: volume.path, sizeMb: volume.sizeMb });
    else disks[at] = { ...disks[at]!, sizeMb: disks[at]!.sizeMb + volume.sizeMb };
  }
  return {
    ...offer,
    cpus: offer.cpus + bundle.cpus,
    memMb: offer.memMb + bundle.memMb,
    ports: [...offer.ports, ...Object.values(bundle.ports).map((port: number) => ({ begin: port, end: port }))],
    disks,
  };
}
