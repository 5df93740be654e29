/**
 * What the failover machine's actors do: the order of docs/failover-safety.md. Every actor stores its fact before it
 * returns; running one twice changes nothing more. Commands before the commit point carry the old epoch, those after
 * it the new one.
 */
import { fromPromise } from 'xstate';
import type { CommandBody, CommandResult } from '../channel/protocol.ts';
import { delay } from '../clock.ts';
import { choosePrimary } from '../cluster/choose-primary.ts';
import { formatGtidSet, isGtidSubset, parseGtidSet, unionGtidSets } from '../cluster/gtid-set.ts';
import { findHeir, isNever, preferred } from '../cluster/preferences.ts';
import type { Preferences, VoterRule } from '../cluster/types.ts';
import {
  acknowledgements,
  countedVoters,
  firstRule,
  isSameVoter,
  promotionNeeds,
  ruleAfterPromotion,
} from '../cluster/voters.ts';
import { Refusal } from '../errors.ts';
import { type FailoverInput, type FailoverProgress, failoverMachine } from '../machines/failover.ts';
import { commitPrimary, setActivated, setCooldown } from '../store/clusters.ts';
import { closeFailover, getFailover, recordFailover } from '../store/failovers.ts';
import type { FailoverFacts, FailoverRow } from '../store/rows.ts';
import { cooldownMs } from './automation.ts';
import { type Context, emit } from './context.ts';
import { type ClusterView, gather, isRunning, type MemberView, proofOfEnd } from './gather.ts';
import { judge } from './judge.ts';
import { defaultMaxPauseMs, onlyMember, readyReplicas, unreadyReplicas } from './plan.ts';
import { knownOfPrimary, readPostMortem } from './post-mortem.ts';
import { ackFlushFor, lowerAcknowledgements } from './voter-actor.ts';
import { lookUntil } from './wakes.ts';

const timeoutsMs = {
  freeze: 4000,
  fence: 8000,
  /** Beside the pause itself: what comes before it, and the answer. */
  demote: 7000,
  catchUp: 50_000,
  promote: 40_000,
  follow: 10_000,
  undo: 20_000,
} as const;
/** Of the pause of a switchover: kept for rolling back who was killed, and for catching up. */
const catchUpReserveMs = 500;
/** Once enough voters are frozen the others get this long. */
const graceMs = 250;

type Args = { readonly input: FailoverInput; readonly signal: AbortSignal };
type Reached = NonNullable<FailoverFacts['reached']>[number];
interface Work {
  readonly view: ClusterView;
  readonly row: FailoverRow;
  readonly signal: AbortSignal;
}

export function provideFailover(context: Context) {
  const effect = <T>(run: (context: Context, args: Args) => Promise<T>) =>
    fromPromise<T, FailoverInput>(({ input, signal }) => run(context, { input, signal }));
  return failoverMachine.provide({
    actors: {
      readProgress: effect(readProgress),
      fence: effect(fence),
      choose: effect(choose),
      catchUp: effect(catchUp),
      commit: effect(commit),
      activate: effect(activate),
      close: effect(close),
      undo: fromPromise<void, FailoverInput & { readonly error: unknown }>(({ input, signal }) =>
        undo(context, input, signal),
      ),
    },
    actions: {
      logRetry: (_, { error }) =>
        context.log.warn({ err: error }, 'a step of the failover failed and will be tried again'),
    },
  });
}

async function begin(context: Context, { input, signal }: Args): Promise<Work> {
  const [view, row] = await Promise.all([
    gather(context, input.clusterId),
    getFailover(context.store, input.failoverId),
  ]);
  return { view, row, signal };
}

async function readProgress(context: Context, args: Args): Promise<FailoverProgress> {
  const { view, row } = await begin(context, args);
  const { facts } = row;
  return {
    isOpen: row.outcome === 'open',
    isFenced: facts.fence !== undefined && facts.reached !== undefined,
    isChosen: facts.chosen !== undefined,
    isCaughtUp: facts.caughtUpAt !== undefined,
    // The cluster's row is the commit point, whatever the failover's own row got to say.
    isCommitted: view.cluster.epoch > row.fromEpoch,
    isActivated: facts.activatedAt !== undefined,
  };
}

