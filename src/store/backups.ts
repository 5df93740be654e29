import { z } from 'zod';
import { findLastGood, type KeptBackup } from '../cluster/retention.ts';
import { Refusal } from '../errors.ts';
import { getChangeableCluster, requireNoRestore, requireNotRestored } from './guards.ts';
import type { BackupRow, Leader } from './rows.ts';
import { allRows, findRow, run } from './sql.ts';
import { checkLeader, type Store, transaction, transactionAs } from './store.ts';

const backupRow: z.ZodType<BackupRow> = z.object({
  id: z.string(),
  clusterId: z.string(),
  ordinal: z.number(),
  state: z.enum(['open', 'complete', 'failed', 'removing', 'removed']),
  requestedBy: z.string(),
  startedAt: z.number(),
  endedAt: z.number().nullable(),
  gtidSet: z.string().nullable(),
  bytes: z.number().nullable(),
  code: z.string().nullable(),
  message: z.string().nullable(),
  dueAt: z.number().nullable(),
  verifiedAt: z.number().nullable(),
  badReason: z.string().nullable(),
  removalReason: z.string().nullable(),
});

export interface NewBackup {
  readonly id: string;
  readonly clusterId: string;
  readonly ordinal: number;
  readonly requestedBy: string;
  /** The run of the schedule that it belongs to. */
  readonly dueAt?: number;
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
    requireNoRestore(store, clusterId);
    const open = findRow(store, backupRow, 'SELECT * FROM backup WHERE open_key = ?', openKey);
    if (open) throw new Refusal('OPERATION_OPEN', `a backup of member ${ordinal} is open`, { id: open.id });
    const sql = `INSERT INTO backup (id, cluster_id, ordinal, open_key, state, requested_by, started_at, due_at)
      VALUES (?, ?, ?, ?, 'open', ?, ?, ?)`;
    run(store, sql, id, clusterId, ordinal, openKey, requestedBy, store.clock.now(), input.dueAt ?? null);
    return get(store, id);
  });
}

/** Oldest first. */
export async function listOpenBackups(store: Store, clusterId: string): Promise<BackupRow[]> {
  const sql = "SELECT * FROM backup WHERE cluster_id = ? AND state = 'open' ORDER BY started_at, id";
  return allRows(store, backupRow, sql, clusterId);
}

/** Those that are there or are being made or removed, and all of the newest run of the schedule. Newest first. */
export async function listKeptBackups(store: Store, clusterId: string): Promise<BackupRow[]> {
  const sql = `SELECT * FROM backup WHERE cluster_id = ? AND (state IN ('open', 'complete', 'removing')
      OR due_at = (SELECT MAX(due_at) FROM backup WHERE cluster_id = ?))
    ORDER BY started_at DESC, id`;
  return allRows(store, backupRow, sql, clusterId, clusterId);
}

