/**
 * What a change of the primary would do now, without doing it: for a dry run, and for the standing rehearsal "if the
 * primary died now". Pure, on what the last tick gathered; the same choice as the real thing makes (choose-primary.ts).
 */
import { choosePrimary } from '../cluster/choose-primary.ts';
import type { Verdict } from '../cluster/detection.ts';
import {
  countGtids,
  formatGtidSet,
  isGtidSubset,
  parseGtidSet,
  subtractGtidSets,
  unionGtidSets,
} from '../cluster/gtid-set.ts';
import { findHeir, isNever, preferred } from '../cluster/preferences.ts';
import { countedVoters } from '../cluster/voters.ts';
import { type ClusterView, isRunning, type MemberView, primaryOf } from './gather.ts';
import { outlookOfPostMortem } from './post-mortem-plan.ts';

export interface PlanRequest {
  readonly kind: 'failover' | 'switchover';
  readonly candidate?: number | undefined;
  readonly force?: boolean | undefined;
  readonly acceptedLoss?: string | undefined;
  readonly maxPauseMs?: number | undefined;
}

export interface PlanStep {
  readonly name: string;
  /** Ordinal of the member, null for the store. */
  readonly member: number | null;
  readonly what: string;
}

export interface Plan {
  readonly kind: PlanRequest['kind'];
  readonly candidate: number | null;
  readonly refusal: {
    readonly code: string;
    readonly message: string;
    readonly facts?: Readonly<Record<string, unknown>>;
  } | null;
  readonly warnings: readonly string[];
  readonly steps: readonly PlanStep[];
  /** An estimate: the floor of the kind, and a millisecond for each transaction to apply. */
  readonly predictedMs: number | null;
}

export interface Rehearsal {
  readonly candidate: number | null;
  readonly refusal: Plan['refusal'];
  readonly predictedMs: number | null;
  /** Transactions that the primary has and the candidate has not received, as of the last statuses; 0 acknowledged ones. */
  readonly couldLose: number;
}

/** Statements of the real change; measured on two quiet cores. */
const floorMs = { failover: 100, switchover: 50 } as const;

/** `lastKnownPrimaryGtid`: what the primary was last seen to have; a living one has more at every moment. */
export const onlyMember = 'the cluster has one member: nobody can follow it, and it is started again by itself';

export function planChange(view: ClusterView, verdict: Verdict, request: PlanRequest, lastKnownPrimaryGtid = ''): Plan {
  const primary = primaryOf(view);
  const refuse = (code: string, message: string, facts: Readonly<Record<string, unknown>> = {}): Plan => ({
    kind: request.kind,
    candidate: null,
    refusal: { code, message, facts },
    warnings: [],
    steps: [],
    predictedMs: null,
  });
  if (!primary || !view.cluster.rule) return refuse('NO_PRIMARY', 'the cluster has no primary yet');
  if (view.members.length === 1) return refuse('NO_CANDIDATE', onlyMember);
  if (view.failover) return refuse('OPERATION_OPEN', `a ${view.failover.kind} is open`, { id: view.failover.id });
  if (request.kind === 'switchover') return planSwitchover(view, primary, request, refuse);
  if (verdict.kind === 'alive' && !request.force) {
    return refuse('PRIMARY_HEALTHY', `member ${primary.ordinal} is alive: ask for a switchover, or force the failover`);
  }
  return planFailover(view, primary, request, verdict.kind === 'alive' ? '' : lastKnownPrimaryGtid);
}

/** "If the primary died now": its executor reaps it, all replicas that are reached now are reached then. */
export function rehearse(view: ClusterView): Rehearsal | null {
  const primary = primaryOf(view);
  if (!primary || !view.cluster.rule || view.members.length === 1) return null;
  const { candidate, refusal, predictedMs } = planFailover(view, primary, { kind: 'failover' });
  const heir = view.members.find(({ ordinal }) => ordinal === candidate);
  const missing = subtractGtidSets(parseGtidSet(primary.status?.gtidExecuted ?? ''), parseGtidSet(heldBy(heir)));
  // With k > 0 what is missing is only younger than the replica's last status: acknowledged transactions are on it.
  const couldLose = view.cluster.rule.k > 0 && refusal === null ? 0 : Number(countGtids(missing));
  return { candidate, refusal, predictedMs, couldLose };
}

