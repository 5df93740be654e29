/** Clusters whose volumes are retained, as the API shows them and changes them. */
import { Refusal } from '../errors.ts';
import { listBackups } from '../store/backups.ts';
import { listBundles } from '../store/bundles.ts';
import { retainCluster } from '../store/retained.ts';
import type { ClusterRow } from '../store/rows.ts';
import type { ApiDeps } from './deps.ts';

const MB = 1024 * 1024;

/** Since when, and what is held; null for every other cluster. */
export async function retainedView({ store }: ApiDeps, { id, desired, retained }: ClusterRow) {
  if (desired !== 'retained' || !retained) return null;
  const bundles = await listBundles(store, { clusterId: id, states: ['intended', 'reserved'] });
  const volumes = bundles.flatMap(({ bundle: { data, backup } }) => (backup ? [data, backup] : [data]));
  const good = (await listBackups(store, id)).filter(({ state, badReason }) => state === 'complete' && !badReason);
  const newest = good.toSorted((a, b) => (b.endedAt ?? 0) - (a.endedAt ?? 0))[0];
  const { since, requestedBy, endedAt = null, downAt = null, isExact = null, window = null } = retained;
  return {
    ...{ since, requestedBy, endedAt, downAt, isExact },
    volumes: volumes.length,
    bytesReserved: volumes.reduce((sum, { sizeMb }) => sum + sizeMb * MB, 0),
    newestBackup: newest ? { id: newest.id, member: newest.ordinal, endedAt: newest.endedAt } : null,
    recoveryWindow: window,
  };
}

/**
 * Stores the intent to delete the cluster and to keep its volumes. Refusals: NO_PRIMARY (what it has acknowledged would
 * not be known), and those of retainCluster.
 */
export async function retain({ store, live }: ApiDeps, row: ClusterRow, requestedBy: string): Promise<ClusterRow> {
  if (row.desired === 'present' && (live.copyOptions(row.id)?.within ?? null) === null) {
    const message = `The primary of ${row.name} takes no writes: what it has acknowledged would not be known for sure.`;
    throw new Refusal('NO_PRIMARY', message);
  }
  return retainCluster(store, row.id, requestedBy);
}
