/**
 * What the primary of each epoch was last seen to have executed: whoever follows it must cover it (guarantee 1). In
 * memory as fresh as the last status; in the store a few seconds behind, so that a control plane that was started anew
 * refuses too when nobody covers it. A set never shrinks within an epoch: a primary that lost data is no excuse.
 */
import type { Status } from '../channel/protocol.ts';
import {
  areGtidSetsEqual,
  compactGtidSet,
  formatGtidSet,
  isGtidSubset,
  ownGtidTag,
  unionGtidSets,
  withoutGtidTag,
} from '../cluster/gtid-set.ts';
import { readSet } from '../cluster/voters.ts';
import { listPrimarySets, storePrimarySets } from '../store/durability.ts';
import type { ClusterRow, Leader } from '../store/rows.ts';
import type { Store } from '../store/store.ts';

/** At most so often, for all clusters at once; idle ones cost nothing. */
export const storeEveryMs = 5000;

interface Known {
  readonly epoch: number;
  readonly gtid: string;
  /** As in the store; null: nothing of this epoch is. */
  stored: string | null;
}

export interface PrimarySets {
  load(): Promise<void>;
  remember(clusterId: string, status: Pick<Status, 'epoch' | 'isWritable' | 'gtidExecuted'>): void;
  /** '' when nothing was seen in this epoch: what came before is the rule's base. */
  lastKnown(clusterId: string, epoch: number): string;
  /** Writes what has changed, when it is time. Throws what the store throws; the next call tries again. */
  store(now: number): Promise<void>;
  forget(clusterId: string): void;
}

export function createPrimarySets(context: { readonly store: Store; readonly leader: Leader }): PrimarySets {
  const known = new Map<string, Known>();
  let storedAt = Number.NEGATIVE_INFINITY;

  return {
    async load() {
      for (const { clusterId, epoch, gtidSet } of await listPrimarySets(context.store))
        known.set(clusterId, { epoch, gtid: gtidSet, stored: gtidSet });
    },
    remember(clusterId, { epoch, isWritable, gtidExecuted }) {
      const before = known.get(clusterId);
      if (!isWritable || (before && before.epoch > epoch)) return;
      if (before?.epoch !== epoch) known.set(clusterId, { epoch, gtid: gtidExecuted, stored: null });
      else if (before.gtid !== gtidExecuted)
        known.set(clusterId, { ...before, gtid: withNothingLost(before.gtid, gtidExecuted) });
    },
    lastKnown(clusterId, epoch) {
      const found = known.get(clusterId);
      return found?.epoch === epoch ? found.gtid : '';
    },
    async store(now) {
      if (now - storedAt < storeEveryMs) return;
      storedAt = now;
      const changed = [...known].filter(([, { gtid, stored }]) => stored === null || hasNews(stored, gtid));
      if (changed.length === 0) return;
      const sets = changed.map(([clusterId, { epoch, gtid }]) => ({ clusterId, epoch, gtidSet: gtid }));
      await storePrimarySets(context.store, context.leader, sets);
      for (const { clusterId, epoch, gtidSet } of sets) {
        const now = known.get(clusterId);
        if (now?.epoch === epoch) known.set(clusterId, { ...now, stored: gtidSet });
      }
    },
    forget: (clusterId) => void known.delete(clusterId),
  };
}

function withNothingLost(before: string, after: string): string {
  const [older, newer] = [readSet(before), readSet(after)];
  if (!newer) return before;
  return !older || isGtidSubset(older, newer) ? after : formatGtidSet(unionGtidSets(older, newer));
}

/** Heartbeats are nobody's data, and come every second. */
function hasNews(stored: string, gtid: string): boolean {
  if (stored === gtid) return false;
  const [old, fresh] = [readSet(stored), readSet(gtid)];
  if (!old || !fresh) return true;
  return !areGtidSetsEqual(withoutGtidTag(old, ownGtidTag), withoutGtidTag(fresh, ownGtidTag));
}

/** All that a cluster's primary is known to have had: in this epoch, and when it began. Not its newest transactions. */
export function lastKnownOf(
  { id, epoch, rule }: Pick<ClusterRow, 'id' | 'epoch' | 'rule'>,
  lastKnown: PrimarySets['lastKnown'],
): string {
  const sets = [lastKnown(id, epoch), rule?.base ?? ''].flatMap((text) => readSet(text) ?? []);
  return compactGtidSet(unionGtidSets(...sets));
}
