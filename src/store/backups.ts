import { z } from 'zod';
import { Refusal } from '../errors.ts';
import { getChangeableCluster } from './guards.ts';
import type { BackupRow, Leader } from './rows.ts';
import { allRows, findRow, run } from './sql.ts';
import { checkLeader, type Store, transaction, transactionAs } from './store.ts';

const backupRow: z.ZodType<BackupRow> = z.object({
  id: z.string(),
  clusterId: z.string(),
  ordinal: z.number(),
  state: z.enum(['open', 'complete', 'failed']),
  requestedBy: z.string(),
  startedAt: z.number(),
  endedAt: z.number().nullable(),
  gtidSet: z.string().nullable(),
  bytes: z.number().nullable(),
  code: z.string().nullable(),
  message: z.string().nullable(),
});

export interface NewBackup {
  readonly id: string;
  readonly clusterId: string;
  readonly ordinal: number;
  readonly requestedBy: string;
  /** Given by the controller, not by a person's request. */
  readonly leader?: Leader;
}

/**
 * Stores the intent. The same id again answers the row. Refusals: NOT_FOUND, CLUSTER_DELETING,
 * OPERATION_OPEN (one a member).
 */
export function openBackup(store: Store, input: NewBackup): Promise<BackupRow> {
  const { id, clusterId, ordinal, requestedBy } = input;
  const openKey = `${clusterId}.${ordinal}`;
  return transaction(store, () => {
    if (input.leader) checkLeader(store, input.leader);
    const known = find(store, id);
    if (known) return known;
    getChangeableCluster(store, clusterId);
    const open = findRow(store, backupRow, 'SELECT * FROM backup WHERE open_key = ?', openKey);
    if (open) throw new Refusal('OPERATION_OPEN', `a backup of member ${ordinal} is open`, { id: open.id });
    const sql = `INSERT INTO backup (id, cluster_id, ordinal, open_key, state, requested_by, started_at)
      VALUES (?, ?, ?, ?, 'open', ?, ?)`;
    run(store, sql, id, clusterId, ordinal, openKey, requestedBy, store.clock.now());
    return get(store, id);
  });
}

/** Oldest first. */
export async function listOpenBackups(store: Store, clusterId: string): Promise<BackupRow[]> {
  const sql = "SELECT * FROM backup WHERE cluster_id = ? AND state = 'open' ORDER BY started_at, id";
  return allRows(store, backupRow, sql, clusterId);
}

/** Newest first. */
export async function listBackups(store: Store, clusterId: string): Promise<BackupRow[]> {
  return allRows(store, backupRow, 'SELECT * FROM backup WHERE cluster_id = ? ORDER BY started_at DESC, id', clusterId);
}

/** Refusal: NOT_FOUND. */
export async function getBackup(store: Store, id: string): Promise<BackupRow> {
  return get(store, id);
}

export interface BackupResult {
  readonly state: 'complete' | 'failed';
  readonly gtidSet?: string | null;
  readonly bytes?: number | null;
  readonly code?: string | null;
  readonly message?: string | null;
}

/** The first result stays: false when it was closed before. */
export function closeBackup(store: Store, leader: Leader, id: string, result: BackupResult): Promise<boolean> {
  return transactionAs(store, leader, () => {
    get(store, id);
    const changed = run(
      store,
      `UPDATE backup SET state = ?, gtid_set = ?, bytes = ?, code = ?, message = ?, ended_at = ?, open_key = NULL
       WHERE id = ? AND state = 'open'`,
      result.state,
      result.gtidSet ?? null,
      result.bytes ?? null,
      result.code ?? null,
      result.message ?? null,
      store.clock.now(),
      id,
    );
    return changed > 0;
  });
}

function find(store: Store, id: string): BackupRow | null {
  return findRow(store, backupRow, 'SELECT * FROM backup WHERE id = ?', id);
}

function get(store: Store, id: string): BackupRow {
  const row = find(store, id);
  if (!row) throw new Refusal('NOT_FOUND', `there is no backup ${id}`);
  return row;
}