/** The old primary can acknowledge nothing any more, by one proven layer at least; and what each reached member holds. */
async function fence(context: Context, args: Args): Promise<void> {
  const work = await begin(context, args);
  if (work.row.kind === 'first') return fenceNothing(context, work);
  return work.row.kind === 'switchover' ? demote(context, work) : fenceAndFreeze(context, work);
}

async function fenceNothing(context: Context, { view, row }: Work): Promise<void> {
  const reached = view.members.flatMap((member) => reachedOf(member, member.status?.gtidExecuted, true));
  if (reached.length < view.members.length) throw new Refusal('MEMBER_NOT_READY', 'not every member runs yet');
  await record(context, row, 'fenced', {
    fence: { layer: 'none', detail: 'there was no primary', at: context.clock.now() },
    reached,
  });
}

async function fenceAndFreeze(context: Context, work: Work): Promise<void> {
  const { view, row } = work;
  const old = view.members.find((member) => member.ordinal === row.fromPrimary) ?? null;
  if (view.members.length === 1) throw new Refusal('NO_CANDIDATE', onlyMember);
  if (old) assertMayFail(context, work, old);
  const voters = view.cluster.rule?.voters ?? [];
  const others = view.members.filter(
    (member) => member.ordinal !== row.fromPrimary && voters.some((voter) => voter.ordinal === member.ordinal),
  );
  const fencing = old ? fenceOld(context, old, work) : Promise.resolve(null);
  const needs = view.cluster.rule ? promotionNeeds(view.cluster.rule) : null;
  const isQuorum = (answers: readonly (Reached[] | null)[]) =>
    needs?.kind === 'voters' &&
    countedVoters(
      view.cluster.rule!,
      answers.flatMap((one) => one ?? []),
    ).length >= needs.count;
  const grace = () => delay(context.clock, graceMs, work.signal);
  const frozen = await collect(
    others.map((member) => freeze(context, member, work)),
    isQuorum,
    grace,
  );
  const reached = frozen.flatMap((one) => one ?? []);
  // A process that cannot even be killed (its disk hangs) is not waited for when a quorum denies it every acknowledgement.
  const proof = isQuorum(frozen) ? await Promise.race([fencing, grace().then(() => null)]) : await fencing;
  const more = isQuorum(frozen) ? null : await lookFurther(context, work, proof);
  const fence = proof ?? {
    layer: 'quorum' as const,
    detail: `the receivers of ${reached.length} of ${others.length} replica voters are stopped`,
    at: context.clock.now(),
  };
  if (!more) return record(context, row, 'fenced', { fence, reached });
  const { postMortem } = more;
  const facts = { fence, reached: [...reached, ...more.reached], ...(postMortem ? { postMortem } : {}) };
  const detail = postMortem ? 'too few voters were reached: the binary logs of the old primary were read' : undefined;
  await record(context, row, 'fenced', facts, { detail });
}

/**
 * Too few voters to be certain by their number: what the old primary ever logged, if its executor lives; and what the
 * others hold, for whoever holds all of that, or for a person who accepts a loss.
 */
async function lookFurther(
  context: Context,
  work: Work,
  proof: FailoverFacts['fence'] | null,
): Promise<{ readonly reached: readonly Reached[]; readonly postMortem: FailoverFacts['postMortem'] | null }> {
  const { view, row, signal } = work;
  const isVoter = ({ ordinal }: MemberView) => view.cluster.rule?.voters.some((voter) => voter.ordinal === ordinal);
  const strangers = view.members.filter((member) => member.ordinal !== row.fromPrimary && !isVoter(member));
  const [postMortem, ...frozen] = await Promise.all([
    proof?.layer === 'executor' ? readPostMortem(context, view, signal) : null,
    ...strangers.map((member) => freeze(context, member, work)),
  ]);
  return { postMortem, reached: frozen.flatMap((one) => one ?? []) };
}

/** Answers as they come. Ends when all came, or a moment after they are enough: who hangs is not waited for. */
async function collect<T>(
  tasks: readonly Promise<T>[],
  isEnough: (answers: readonly T[]) => boolean,
  grace: () => Promise<void>,
): Promise<readonly T[]> {
  const answers: T[] = [];
  let tellEnough = () => {};
  const enough = new Promise<void>((resolve) => {
    tellEnough = resolve;
  });
  const all = Promise.all(
    tasks.map(async (task) => {
      answers.push(await task);
      if (isEnough(answers)) tellEnough();
    }),
  );
  await Promise.race([all, enough.then(grace)]);
  return [...answers];
}

