/** What the member machine's actors do. Each looks at the facts until its work is done, and may run twice. */
import { fromPromise } from 'xstate';
import type { CommandBody } from '../channel/protocol.ts';
import { delay } from '../clock.ts';

import { Refusal } from '../errors.ts';
import type { MemberFacts, MemberInput } from '../machines/member.ts';
import { memberMachine } from '../machines/member.ts';
import { kill } from '../mesos/calls.ts';
import { findReserved } from '../mesos/offers.ts';
import { setBundlePlace, setBundleState } from '../store/bundles.ts';
import { getCluster, readClusterSecrets } from '../store/clusters.ts';
import { findMemberEvent } from '../store/events.ts';
import { listFailovers } from '../store/failovers.ts';
import { markInitialised, setMemberBundle, setMemberFailure, setMemberPhase } from '../store/members.ts';
import { isAutomationOn, mayFailOver, wasTriedInVain } from './automation.ts';
import { type Context, emit } from './context.ts';
import { copyInto, isToBeCopied } from './copying.ts';
import { type ClusterView, gatherMember, isHeld, isInPlace, isRunning, type MemberView, primaryOf } from './gather.ts';
import { joinCluster } from './joining.ts';
import { newPlacementWant, partOnly, relaunchWant, releaseWant } from './launching.ts';
import { isLending, isRetired, lend, park } from './lending.ts';
import {
  beginAgain,
  describeLoss,
  judgeBackup,
  judgeData,
  mustEndForReplacement,
  rememberVolumes,
  takeBackup,
} from './lost-volumes.ts';
import { openRebuildFor } from './rebuild-actors.ts';
import { replaceWant } from './replacing.ts';
import { isLeftBehind, isUndecided, requireTrimAllowed } from './trimming.ts';
import { ackFlushFor } from './voter-actor.ts';
import { lookUntil } from './wakes.ts';

const killEveryMs = 2000;
/** A member whose volumes are destroyed next needs no clean end: with a full disk mysqld would take minutes for one. */
const lastGraceMs = 5000;
/** An ACCEPT whose task never was is given up when its bundle was not offered for this long. */
const unseenMs = 10_000;
/** A refused failover lets the primary start again for this long. */
const refusalHoldsMs = 15_000;
/** Members that were reached follow the new primary by then. */
const repointedAfterMs = 2000;
/** Between two tries to take a backup volume. */
const takeAgainMs = 5000;
const backOffMs = { first: 500, max: 30_000 } as const;

type Run<T> = { readonly input: MemberInput; readonly signal: AbortSignal } & { readonly _?: T };

/** The machine with its actors, for one controller. */
export function provideMember(context: Context) {
  const effect = <T>(run: (context: Context, args: Run<T>) => Promise<T>) =>
    fromPromise<T, MemberInput>(({ input, signal }) => run(context, { input, signal }));
  return memberMachine.provide({
    actors: {
      readFacts: effect(readFacts),
      place: effect(place),
      startInstance: effect(startInstance),
      join: effect(joinCluster),
      serve: effect(serve),
      park: effect(park),
      lend: effect(lend),
      stopTask: effect(stopTask),
      release: effect(release),
      backOff: effect(backOff),
    },
    actions: {
      recordPhase: ({ context: { clusterId, ordinal } }, { phase }) => {
        setMemberPhase(context.store, context.leader, { clusterId, ordinal, phase }).then(
          () => context.wakes.wake(clusterId),
          (error) => context.log.warn({ err: error }, 'phase was not stored'),
        );
      },
      recordFailure: ({ context: { clusterId, ordinal } }, { error }) => {
        context.log.warn({ err: error, clusterId, ordinal }, 'a step of the member failed and will be tried again');
        if (!(error instanceof Refusal)) return;
        tellRefusal(context, { clusterId, ordinal }, error).catch((fault: unknown) =>
          context.log.warn({ err: fault }, 'a refusal was not told'),
        );
      },
    },
  });
}

