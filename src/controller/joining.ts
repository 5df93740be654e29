/**
 * From a running, read-only instance to a member in its place: a replica that follows the primary of this epoch, or
 * the primary itself, writable again in its own epoch. Before a member may follow anyone it is compared: a transaction
 * that the primary lacks is errant, and MySQL itself would not notice.
 */
import type { Status } from '../channel/protocol.ts';
import {
  areGtidSetsEqual,
  countGtids,
  formatGtidSet,
  isGtidSetEmpty,
  isGtidSubset,
  parseGtidSet,
  subtractGtidSets,
  unionGtidSets,
} from '../cluster/gtid-set.ts';
import { isSameVoter } from '../cluster/voters.ts';
import type { MemberInput } from '../machines/member.ts';
import { setActivated, storeRule } from '../store/clusters.ts';
import { findMemberEvent } from '../store/events.ts';
import { type Context, emit } from './context.ts';
import {
  type ClusterView,
  gatherMember,
  isFollowing,
  isHeld,
  isInPlace,
  isRunning,
  type MemberView,
  primaryOf,
} from './gather.ts';
import { openRebuildFor } from './rebuild-actors.ts';
import { issuedBy } from './trimming.ts';
import { ackFlushFor, lowerAcknowledgements, readExecutedNow } from './voter-actor.ts';
import { lookUntil } from './wakes.ts';

const followTimeoutMs = 15_000;
const promoteTimeoutMs = 30_000;
const fenceTimeoutMs = 10_000;
/** Longer than the pause between two statuses. */
const errantAfterMs = 1500;

export type Comparison =
  /** The primary has all that the member has, and still has in its logs all that the member lacks. */
  | { readonly kind: 'subset' }
  | { readonly kind: 'errant'; readonly gtids: string }
  | { readonly kind: 'purged'; readonly gtids: string };

/**
 * Pure: may `member` follow `primary`? What the primary itself has issued is never errant: a commit that waits for
 * acknowledgements is on replicas before it is in the primary's executed set, and who loses history gets a new uuid.
 */
export function compareWithPrimary(
  member: Pick<Status, 'gtidExecuted' | 'gtidReceived'>,
  primary: Pick<Status, 'gtidExecuted' | 'gtidPurged' | 'serverUuid'>,
): Comparison {
  const own = unionGtidSets(parseGtidSet(member.gtidExecuted), parseGtidSet(member.gtidReceived));
  const issued = parseGtidSet(issuedBy(primary.serverUuid));
  const errant = subtractGtidSets(own, unionGtidSets(parseGtidSet(primary.gtidExecuted), issued));
  if (!isGtidSetEmpty(errant)) return { kind: 'errant', gtids: formatGtidSet(errant) };
  const missingPurged = subtractGtidSets(parseGtidSet(primary.gtidPurged), own);
  if (!isGtidSetEmpty(missingPurged)) return { kind: 'purged', gtids: formatGtidSet(missingPurged) };
  return { kind: 'subset' };
}

export async function joinCluster(
  context: Context,
  { input, signal }: { input: MemberInput; signal: AbortSignal },
): Promise<void> {
  const { clusterId, ordinal } = input;
  /**
   * The primary's set only grows: "subset" is true whenever it is seen, "errant" only against a status that the primary
   * made after the member's own. Clocks of hosts differ, so it is waited for a newer one.
   */
  let first: { readonly at: number; readonly primaryAt: number } | null = null;
  const isTooEarly = (primary: Status) => {
    first ??= { at: context.clock.now(), primaryAt: primary.at };
    return primary.at === first.primaryAt || context.clock.now() - first.at < errantAfterMs;
  };
  let wasInPlace = true;
  const stopwatch = createStopwatch(context);
  await lookUntil(context, clusterId, signal, async () => {
    const { view, self } = await gatherMember(context, clusterId, ordinal);
    wasInPlace &&= isInPlace(view, self);
    if (!isRunning(self) || !self.isConnected) throw new Error('the instance stopped');
    if (view.cluster.epoch === 0 || (view.failover && !isActivating(view))) return undefined;
    if (isHeld(view)) return undefined;
    const isToBeFilled = view.rebuilds.some((rebuild) => rebuild.ordinal === ordinal);
    if (isToBeFilled && !isNeededBefore(view, self)) return undefined;
    const primary = primaryOf(view);
    if (!primary) return undefined;
    if (primary.ordinal === ordinal) return view.failover ? undefined : resumePrimary(context, view, self, signal);
    if (self.status!.incarnation !== self.member.incarnation && !isToBeFilled)
      return refill(context, view, self, 'a rebuild that was given up has filled it unseen');
    if (isInPlace(view, self)) {
      stopwatch(self.status!);
      return hasCaughtUp(self, primary) ? announceJoined(context, view, self, wasInPlace) : undefined;
    }
    if (self.status!.isWritable) return fenceLeftover(context, view, self, signal);
    if (!primary.status || !primary.isConnected || !isRunning(primary)) return undefined;
    const held = await holdStill(context, view, self, primary, signal);
    const comparison = compareWithPrimary(held, primary.status);
    if (comparison.kind === 'errant' && isTooEarly(primary.status)) return undefined;
    if (comparison.kind !== 'subset' && isToBeFilled) return undefined;
    if (comparison.kind !== 'subset') return refill(context, view, self, describe(comparison));
    if (!primary.status.isWritable && !(await letAcknowledge(context, view, self, primary, signal))) return undefined;
    await follow(context, view, self, primary, signal);
    return undefined;
  });
}

