import { z } from 'zod';
import { Refusal } from '../errors.ts';
import { factsColumn, optionsColumn, refusalColumn, stepsColumn } from './columns.ts';
import { getChangeableCluster, requireNoRestore } from './guards.ts';
import type { FailoverFacts, FailoverOptions, FailoverRow, Leader, Step } from './rows.ts';
import { allRows, findRow, json, run } from './sql.ts';
import { checkLeader, type Store, transaction, transactionAs } from './store.ts';

/** Steps kept of one failover; a loop that notes more is broken, and its first steps tell why. */
const STEPS_MAX = 500;

const failoverRow: z.ZodType<FailoverRow> = z.object({
  id: z.string(),
  clusterId: z.string(),
  kind: z.enum(['first', 'failover', 'switchover']),
  reason: z.string(),
  requestedBy: z.string(),
  candidate: z.number().nullable(),
  fromPrimary: z.number().nullable(),
  toPrimary: z.number().nullable(),
  fromEpoch: z.number(),
  outcome: z.enum(['open', 'done', 'refused', 'aborted']),
  refusal: json(refusalColumn).nullable(),
  options: json(optionsColumn)
    .nullable()
    .transform((options) => options ?? {}),
  facts: json(factsColumn),
  steps: json(stepsColumn),
  startedAt: z.number(),
  endedAt: z.number().nullable(),
});

export interface NewFailover {
  readonly id: string;
  readonly clusterId: string;
  readonly kind: FailoverRow['kind'];
  readonly reason: string;
  readonly requestedBy: string;
  readonly candidate?: number | null;
  readonly options?: FailoverOptions;
  /** Whom and which epoch the caller believes in; checked with the intent, in one transaction. */
  readonly ifPrimary?: number;
  readonly ifEpoch?: number;
  /** Given by the controller, not by a person's request. */
  readonly leader?: Leader;
}

/**
 * Stores the intent; primary and epoch to leave are the cluster's at this instant. The same id again answers the row.
 * Refusals: NOT_FOUND, CLUSTER_DELETING, PRECONDITION, OPERATION_OPEN.
 */
export function openFailover(store: Store, input: NewFailover): Promise<FailoverRow> {
  return transaction(store, () => {
    if (input.leader) checkLeader(store, input.leader);
    const known = find(store, input.id);
    if (known) return known;
    const cluster = getChangeableCluster(store, input.clusterId);
    checkBelief(cluster, input);
    requireNoRestore(store, input.clusterId);
    const open = findOpen(store, input.clusterId);
    if (open) throw new Refusal('OPERATION_OPEN', `a ${open.kind} is open`, { id: open.id });
    run(
      store,
      `INSERT INTO failover (id, cluster_id, open_key, kind, reason, requested_by, candidate, from_primary, from_epoch,
         outcome, options, facts, steps, started_at)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'open', ?, '{}', '[]', ?)`,
      input.id,
      input.clusterId,
      input.clusterId,
      input.kind,
      input.reason,
      input.requestedBy,
      input.candidate ?? null,
      cluster.primaryOrdinal,
      cluster.epoch,
      JSON.stringify(input.options ?? {}),
      laterThanAll(store, input.clusterId),
    );
    return get(store, input.id);
  });
}

/**
 * Now, or a millisecond after the newest one began: which one is the newest decides whether another is begun, and two may
 * begin in one millisecond, or the clock may be set back.
 */
function laterThanAll(store: Store, clusterId: string): number {
  const sql = 'SELECT MAX(started_at) AS newest FROM failover WHERE cluster_id = ?';
  const row = findRow(store, z.object({ newest: z.number().nullable() }), sql, clusterId);
  return Math.max(store.clock.now(), (row?.newest ?? -1) + 1);
}

