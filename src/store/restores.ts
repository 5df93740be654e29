import { z } from 'zod';
import type { Origin } from '../cluster/recovery.ts';
import type { VoterRule } from '../cluster/types.ts';
import { Refusal } from '../errors.ts';
import { writePrimary } from './clusters.ts';
import { originColumn, restoreFactsColumn, stepsColumn } from './columns.ts';
import { getChangeableCluster } from './guards.ts';
import { insertRebuild, type NewRebuild } from './rebuilds.ts';
import type { Leader, RestoreFacts, RestoreRow, Step } from './rows.ts';
import { takeNumbers } from './sequence.ts';
import { allRows, findRow, json, run } from './sql.ts';
import { type Store, transaction, transactionAs } from './store.ts';

/** A restore that is tried for ever keeps its first steps. */
const STEPS_MAX = 200;

const restoreRow: z.ZodType<RestoreRow> = z.object({
  id: z.string(),
  clusterId: z.string(),
  state: z.enum(['open', 'done', 'refused']),
  requestedBy: z.string(),
  origin: json(originColumn),
  ordinal: z.number(),
  incarnation: z.string(),
  serverUuid: z.string(),
  serverId: z.number(),
  safetyBackupId: z.string(),
  isForced: z.number().transform((flag) => flag !== 0),
  fromEpoch: z.number().nullable(),
  fencingAt: z.number().nullable(),
  facts: json(restoreFactsColumn),
  steps: json(stepsColumn),
  attempts: z.number(),
  startedAt: z.number(),
  endedAt: z.number().nullable(),
  code: z.string().nullable(),
  message: z.string().nullable(),
});

export interface NewRestore
  extends Pick<
    RestoreRow,
    'id' | 'clusterId' | 'requestedBy' | 'ordinal' | 'incarnation' | 'serverUuid' | 'safetyBackupId' | 'isForced'
  > {
  readonly origin: Origin;
}

const openWork: readonly (readonly [table: string, what: string, where: string])[] = [
  ['restore', 'restore', "state = 'open'"],
  ['failover', 'change of the primary', "outcome = 'open'"],
  ['rebuild', 'rebuild', "state = 'open'"],
  ['backup', 'backup', "state = 'open'"],
];

/**
 * Stores the intent. The same id again answers the row. Refusals: NOT_FOUND, CLUSTER_DELETING, NO_PRIMARY (nothing was
 * ever acknowledged), OPERATION_OPEN (of any kind).
 */
export function openRestore(store: Store, input: NewRestore): Promise<RestoreRow> {
  const { id, clusterId } = input;
  return transaction(store, () => {
    const known = find(store, id);
    if (known) return known;
    const { epoch } = getChangeableCluster(store, clusterId);
    if (epoch === 0) throw new Refusal('NO_PRIMARY', 'the cluster is being created');
    for (const [table, what, where] of openWork) {
      const sql = `SELECT id FROM ${table} WHERE cluster_id = ? AND ${where}`;
      const open = findRow(store, z.object({ id: z.string() }), sql, clusterId);
      if (open) throw new Refusal('OPERATION_OPEN', `a ${what} is open`, { id: open.id });
    }
    run(
      store,
      `INSERT INTO restore (id, cluster_id, open_key, state, requested_by, origin, ordinal, incarnation, server_uuid,
         server_id, safety_backup_id, is_forced, facts, steps, attempts, started_at)
       VALUES (?, ?, ?, 'open', ?, ?, ?, ?, ?, ?, ?, ?, '{}', '[]', 0, ?)`,
      id,
      clusterId,
      clusterId,
      input.requestedBy,
      JSON.stringify(input.origin),
      input.ordinal,
      input.incarnation,
      input.serverUuid,
      takeNumbers(store, 'server_id', 1),
      input.safetyBackupId,
      input.isForced ? 1 : 0,
      store.clock.now(),
    );
    return get(store, id);
  });
}

/** Refusal: NOT_FOUND. */
export async function getRestore(store: Store, id: string): Promise<RestoreRow> {
  return get(store, id);
}

export async function findOpenRestore(store: Store, clusterId: string): Promise<RestoreRow | null> {
  return findRow(store, restoreRow, 'SELECT * FROM restore WHERE open_key = ?', clusterId);
}

/** Newest first. */
export async function listRestores(store: Store, clusterId: string): Promise<RestoreRow[]> {
  const sql = 'SELECT * FROM restore WHERE cluster_id = ? ORDER BY started_at DESC, id';
  return allRows(store, restoreRow, sql, clusterId);
}

/**
 * From here on nothing else changes the cluster in this epoch. False while a change of the primary, a rebuild or a
 * backup is open: it is waited for.
 */
