/** The pause of a switchover: the old primary hands over in order, within a time. */
import { Refusal } from '../errors.ts';
import type { FailoverRow } from '../store/rows.ts';
import type { Context } from './context.ts';
import { holds, pauseRestMs, reachedOf, record, sendTo, timeoutsMs, type Work, wantedOf } from './failover-work.ts';
import type { ClusterView } from './gather.ts';
import { defaultMaxPauseMs, readyReplicas, unreadyReplicas } from './plan.ts';

/** Of the pause of a switchover: kept for rolling back who was killed, and for catching up. */
const catchUpReserveMs = 500;
/** The old primary ends the pause by itself when it hears nothing for this much longer than the pause may last. */
const leaseMarginMs = 1500;

/** The old primary takes no more writes and says what it holds; every replica can catch up from it. */
export async function demote(context: Context, work: Work): Promise<void> {
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
    { kind: 'demote', maxPauseMs: restMs, ...limits, leaseMs: restMs + leaseMarginMs },
    { epoch: view.cluster.epoch, timeoutMs: restMs + timeoutsMs.demote, signal },
  );
  const reached = [
    ...reachedOf(old, holds(result), true),
    ...readyReplicas(view, row.fromPrimary).flatMap((member) => reachedOf(member, member.status?.gtidExecuted, true)),
  ];
  await record(context, row, 'demoted', {
    fence: { layer: 'demoted', detail: 'super_read_only is on', at: context.clock.now() },
    reached,
    ...(result.outcome === 'done' && result.hasLease ? { hasLease: true } : {}),
  });
}

/**
 * Only a sealed primary is left behind by the commit point: until then it may end the pause by itself. When it does not
 * answer the switchover is taken back, also when it has ended: it may have taken writes before.
 */
export async function seal(context: Context, { view, row, signal }: Work): Promise<void> {
  const { epoch } = view.cluster;
  const options = { epoch, timeoutMs: timeoutsMs.seal, signal };
  await sendTo(context, view, row.fromPrimary!, { kind: 'seal', gtidSet: wantedOf(row) }, options);
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
