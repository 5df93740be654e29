/** What the three witnesses of a cluster's primary say now, put before cluster/detection.ts. */
import { judgePrimary, type PrimaryObservations, type ReplicaWitness, type Verdict } from '../cluster/detection.ts';
import type { Context } from './context.ts';
import { type ClusterView, isFollowing, isRunning, type MemberView } from './gather.ts';
import { rehearse } from './plan.ts';

export function judge(context: Context, view: ClusterView, primary: MemberView): Verdict {
  return judgePrimary(observe(context, view, primary));
}

function observe(context: Context, view: ClusterView, primary: MemberView): PrimaryObservations {
  const { launch, status, isConnected } = primary;
  const brokenAt = launch ? context.executors.brokenSince(launch.taskId) : null;
  const others = view.members.filter(({ ordinal }) => ordinal !== primary.ordinal);
  return {
    containerEnded: launch && launch.endedAt !== null ? `${launch.taskState} ${launch.taskReason ?? ''}`.trim() : null,
    executor:
      isConnected && status
        ? {
            instance: status.instance,
            reason: status.reason?.message ?? null,
            isWritable: status.isWritable,
            heartbeatPending: status.heartbeatPending ?? null,
            probeFailing: status.probeFailing ?? null,
            damage: findDamage(view, primary),
          }
        : null,
    executorSilentForMs: brokenAt === null ? 0 : context.clock.now() - brokenAt,
    replicas: others.flatMap((member) => witness(member, primary)),
    replicaCount: others.length,
  };
}

/** With damaged data a primary serves what it still can, unless somebody would follow it: none of it is lost then. */
function findDamage(view: ClusterView, { status }: MemberView): string | null {
  if (status?.instance !== 'running' || status.reason?.code !== 'DATA_DIR_DAMAGED') return null;
  const rehearsal = rehearse(view);
  return rehearsal && rehearsal.refusal === null && rehearsal.couldLose === 0 ? status.reason.message : null;
}

/** A replica that is reached and follows this primary. */
function witness(member: MemberView, primary: MemberView): ReplicaWitness[] {
  const { status, ordinal } = member;
  if (!member.isConnected || !status?.replication || !isRunning(member) || !isFollowing(member, primary)) return [];
  return [{ ordinal, receiver: status.replication.receiver, heardMsAgo: status.replication.heardMsAgo ?? null }];
}