export function beginFencing(store: Store, leader: Leader, id: string): Promise<boolean> {
  return transactionAs(store, leader, () => {
    const row = get(store, id);
    if (row.state !== 'open') throw new Error(`restore ${id} is closed`);
    if (row.fencingAt !== null) return true;
    const { epoch } = getChangeableCluster(store, row.clusterId);
    const isBusy = openWork
      .filter(([table]) => table !== 'restore')
      .some(([table, , where]) => {
        const sql = `SELECT id FROM ${table} WHERE cluster_id = ? AND ${where}`;
        return findRow(store, z.object({ id: z.string() }), sql, row.clusterId) !== null;
      });
    if (isBusy) return false;
    const sql = 'UPDATE restore SET fencing_at = ?, from_epoch = ? WHERE id = ?';
    return run(store, sql, store.clock.now(), epoch, id) > 0;
  });
}

export interface RestoreRecord {
  /** Laid over the facts that are there, field by field. */
  readonly facts?: RestoreFacts;
  readonly step?: Step;
  readonly attempts?: number;
  /** Why the last try of filling failed. */
  readonly failure?: { readonly code: string; readonly message: string } | null;
}

/** Stores what the machine resumes from, before it moves on. False when the restore is closed. */
export function recordRestore(store: Store, leader: Leader, id: string, record: RestoreRecord): Promise<boolean> {
  return transactionAs(store, leader, () => writeRecord(store, id, record));
}

function writeRecord(store: Store, id: string, { facts, step, attempts, failure }: RestoreRecord): boolean {
  const row = get(store, id);
  if (row.state !== 'open') return false;
  const steps = step && row.steps.length < STEPS_MAX ? [...row.steps, step] : row.steps;
  const { code, message } = failure === undefined ? row : (failure ?? { code: null, message: null });
  const sql = 'UPDATE restore SET facts = ?, steps = ?, attempts = ?, code = ?, message = ? WHERE id = ?';
  const factsText = JSON.stringify({ ...row.facts, ...facts });
  return run(store, sql, factsText, JSON.stringify(steps), attempts ?? row.attempts, code, message, id) > 0;
}

/** The volume says that the member is filled: it is another incarnation from now on, whoever launches it. */
export function recordFilled(
  store: Store,
  leader: Leader,
  id: string,
  filled: Required<Pick<RestoreRecord, 'facts' | 'step'>>,
): Promise<boolean> {
  return transactionAs(store, leader, () => {
    const { clusterId, ordinal, incarnation, serverUuid, serverId } = get(store, id);
    if (!writeRecord(store, id, { ...filled, failure: null })) return false;
    const sql = `UPDATE member SET incarnation = ?, server_uuid = ?, server_id = ?,
      initialised_at = COALESCE(initialised_at, ?) WHERE cluster_id = ? AND ordinal = ?`;
    return run(store, sql, incarnation, serverUuid, serverId, store.clock.now(), clusterId, ordinal) > 0;
  });
}

export interface RestoreCommit {
  readonly id: string;
  readonly rule: VoterRule;
  /** Of all other members, opened in the same instant: none of them may ever go on with the history that is left. */
  readonly rebuilds: readonly Omit<NewRebuild, 'leader' | 'clusterId'>[];
  readonly step: Step;
}

/**
 * The commit point: a new epoch with the filled member as its only voter. False when the epoch has moved on, which only
 * this very change does while the restore is open.
 */
export function commitRestore(
  store: Store,
  leader: Leader,
  { id, rule, rebuilds, step }: RestoreCommit,
): Promise<boolean> {
  return transactionAs(store, leader, () => {
    const { clusterId, ordinal, fromEpoch, state } = get(store, id);
    if (state !== 'open' || fromEpoch === null) throw new Error(`restore ${id} is not where it can be committed`);
    const change = { clusterId, fromEpoch, toEpoch: fromEpoch + 1, primary: ordinal, rule };
    if (!writePrimary(store, change)) return false;
    for (const rebuild of rebuilds) insertRebuild(store, { ...rebuild, clusterId });
    return writeRecord(store, id, { step });
  });
}

/** The first result stays: false when it was closed before. */
export function closeRestore(
  store: Store,
  leader: Leader,
  id: string,
  result: { readonly state: 'done' | 'refused'; readonly code?: string; readonly message?: string },
): Promise<boolean> {
  return transactionAs(store, leader, () => {
    get(store, id);
    const sql = `UPDATE restore SET state = ?, code = ?, message = ?, ended_at = ?, open_key = NULL
      WHERE id = ? AND state = 'open'`;
    return run(store, sql, result.state, result.code ?? null, result.message ?? null, store.clock.now(), id) > 0;
  });
}

function find(store: Store, id: string): RestoreRow | null {
  return findRow(store, restoreRow, 'SELECT * FROM restore WHERE id = ?', id);
}

function get(store: Store, id: string): RestoreRow {
  const row = find(store, id);
  if (!row) throw new Refusal('NOT_FOUND', `there is no restore ${id}`);
  return row;
}
