import { z } from 'zod';
import { Refusal } from '../errors.ts';
import { findRow } from './sql.ts';
import type { Store } from './store.ts';

const clusterFacts = z.object({
  desired: z.string(),
  epoch: z.number(),
  primaryOrdinal: z.number().nullable(),
});

/**
 * For use inside the transaction that opens work on a cluster: nothing new begins on one that is to go.
 * Refusals: NOT_FOUND, CLUSTER_DELETING.
 */
export function getChangeableCluster(store: Store, clusterId: string): z.output<typeof clusterFacts> {
  const sql = 'SELECT desired, epoch, primary_ordinal FROM cluster WHERE id = ?';
  const cluster = findRow(store, clusterFacts, sql, clusterId);
  if (!cluster) throw new Refusal('NOT_FOUND', `there is no cluster ${clusterId}`);
  if (cluster.desired === 'deleted') throw new Refusal('CLUSTER_DELETING', `cluster ${clusterId} is being deleted`);
  return cluster;
}
