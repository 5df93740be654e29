/** Carries out the next single step of the voters (cluster/voter-steps.ts decides it). */
import type { CommandBody } from '../channel/protocol.ts';
import { isGtidSubset, parseGtidSet } from '../cluster/gtid-set.ts';
import type { AckFlush, VoterRule } from '../cluster/types.ts';
import { ackFlushOf, nextVoterStep, type ObservedVoters } from '../cluster/voter-steps.ts';
import { acknowledgements } from '../cluster/voters.ts';
import { storeRule } from '../store/clusters.ts';
import type { Context } from './context.ts';
import { type ClusterView, isRunning, type MemberView, primaryOf, proofOfEnd } from './gather.ts';

const stepTimeoutMs = 10_000;
const askTimeoutMs = 2000;
/** A replica this close to the primary counts as caught up. */
const lagMaxMs = 2000;

/** The primary, while its voters may be changed. */
function steppedPrimary(view: ClusterView): MemberView | null {
  const { rule, activatedAt } = view.cluster;
  const primary = primaryOf(view);
  return rule && primary?.launch && activatedAt !== null && primary.status?.isWritable ? primary : null;
}

/** What the voters should be and cannot become yet, each as `member 1 to catch up`; empty when all is as wanted. */
export function describeVoterWaits(context: Pick<Context, 'unansweredVoters'>, view: ClusterView): readonly string[] {
  const primary = steppedPrimary(view);
  if (!primary) return [];
  const step = nextVoterStep(view.cluster.rule!, wantedOf(view), observe(context, view, primary));
  return step.kind === 'none' ? step.waitingFor : [];
}

/** True when something was changed: look again at once. */
export async function stepVoters(context: Context, view: ClusterView): Promise<boolean> {
  const { cluster } = view;
  const primary = steppedPrimary(view);
  if (!cluster.rule || !primary?.launch) return false;
  if (await clearDoubt(context, view)) return true;
  const observed = observe(context, view, primary);
  const step = nextVoterStep(cluster.rule, wantedOf(view), observed);
  if (step.kind === 'none') return false;
  context.log.info({ cluster: cluster.name, step: step.kind, reason: step.reason }, 'next step of the voters');
  const options = { epoch: cluster.epoch, timeoutMs: stepTimeoutMs };
  const store = (rule: NonNullable<typeof cluster.rule>) =>
    storeRule(context.store, context.leader, {
      clusterId: cluster.id,
      epoch: cluster.epoch,
      fromVersion: cluster.rule!.version,
      rule,
    });
  try {
    if (step.kind === 'storeRule') {
      if (step.holder !== undefined) await waitHoldsAll(context, view, step.holder);
      return await store(step.rule);
    }
    if (step.kind === 'setVoter') {
      const { launch } = view.members.find((member) => member.ordinal === step.ordinal)!;
      await setVoter(context, launch!.taskId, step, options);
      return true;
    }
    await context.executors.send(
      primary.launch.taskId,
      { kind: 'setAcknowledgements', k: step.k, timeoutMs: stepTimeoutMs - 2000 },
      options,
    );
    if (step.holder !== undefined) await waitHoldsAll(context, view, step.holder);
    return step.thenRule === null ? true : await store(step.thenRule);
  } catch (error) {
    // The next tick decides anew from what is there then.
    context.log.warn({ err: error, step: step.kind }, 'a step of the voters failed');
    return false;
  }
}

/** Asked now: a status may be older than the restart of a voter's host, and the primary is not reached any more. */
export async function readExecutedNow(context: Context, view: ClusterView, primary: MemberView): Promise<string> {
  const options = { epoch: view.cluster.epoch, timeoutMs: askTimeoutMs };
  const nothing: CommandBody = { kind: 'catchUp', gtidSet: '', timeoutMs: 0 };
  const answer = await context.executors.send(primary.launch!.taskId, nothing, options);
  if (answer.outcome !== 'done' || answer.gtidExecuted === undefined)
    throw new Error('the primary does not say what it has');
  return answer.gtidExecuted;
}

/** Throws when the primary does not answer, or the member has not executed it all in time. */
async function waitHoldsAll(context: Context, view: ClusterView, ordinal: number): Promise<void> {
  const gtidSet = await readExecutedNow(context, view, primaryOf(view)!);
  const { launch } = view.members.find((member) => member.ordinal === ordinal)!;
  const wait: CommandBody = { kind: 'catchUp', gtidSet, timeoutMs: stepTimeoutMs - 2000 };
  await context.executors.send(launch!.taskId, wait, { epoch: view.cluster.epoch, timeoutMs: stepTimeoutMs });
}

/** Where nobody acknowledges nobody need flush. */
function wantedFlush({ spec }: ClusterView['cluster']): AckFlush {
  return acknowledgements(spec.members, spec.durability) === 0 ? 'os' : spec.ackFlush;
}

/** How a member must acknowledge when it is started or told to: what is wanted, and never less than the rule counts on. */
export const ackFlushFor = (cluster: ClusterView['cluster'], ordinal: number): AckFlush =>
  ackFlushOf(cluster.rule, wantedFlush(cluster), ordinal);

/**
 * A person lowered the durability while the primary waits to become writable: the rule follows, before MySQL does.
 * Answers the rule in force. Throws when it has moved on.
 */
export async function lowerAcknowledgements(context: Context, { cluster }: ClusterView): Promise<VoterRule> {
  const rule = cluster.rule!;
  const k = acknowledgements(cluster.spec.members, cluster.spec.durability);
  if (rule.k <= k) return rule;
  const lower = { ...rule, k, version: rule.version + 1 };
  const { id: clusterId, epoch } = cluster;
  const change = { clusterId, epoch, fromVersion: rule.version, rule: lower };
  if (!(await storeRule(context.store, context.leader, change))) throw new Error('the rule has moved on');
  return lower;
}