/**
 * What it has is compared while nothing more can come: of a source that is dead what was on its way may still arrive
 * after the comparison, and before it follows another one. Answers what it has when its receiver has stopped.
 */
async function holdStill(
  context: Context,
  view: ClusterView,
  self: MemberView,
  primary: MemberView,
  signal: AbortSignal,
): Promise<Pick<Status, 'gtidExecuted' | 'gtidReceived'>> {
  const status = self.status!;
  const { receiver = 'off' } = status.replication ?? {};
  if (receiver === 'off' || isFollowing(self, primary)) return status;
  const options = { epoch: view.cluster.epoch, timeoutMs: followTimeoutMs, signal };
  const answer = await context.executors.send(self.launch!.taskId, { kind: 'freeze' }, options);
  if (answer.outcome !== 'done' || answer.gtidExecuted === undefined) throw new Error('it does not say what it has');
  return { gtidExecuted: answer.gtidExecuted, gtidReceived: answer.gtidReceived ?? '' };
}

/** Learns how fast a member that follows applies, by the executor's own clock. */
function createStopwatch({ rates }: Context): (status: Status) => void {
  let first: { readonly count: bigint; readonly at: number } | null = null;
  return ({ gtidExecuted, at }) => {
    const count = countGtids(parseGtidSet(gtidExecuted));
    first ??= { count, at };
    rates.learn('applied', Number(count - first.count), at - first.at);
  };
}

/** Past the commit point the failover may wait for acknowledgements: of members that are to join, for nobody else can. */
function isActivating({ cluster, failover }: ClusterView): boolean {
  return failover !== null && cluster.epoch > failover.fromEpoch;
}

/**
 * It is to be filled anew, and has not left the voters: it may be the only one that can acknowledge. Who is filled before
 * it, by CLONE, waits for a commit of the primary.
 */
function isNeededBefore({ cluster }: ClusterView, { ordinal, status }: MemberView): boolean {
  const { rule } = cluster;
  const isVoter = rule?.voters.some((one) => one.ordinal === ordinal && one.incarnation === status?.incarnation);
  return isVoter === true && rule!.k > 0;
}

/**
 * Before it follows a primary whose first commit waits: what it received without acknowledging it is not acknowledged
 * later. The larger rule is stored first. A voter that lost its memory takes its place again when it holds everything.
 */
async function letAcknowledge(
  context: Context,
  view: ClusterView,
  self: MemberView,
  primary: MemberView,
  signal: AbortSignal,
): Promise<boolean> {
  const { cluster } = view;
  const { rule, epoch } = cluster;
  if (!rule || rule.k === 0) return true;
  const { incarnation, bootId } = self.status!;
  const voter = { ordinal: self.ordinal, incarnation, bootId };
  const others = rule.voters.filter((one) => one.ordinal !== self.ordinal);
  const known = rule.voters.find((one) => one.ordinal === self.ordinal);
  if (!known || !isSameVoter(known, voter)) {
    if (known) {
      const executed = parseGtidSet(await readExecutedNow(context, view, primary));
      if (!isGtidSubset(executed, parseGtidSet(self.status!.gtidExecuted))) return true;
    }
    const next = { ...rule, version: rule.version + 1, voters: [...others, voter] };
    const change = { clusterId: cluster.id, epoch, fromVersion: rule.version, rule: next };
    if (!(await storeRule(context.store, context.leader, change))) return false;
  }
  if (self.status!.semiSync.isReplica) return true;
  const { taskId } = self.launch!;
  context.unansweredVoters.add(taskId);
  await context.executors.send(
    taskId,
    { kind: 'setVoter', isVoter: true, ackFlush: ackFlushFor(cluster, self.ordinal) },
    { epoch, timeoutMs: followTimeoutMs, signal },
  );
  context.unansweredVoters.delete(taskId);
  return true;
}