/** It is tried again and again: the same refusal is told once. */
async function tellRefusal(context: Context, { clusterId, ordinal }: MemberInput, refusal: Refusal): Promise<void> {
  const { code, message, facts } = refusal;
  const known = await findMemberEvent(context.store, clusterId, ordinal);
  if (known?.kind === 'member.refused' && known.data['code'] === code && known.message === message) return;
  const cluster = await getCluster(context.store, clusterId);
  await emit(context, 'member.refused', cluster, message, { ordinal, data: { code, ...facts } });
}

async function readFacts(context: Context, { input }: Run<MemberFacts>): Promise<MemberFacts> {
  const { view, self } = await gatherMember(context, input.clusterId, input.ordinal);
  // Also when the answer to `start` was lost: nobody may fill the volume a second time, and creation waits for it.
  await rememberInitialised(context, self);
  const retryAt = self.member.retryAt;
  return {
    desired: self.member.desired,
    hasLiveTask: self.isLive,
    hasBundle: self.bundle !== null && self.bundle.state !== 'released',
    isInstanceRunning: isRunning(self),
    mustEnd: mustEndForReplacement(view, self),
    isParked: isRetired(view) && !isLending(view, self),
    isLending: isLending(view, self),
    retryAt: retryAt !== null && retryAt > context.clock.now() ? retryAt : null,
  };
}

/** Waits for a live launch: on the member's own bundle if it has one, else on a new one. */
async function place(context: Context, { input, signal }: Run<void>): Promise<void> {
  const { clusterId, ordinal } = input;
  const keys = new Set<string>();
  const want = (made: ReturnType<typeof releaseWant>) => {
    if (keys.has(made.key)) return;
    keys.add(made.key);
    context.market.want(made);
  };
  const since = context.clock.now();
  try {
    await lookUntil(context, clusterId, signal, async () => {
      const { view, self } = await gatherMember(context, clusterId, ordinal);
      if (self.isLive) return true;
      const isReplacing = self.bundle?.bundle.backup?.replacing !== undefined;
      // Whoever waits for the old volume waits for nothing.
      if (isReplacing) for (const key of keys) if (key.startsWith('relaunch ')) context.market.drop(key);
      if (view.cluster.desired === 'retained' && !isLending(view, self)) return true;
      if (!self.bundle || self.bundle.state === 'releasing' || self.bundle.state === 'released') {
        if (self.bundle) await setMemberBundle(context.store, context.leader, { clusterId, ordinal, bundleId: null });
        want(newPlacementWant(context, clusterId, ordinal));
        return undefined;
      }
      // The launch on an intended bundle failed: its reservation may have succeeded whole, in part, or not at all.
      if (self.bundle.state === 'intended' && (await giveUpAttempt(context, self, since))) return undefined;
      want(isReplacing ? replaceWant(context, self.bundle) : relaunchWant(context, self.bundle));
      return undefined;
    });
  } finally {
    for (const key of keys) context.market.drop(key);
  }
}

/** True when the attempt was given up: it never showed up. Shows it later, it is given back whole. */
async function giveUpAttempt(context: Context, self: MemberView, since: number): Promise<boolean> {
  const { bundle } = self;
  if (!bundle || context.clock.now() - since < unseenMs) return false;
  const isSeen = context.market.agents().some(({ offers }) => findReserved(offers, bundle.id).length > 0);
  if (isSeen) await setBundleState(context.store, context.leader, bundle.id, 'releasing', partOnly);
  else await setBundleState(context.store, context.leader, bundle.id, 'released', 'the attempt never showed up');
  await setMemberBundle(context.store, context.leader, {
    clusterId: bundle.clusterId,
    ordinal: bundle.ordinal,
    bundleId: null,
  });
  if (isSeen) context.market.want(releaseWant(context, { ...bundle, state: 'releasing', releaseReason: partOnly }));
  return true;
}

