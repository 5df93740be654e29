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
 * Refusals: NOT_FOUND, CLUSTER_DELETING, CLUSTER_RETAINED.
 */
export function getChangeableCluster(store: Store, clusterId: string): z.output<typeof clusterFacts> {
  const sql = 'SELECT desired, epoch, primary_ordinal FROM cluster WHERE id = ?';
  const cluster = findRow(store, clusterFacts, sql, clusterId);
  if (!cluster) throw new Refusal('NOT_FOUND', `there is no cluster ${clusterId}`);
  if (cluster.desired === 'deleted') throw new Refusal('CLUSTER_DELETING', `cluster ${clusterId} is being deleted`);
  if (cluster.desired === 'retained')
    throw new Refusal('CLUSTER_RETAINED', `cluster ${clusterId} was deleted with its volumes retained`);
  return cluster;
}

/**
 * For use inside the transaction that opens other work: from its first change until its new epoch a restore is alone.
 * Refusal: OPERATION_OPEN.
 */
export function requireNoRestore(store: Store, clusterId: string): void {
  const sql = `SELECT r.id FROM restore r JOIN cluster c ON c.id = r.cluster_id
    WHERE r.open_key = ? AND r.fencing_at IS NOT NULL AND r.from_epoch = c.epoch`;
  const open = findRow(store, z.object({ id: z.string() }), sql, clusterId);
  if (open) throw new Refusal('OPERATION_OPEN', 'a restore is open', { id: open.id });
}

/** For use inside a transaction. Refusal: OPERATION_OPEN, while an open restore reads the backup, or keeps it for safety. */
export function requireNotRestored(store: Store, backupId: string): void {
  const sql = "SELECT id FROM restore WHERE state = 'open' AND (safety_backup_id = ? OR origin LIKE ?)";
  const open = findRow(store, z.object({ id: z.string() }), sql, backupId, `%"id":${JSON.stringify(backupId)}%`);
  if (open) throw new Refusal('OPERATION_OPEN', 'an open restore needs the backup', { id: open.id });
}

/** For use inside a transaction. Refusal: COPY_OPEN, while a new cluster is being filled from this one. */
export function requireNoCopy(store: Store, clusterId: string): void {
  const sql = `SELECT c.name FROM cluster c JOIN member m ON m.cluster_id = c.id AND m.ordinal = 0
    WHERE c.desired = 'present' AND m.initialised_at IS NULL AND c.origin LIKE ?`;
  const like = `%"clusterId":${JSON.stringify(clusterId)}%`;
  const copy = findRow(store, z.object({ name: z.string() }), sql, like);
  if (copy) throw new Refusal('COPY_OPEN', `cluster ${copy.name} is being filled from it`, { copy: copy.name });
}
