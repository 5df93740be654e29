/** The commit point, and what makes it true on the members. */
import { delay } from '../clock.ts';
import {
  compactGtidSet,
  isGtidSubset,
  onlyGtidTag,
  ownGtidTag,
  parseGtidSet,
  subtractGtidSets,
} from '../cluster/gtid-set.ts';
import type { VoterRule } from '../cluster/types.ts';
import { acknowledgements, firstRule, isSameVoter, ruleAfterPromotion } from '../cluster/voters.ts';
import { commitPrimary, setActivated } from '../store/clusters.ts';
import type { FailoverRow } from '../store/rows.ts';
import { type Context, emit } from './context.ts';
import { type Args, begin, record, sendTo, timeoutsMs, wantedOf } from './failover-work.ts';
import { type ClusterView, gather, isFollowing, isRunning, type MemberView, proofOfEnd } from './gather.ts';
import { ackFlushFor, lowerAcknowledgements } from './voter-actor.ts';
import { lookUntil } from './wakes.ts';

/** THE commit point: epoch, primary and voters change together or not at all. */
export async function commit(context: Context, args: Args): Promise<void> {
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
export async function activate(context: Context, args: Args): Promise<void> {
  const { view, row, signal } = await begin(context, args);
  const { epoch } = view.cluster;
  const primary = view.members.find((member) => member.ordinal === row.facts.chosen);
  if (!view.cluster.rule || !primary?.bundle) throw new Error('the new primary has no bundle');
  if (row.fromEpoch + 1 !== epoch) return;
  const rule = await lowerAcknowledgements(context, view);
  if (proofOfEnd(primary)) return record(context, row, 'new primary ended', { activatedAt: context.clock.now() });
  const source = { host: primary.bundle.ip, port: primary.bundle.bundle.ports.mysql };
  const heartbeats = heartbeatsBeyond(row);
  const promoted = sendTo(
    context,
    view,
    primary.ordinal,
    {
      kind: 'promote',
      k: rule.k,
      member: primary.ordinal,
      timeoutMs: timeoutsMs.promote - 5000,
      ...(heartbeats === '' ? {} : { heartbeats }),
    },
    { epoch, timeoutMs: timeoutsMs.promote, signal },
  );
  const others = view.members.filter(
    (member) =>
      member.ordinal !== primary.ordinal &&
      isRunning(member) &&
      member.isConnected &&
      (isCovered(row, member) || isFollowing(member, primary)),
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
 * Heartbeats that the dead primary logged and the new one lacks: by the final set alone nobody needs them to be promoted
 * (post-mortem.ts). Who holds them could not follow, nor be filled from a primary whose first commit waits for it.
 */
function heartbeatsBeyond({ facts }: FailoverRow): string {
  if (!facts.postMortem) return '';
  const ours = onlyGtidTag(parseGtidSet(facts.postMortem.gtid), ownGtidTag);
  const best = facts.reached?.find(({ ordinal }) => ordinal === (facts.catchUpFrom ?? facts.chosen));
  return compactGtidSet(subtractGtidSets(ours, parseGtidSet(best?.gtid ?? '')));
}

/**
 * After a failover only who was frozen and has nothing that the new primary lacks follows at once. Everybody else is
 * left to joining, which compares first: what nobody acknowledged may be received, and would be applied. Who follows
 * already was compared, and may not acknowledge any more since its mysqld was started again.
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