/**
 * A command without an answer may still be carried out: until a later one was answered (an executor runs them in
 * order) nobody can say that this member does not acknowledge.
 */
async function setVoter(
  context: Context,
  taskId: string,
  { isVoter, ackFlush }: { readonly isVoter: boolean; readonly ackFlush?: AckFlush },
  options: { epoch: number; timeoutMs: number },
) {
  context.unansweredVoters.add(taskId);
  await context.executors.send(taskId, { kind: 'setVoter', isVoter, ...(ackFlush ? { ackFlush } : {}) }, options);
  context.unansweredVoters.delete(taskId);
}

/** Ends such a doubt by an answered "no"; the ordinary steps lead the member back. */
async function clearDoubt(context: Context, view: ClusterView): Promise<boolean> {
  const doubtful = view.members.find(
    ({ launch, isConnected }) => launch && isConnected && context.unansweredVoters.has(launch.taskId),
  );
  if (!doubtful?.launch) return false;
  try {
    await setVoter(
      context,
      doubtful.launch.taskId,
      { isVoter: false },
      { epoch: view.cluster.epoch, timeoutMs: stepTimeoutMs },
    );
    return true;
  } catch (error) {
    context.log.warn({ err: error, ordinal: doubtful.ordinal }, 'a member does not answer whether it acknowledges');
    return false;
  }
}

function wantedOf(view: ClusterView): Parameters<typeof nextVoterStep>[1] {
  const { cluster, members } = view;
  const k = acknowledgements(cluster.spec.members, cluster.spec.durability);
  const wanted = members.filter(
    (member) => member.ordinal !== cluster.primary && member.member.desired === 'present' && isWanted(view, member),
  );
  const replicas = exceptRebuilt(view, wanted, k).map(({ ordinal, member, status }) => ({
    ordinal,
    incarnation: member.incarnation,
    bootId: status?.bootId,
  }));
  return { replicas, k, ackFlush: wantedFlush(cluster) };
}

/**
 * Who is to be filled anew leaves first, the oldest rebuild before the others, as long as k are left to acknowledge: the
 * commits of the primary would wait for ever for two that wait for each other. The later ones have their turn.
 */
function exceptRebuilt({ rebuilds }: ClusterView, wanted: readonly MemberView[], k: number): readonly MemberView[] {
  const age = ({ ordinal }: MemberView) => rebuilds.findIndex((rebuild) => rebuild.ordinal === ordinal);
  const untouched = wanted.filter((member) => age(member) < 0);
  const waiting = wanted.filter((member) => age(member) >= 0 && member.isConnected && isRunning(member));
  const youngestFirst = waiting.sort((one, other) => age(other) - age(one));
  return [...untouched, ...youngestFirst.slice(0, Math.max(0, k - untouched.length))];
}

/**
 * A voter whose instance has provably ended leaves while the others can still give k: a second loss then finds a rule
 * that the rest can meet. Members that serve are wanted; one that is merely silent keeps its place.
 */
function isWanted(view: ClusterView, member: MemberView): boolean {
  if (proofOfEnd(member)) return false;
  const isVoter = view.cluster.rule!.voters.some(
    (voter) => voter.ordinal === member.ordinal && voter.incarnation === member.member.incarnation,
  );
  return isVoter || member.member.phase === 'serving';
}

function observe(context: Pick<Context, 'unansweredVoters'>, view: ClusterView, primary: MemberView): ObservedVoters {
  return {
    primaryK:
      primary.isConnected && primary.status?.isWritable
        ? primary.status.semiSync.isSource
          ? primary.status.semiSync.k
          : 0
        : null,
    members: view.members
      .filter(({ ordinal }) => ordinal !== primary.ordinal)
      .map((member) => ({
        ordinal: member.ordinal,
        incarnation: member.status?.incarnation ?? member.member.incarnation,
        bootId: member.status?.bootId,
        holdsAll: holdsAll(member, primary),
        flushes: member.isConnected && isRunning(member) ? member.status?.flushesRelayLog : undefined,
        acknowledges: acknowledges(context, member),
        isCaughtUp: isCaughtUp(member, primary),
      })),
  };
}

function acknowledges(context: Pick<Context, 'unansweredVoters'>, member: MemberView): 'yes' | 'no' | 'unknown' {
  if (proofOfEnd(member)) return 'no';
  if (member.launch && context.unansweredVoters.has(member.launch.taskId)) return 'unknown';
  if (!member.isConnected || !member.status || !isRunning(member)) return 'unknown';
  return member.status.semiSync.isReplica ? 'yes' : 'no';
}

function holdsAll(member: MemberView, primary: MemberView): boolean {
  const { status } = member;
  if (!member.isConnected || !status || !primary.status || !isRunning(member)) return false;
  return isGtidSubset(parseGtidSet(primary.status.gtidExecuted), parseGtidSet(status.gtidExecuted));
}

function isCaughtUp(member: MemberView, primary: MemberView): boolean {
  const { status } = member;
  if (!member.isConnected || !status || status.replication?.receiver !== 'on' || status.replication.applier !== 'on')
    return false;
  const isNear = status.lagMs !== null && status.lagMs < lagMaxMs;
  return isNear || isGtidSubset(parseGtidSet(primary.status!.gtidExecuted), parseGtidSet(status.gtidExecuted));
}