/** A person who asks to fail over a primary that lives must say so: a switchover loses nothing and pauses shorter. */
function assertMayFail(context: Context, { view, row }: Work, old: MemberView): void {
  if (row.requestedBy === 'automation' || row.options.force) return;
  const verdict = judge(context, view, old);
  if (verdict.kind !== 'alive') return;
  throw new Refusal('PRIMARY_HEALTHY', `member ${old.ordinal} is alive: ask for a switchover, or force the failover`, {
    note: verdict.note,
  });
}

/** Ended already, or made to end now by its executor, durable either way. Null: no proof; then only a quorum counts. */
async function fenceOld(
  context: Context,
  old: MemberView,
  { view, signal }: Work,
): Promise<FailoverFacts['fence'] | null> {
  const ended = proofOfEnd(old);
  if (ended) return { ...ended, at: context.clock.now() };
  if (!old.launch) return null;
  try {
    await context.executors.send(
      old.launch.taskId,
      { kind: 'fence' },
      { epoch: view.cluster.epoch, timeoutMs: timeoutsMs.fence, signal },
    );
    return { layer: 'executor', detail: 'ended mysqld with SIGKILL and holds', at: context.clock.now() };
  } catch (error) {
    context.log.warn({ err: error, taskId: old.launch.taskId }, 'the old primary could not be fenced by its executor');
    return null;
  }
}

async function freeze(context: Context, member: MemberView, { view, signal }: Work): Promise<Reached[] | null> {
  if (!member.launch || !isRunning(member)) return null;
  try {
    const result = await context.executors.send(
      member.launch.taskId,
      { kind: 'freeze' },
      { epoch: view.cluster.epoch, timeoutMs: timeoutsMs.freeze, signal },
    );
    return reachedOf(member, holds(result), result.outcome === 'done' && result.isApplierRunning === true);
  } catch (error) {
    context.log.warn({ err: error, ordinal: member.ordinal }, 'a voter could not be reached');
    return null;
  }
}

/** The old primary takes no more writes and says what it holds; every replica can catch up from it. */
async function demote(context: Context, work: Work): Promise<void> {
  const { view, row, signal } = work;
  const old = view.members.find((member) => member.ordinal === row.fromPrimary);
  if (!old?.launch || !old.status?.isWritable || !old.isConnected) {
    throw new Refusal('PRIMARY_NOT_READY', 'the primary does not take writes: this needs a failover, not a switchover');
  }
  assertCandidateReady(view, row);
  const asked = row.options.maxPauseMs ?? defaultMaxPauseMs;
  const pauseBeganAt = row.facts.pauseBeganAt ?? context.clock.now();
  if (row.facts.pauseBeganAt === undefined) await record(context, row, 'pausing', { pauseBeganAt });
  const restMs = pauseRestMs(context, { ...row, facts: { pauseBeganAt } });
  if (restMs === 0)
    throw new Refusal('TIMED_OUT', `the pause of ${asked} ms had passed when the control plane was back`);
  const killAfterMs = Math.round(Math.max(restMs / 2, restMs - catchUpReserveMs));
  const limits = row.options.force ? { killAfterMs } : { killAfterMs, transactionMaxMs: asked };
  const result = await context.executors.send(
    old.launch.taskId,
    { kind: 'demote', maxPauseMs: restMs, ...limits },
    { epoch: view.cluster.epoch, timeoutMs: restMs + timeoutsMs.demote, signal },
  );
  const reached = [
    ...reachedOf(old, holds(result), true),
    ...readyReplicas(view, row.fromPrimary).flatMap((member) => reachedOf(member, member.status?.gtidExecuted, true)),
  ];
  await record(context, row, 'demoted', {
    fence: { layer: 'demoted', detail: 'super_read_only is on', at: context.clock.now() },
    reached,
  });
}

/** What is left of the time that writes may be paused, in whole milliseconds; 0 when it is used up. */
function pauseRestMs(context: Context, { facts, options }: Pick<FailoverRow, 'facts' | 'options'>): number {
  const endsAt = (facts.pauseBeganAt ?? context.clock.now()) + (options.maxPauseMs ?? defaultMaxPauseMs);
  return Math.max(0, endsAt - context.clock.now());
}