/** From a launched task to a running, read-only mysqld. */
async function startInstance(context: Context, { input, signal }: Run<void>): Promise<void> {
  const { clusterId, ordinal } = input;
  const copyId = context.newId();
  const since = context.clock.now();
  await lookUntil(context, clusterId, signal, async () => {
    const { view, self } = await gatherMember(context, clusterId, ordinal);
    if (!self.isLive) throw new Error(`the task ended: ${self.launch?.taskState} ${self.launch?.taskMessage ?? ''}`);
    if (mustEndForReplacement(view, self)) return true;
    if (!self.isConnected || !self.status) return undefined;
    const { instance, reason } = self.status;
    if (instance === 'running') {
      await rememberInitialised(context, self);
      return true;
    }
    if (instance === 'starting' || instance === 'rebuilding' || isHeld(view)) return undefined;
    if (instance !== 'none' && view.rebuilds.some((rebuild) => rebuild.ordinal === ordinal)) return undefined;
    if (instance === 'failed' && reason?.code === 'LEFTOVER_NOT_SAVED') {
      throw new Refusal('LEFTOVER_NOT_SAVED', reason.message);
    }
    if (instance === 'failed' && (await isRefillNeeded(context, view, self))) return undefined;
    if (judgeData(self)?.kind === 'take') return refillLost(context, view, self);
    if (instance === 'failed' && (await takeBackup(context, view, self, signal))) return undefined;
    if (isToBeCopied(view, self)) {
      const filling = await fillingOf(context, view, self);
      return copyInto(context, view, self, { ...filling, id: copyId, since, signal });
    }
    if (isLeftBehind(view, self)) return rejoinHeld(context, view, self);
    if (await mustWaitForFailover(context, view, self)) return undefined;
    context.log.info({ clusterId, ordinal, instance, reason }, 'starts the instance');
    await sendStart(context, view, self, signal);
    return undefined;
  });
}

/** No `start` would take an empty volume. While it is the primary the failover rules say how it goes on. */
async function refillLost(context: Context, view: ClusterView, self: MemberView): Promise<undefined> {
  if (await beginAgain(context, view, self)) return undefined;
  const primary = primaryOf(view);
  const isPrimary = !primary || primary.ordinal === self.ordinal;
  if (isPrimary ? await mustWaitForFailover(context, view, self) : isUndecided(view)) return undefined;
  const now = context.clock.now();
  if (isPrimary || !isAutomationOn(view.cluster, now)) {
    throw new Refusal('VOLUME_LOST', describeLoss(view, self, now) ?? 'the data volume was lost');
  }
  await openRebuildFor(context, view, self.ordinal, judgeData(self)!.message);
  return undefined;
}

/** Never a plain start: it would commit what nobody acknowledged. A rebuild begins by trimming that. */
async function rejoinHeld(context: Context, view: ClusterView, self: MemberView): Promise<undefined> {
  if (isUndecided(view)) return undefined;
  requireTrimAllowed(context, view);
  const why = 'it ended while it took writes, and another member is the primary';
  await openRebuildFor(context, view, self.ordinal, why);
  return undefined;
}

/** Secrets travel here and nowhere else: over the pinned channel, at every start. */
export async function sendStart(
  context: Context,
  view: ClusterView,
  self: MemberView,
  signal: AbortSignal,
): Promise<void> {
  const body: CommandBody = {
    kind: 'start',
    ...(await fillingOf(context, view, self)),
    ackFlush: ackFlushFor(view.cluster, self.ordinal),
  };
  await context.executors.send(self.launch!.taskId, body, { epoch: view.cluster.epoch, timeoutMs: 150_000, signal });
}

/** What `start` and `copy` have in common: whether an empty volume may be filled, and the secrets. */
async function fillingOf(context: Context, view: ClusterView, self: MemberView) {
  const secrets = await context.memberSecrets(await readClusterSecrets(context.store, view.cluster.id), {
    commonName: `${view.cluster.name}-${self.ordinal}`,
    ip: self.bundle!.ip,
    hostname: self.bundle!.hostname,
  });
  return { initialise: await mayInitialise(context, self), secrets };
}

