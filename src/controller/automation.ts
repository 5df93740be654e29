/**
 * What happens by itself. A person may switch automation off; after an automatic failover a cooldown keeps the next one
 * off until the cluster was whole for that long. While automation may not fail over, a dead primary is started again in
 * its own epoch. A held member that is the primary no more waits for a person's rebuild while automation is off.
 * Everything else goes on: members are started, they join, voters are kept.
 */
import { defaultLimits } from '../cluster/detection.ts';
import { setCooldown } from '../store/clusters.ts';
import type { ClusterRow, FailoverRow } from '../store/rows.ts';
import type { Context } from './context.ts';
import { type ClusterView, isInPlace, type MemberView } from './gather.ts';

export const cooldownMs = 300_000;
/** The cooldown is pushed on while the cluster is not whole, and written only when it moved by this much. */
const writeEveryMs = 30_000;

export function isAutomationOn({ automation, automationUntil }: ClusterRow, now: number): boolean {
  return automation === 'on' || (automationUntil !== null && automationUntil <= now);
}

export function mayFailOver(cluster: ClusterRow, now: number): boolean {
  return isAutomationOn(cluster, now) && (cluster.cooldownUntil === null || cluster.cooldownUntil <= now);
}

/** What a person's own failover may be refused with that automation's would be, too. */
const judgements: ReadonlySet<string> = new Set(['PROMOTION_UNSAFE', 'NO_CANDIDATE', 'GTID_DIVERGED']);

/**
 * Whether a failover by automation in this epoch was in vain just before: `newest` is the change that began last. A
 * switchover that ended early says nothing, nor does a person's failover that named its own candidate: the primary may
 * have died in the middle of it, and then another one is to be chosen at once.
 */
export function wasTriedInVain(newest: FailoverRow | undefined, epoch: number): boolean {
  if (!newest || newest.fromEpoch !== epoch || newest.kind !== 'failover') return false;
  if (newest.outcome !== 'refused' && newest.outcome !== 'aborted') return false;
  if (newest.requestedBy === 'automation') return true;
  return newest.candidate === null && judgements.has(newest.refusal?.code ?? '');
}

/** A control plane that has just started hears of nobody: that is no reason to begin a cooldown anew. */
function isInPlaceOrBrieflySilent(context: Context, view: ClusterView, member: MemberView): boolean {
  if (!member.launch || !member.isLive) return false;
  const silentSince = context.executors.brokenSince(member.launch.taskId);
  if (silentSince === null) return isInPlace(view, member);
  return context.clock.now() - silentSince < defaultLimits.silenceMs;
}

/** True when the row changed. A cooldown ends by itself once the cluster was whole for its whole length. */
export async function keepCooldown(context: Context, view: ClusterView): Promise<boolean> {
  const { cluster, members } = view;
  const now = context.clock.now();
  const { cooldownUntil } = cluster;
  if (cooldownUntil === null) return false;
  if (cooldownUntil <= now) {
    await setCooldown(context.store, context.leader, cluster.id, null);
    return true;
  }
  const isWhole = members.every((member) => isInPlaceOrBrieflySilent(context, view, member));
  const next = now + cooldownMs;
  if (isWhole || next - cooldownUntil < writeEveryMs) return false;
  await setCooldown(context.store, context.leader, cluster.id, next);
  return true;
}