/** Preflight: nothing is touched when the answer is known to be no. */
function assertCandidateReady(view: ClusterView, row: FailoverRow): void {
  const ready = readyReplicas(view, row.fromPrimary).map((member) => member.ordinal);
  const reasons = unreadyReplicas(view, row.fromPrimary);
  if (row.candidate !== null && !ready.includes(row.candidate)) {
    const message = `member ${row.candidate}: ${reasons[row.candidate]}`;
    throw new Refusal('CANDIDATE_NOT_READY', message, { ready, reasons });
  }
  if (ready.length === 0) throw new Refusal('NO_CANDIDATE', 'no replica can take over now', { reasons });
}

async function choose(context: Context, args: Args): Promise<void> {
  const { view, row } = await begin(context, args);
  const { facts } = row;
  const reached = facts.reached ?? [];
  if (row.kind !== 'failover') {
    // The first member of a copy holds its data; the others hold nothing.
    const filled = row.kind === 'first' && view.cluster.origin !== null ? 0 : null;
    const chosen = row.candidate ?? filled ?? bestReplica(row, reached, view.cluster.preferences);
    return record(context, row, 'chosen', { chosen }, { toPrimary: chosen });
  }
  const choice = choosePrimary({
    rule: view.cluster.rule!,
    reached,
    ...knownOfPrimary(context, view, row),
    candidate: row.candidate ?? undefined,
    preferences: preferred(view.cluster.preferences),
    acceptedLoss: row.options.acceptedLoss,
  });
  if (choice.kind === 'refused') throw new Refusal(choice.code, choice.message, choice.facts);
  const detail = choice.warnings.map(({ message }) => message).join('; ');
  // A person who accepts a loss has read who is promoted.
  const isAccepted = choice.warnings.some(({ kind }) => kind === 'DataLossAccepted');
  if (row.candidate !== null || isAccepted || !isNever(view.cluster.preferences, choice.ordinal)) {
    return record(context, row, 'chosen', { chosen: choice.ordinal }, { toPrimary: choice.ordinal, detail });
  }
  const best = reached.find(({ ordinal }) => ordinal === choice.ordinal)!;
  const heir = findHeir(countedVoters(view.cluster.rule!, reached), best, view.cluster.preferences);
  if (heir === null) throw new Refusal('NO_CANDIDATE', 'only members that shall never be the primary were reached');
  await record(context, row, 'chosen', { chosen: heir, catchUpFrom: choice.ordinal }, { toPrimary: heir, detail });
}

/** The lowest ordinal that applies transactions: in a switchover every ready replica catches up before it takes over. */
function bestReplica(row: FailoverRow, reached: readonly Reached[], preferences: Preferences): number {
  const replicas = reached.filter(({ ordinal }) => row.kind === 'first' || ordinal !== row.fromPrimary);
  const running = replicas.filter(({ isApplierRunning }) => isApplierRunning);
  const order = preferred(preferences);
  const rank = ({ ordinal }: Reached) => (order.includes(ordinal) ? order.indexOf(ordinal) : order.length + ordinal);
  const allowed = running.filter(({ ordinal }) => !isNever(preferences, ordinal));
  const best = allowed.sort((a, b) => rank(a) - rank(b))[0];
  if (!best) throw new Refusal('NO_CANDIDATE', 'no replica applies transactions');
  return best.ordinal;
}

