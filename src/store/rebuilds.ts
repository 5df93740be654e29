import { z } from 'zod';
import { Refusal } from '../errors.ts';
import { getChangeableCluster, requireNoRestore } from './guards.ts';
import type { Leader, RebuildRow } from './rows.ts';
import { takeNumbers } from './sequence.ts';
import { allRows, findRow, run } from './sql.ts';
import { checkLeader, type Store, transaction, transactionAs } from './store.ts';

const rebuildRow: z.ZodType<RebuildRow> = z.object({
  id: z.string(),
  clusterId: z.string(),
  ordinal: z.number(),
  state: z.enum(['open', 'done', 'failed']),
  reason: z.string(),
  requestedBy: z.string(),
  incarnation: z.string(),
  serverUuid: z.string(),
  serverId: z.number(),
  way: z.string().nullable(),
  attempts: z.number(),
  startedAt: z.number(),
  endedAt: z.number().nullable(),
  isForced: z.number().transform((flag) => flag !== 0),
  code: z.string().nullable(),
  message: z.string().nullable(),
});

export interface NewRebuild {
  readonly id: string;
  readonly clusterId: string;
  readonly ordinal: number;
  readonly reason: string;
  readonly requestedBy: string;
  /** Of the new filling, fresh: a member that lost history and kept its server_uuid would issue the same GTIDs again. */
  readonly incarnation: string;
  readonly serverUuid: string;
  /** Also when what only the member has cannot be saved before. */
  readonly isForced?: boolean;
  /** Given by the controller, not by a person's request. */
  readonly leader?: Leader;
}

/**
 * Stores the intent and takes a server_id. The same id again answers the row. Refusals: NOT_FOUND, CLUSTER_DELETING,
 * OPERATION_OPEN (one a member).
 */
export function openRebuild(store: Store, input: NewRebuild): Promise<RebuildRow> {
  return transaction(store, () => {
    if (input.leader) checkLeader(store, input.leader);
    const known = find(store, input.id);
    if (known) return known;
    getChangeableCluster(store, input.clusterId);
    requireNoRestore(store, input.clusterId);
    return insertRebuild(store, input);
  });
}

/** For use inside a transaction. Refusal: OPERATION_OPEN. */
export function insertRebuild(store: Store, input: Omit<NewRebuild, 'leader'>): RebuildRow {
  const { id, clusterId, ordinal } = input;
  const openKey = `${clusterId}.${ordinal}`;
  const open = findRow(store, rebuildRow, 'SELECT * FROM rebuild WHERE open_key = ?', openKey);
  if (open) throw new Refusal('OPERATION_OPEN', `a rebuild of member ${ordinal} is open`, { id: open.id });
  run(
    store,
    `INSERT INTO rebuild (id, cluster_id, ordinal, open_key, state, reason, requested_by, incarnation, server_uuid,
       server_id, attempts, is_forced, started_at)
     VALUES (?, ?, ?, ?, 'open', ?, ?, ?, ?, ?, 0, ?, ?)`,
    id,
    clusterId,
    ordinal,
    openKey,
    input.reason,
    input.requestedBy,
    input.incarnation,
    input.serverUuid,
    takeNumbers(store, 'server_id', 1),
    input.isForced ? 1 : 0,
    store.clock.now(),
  );
  return get(store, id);
}

/** Oldest first. */
export async function listOpenRebuilds(store: Store, clusterId: string): Promise<RebuildRow[]> {
  const sql = "SELECT * FROM rebuild WHERE cluster_id = ? AND state = 'open' ORDER BY started_at, id";
  return allRows(store, rebuildRow, sql, clusterId);
}

/** Newest first. */
export async function listRebuilds(store: Store, clusterId: string): Promise<RebuildRow[]> {
  const sql = 'SELECT * FROM rebuild WHERE cluster_id = ? ORDER BY started_at DESC, id';
  return allRows(store, rebuildRow, sql, clusterId);
}

/** Refusal: NOT_FOUND. */
export async function getRebuild(store: Store, id: string): Promise<RebuildRow> {
  return get(store, id);
}

/** What was chosen and how often it was tried. False when the rebuild is closed. */
export function setRebuild(
  store: Store,
  leader: Leader,
  id: string,
  change: { readonly way?: string | null; readonly attempts?: number; readonly message?: string },
): Promise<boolean> {
  return transactionAs(store, leader, () => {
    const row = get(store, id);
    const way = change.way === undefined ? row.way : change.way;
    const sql = "UPDATE rebuild SET way = ?, attempts = ?, message = ? WHERE id = ? AND state = 'open'";
    return run(store, sql, way, change.attempts ?? row.attempts, change.message ?? row.message, id) > 0;
  });
}

/** The first result stays: false when it was closed before. */
export function closeRebuild(
  store: Store,
  leader: Leader,
  id: string,
  result: { readonly state: 'done' | 'failed'; readonly code?: string | null; readonly message?: string | null },
): Promise<boolean> {
  return transactionAs(store, leader, () => {
    const { message } = get(store, id);
    const sql = `UPDATE rebuild SET state = ?, code = ?, message = ?, ended_at = ?, open_key = NULL
      WHERE id = ? AND state = 'open'`;
    return run(store, sql, result.state, result.code ?? null, result.message ?? message, store.clock.now(), id) > 0;
  });
}

function find(store: Store, id: string): RebuildRow | null {
  return findRow(store, rebuildRow, 'SELECT * FROM rebuild WHERE id = ?', id);
}

function get(store: Store, id: string): RebuildRow {
  const row = find(store, id);
  if (!row) throw new Refusal('NOT_FOUND', `there is no rebuild ${id}`);
  return row;
}
