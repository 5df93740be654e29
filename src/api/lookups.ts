import { Refusal } from '../errors.ts';
import { findCluster } from '../store/clusters.ts';
import type { ClusterRow } from '../store/rows.ts';
import type { Store } from '../store/store.ts';

/** By name or id; by id a deleted one too. Refusal: NOT_FOUND. */
export async function getClusterNamed(store: Store, nameOrId: string): Promise<ClusterRow> {
  const row = await findCluster(store, nameOrId);
  if (!row) throw new Refusal('NOT_FOUND', `There is no cluster ${nameOrId}.`);
  return row;
}

/** For what changes it or reads its volumes. Refusals: NOT_FOUND, CLUSTER_DELETING, CLUSTER_RETAINED. */
export async function getClusterToChange(store: Store, nameOrId: string): Promise<ClusterRow> {
  const row = await getClusterNamed(store, nameOrId);
  if (row.desired === 'deleted') throw new Refusal('CLUSTER_DELETING', `Cluster ${row.name} is being deleted.`);
  requireNotRetained(row);
  return row;
}

/** For what needs executors that run. Refusal: CLUSTER_RETAINED. */
export function requireNotRetained({ name, desired }: ClusterRow): void {
  if (desired === 'retained')
    throw new Refusal(
      'CLUSTER_RETAINED',
      `Cluster ${name} was deleted, only its volumes are kept: nothing of it runs.`,
    );
}

/** What a copy is made from. Refusals: NOT_FOUND, CLUSTER_DELETING. */
export async function getClusterToCopy(store: Store, nameOrId: string): Promise<ClusterRow> {
  const row = await getClusterNamed(store, nameOrId);
  if (row.desired === 'deleted') throw new Refusal('CLUSTER_DELETING', `Cluster ${row.name} is being deleted.`);
  return row;
}

/** An operation is found only under its own cluster. Refusal: NOT_FOUND. */
export function checkOwner(row: { readonly id: string; readonly clusterId: string }, cluster: ClusterRow): void {
  if (row.clusterId !== cluster.id) throw new Refusal('NOT_FOUND', `Cluster ${cluster.name} has no such operation.`);
}