function checkBelief(
  cluster: { primaryOrdinal: number | null; epoch: number },
  { ifPrimary, ifEpoch }: NewFailover,
): void {
  const { primaryOrdinal: primary, epoch } = cluster;
  if (ifPrimary !== undefined && ifPrimary !== primary)
    throw new Refusal('PRECONDITION', `the primary is member ${primary}, not ${ifPrimary}`, { primary, epoch });
  if (ifEpoch !== undefined && ifEpoch !== epoch)
    throw new Refusal('PRECONDITION', `the epoch is ${epoch}, not ${ifEpoch}`, { primary, epoch });
}

export async function findOpenFailover(store: Store, clusterId: string): Promise<FailoverRow | null> {
  return findOpen(store, clusterId);
}

/** The one that began last, open or not; null before the first. */
export async function findNewestFailover(store: Store, clusterId: string): Promise<FailoverRow | null> {
  const sql = 'SELECT * FROM failover WHERE cluster_id = ? ORDER BY started_at DESC, from_epoch DESC, id LIMIT 1';
  return findRow(store, failoverRow, sql, clusterId);
}

/** Newest first. */
export async function listFailovers(store: Store, clusterId: string): Promise<FailoverRow[]> {
  const sql = 'SELECT * FROM failover WHERE cluster_id = ? ORDER BY started_at DESC, from_epoch DESC, id';
  return allRows(store, failoverRow, sql, clusterId);
}

/** Refusal: NOT_FOUND. */
export async function getFailover(store: Store, id: string): Promise<FailoverRow> {
  return get(store, id);
}

export interface FailoverRecord {
  /** Laid over the facts that are there, field by field. */
  readonly facts?: FailoverFacts;
  readonly fromPrimary?: number | null;
  readonly toPrimary?: number | null;
  /** Appended; the very same step again is not. */
  readonly step?: Step;
}

/** Stores what the machine resumes from, before it moves on. False when the failover is closed. */
export function recordFailover(store: Store, leader: Leader, id: string, record: FailoverRecord): Promise<boolean> {
  return transactionAs(store, leader, () => {
    const row = get(store, id);
    if (row.outcome !== 'open') return false;
    const sql = 'UPDATE failover SET facts = ?, from_primary = ?, to_primary = ?, steps = ? WHERE id = ?';
    return (
      run(
        store,
        sql,
        JSON.stringify({ ...row.facts, ...record.facts }),
        record.fromPrimary === undefined ? row.fromPrimary : record.fromPrimary,
        record.toPrimary === undefined ? row.toPrimary : record.toPrimary,
        JSON.stringify(appendStep(row.steps, record.step)),
        id,
      ) > 0
    );
  });
}

function appendStep(steps: readonly Step[], step: Step | undefined): readonly Step[] {
  const last = steps.at(-1);
  const isRepeated = last?.name === step?.name && last?.at === step?.at && last?.detail === step?.detail;
  return step && !isRepeated && steps.length < STEPS_MAX ? [...steps, step] : steps;
}

/** The first outcome stays: false when it was closed before. */
export function closeFailover(
  store: Store,
  leader: Leader,
  id: string,
  outcome: Exclude<FailoverRow['outcome'], 'open'>,
  refusal?: FailoverRow['refusal'],
): Promise<boolean> {
  return transactionAs(store, leader, () => {
    get(store, id);
    const sql = `UPDATE failover SET outcome = ?, refusal = ?, ended_at = ?, open_key = NULL
      WHERE id = ? AND outcome = 'open'`;
    const refusalText = refusal ? JSON.stringify(refusal) : null;
    return run(store, sql, outcome, refusalText, store.clock.now(), id) > 0;
  });
}

function findOpen(store: Store, clusterId: string): FailoverRow | null {
  return findRow(store, failoverRow, 'SELECT * FROM failover WHERE open_key = ?', clusterId);
}

function find(store: Store, id: string): FailoverRow | null {
  return findRow(store, failoverRow, 'SELECT * FROM failover WHERE id = ?', id);
}

function get(store: Store, id: string): FailoverRow {
  const row = find(store, id);
  if (!row) throw new Refusal('NOT_FOUND', `there is no failover ${id}`);
  return row;
}