/** The candidate has executed all that it received; in a switchover all that the old primary has. */
async function catchUp(context: Context, args: Args): Promise<void> {
  const { view, row, signal } = await begin(context, args);
  const { catchUpFrom } = row.facts;
  const chosen = row.facts.chosen!;
  const { epoch } = view.cluster;
  if (catchUpFrom !== undefined) {
    const best = view.members.find(({ ordinal }) => ordinal === catchUpFrom)?.bundle;
    if (!best) throw new Error(`member ${catchUpFrom} has no bundle`);
    const source = { host: best.ip, port: best.bundle.ports.mysql };
    await sendTo(context, view, chosen, { kind: 'follow', source }, { epoch, timeoutMs: timeoutsMs.follow, signal });
  }
  const answerMs = 2000;
  const timeoutMs = row.kind === 'switchover' ? pauseRestMs(context, row) : timeoutsMs.catchUp - answerMs;
  const wait: CommandBody = { kind: 'catchUp', gtidSet: wantedOf(row), timeoutMs };
  const options = { epoch, timeoutMs: timeoutMs + answerMs, signal };
  await sendTo(context, view, chosen, wait, options).catch((error: unknown) => {
    if (row.kind !== 'switchover' || !(error instanceof Refusal) || error.code !== 'TIMED_OUT') throw error;
    const { maxPauseMs = defaultMaxPauseMs } = row.options;
    const message = `member ${chosen} did not catch up within the pause of ${maxPauseMs} ms: ${error.message}`;
    throw new Refusal('TIMED_OUT', message, error.facts);
  });
  if (catchUpFrom !== undefined) {
    await sendTo(context, view, chosen, { kind: 'freeze' }, { epoch, timeoutMs: timeoutsMs.freeze, signal });
  }
  await record(context, row, 'caught up', { caughtUpAt: context.clock.now() });
}

/** What the new primary must have executed before it becomes one: what it received, or all that the old primary has. */
function wantedOf({ kind, fromPrimary, facts }: FailoverRow): string {
  const source = kind === 'switchover' ? fromPrimary : (facts.catchUpFrom ?? facts.chosen);
  return facts.reached?.find(({ ordinal }) => ordinal === source)?.gtid ?? '';
}

/** THE commit point: epoch, primary and voters change together or not at all. */
async function commit(context: Context, args: Args): Promise<void> {
  const { view, row } = await begin(context, args);
  if (view.cluster.epoch > row.fromEpoch) return;
  const chosen = row.facts.chosen!;
  const rule = nextRule(view, row, chosen);
  const isCommitted = await commitPrimary(context.store, context.leader, {
    clusterId: view.cluster.id,
    fromEpoch: row.fromEpoch,
    toEpoch: row.fromEpoch + 1,
    primary: chosen,
    rule,
  });
  if (!isCommitted) throw new Error('the epoch has moved on');
  await tellWatchers(context, view.cluster.id);
  await record(context, row, 'committed', { committedAt: context.clock.now() });
  await emit(context, 'failover.committed', view.cluster, `member ${chosen} is the primary of epoch ${rule.epoch}`, {
    ordinal: chosen,
    data: { failover: row.id, epoch: rule.epoch },
  });
  context.wakes.wake(view.cluster.id);
}

/** Those who watch the endpoints get their turn before the next write, which keeps this thread waiting for the disk. */
async function tellWatchers(context: Context, clusterId: string): Promise<void> {
  context.wakes.wake(clusterId);
  await delay(context.clock, 0);
}

function nextRule(view: ClusterView, row: FailoverRow, chosen: number): VoterRule {
  const { spec, rule } = view.cluster;
  if (rule) {
    const isPrimaryDemoted = row.facts.fence?.layer === 'demoted';
    const reached = row.facts.reached?.find(({ ordinal }) => ordinal === chosen);
    const kMax = acknowledgements(spec.members, spec.durability);
    const common = { chosen, isPrimaryDemoted, held: wantedOf(row), kMax };
    if (!reached || rule.voters.some((voter) => isSameVoter(voter, reached))) return ruleAfterPromotion(rule, common);
    const { ordinal, incarnation, bootId } = reached;
    return ruleAfterPromotion(rule, { ...common, as: { ordinal, incarnation, bootId } });
  }
  const voters = (row.facts.reached ?? []).map(({ ordinal, incarnation, bootId }) => ({
    ordinal,
    incarnation,
    bootId,
  }));
  const primary = voters.find(({ ordinal }) => ordinal === chosen)!;
  const first = { epoch: 1, primary, members: spec.members, durability: spec.durability };
  // A copy begins with one member: the others are filled from it, and CLONE from a donor whose commits wait for
  // acknowledgements never ends. They become voters as they catch up, and k rises with them.
  if (view.cluster.origin !== null) return { ...firstRule({ ...first, replicas: [] }), base: wantedOf(row) };
  return firstRule({ ...first, replicas: voters.filter(({ ordinal }) => ordinal !== chosen) });
}

