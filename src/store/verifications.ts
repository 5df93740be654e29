import { z } from 'zod';
import { Refusal } from '../errors.ts';
import { getChangeableCluster } from './guards.ts';
import type { Leader, VerificationRow } from './rows.ts';
import { allRows, findRow, run } from './sql.ts';
import { checkLeader, type Store, transaction, transactionAs } from './store.ts';

const verificationRow: z.ZodType<VerificationRow> = z.object({
  id: z.string(),
  clusterId: z.string(),
  ordinal: z.number(),
  backupId: z.string(),
  state: z.enum(['open', 'done', 'failed']),
  requestedBy: z.string(),
  startedAt: z.number(),
  endedAt: z.number().nullable(),
  code: z.string().nullable(),
  message: z.string().nullable(),
});

export interface NewVerification {
  readonly id: string;
  readonly backupId: string;
  readonly requestedBy: string;
  /** Given by the controller, not by a person's request. */
  readonly leader?: Leader;
}

const target = z.object({ clusterId: z.string(), ordinal: z.number(), state: z.string() });

/**
 * Stores the intent. The same id again answers the row. Refusals: NOT_FOUND (also of a backup that is not complete),
 * CLUSTER_DELETING, OPERATION_OPEN (one a cluster: reading costs every agent's disk).
 */
export function openVerification(store: Store, input: NewVerification): Promise<VerificationRow> {
  return transaction(store, () => {
    if (input.leader) checkLeader(store, input.leader);
    const known = find(store, input.id);
    if (known) return known;
    const backup = findRow(store, target, 'SELECT cluster_id, ordinal, state FROM backup WHERE id = ?', input.backupId);
    if (backup?.state !== 'complete') throw new Refusal('NOT_FOUND', `there is no complete backup ${input.backupId}`);
    const { clusterId, ordinal } = backup;
    getChangeableCluster(store, clusterId);
    const open = findRow(store, verificationRow, 'SELECT * FROM verification WHERE open_key = ?', clusterId);
    if (open) throw new Refusal('OPERATION_OPEN', `backup ${open.backupId} is being verified`, { id: open.id });
    run(
      store,
      `INSERT INTO verification (id, cluster_id, ordinal, backup_id, open_key, state, requested_by, started_at)
       VALUES (?, ?, ?, ?, ?, 'open', ?, ?)`,
      input.id,
      clusterId,
      ordinal,
      input.backupId,
      clusterId,
      input.requestedBy,
      store.clock.now(),
    );
    return get(store, input.id);
  });
}

/** Far more than are tried within the pause after a failed one. */
const LISTED_MAX = 50;

/** Newest first; the open one is always among them. */
export async function listNewestVerifications(store: Store, clusterId: string): Promise<VerificationRow[]> {
  const sql = `SELECT * FROM verification WHERE cluster_id = ? ORDER BY started_at DESC, id LIMIT ${LISTED_MAX}`;
  return allRows(store, verificationRow, sql, clusterId);
}

/** Refusal: NOT_FOUND. */
export async function getVerification(store: Store, id: string): Promise<VerificationRow> {
  return get(store, id);
}

/** The first result stays: false when it was closed before. */
export function closeVerification(
  store: Store,
  leader: Leader,
  id: string,
  result: { readonly state: 'done' | 'failed'; readonly code?: string; readonly message?: string },
): Promise<boolean> {
  return transactionAs(store, leader, () => {
    get(store, id);
    const sql = `UPDATE verification SET state = ?, code = ?, message = ?, ended_at = ?, open_key = NULL
      WHERE id = ? AND state = 'open'`;
    const { state, code = null, message = null } = result;
    return run(store, sql, state, code, message, store.clock.now(), id) > 0;
  });
}

function find(store: Store, id: string): VerificationRow | null {
  return findRow(store, verificationRow, 'SELECT * FROM verification WHERE id = ?', id);
}

function get(store: Store, id: string): VerificationRow {
  const row = find(store, id);
  if (!row) throw new Refusal('NOT_FOUND', `there is no verification ${id}`);
  return row;
}
