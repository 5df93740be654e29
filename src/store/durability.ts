/** What a restarted control plane must still know of an epoch's promises: one row a cluster, of its newest epoch. */
import { z } from 'zod';
import type { Leader } from './rows.ts';
import { allRows, run } from './sql.ts';
import { type Store, transactionAs } from './store.ts';

export interface PrimarySet {
  readonly clusterId: string;
  readonly epoch: number;
  /** The newest executed set that the primary of the epoch was seen to have. */
  readonly gtidSet: string;
}

export interface DurabilityFinding {
  readonly clusterId: string;
  readonly epoch: number;
  readonly message: string;
}

const primarySetRow = z.object({ clusterId: z.string(), epoch: z.number(), gtidSet: z.string() });
const findingRow = z.object({ clusterId: z.string(), epoch: z.number(), message: z.string() });

/** Of all clusters that are not gone. */
export async function listPrimarySets(store: Store): Promise<PrimarySet[]> {
  return allRows(
    store,
    primarySetRow,
    `SELECT p.cluster_id, p.epoch, p.gtid_set FROM primary_set p
     JOIN cluster c ON c.id = p.cluster_id WHERE c.deleted_at IS NULL`,
  );
}

/** All in one transaction, so that a thousand clusters cost one write to the disk. An older epoch changes nothing. */
export function storePrimarySets(store: Store, leader: Leader, sets: readonly PrimarySet[]): Promise<void> {
  const now = store.clock.now();
  return transactionAs(store, leader, () => {
    for (const { clusterId, epoch, gtidSet } of sets) {
      const update = 'UPDATE primary_set SET epoch = ?, gtid_set = ?, seen_at = ? WHERE cluster_id = ? AND epoch <= ?';
      if (run(store, update, epoch, gtidSet, now, clusterId, epoch) > 0) continue;
      insertOnce(store, 'primary_set (cluster_id, epoch, gtid_set, seen_at)', [clusterId, epoch, gtidSet, now]);
    }
  });
}

export async function listFindings(store: Store): Promise<DurabilityFinding[]> {
  return allRows(
    store,
    findingRow,
    `SELECT f.cluster_id, f.epoch, f.message FROM durability_finding f
     JOIN cluster c ON c.id = f.cluster_id WHERE c.deleted_at IS NULL`,
  );
}

/** The first finding of an epoch stays. False when there is one of this epoch or a later one. */
export function recordFinding(store: Store, leader: Leader, finding: DurabilityFinding): Promise<boolean> {
  const { clusterId, epoch, message } = finding;
  const now = store.clock.now();
  return transactionAs(store, leader, () => {
    const update =
      'UPDATE durability_finding SET epoch = ?, message = ?, found_at = ? WHERE cluster_id = ? AND epoch < ?';
    if (run(store, update, epoch, message, now, clusterId, epoch) > 0) return true;
    return insertOnce(store, 'durability_finding (cluster_id, epoch, message, found_at)', [
      clusterId,
      epoch,
      message,
      now,
    ]);
  });
}

/** For use inside a transaction. False when the cluster has a row in the table, or is not there. */
function insertOnce(store: Store, into: string, values: readonly [string, number, string, number]): boolean {
  const [table = ''] = into.split(' ');
  const sql = `INSERT INTO ${into} SELECT id, ?, ?, ? FROM cluster
    WHERE id = ? AND NOT EXISTS (SELECT 1 FROM ${table} t WHERE t.cluster_id = cluster.id)`;
  const [clusterId, ...rest] = values;
  return run(store, sql, ...rest, clusterId) > 0;
}