/**
 * As soon as the data volume of this incarnation was filled, no launch may do so again. Until that is known, one may
 * have been filled unheard: only the directory that the first executor saw is taken, not one that lies in its place
 * because a disk did not come back (guarantee 4). Stored before the command that may fill it is sent.
 */
async function mayInitialise(context: Context, { member, bundle, status }: MemberView): Promise<boolean> {
  if (member.initialisedAt !== null || !bundle || !status) return false;
  // The executor says that it found none: another look decides.
  if (status.dataPlace === null) return false;
  const place = status.dataPlace ?? '';
  const found = status.volumesFound?.backup;
  // Whoever empties it before it is heard of again must not look like a disk that is away.
  const backup = found ? { place: found.place, isOwnDevice: found.isOwnDevice } : null;
  return (await setBundlePlace(context.store, context.leader, bundle.id, { place, backup })) === place;
}

async function rememberInitialised(context: Context, self: MemberView): Promise<void> {
  const { member, status } = self;
  if (member.initialisedAt !== null || !status?.isInitialised || status.incarnation !== member.incarnation) return;
  await markInitialised(context.store, context.leader, {
    clusterId: member.clusterId,
    ordinal: member.ordinal,
    incarnation: member.incarnation,
    at: context.clock.now(),
  });
}

/**
 * The primary's own instance stays down while a failover may still need it to: crash recovery would commit its
 * unacknowledged tail. It starts again when the failover was refused or another member is the primary.
 */
async function mustWaitForFailover(context: Context, view: ClusterView, self: MemberView): Promise<boolean> {
  if (view.cluster.primary !== self.ordinal || view.cluster.epoch === 0)
    // Past the commit point nobody waits for it any more: the new primary may need its acknowledgements.
    return (
      view.failover !== null &&
      view.failover.kind !== 'first' &&
      view.failover.fromPrimary === self.ordinal &&
      view.failover.fromEpoch === view.cluster.epoch
    );
  if (view.members.length === 1) return false;
  if (view.failover) return true;
  if (!mayFailOver(view.cluster, context.clock.now())) return false;
  const [newest] = await listFailovers(context.store, view.cluster.id);
  if (!newest || !wasTriedInVain(newest, view.cluster.epoch)) return true;
  const endedAt = newest.endedAt ?? 0;
  // A refusal of long ago was about another end of it. While it stays dead there is a newer one every five seconds.
  return endedAt < (self.launch?.createdAt ?? 0) || context.clock.now() - endedAt > refusalHoldsMs;
}

/**
 * mysqld does not start on what is in the volume: with a primary elsewhere the member is filled anew. Everything else,
 * and a first filling that was interrupted, is started again after a pause.
 */
async function isRefillNeeded(context: Context, view: ClusterView, self: MemberView): Promise<boolean> {
  const { status, member } = self;
  const { reason } = status ?? {};
  // Whatever ended a rebuild for good left a volume that no `start` takes; one that is not ours may be another disk.
  const isUnfinished =
    reason?.code !== 'VOLUME_NOT_OURS' && (!status?.isInitialised || status.incarnation !== member.incarnation);
  const isDamaged =
    isUnfinished ||
    reason?.code === 'DATA_DIR_DAMAGED' ||
    reason?.code === 'INCARNATION_MISMATCH' ||
    reason?.code === 'TRIM_FAILED' ||
    reason?.code === 'REBUILD_UNFINISHED';
  const primary = primaryOf(view);
  if (!isDamaged || !primary || primary.ordinal === self.ordinal || self.member.initialisedAt === null) return false;
  await openRebuildFor(context, view, self.ordinal, reason?.message ?? 'its data directory is not whole');
  return true;
}

/**
 * Past the commit point a member that was not reached is not repointed with the others: it has to join by itself, and
 * the new primary may wait for its acknowledgement. Not at once: who was reached follows without being compared.
 */
function isNeededByActivation(context: Context, { cluster, failover }: ClusterView): boolean {
  if (!failover || cluster.epoch <= failover.fromEpoch) return false;
  return context.clock.now() - (failover.facts.committedAt ?? failover.startedAt) > repointedAfterMs;
}