function planFailover(view: ClusterView, primary: MemberView, request: PlanRequest, lastKnownPrimaryGtid = ''): Plan {
  const rule = view.cluster.rule!;
  const reached = view.members
    .filter((member) => member.ordinal !== primary.ordinal && member.isConnected && isRunning(member))
    .map((member) => ({
      ordinal: member.ordinal,
      incarnation: member.status!.incarnation,
      bootId: member.status!.bootId,
      gtid: heldBy(member),
      isApplierRunning: member.status!.replication?.applier === 'on',
    }));
  const choice = choosePrimary({
    rule,
    reached,
    // Statuses of members are not of one instant: while the primary lives only the real change, with receivers stopped,
    // compares exactly.
    lastKnownPrimaryGtid,
    isLastKnownFinal: false,
    candidate: request.candidate,
    preferences: preferred(view.cluster.preferences),
    acceptedLoss: request.acceptedLoss,
  });
  if (choice.kind === 'refused') {
    const { code, facts } = choice;
    const postMortem = code === 'PROMOTION_UNSAFE' ? outlookOfPostMortem(view, primary, reached) : null;
    const message = postMortem ? `${choice.message}; ${postMortem.message}` : choice.message;
    return {
      kind: 'failover',
      candidate: null,
      refusal: { code, message, facts: { ...facts, ...(postMortem ? { postMortem } : {}) } },
      warnings: [],
      steps: [],
      predictedMs: null,
    };
  }
  const best = reached.find(({ ordinal }) => ordinal === choice.ordinal)!;
  const { preferences } = view.cluster;
  const isAccepted = choice.warnings.some(({ kind }) => kind === 'DataLossAccepted');
  const isPassedOver = request.candidate === undefined && !isAccepted && isNever(preferences, choice.ordinal);
  const candidate = isPassedOver ? findHeir(countedVoters(rule, reached), best, preferences) : choice.ordinal;
  if (candidate === null) {
    const message = 'only members that shall never be the primary are reached';
    return {
      kind: 'failover',
      candidate,
      refusal: { code: 'NO_CANDIDATE', message },
      warnings: [],
      steps: [],
      predictedMs: null,
    };
  }
  const steps = [
    { name: 'fence', member: primary.ordinal, what: 'SIGKILL mysqld and hold' },
    ...reached.map(({ ordinal }) => ({ name: 'freeze', member: ordinal, what: 'STOP REPLICA IO_THREAD' })),
    ...(isPassedOver
      ? [{ name: 'follow', member: candidate, what: `catch up from member ${choice.ordinal}, who holds most` }]
      : []),
    { name: 'catch up', member: candidate, what: `wait until ${choice.catchUpTo || 'nothing'} is executed` },
    ...afterCommit(view, candidate),
  ];
  return {
    kind: 'failover',
    candidate,
    refusal: null,
    warnings: choice.warnings.map(({ message }) => message),
    steps,
    predictedMs: floorMs.failover + backlog(view, candidate),
  };
}

function planSwitchover(
  view: ClusterView,
  primary: MemberView,
  request: PlanRequest,
  refuse: (code: string, message: string, facts?: Readonly<Record<string, unknown>>) => Plan,
): Plan {
  if (!primary.isConnected || !primary.status?.isWritable) {
    return refuse('PRIMARY_NOT_READY', 'the primary does not take writes: this needs a failover, not a switchover');
  }
  const ready = readyReplicas(view, primary.ordinal).map(({ ordinal }) => ordinal);
  const { preferences } = view.cluster;
  const order = [...preferred(preferences), ...ready].filter(
    (ordinal) => ready.includes(ordinal) && !isNever(preferences, ordinal),
  );
  const candidate = request.candidate ?? order[0];
  const reasons = unreadyReplicas(view, primary.ordinal);
  if (candidate === undefined) return refuse('NO_CANDIDATE', 'no replica can take over now', { reasons });
  if (!ready.includes(candidate)) {
    return refuse('CANDIDATE_NOT_READY', `member ${candidate}: ${reasons[candidate]}`, { ready, reasons });
  }
  const long = findLongTransaction(primary, request.maxPauseMs);
  if (long && !request.force) return refuse('LONG_TRANSACTION', long.message, long.facts);
  return {
    kind: 'switchover',
    candidate,
    refusal: null,
    warnings: long ? [`${long.message}: it is ended`] : [],
    steps: [
      {
        name: 'demote',
        member: primary.ordinal,
        what: 'SET GLOBAL super_read_only=ON; running writers get until maxPauseMs',
      },
      { name: 'catch up', member: candidate, what: `wait until all that member ${primary.ordinal} has is executed` },
      { name: 'seal', member: primary.ordinal, what: 'it may not end the pause by itself any more' },
      ...afterCommit(view, candidate),
      { name: 'drop clients', member: primary.ordinal, what: 'SET GLOBAL offline_mode=ON, then OFF' },
    ],
    predictedMs: floorMs.switchover + backlog(view, candidate),
  };
}