/** After the commit point: repoint, acknowledge, write. All at once; only the new primary is waited for. */
async function activate(context: Context, args: Args): Promise<void> {
  const { view, row, signal } = await begin(context, args);
  const { epoch } = view.cluster;
  const primary = view.members.find((member) => member.ordinal === row.facts.chosen);
  if (!view.cluster.rule || !primary?.bundle) throw new Error('the new primary has no bundle');
  if (row.fromEpoch + 1 !== epoch) return;
  const rule = await lowerAcknowledgements(context, view);
  if (proofOfEnd(primary)) return record(context, row, 'new primary ended', { activatedAt: context.clock.now() });
  const source = { host: primary.bundle.ip, port: primary.bundle.bundle.ports.mysql };
  const promoted = sendTo(
    context,
    view,
    primary.ordinal,
    { kind: 'promote', k: rule.k, member: primary.ordinal, timeoutMs: timeoutsMs.promote - 5000 },
    {
      epoch,
      timeoutMs: timeoutsMs.promote,
      signal,
    },
  );
  const others = view.members.filter(
    (member) => member.ordinal !== primary.ordinal && isRunning(member) && member.isConnected && isCovered(row, member),
  );
  const repointed = Promise.allSettled(others.map((member) => repoint(context, view, member, source, signal)));
  const end = new AbortController();
  const died = lookUntil(context, view.cluster.id, AbortSignal.any([signal, end.signal]), async () => {
    const now = await gather(context, view.cluster.id);
    return proofOfEnd(now.members.find((member) => member.ordinal === primary.ordinal)!) ? 'died' : undefined;
  }).catch(() => undefined);
  try {
    const outcome = await Promise.race([promoted, died]);
    if (outcome === 'died')
      return await record(context, row, 'new primary ended', { activatedAt: context.clock.now() });
  } finally {
    end.abort();
    promoted.catch(() => {});
  }
  await setActivated(context.store, context.leader, view.cluster.id, epoch, context.clock.now());
  await tellWatchers(context, view.cluster.id);
  await record(context, row, 'writable', { activatedAt: context.clock.now() });
  context.wakes.wake(view.cluster.id);
  await repointed;
}

/**
 * After a failover only who was frozen and has nothing that the new primary lacks follows at once. Everybody else is
 * left to joining, which compares first: what nobody acknowledged may be received, and would be applied.
 */
function isCovered(row: FailoverRow, { ordinal }: MemberView): boolean {
  if (row.kind !== 'failover') return true;
  const reached = row.facts.reached?.find((one) => one.ordinal === ordinal);
  return reached !== undefined && isGtidSubset(parseGtidSet(reached.gtid), parseGtidSet(wantedOf(row)));
}

/** A voter keeps acknowledging. */
async function repoint(
  context: Context,
  view: ClusterView,
  member: MemberView,
  source: { host: string; port: number },
  signal: AbortSignal,
): Promise<void> {
  const isVoter = view.cluster.rule!.voters.some((voter) => voter.ordinal === member.ordinal);
  if (!isVoter) return;
  const options = { epoch: view.cluster.epoch, timeoutMs: timeoutsMs.follow, signal };
  // Before it follows: a transaction that it received without acknowledging is not acknowledged later, and
  // the primary's first commit would wait for ever.
  if (!member.status?.semiSync.isReplica && view.cluster.rule!.k > 0) {
    const ackFlush = ackFlushFor(view.cluster, member.ordinal);
    await sendTo(context, view, member.ordinal, { kind: 'setVoter', isVoter: true, ackFlush }, options);
  }
  await sendTo(context, view, member.ordinal, { kind: 'follow', source }, options);
}

async function close(context: Context, args: Args): Promise<void> {
  const { view, row, signal } = await begin(context, args);
  await closeFailover(context.store, context.leader, row.id, 'done');
  if (row.kind === 'failover' && row.requestedBy === 'automation') {
    await setCooldown(context.store, context.leader, view.cluster.id, context.clock.now() + cooldownMs);
  }
  const ms = (row.facts.activatedAt ?? context.clock.now()) - row.startedAt;
  const isWritable = view.cluster.activatedAt !== null;
  await emit(
    context,
    'failover.done',
    view.cluster,
    `${row.kind}: member ${row.facts.chosen} ${isWritable ? `takes writes after ${ms} ms` : 'ended before it took writes'}`,
    {
      data: { failover: row.id, kind: row.kind, ms },
    },
  );
  context.wakes.wake(view.cluster.id);
  // What still hangs on the old primary is dropped, so that clients look for the new one.
  if (row.kind !== 'switchover' || row.fromPrimary === null) return;
  await sendTo(
    context,
    view,
    row.fromPrimary,
    { kind: 'dropClients' },
    { epoch: view.cluster.epoch, timeoutMs: timeoutsMs.follow, signal },
  ).catch((error) => context.log.warn({ err: error }, 'clients of the old primary were not dropped'));
}

