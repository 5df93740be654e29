import { z } from 'zod';
import { Refusal } from '../errors.ts';
import type { LaunchRow, Leader } from './rows.ts';
import { seal, unseal } from './secrets.ts';
import { allRows, findRow, placeholders, run } from './sql.ts';
import { type Store, transactionAs } from './store.ts';

const storedLaunch = z.object({
  taskId: z.string(),
  clusterId: z.string(),
  ordinal: z.number(),
  bundleId: z.string(),
  agentId: z.string(),
  sealedToken: z.string(),
  createdAt: z.number(),
  taskState: z.string(),
  taskReason: z.string().nullable(),
  taskMessage: z.string().nullable(),
  fingerprint: z.string().nullable(),
  endedAt: z.number().nullable(),
});

/** The order in which a task passes its states; an update that would go back is late. */
const taskStateOrder = ['INTENDED', 'TASK_STAGING', 'TASK_STARTING', 'TASK_RUNNING', 'TASK_KILLING'];

export interface NewLaunch {
  readonly taskId: string;
  readonly clusterId: string;
  readonly ordinal: number;
  readonly bundleId: string;
  readonly agentId: string;
  readonly token: string;
}

/**
 * Intent to launch, stored before the ACCEPT; also becomes the member's current task. The same id again changes nothing.
 * Throws while an earlier launch of the member has not ended: the member's row would forget a task that runs.
 */
export function insertLaunch(store: Store, leader: Leader, input: NewLaunch): Promise<LaunchRow> {
  const { taskId, clusterId, ordinal, bundleId, agentId, token } = input;
  return transactionAs(store, leader, () => {
    const known = find(store, taskId);
    if (known) return known;
    const [other] = list(store, 'cluster_id = ? AND ordinal = ? AND ended_at IS NULL', clusterId, ordinal);
    if (other) throw new Error(`member ${ordinal} of cluster ${clusterId} has launch ${other.taskId}`);
    run(
      store,
      `INSERT INTO launch (task_id, cluster_id, ordinal, bundle_id, agent_id, sealed_token, created_at, task_state)
       VALUES (?, ?, ?, ?, ?, ?, ?, 'INTENDED')`,
      taskId,
      clusterId,
      ordinal,
      bundleId,
      agentId,
      seal(store.key, `launch:${taskId}`, token),
      store.clock.now(),
    );
    run(store, 'UPDATE member SET task_id = ? WHERE cluster_id = ? AND ordinal = ?', taskId, clusterId, ordinal);
    return get(store, taskId);
  });
}

/** For updates of tasks that may not be ours. */
export async function findLaunch(store: Store, taskId: string): Promise<LaunchRow | null> {
  return find(store, taskId);
}

/** Refusal: NOT_FOUND. */
export async function getLaunch(store: Store, taskId: string): Promise<LaunchRow> {
  return get(store, taskId);
}

/** All that have not ended, INTENDED ones too: what reconciliation asks for. Oldest first. */
export async function listLiveLaunches(store: Store): Promise<LaunchRow[]> {
  return list(store, 'ended_at IS NULL');
}

/** Those of them in one of these states; asked for every second, when there is none as a rule. */
export async function listLiveLaunchesIn(store: Store, taskStates: readonly string[]): Promise<LaunchRow[]> {
  return list(store, `ended_at IS NULL AND task_state IN (${placeholders(taskStates.length)})`, ...taskStates);
}

/** Oldest first. */
export async function listLaunches(store: Store, clusterId: string): Promise<LaunchRow[]> {
  return list(store, 'cluster_id = ?', clusterId);
}

export interface TaskUpdate {
  readonly taskId: string;
  readonly state: string;
  readonly reason: string | null;
  readonly message: string | null;
  /** Of the executor's certificate; the first one stays, as it is what the channel is pinned to. */
  readonly fingerprint?: string | null;
  /** Set by the caller on a terminal state. */
  readonly endedAt?: number | null;
}

/**
 * What Mesos said of a task. Never back from an ended launch nor to an earlier state; a late or repeated update is a
 * no-op. True when something changed. Refusal: NOT_FOUND.
 */
export function updateTask(store: Store, leader: Leader, update: TaskUpdate): Promise<boolean> {
  return transactionAs(store, leader, () => {
    const row = get(store, update.taskId);
    if (row.endedAt !== null || isEarlier(update.state, row.taskState)) return false;
    const fingerprint = row.fingerprint ?? update.fingerprint ?? null;
    const endedAt = update.endedAt ?? null;
    const isSame =
      update.state === row.taskState &&
      update.reason === row.taskReason &&
      update.message === row.taskMessage &&
      fingerprint === row.fingerprint &&
      endedAt === null;
    if (isSame) return false;
    const sql = `UPDATE launch SET task_state = ?, task_reason = ?, task_message = ?, fingerprint = ?, ended_at = ?
      WHERE task_id = ?`;
    return run(store, sql, update.state, update.reason, update.message, fingerprint, endedAt, update.taskId) > 0;
  });
}

/** Only among the states of a living task: UNREACHABLE and back is no step back. */
function isEarlier(state: string, than: string): boolean {
  const order = taskStateOrder.indexOf(state);
  return order >= 0 && order < taskStateOrder.indexOf(than);
}

function list(store: Store, where: string, ...values: (string | number)[]): LaunchRow[] {
  const sql = `SELECT * FROM launch WHERE ${where} ORDER BY created_at, task_id`;
  return allRows(store, storedLaunch, sql, ...values).map((row) => open(store, row));
}

function find(store: Store, taskId: string): LaunchRow | null {
  const row = findRow(store, storedLaunch, 'SELECT * FROM launch WHERE task_id = ?', taskId);
  return row && open(store, row);
}

function get(store: Store, taskId: string): LaunchRow {
  const row = find(store, taskId);
  if (!row) throw new Refusal('NOT_FOUND', `there is no launch ${taskId}`);
  return row;
}

/** The token is decrypted when it is asked for: rows are read at every look, tokens once in a connection's life. */
function open(store: Store, { sealedToken, ...row }: z.output<typeof storedLaunch>): LaunchRow {
  return {
    ...row,
    get token() {
      return unseal(store.key, `launch:${row.taskId}`, sealedToken);
    },
  };
}
