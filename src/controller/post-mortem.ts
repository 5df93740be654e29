/**
 * The final set of a primary whose mysqld has ended: its executor reads it from the binary logs. It was synced before
 * anybody else got a transaction, so who holds all of it holds every acknowledged one. Looked for only where too few
 * voters were reached to be certain without it: no other failover waits for it.
 */
import { formatGtidSet, ownGtidTag, parseGtidSet, unionGtidSets, withoutGtidTag } from '../cluster/gtid-set.ts';
import type { PromotionFacts } from '../cluster/voters.ts';
import type { FailoverFacts, FailoverRow } from '../store/rows.ts';
import type { Context } from './context.ts';
import { type ClusterView, primaryOf } from './gather.ts';

/** A log of half a gigabyte is read in about a second; a disk that is slower is not waited for. */
const examineTimeoutMs = 15_000;
const answerMs = 2000;

/** Null when the executor cannot tell: then nothing is final. */
export async function readPostMortem(
  context: Context,
  view: ClusterView,
  signal: AbortSignal,
): Promise<NonNullable<FailoverFacts['postMortem']> | null> {
  const { launch, status, ordinal } = primaryOf(view) ?? {};
  const voter = view.cluster.rule?.voters.find((one) => one.ordinal === ordinal);
  if (!launch || !voter || status?.incarnation !== voter.incarnation) return null;
  try {
    const result = await context.executors.send(
      launch.taskId,
      { kind: 'examine', timeoutMs: examineTimeoutMs },
      { epoch: view.cluster.epoch, timeoutMs: examineTimeoutMs + answerMs, signal },
    );
    if (result.outcome !== 'done' || result.gtidLogged === undefined) return null;
    return { gtid: formatGtidSet(parseGtidSet(result.gtidLogged)), at: context.clock.now() };
  } catch (error) {
    context.log.warn({ err: error, ordinal }, 'the binary logs of the old primary could not be read');
    return null;
  }
}

/**
 * What must be covered. Seen while the primary still took writes it can only ever add to that; the post-mortem is all
 * there is, and then a heartbeat that nobody received is no loss.
 */
export function knownOfPrimary(context: Context, { cluster }: ClusterView, { facts }: FailoverRow): PromotionFacts {
  const seen = context.lastKnownPrimaryGtid(cluster.id, cluster.epoch);
  if (!facts.postMortem) return { lastKnownPrimaryGtid: seen, isLastKnownFinal: false };
  const all = unionGtidSets(parseGtidSet(seen), parseGtidSet(facts.postMortem.gtid));
  return { lastKnownPrimaryGtid: formatGtidSet(withoutGtidTag(all, ownGtidTag)), isLastKnownFinal: true };
}
