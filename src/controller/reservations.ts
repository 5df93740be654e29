/**
 * The account of everything reserved: what is offered with our label is looked up. Known and current: noted as seen.
 * Known and given up: given back whole. Unknown: an orphan, shown and never touched (guarantee 4: absence of a row is
 * no reason to destroy).
 */
import { type FoundReservation, findOurReservations } from '../mesos/offers.ts';
import { coversReservation } from '../mesos/operations.ts';
import type { Offer, Resource } from '../mesos/types.ts';
import { findBundle, listBundles, touchBundle } from '../store/bundles.ts';
import { findLaunch, updateTask } from '../store/launches.ts';
import { getMember } from '../store/members.ts';
import type { BundleRow } from '../store/rows.ts';
import { type Context, emit } from './context.ts';
import { releaseWant } from './launching.ts';

export interface Orphan {
  readonly reservation: string;
  readonly agentId: string;
  readonly cluster: string;
  readonly member: string;
  readonly seenAt: number;
}

export interface Reservations {
  /** To be called with all new offers, before the market considers them. */
  look(offers: readonly Offer[]): Promise<void>;
  orphans(): readonly Orphan[];
}

export function createReservations(context: Context): Reservations {
  const orphans = new Map<string, Orphan>();
  return {
    async look(offers) {
      for (const found of findOurReservations(offers, context.identity.installation)) {
        const bundle = await findBundle(context.store, found.reservation);
        if (!bundle) {
          if (!orphans.has(found.reservation)) {
            await emit(
              context,
              'mesos.orphan',
              null,
              `reservation ${found.reservation} on agent ${found.agentId} has no row`,
              {
                data: {
                  reservation: found.reservation,
                  agentId: found.agentId,
                  cluster: found.cluster,
                  member: found.member,
                },
              },
            );
          }
          const { reservation, agentId, cluster, member } = found;
          orphans.set(reservation, { reservation, agentId, cluster, member, seenAt: context.clock.now() });
        } else if (bundle.state === 'releasing' || bundle.state === 'released') {
          // A late attempt, or a release whose answer was lost.
          context.market.want(releaseWant(context, { ...bundle, agentId: found.agentId }));
        } else {
          await touchBundle(context.store, context.leader, bundle.id, context.clock.now());
          await noteMoved(context, bundle, found);
        }
      }
    },
    orphans: () => [...orphans.values()],
  };
}

/**
 * The whole bundle on offer by an agent with another id: the host came back without its identity. Mesos will call the
 * task unreachable for ever, and says nothing more of it; but what is on offer is held by no process of ours.
 */
async function noteMoved(context: Context, bundle: BundleRow, found: FoundReservation): Promise<void> {
  const { taskId } = await getMember(context.store, bundle.clusterId, bundle.ordinal);
  const launch = taskId === null ? null : await findLaunch(context.store, taskId);
  if (!launch || launch.endedAt !== null || launch.bundleId !== bundle.id || launch.agentId === found.agentId) return;
  if (!coversReservation(found.resources, bundle.resources as Resource[])) return;
  await updateTask(context.store, context.leader, {
    taskId: launch.taskId,
    state: 'TASK_GONE',
    reason: 'REASON_AGENT_REMOVED',
    message: `its volumes are on offer by agent ${found.agentId}`,
    endedAt: context.clock.now(),
  });
  context.executors.forget(launch.taskId);
  context.wakes.wake(bundle.clusterId);
}

/** After a start of the control plane: bundles that were being given back are asked for again. */
export async function resumeReleases(context: Context): Promise<void> {
  for (const bundle of await listBundles(context.store, { states: ['releasing'] }))
    context.market.want(releaseWant(context, bundle));
}
