/**
 * Clusters that were deleted with their volumes retained: `desired` is 'retained' until a person purges them, then
 * 'deleted'. Everything about them stays, the name is taken. A copy that is being made from one is the intent to launch
 * its executors: it is open while its first member is not filled.
 */
import { z } from 'zod';
import type { Origin } from '../cluster/recovery.ts';
import { Refusal } from '../errors.ts';
import { getById } from './clusters.ts';
import { originColumn } from './columns.ts';
import { writeEvent } from './events.ts';
import { requireNoCopy } from './guards.ts';
import type { ClusterRow, Leader, Retained } from './rows.ts';
import { allRows, findRow, json, run } from './sql.ts';
import { type Store, transaction, transactionAs } from './store.ts';

const endReason = 'the cluster was deleted with its volumes retained';

/**
 * A person's intent; told as `cluster.retaining` the first time. What is being made on its members ends as failed.
 * Refusals: NOT_FOUND, CLUSTER_DELETING, COPY_OPEN, OPERATION_OPEN (a change of the primary, a rebuild or a restore),
 * NO_BACKUP (nothing could be made of what is kept).
 */
export function retainCluster(store: Store, id: string, requestedBy: string): Promise<ClusterRow> {
  return transaction(store, () => {
    const row = getById(store, id);
    if (row.desired === 'retained') return row;
    if (row.desired === 'deleted') throw new Refusal('CLUSTER_DELETING', `cluster ${row.name} is being deleted`);
    requireNoCopy(store, id);
    requireQuiet(store, id);
    const good = "SELECT id FROM backup WHERE cluster_id = ? AND state = 'complete' AND bad_reason IS NULL";
    if (!findRow(store, z.object({ id: z.string() }), good, id))
      throw new Refusal('NO_BACKUP', `cluster ${row.name} has no good backup: no copy could be made of what is kept`);
    const now = store.clock.now();
    const retained: Retained = { since: now, requestedBy };
    run(store, "UPDATE cluster SET desired = 'retained', retained = ? WHERE id = ?", JSON.stringify(retained), id);
    for (const table of ['backup', 'verification']) {
      const close = `UPDATE ${table} SET state = 'failed', code = 'CLUSTER_RETAINED', message = ?, ended_at = ?,
        open_key = NULL WHERE cluster_id = ? AND state = 'open'`;
      run(store, close, endReason, now, id);
    }
    writeEvent(store, { kind: 'cluster.retaining', clusterId: id, cluster: row.name, data: { by: requestedBy } });
    return getById(store, id);
  });
}

/** Each of these decides by itself what becomes of members. Refusal: OPERATION_OPEN. */
function requireQuiet(store: Store, id: string): void {
  const open = { failover: "outcome = 'open'", rebuild: "state = 'open'", restore: "state = 'open'" };
  for (const [table, isOpen] of Object.entries(open)) {
    const sql = `SELECT id FROM ${table} WHERE cluster_id = ? AND ${isOpen}`;
    const found = findRow(store, z.object({ id: z.string() }), sql, id);
    if (found) throw new Refusal('OPERATION_OPEN', `a ${table} is open`, { id: found.id });
  }
}

/**
 * How far its end has come; facts that are known stay. False when a person has purged it meanwhile.
 * Refusal: NOT_FOUND.
 */
export function recordRetained(
  store: Store,
  leader: Leader,
  id: string,
  facts: Omit<Partial<Retained>, 'since' | 'requestedBy'>,
): Promise<boolean> {
  return transactionAs(store, leader, () => {
    const { desired, retained } = getById(store, id);
    if (desired !== 'retained' || !retained) return false;
    const next = JSON.stringify({ ...facts, ...retained });
    return run(store, 'UPDATE cluster SET retained = ? WHERE id = ?', next, id) > 0;
  });
}

/**
 * A person's word: volumes and reservations of a retained cluster go, by the deletion that every cluster has. Again:
 * answers the row. Refusals: NOT_FOUND, NOT_RETAINED, COPY_OPEN.
 */
export function purgeCluster(store: Store, id: string, requestedBy: string): Promise<ClusterRow> {
  return transaction(store, () => {
    const row = getById(store, id);
    if (row.desired === 'deleted') return row;
    if (row.desired !== 'retained') throw new Refusal('NOT_RETAINED', `the volumes of ${row.name} are in use`);
    requireNoCopy(store, id);
    run(store, "UPDATE cluster SET desired = 'deleted' WHERE id = ?", id);
    run(store, "UPDATE member SET desired = 'gone' WHERE cluster_id = ?", id);
    const data = { by: requestedBy, purged: true };
    writeEvent(store, { kind: 'cluster.deleting', clusterId: id, cluster: row.name, data });
    return getById(store, id);
  });
}

export interface OpenCopy {
  readonly clusterId: string;
  readonly name: string;
  readonly origin: Origin;
}

const openCopy: z.ZodType<OpenCopy> = z.object({
  clusterId: z.string(),
  name: z.string(),
  origin: json(originColumn),
});

/** Clusters that are being filled from this one, oldest first. */
export async function listOpenCopies(store: Store, sourceId: string): Promise<OpenCopy[]> {
  const sql = `SELECT c.id AS cluster_id, c.name, c.origin FROM cluster c
    JOIN member m ON m.cluster_id = c.id AND m.ordinal = 0
    WHERE c.desired = 'present' AND m.initialised_at IS NULL AND c.origin LIKE ? ORDER BY c.created_at, c.id`;
  return allRows(store, openCopy, sql, `%"clusterId":${JSON.stringify(sourceId)}%`);
}