/** Unless asked otherwise writes are paused for this long in a switchover, up to its commit point. */
export const defaultMaxPauseMs = 5000;

/** A transaction that would not end within the pause, by the primary's last status. */
function findLongTransaction({ status }: MemberView, maxPauseMs = defaultMaxPauseMs) {
  const { session, user, startedMsAgo } = status?.longestTransaction ?? {};
  if (startedMsAgo === undefined || startedMsAgo < maxPauseMs) return null;
  const message = `session ${session} of ${user} is in a transaction that writes, for ${startedMsAgo} ms`;
  return { message, facts: { session, user, forMs: startedMsAgo } };
}

/** The commit point and what follows it; the same for both kinds. */
function afterCommit(view: ClusterView, candidate: number): PlanStep[] {
  const { epoch, rule } = view.cluster;
  const others = view.members.filter(({ ordinal }) => ordinal !== candidate);
  return [
    {
      name: 'commit',
      member: null,
      what: `epoch ${epoch} becomes ${epoch + 1} with member ${candidate} as its primary: no way back`,
    },
    ...others.map(({ ordinal }) => ({
      name: 'repoint',
      member: ordinal,
      what: `CHANGE REPLICATION SOURCE TO member ${candidate}, the relay log kept (compared before if it was the primary)`,
    })),
    {
      name: 'promote',
      member: candidate,
      what: `semi-sync source with ${rule?.k ?? 0} acknowledgements, the epoch row as first transaction, read_only=OFF, RESET REPLICA ALL`,
    },
  ];
}

/** A replica that is further behind would keep writes paused while it catches up. */
const lagMaxMs = 10_000;

/** Who may take over in a switchover now. */
export function readyReplicas(view: ClusterView, fromPrimary: number | null): MemberView[] {
  return view.members.filter((member) => member.ordinal !== fromPrimary && whyNotReady(view, member) === null);
}

/** Why not, of everybody else: facts of a refusal. */
export function unreadyReplicas(view: ClusterView, fromPrimary: number | null): Record<string, string> {
  const reasons = view.members
    .filter(({ ordinal }) => ordinal !== fromPrimary)
    .map((member) => [String(member.ordinal), whyNotReady(view, member)] as const);
  return Object.fromEntries(reasons.flatMap(([ordinal, reason]) => (reason === null ? [] : [[ordinal, reason]])));
}

/** Preflight of a switchover, before anything is touched. */
function whyNotReady(view: ClusterView, { ordinal, status, isConnected }: MemberView): string | null {
  const { rule } = view.cluster;
  if (!isConnected || status?.instance !== 'running') return 'it does not run, or is not reached';
  if (status.replication?.applier !== 'on') return 'its applier does not run';
  const isVoter = rule?.voters.some((voter) => voter.ordinal === ordinal && voter.incarnation === status.incarnation);
  if (!rule || !isVoter) return 'it is no voter';
  if (status.lagMs !== null && status.lagMs > lagMaxMs) return `it is ${Math.round(status.lagMs / 1000)} s behind`;
  const others = view.members.filter((member) => member.ordinal !== ordinal && member.isConnected && isRunning(member));
  const acknowledgers = others.filter((member) => rule.voters.some((voter) => voter.ordinal === member.ordinal));
  if (acknowledgers.length < rule.k) {
    return `only ${acknowledgers.length} of the other voters are reached, and its commits wait for ${rule.k}`;
  }
  const purged = parseGtidSet(status.gtidPurged);
  const behind = acknowledgers.find((member) => !isGtidSubset(purged, parseGtidSet(member.status!.gtidExecuted)));
  return behind ? `it no longer has logs that member ${behind.ordinal} needs` : null;
}

/** received union executed */
function heldBy(member: MemberView | undefined): string {
  const { gtidExecuted = '', gtidReceived = '' } = member?.status ?? {};
  return formatGtidSet(unionGtidSets(parseGtidSet(gtidExecuted), parseGtidSet(gtidReceived)));
}

/** Received and not yet executed, in transactions. */
function backlog(view: ClusterView, ordinal: number): number {
  const status = view.members.find((member) => member.ordinal === ordinal)?.status;
  if (!status) return 0;
  return Number(countGtids(subtractGtidSets(parseGtidSet(status.gtidReceived), parseGtidSet(status.gtidExecuted))));
}