/** The same primary takes up again in its own epoch, after a restart or an undone change. */
async function resumePrimary(
  context: Context,
  view: ClusterView,
  self: MemberView,
  signal: AbortSignal,
): Promise<true | undefined> {
  if (isInPlace(view, self)) {
    // The failover that chose it may have ended before it took writes.
    if (view.cluster.activatedAt === null) {
      await setActivated(context.store, context.leader, view.cluster.id, view.cluster.epoch, context.clock.now());
      context.wakes.wake(view.cluster.id);
    }
    return true;
  }
  const rule = view.cluster.rule;
  const isSameIncarnation = rule?.voters.some(
    (voter) => voter.ordinal === self.ordinal && voter.incarnation === self.status?.incarnation,
  );
  if (!rule || !isSameIncarnation) throw new Error('the primary is not the incarnation that was chosen');
  const { k } = await lowerAcknowledgements(context, view);
  await context.executors.send(
    self.launch!.taskId,
    { kind: 'promote', k, member: self.ordinal, timeoutMs: promoteTimeoutMs },
    { epoch: view.cluster.epoch, timeoutMs: promoteTimeoutMs + 5000, signal },
  );
  return undefined;
}

/**
 * Writable, and not the primary: it was silent while another one was chosen, and is back. What it may have taken since
 * was acknowledged to nobody, as its voters follow another epoch. It is ended and held; what it has too much is cut off
 * or it is filled anew, like after a crash.
 */
async function fenceLeftover(
  context: Context,
  view: ClusterView,
  self: MemberView,
  signal: AbortSignal,
): Promise<undefined> {
  const { cluster } = view;
  context.log.warn(
    { cluster: cluster.name, ordinal: self.ordinal },
    'a former primary is still writable: it is fenced',
  );
  const options = { epoch: cluster.epoch, timeoutMs: fenceTimeoutMs, signal };
  await context.executors.send(self.launch!.taskId, { kind: 'fence' }, options);
  return undefined;
}

async function follow(
  context: Context,
  view: ClusterView,
  self: MemberView,
  primary: MemberView,
  signal: AbortSignal,
): Promise<void> {
  const source = { host: primary.bundle!.ip, port: primary.bundle!.bundle.ports.mysql };
  await context.executors.send(
    self.launch!.taskId,
    { kind: 'follow', source },
    { epoch: view.cluster.epoch, timeoutMs: followTimeoutMs, signal },
  );
}

const describe = (comparison: Exclude<Comparison, { kind: 'subset' }>): string =>
  comparison.kind === 'errant'
    ? `it has transactions that the primary lacks: ${comparison.gtids}`
    : `the primary no longer has logs that it needs: ${comparison.gtids}`;

async function refill(context: Context, view: ClusterView, self: MemberView, why: string): Promise<undefined> {
  await openRebuildFor(context, view, self.ordinal, why);
  return undefined;
}

/** Once: a member that is found in its place after a restart of the control plane was announced before. */
async function announceJoined(
  context: Context,
  view: ClusterView,
  self: MemberView,
  wasInPlace: boolean,
): Promise<true> {
  const known = wasInPlace ? await findMemberEvent(context.store, view.cluster.id, self.ordinal) : null;
  if (known?.kind === 'member.joined') return true;
  await emit(context, 'member.joined', view.cluster, 'caught up and serves', { ordinal: self.ordinal });
  return true;
}

function hasCaughtUp(self: MemberView, primary: MemberView): boolean {
  if (!self.status || !primary.status) return false;
  if (self.status.replication?.receiver !== 'on') return false;
  const own = parseGtidSet(self.status.gtidExecuted);
  const wanted = parseGtidSet(primary.status.gtidExecuted);
  // Under a steady load the replica is always a little behind: its lag decides then.
  return (
    areGtidSetsEqual(own, wanted) ||
    isGtidSubset(wanted, own) ||
    (self.status.lagMs !== null && self.status.lagMs < 2000)
  );
}