/** The newest of each member, whatever became of it. */
export async function listNewestBackups(store: Store, clusterId: string): Promise<BackupRow[]> {
  const sql = `SELECT * FROM backup AS one WHERE cluster_id = ? AND started_at =
      (SELECT MAX(started_at) FROM backup AS other WHERE other.cluster_id = one.cluster_id AND other.ordinal = one.ordinal)
    ORDER BY ordinal, id`;
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

/**
 * A backup that was given up is whole on its volume after all: its executor sealed it when nobody waited any more. It
 * counts, and so does its room. False when no row of this member was closed as failed.
 */
export function adoptBackup(
  store: Store,
  leader: Leader,
  { id, clusterId, ordinal }: Pick<BackupRow, 'id' | 'clusterId' | 'ordinal'>,
  { gtidSet, bytes }: { readonly gtidSet: string; readonly bytes: number },
): Promise<boolean> {
  const sql = `UPDATE backup SET state = 'complete', gtid_set = ?, bytes = ?, code = NULL, message = NULL
    WHERE id = ? AND cluster_id = ? AND ordinal = ? AND state = 'failed'`;
  return transactionAs(store, leader, () => run(store, sql, gtidSet, bytes, id, clusterId, ordinal) > 0);
}

/** What its executor tells of a complete backup: verified (then it is good), or bad. False when that is known. */
export function noteBackup(
  store: Store,
  leader: Leader,
  id: string,
  note: { readonly verifiedAt: number | null; readonly badReason: string | null },
): Promise<boolean> {
  return transactionAs(store, leader, () => {
    const known = get(store, id);
    if (known.state !== 'complete') return false;
    if (known.verifiedAt === note.verifiedAt && known.badReason === note.badReason) return false;
    const sql = 'UPDATE backup SET verified_at = ?, bad_reason = ? WHERE id = ?';
    return run(store, sql, note.verifiedAt, note.badReason, id) > 0;
  });
}

export interface Removal {
  readonly id: string;
  readonly reason: string;
  /** Also the last one of its member that is good. A person's word alone. */
  readonly isForced: boolean;
  readonly leader?: Leader;
}

/**
 * Stores the intent to remove a complete backup; again: answers the row. Refusals: NOT_FOUND, OPERATION_OPEN (it is
 * being made or verified), BACKUP_LAST_VERIFIED.
 */
export function openRemoval(store: Store, { id, reason, isForced, leader }: Removal): Promise<BackupRow> {
  return transaction(store, () => {
    if (leader) checkLeader(store, leader);
    const row = get(store, id);
    if (row.state === 'removing' || row.state === 'removed' || row.state === 'failed') return row;
    if (row.state === 'open') throw new Refusal('OPERATION_OPEN', 'the backup is being made', { id });
    const sql = "SELECT id FROM verification WHERE backup_id = ? AND state = 'open'";
    const open = findRow(store, z.object({ id: z.string() }), sql, id);
    if (open) throw new Refusal('OPERATION_OPEN', 'the backup is being verified', { id: open.id });
    requireNotCopied(store, id);
    requireNotRestored(store, id);
    const ofMember = "SELECT * FROM backup WHERE cluster_id = ? AND ordinal = ? AND state = 'complete'";
    const kept = allRows(store, backupRow, ofMember, row.clusterId, row.ordinal).map(toKept);
    if (!isForced && findLastGood(kept) === id)
      throw new Refusal('BACKUP_LAST_VERIFIED', `backup ${id} is the last good one of member ${row.ordinal}`);
    run(store, "UPDATE backup SET state = 'removing', removal_reason = ? WHERE id = ?", reason, id);
    return get(store, id);
  });
}

/** A new cluster whose first member is not filled yet still reads it. */
function requireNotCopied(store: Store, id: string): void {
  const sql = `SELECT c.name FROM cluster c JOIN member m ON m.cluster_id = c.id AND m.ordinal = 0
    WHERE c.deleted_at IS NULL AND c.desired = 'present' AND m.initialised_at IS NULL AND c.origin LIKE ?`;
  const copy = findRow(store, z.object({ name: z.string() }), sql, `%"id":${JSON.stringify(id)}%`);
  if (copy) throw new Refusal('OPERATION_OPEN', `cluster ${copy.name} is being filled from the backup`, { id });
}

/** Nothing of it is left on the volume. False when that is known. */
export function closeRemoval(store: Store, leader: Leader, id: string): Promise<boolean> {
  const sql = "UPDATE backup SET state = 'removed' WHERE id = ? AND state = 'removing'";
  return transactionAs(store, leader, () => run(store, sql, id) > 0);
}

/** A complete one that is gone with its volume. False when that is known, or it is in another state. */
export function closeLost(store: Store, leader: Leader, id: string, reason: string): Promise<boolean> {
  const sql = "UPDATE backup SET state = 'removed', removal_reason = ? WHERE id = ? AND state = 'complete'";
  return transactionAs(store, leader, () => run(store, sql, reason, id) > 0);
}

/** As retention looks at it; what is in use is the caller's to know. */
export function toKept({ id, startedAt, endedAt, bytes, verifiedAt, badReason }: BackupRow): KeptBackup {
  const rest = { bytes: bytes ?? 0, verifiedAt, isBad: badReason !== null, isInUse: false };
  return { id, endedAt: endedAt ?? startedAt, ...rest };
}

function find(store: Store, id: string): BackupRow | null {
  return findRow(store, backupRow, 'SELECT * FROM backup WHERE id = ?', id);
}

function get(store: Store, id: string): BackupRow {
  const row = find(store, id);
  if (!row) throw new Refusal('NOT_FOUND', `there is no backup ${id}`);
  return row;
}
