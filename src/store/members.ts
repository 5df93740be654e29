import { z } from 'zod';
import { Refusal } from '../errors.ts';
import type { Leader, MemberRow } from './rows.ts';
import { takeNumbers } from './sequence.ts';
import { allRows, findRow, run } from './sql.ts';
import { type Store, transactionAs } from './store.ts';

const memberRow: z.ZodType<MemberRow> = z.object({
  clusterId: z.string(),
  ordinal: z.number(),
  desired: z.enum(['present', 'gone']),
  incarnation: z.string(),
  serverUuid: z.string(),
  serverId: z.number(),
  initialisedAt: z.number().nullable(),
  bundleId: z.string().nullable(),
  taskId: z.string().nullable(),
  phase: z.string(),
  failures: z.number(),
  retryAt: z.number().nullable(),
});

interface MemberKey {
  readonly clusterId: string;
  readonly ordinal: number;
}

/** By ordinal. */
export async function listMembers(store: Store, clusterId: string): Promise<MemberRow[]> {
  return allRows(store, memberRow, 'SELECT * FROM member WHERE cluster_id = ? ORDER BY ordinal', clusterId);
}

/** Refusal: NOT_FOUND. */
export async function getMember(store: Store, clusterId: string, ordinal: number): Promise<MemberRow> {
  const row = findRow(
    store,
    memberRow,
    'SELECT * FROM member WHERE cluster_id = ? AND ordinal = ?',
    clusterId,
    ordinal,
  );
  if (!row) throw new Refusal('NOT_FOUND', `cluster ${clusterId} has no member ${ordinal}`);
  return row;
}

/** insertBundle and setBundleState keep the member's bundle by themselves; this is for adoption and repair. */
export function setMemberBundle(
  store: Store,
  leader: Leader,
  change: MemberKey & { readonly bundleId: string | null },
): Promise<void> {
  return update(store, leader, change, 'bundle_id = ?', change.bundleId);
}

/** insertLaunch sets the member's task by itself; this is for adoption and repair. */
export function setMemberTask(
  store: Store,
  leader: Leader,
  change: MemberKey & { readonly taskId: string | null },
): Promise<void> {
  return update(store, leader, change, 'task_id = ?', change.taskId);
}

/**
 * The data volume of this incarnation is filled: no launch may ever initialise it again. The first time counts.
 * False when the member has another incarnation by now, or it was known.
 */
export function markInitialised(
  store: Store,
  leader: Leader,
  change: MemberKey & { readonly incarnation: string; readonly at: number },
): Promise<boolean> {
  const { clusterId, ordinal, incarnation, at } = change;
  return transactionAs(store, leader, () => {
    const sql = `UPDATE member SET initialised_at = ?
      WHERE cluster_id = ? AND ordinal = ? AND incarnation = ? AND initialised_at IS NULL`;
    return run(store, sql, at, clusterId, ordinal, incarnation) > 0;
  });
}

/**
 * What was filled was lost before there was a primary: nobody could have written to it, and it may be filled again.
 * False when a primary was chosen or is being chosen, or it was known.
 */
export function forgetInitialised(store: Store, leader: Leader, { clusterId, ordinal }: MemberKey): Promise<boolean> {
  return transactionAs(store, leader, () => {
    const sql = `UPDATE member SET initialised_at = NULL
      WHERE cluster_id = ? AND ordinal = ? AND initialised_at IS NOT NULL
        AND EXISTS (SELECT 1 FROM cluster WHERE id = ? AND epoch = 0)
        AND NOT EXISTS (SELECT 1 FROM failover WHERE cluster_id = ? AND outcome = 'open')`;
    return run(store, sql, clusterId, ordinal, clusterId, clusterId) > 0;
  });
}

/**
 * The member takes the incarnation that a rebuild chose. It counts as initialised from here on, also when the member
 * never was before: a rebuild fills the volume, and an empty one must then be refused, never initialised (guarantee 4).
 */
export function setMemberIncarnation(
  store: Store,
  leader: Leader,
  change: MemberKey & { readonly incarnation: string; readonly serverUuid: string; readonly serverId: number },
): Promise<void> {
  const set = 'incarnation = ?, server_uuid = ?, server_id = ?, initialised_at = COALESCE(initialised_at, ?)';
  const { incarnation, serverUuid, serverId } = change;
  return update(store, leader, change, set, incarnation, serverUuid, serverId, store.clock.now());
}

/** Display only; written when it changed. */
export function setMemberPhase(
  store: Store,
  leader: Leader,
  change: MemberKey & { readonly phase: string },
): Promise<void> {
  return update(store, leader, change, 'phase = ?', change.phase);
}

/** Back-off of a member that fails: failures in a row, and not before when it is tried again (UTC ms). */
export function setMemberFailure(
  store: Store,
  leader: Leader,
  change: MemberKey & { readonly failures: number; readonly retryAt: number | null },
): Promise<void> {
  return update(store, leader, change, 'failures = ?, retry_at = ?', change.failures, change.retryAt);
}

/** A server_id that nothing in this installation ever had. */
export function nextServerId(store: Store, leader: Leader): Promise<number> {
  return transactionAs(store, leader, () => takeNumbers(store, 'server_id', 1));
}

function update(
  store: Store,
  leader: Leader,
  { clusterId, ordinal }: MemberKey,
  set: string,
  ...values: (string | number | null)[]
): Promise<void> {
  return transactionAs(store, leader, () => {
    const sql = `UPDATE member SET ${set} WHERE cluster_id = ? AND ordinal = ?`;
    if (run(store, sql, ...values, clusterId, ordinal) === 0)
      throw new Refusal('NOT_FOUND', `cluster ${clusterId} has no member ${ordinal}`);
  });
}
