/**
 * Applying binary logs as relay logs: as fast as replication does, in parallel, in one transaction each. The files are
 * put under the names of a channel that does not exist yet; the channel is made on them and has no receiver. What is
 * executed already is skipped by its GTID (measured on 9.7, tagged ones too).
 */
import { Refusal } from '../errors.ts';
import type { Session } from './connection.ts';

const stopTimeoutMs = 60_000;

/** As `--relay-log` of the instance is. */
const base = 'copy-relay';

/** Names, below the data directory, of the logs of a channel. */
export function relayLogName(channel: string, number: number): string {
  return `${base}-${channel}.${String(number).padStart(6, '0')}`;
}

/** Name and text of the file that lists them. Both must be in place before the channel is made. */
export function relayLogIndex(channel: string, count: number): { readonly name: string; readonly text: string } {
  const names = Array.from({ length: count }, (_, index) => `./${relayLogName(channel, index + 1)}\n`);
  return { name: `${base}-${channel}.index`, text: names.join('') };
}

/** Makes the channel on the files that lie there and starts its appliers. */
export async function startApplying(session: Session, channel: string): Promise<void> {
  const first = relayLogName(channel, 1);
  // The host is never asked: no receiver is started. Without one the statement is refused.
  await session.query(
    `CHANGE REPLICATION SOURCE TO SOURCE_HOST = 'none', RELAY_LOG_FILE = ?, RELAY_LOG_POS = 4 FOR CHANNEL ?`,
    [first, channel],
  );
  await session.query('START REPLICA SQL_THREAD FOR CHANNEL ?', [channel]);
}

/** Throws APPLY_FAILED with MySQL's words when the appliers have stopped. */
export async function requireApplying(session: Session, channel: string): Promise<void> {
  const rows = await session.query<Record<string, string | null>>('SHOW REPLICA STATUS FOR CHANNEL ?', [channel]);
  const { Replica_SQL_Running: running, Last_SQL_Error: error } = rows[0] ?? {};
  if (running === 'Yes') return;
  const workers = await session
    .query<{ message: string }>(
      `SELECT LAST_ERROR_MESSAGE AS message FROM performance_schema.replication_applier_status_by_worker
       WHERE CHANNEL_NAME = ? AND LAST_ERROR_NUMBER <> 0 LIMIT 1`,
      [channel],
    )
    .catch(() => []);
  const message = workers[0]?.message || error || 'they have stopped';
  throw new Refusal('APPLY_FAILED', `archived logs cannot be applied: ${message}`.slice(0, 2000));
}

/** Removes the channel with its files. */
export async function endApplying(session: Session, channel: string): Promise<void> {
  await session.query('STOP REPLICA FOR CHANNEL ?', [channel], { timeoutMs: stopTimeoutMs });
  await session.query('RESET REPLICA ALL FOR CHANNEL ?', [channel], { timeoutMs: stopTimeoutMs });
}