/** Stays until the facts ask for something else. */
async function serve(context: Context, { input, signal }: Run<void>): Promise<void> {
  const { clusterId, ordinal } = input;
  const keepVolumes = createVolumeKeeper(context, signal);
  await lookUntil(context, clusterId, signal, async () => {
    const { view, self } = await gatherMember(context, clusterId, ordinal);
    if (self.member.failures > 0)
      await setMemberFailure(context.store, context.leader, { clusterId, ordinal, failures: 0, retryAt: null });
    if (!self.isLive || mustEndForReplacement(view, self)) return true;
    if (!self.isConnected || !self.status) return undefined;
    if (!isRunning(self)) return true;
    if (isHeld(view)) return undefined;
    await keepVolumes(view, self);
    if (view.failover && !isNeededByActivation(context, view)) return undefined;
    return isInPlace(view, self) ? undefined : true;
  });
}

/** KILL may be lost: it is repeated until Mesos reports the end. */
async function stopTask(context: Context, { input, signal }: Run<void>): Promise<void> {
  const { clusterId, ordinal } = input;
  let sentAt = Number.NEGATIVE_INFINITY;
  await lookUntil(context, clusterId, signal, async () => {
    const { self, view } = await gatherMember(context, clusterId, ordinal);
    if (!self.isLive || !self.launch) return true;
    if (context.clock.now() - sentAt < killEveryMs) return undefined;
    sentAt = context.clock.now();
    const grace = view.cluster.desired === 'deleted' ? { graceMs: lastGraceMs } : {};
    await context
      .call(kill({ taskId: self.launch.taskId, agentId: self.launch.agentId, ...grace }))
      .catch((error) => context.log.debug({ err: error }, 'KILL was not taken'));
    return undefined;
  });
}

/** A person's intent to delete is recorded for this very bundle before anything of it is destroyed. */
async function release(context: Context, { input, signal }: Run<void>): Promise<void> {
  const { clusterId, ordinal } = input;
  const since = context.clock.now();
  await lookUntil(context, clusterId, signal, async () => {
    const { view, self } = await gatherMember(context, clusterId, ordinal);
    const { bundle } = self;
    if (!bundle || bundle.state === 'released') return true;
    if (view.cluster.desired !== 'deleted') throw new Error(`cluster ${clusterId} is to be kept`);
    if (bundle.state === 'intended' && (await giveUpAttempt(context, self, since))) return true;
    if (bundle.state === 'reserved')
      await setBundleState(context.store, context.leader, bundle.id, 'releasing', 'the cluster was deleted');
    context.market.want(releaseWant(context, bundle));
    return undefined;
  });
}

/** Of a member that serves: a lost backup volume is taken anew beside it, with a pause between two tries. */
function createVolumeKeeper(context: Context, signal: AbortSignal) {
  let notBefore = Number.NEGATIVE_INFINITY;
  return async (view: ClusterView, self: MemberView): Promise<void> => {
    await rememberVolumes(context, self);
    const now = context.clock.now();
    if (judgeBackup(self)?.kind !== 'take' || now < notBefore) return;
    notBefore = now + takeAgainMs;
    await takeBackup(context, view, self, signal).catch((error: unknown) =>
      context.log.warn({ err: error, ordinal: self.ordinal }, 'a backup volume was not taken'),
    );
  };
}

async function backOff(context: Context, { input, signal }: Run<void>): Promise<void> {
  const { clusterId, ordinal } = input;
  const { self } = await gatherMember(context, clusterId, ordinal);
  const now = context.clock.now();
  let { retryAt } = self.member;
  if (retryAt === null || retryAt <= now) {
    const failures = self.member.failures + 1;
    retryAt = now + Math.min(backOffMs.first * 2 ** Math.min(failures - 1, 10), backOffMs.max);
    await setMemberFailure(context.store, context.leader, { clusterId, ordinal, failures, retryAt });
  }
  await delay(context.clock, retryAt - now, signal);
}
