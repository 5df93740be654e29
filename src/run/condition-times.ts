/**
 * Since when each condition holds. Kept at every look of the controller, whether somebody asks or not, and stored after
 * a condition came or went, so that a restart of the control plane does not set it back.
 */
import type { LiveState } from '../api/live.ts';
import { type Clock, delay } from '../clock.ts';
import type { ClusterView } from '../controller/gather.ts';
import type { Logger } from '../log.ts';
import type { ConditionTime } from '../store/conditions.ts';

/** After a start nothing is connected yet: what is derived then is no news for so long. */
const settlingMs = 10_000;
/** Conditions change when a primary dies, and the failover has the store to itself then. */
const storeAfterMs = 1_000;

export interface ConditionTimes {
  of(clusterId: string): readonly ConditionTime[];
  /** After each look. */
  keep(view: ClusterView, conditions: LiveState['conditions']): void;
}

export function createConditionTimes(options: {
  /** As they were stored. */
  readonly known: ReadonlyMap<string, readonly ConditionTime[]>;
  readonly store: (clusterId: string, times: readonly ConditionTime[]) => Promise<void>;
  readonly clock: Clock;
  readonly log: Logger;
}): ConditionTimes {
  const { clock, log } = options;
  const times = new Map(options.known);
  const settled = new Set<string>();
  const startedAt = clock.now();
  const changed = new Set<string>();

  function isSettled({ cluster, members }: ClusterView): boolean {
    if (settled.has(cluster.id)) return true;
    const isWaiting = members.some(({ isLive, isConnected }) => isLive && !isConnected);
    if (isWaiting && clock.now() - startedAt < settlingMs) return false;
    settled.add(cluster.id);
    return true;
  }

  /** What is lost here only sets a time back at the next start. */
  async function storeSoon(clusterId: string): Promise<void> {
    if (changed.has(clusterId)) return;
    changed.add(clusterId);
    await delay(clock, storeAfterMs);
    changed.delete(clusterId);
    await options.store(clusterId, times.get(clusterId) ?? []);
  }

  return {
    of: (clusterId) => times.get(clusterId) ?? [],
    keep(view, conditions) {
      if (!isSettled(view)) return;
      const { id } = view.cluster;
      const known = times.get(id) ?? [];
      const isSame =
        known.length === conditions.length && conditions.every(({ type }) => known.some((one) => one.type === type));
      if (isSame) return;
      times.set(
        id,
        conditions.map(({ type, since }) => ({ type, since })),
      );
      storeSoon(id).catch((error: unknown) => log.debug({ err: error }, 'times of conditions were not stored'));
    },
  };
}