/** Before the commit point everything can be taken back: receivers start again, a demoted primary is writable again. */
async function undo(
  context: Context,
  input: FailoverInput & { readonly error: unknown },
  signal: AbortSignal,
): Promise<void> {
  const { view, row } = await begin(context, { input, signal });
  if (row.outcome !== 'open') return;
  if (view.cluster.epoch > row.fromEpoch) throw new Error('the failover is committed: it goes on');
  const options = { epoch: view.cluster.epoch, timeoutMs: timeoutsMs.undo, signal };
  if (row.kind === 'failover') {
    const others = view.members.filter((member) => member.ordinal !== row.fromPrimary && isRunning(member));
    await Promise.allSettled(others.map((member) => sendTo(context, view, member.ordinal, { kind: 'thaw' }, options)));
  }
  if (row.kind === 'switchover' && view.cluster.rule && row.fromPrimary !== null) {
    const body: CommandBody = {
      kind: 'promote',
      k: view.cluster.rule.k,
      member: row.fromPrimary,
      timeoutMs: timeoutsMs.undo - 2000,
    };
    const detail = await sendTo(context, view, row.fromPrimary, body, options).then(
      () => `member ${row.fromPrimary} takes writes again`,
      (error: unknown) => {
        context.log.error({ err: error }, 'the old primary could not be made writable again; the loop goes on trying');
        return `member ${row.fromPrimary} does not take writes yet`;
      },
    );
    await record(context, row, 'taken back', {}, { detail });
  }
  const { error } = input;
  const isRefusal = error instanceof Refusal;
  const refusal = {
    code: isRefusal ? error.code : 'ABORTED',
    message: error instanceof Error ? error.message : 'a deadline passed before the commit point',
    ...(isRefusal ? { facts: error.facts } : {}),
  };
  await closeFailover(context.store, context.leader, row.id, isRefusal ? 'refused' : 'aborted', refusal);
  await emit(context, isRefusal ? 'failover.refused' : 'failover.aborted', view.cluster, refusal.message, {
    data: { failover: row.id, kind: row.kind, code: refusal.code, ...(isRefusal ? error.facts : {}) },
  });
  context.wakes.wake(view.cluster.id);
}

async function record(
  context: Context,
  row: FailoverRow,
  name: string,
  facts: FailoverFacts,
  extra: { readonly toPrimary?: number; readonly detail?: string | undefined } = {},
): Promise<void> {
  const { toPrimary, detail } = extra;
  await recordFailover(context.store, context.leader, row.id, {
    facts,
    ...(toPrimary === undefined ? {} : { toPrimary }),
    step: { name, at: context.clock.now(), ...(detail ? { detail } : {}) },
  });
}

function sendTo(
  context: Context,
  view: ClusterView,
  ordinal: number,
  body: CommandBody,
  options: Parameters<Context['executors']['send']>[2],
) {
  const launch = view.members.find((member) => member.ordinal === ordinal)?.launch;
  if (!launch) return Promise.reject(new Error(`member ${ordinal} was never launched`));
  return context.executors.send(launch.taskId, body, options);
}

function reachedOf(member: MemberView, gtid: string | undefined, isApplierRunning: boolean): Reached[] {
  if (gtid === undefined || !member.status || !isRunning(member)) return [];
  const { incarnation, bootId } = member.status;
  return [{ ordinal: member.ordinal, incarnation, bootId, gtid, isApplierRunning }];
}

/** received union executed */
function holds(result: CommandResult): string | undefined {
  if (result.outcome !== 'done' || result.gtidExecuted === undefined) return undefined;
  return formatGtidSet(unionGtidSets(parseGtidSet(result.gtidExecuted), parseGtidSet(result.gtidReceived ?? '')));
}
