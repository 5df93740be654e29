/** Fencing: the old primary can acknowledge nothing any more, and what each reached member holds is known and stays. */
import { delay } from '../clock.ts';
import { countedVoters, promotionNeeds } from '../cluster/voters.ts';
import { Refusal } from '../errors.ts';
import type { FailoverFacts } from '../store/rows.ts';
import type { Context } from './context.ts';
import { demote } from './failover-demote.ts';
import { type Args, begin, holds, type Reached, reachedOf, record, timeoutsMs, type Work } from './failover-work.ts';
import { isRunning, type MemberView, proofOfEnd } from './gather.ts';
import { judge } from './judge.ts';
import { onlyMember } from './plan.ts';
import { readPostMortem } from './post-mortem.ts';

/** Once enough voters are frozen the others get this long. */
const graceMs = 250;

/** The old primary can acknowledge nothing any more, by one proven layer at least; and what each reached member holds. */
export async function fence(context: Context, args: Args): Promise<void> {
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

export async function freeze(context: Context, member: MemberView, { view, signal }: Work): Promise<Reached[] | null> {
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
