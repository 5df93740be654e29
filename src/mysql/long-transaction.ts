/** Who would be hurt by a pause of writes: the transaction that has held locks for writing the longest. */
import { ownUser } from './accounts.ts';
import type { Session } from './connection.ts';

export interface LongTransaction {
  /** Connection id, for `KILL`. */
  readonly session: number;
  readonly user: string;
  readonly forMs: number;
}

/**
 * The oldest transaction of anybody but us that has changed rows or locks them, when it is older than `minMs`. Reads
 * without locks do not count: a pause of writes does not wait for them, nor end them. LOCK TABLES is no transaction:
 * its session is found only by the pause itself. InnoDB tells times in whole seconds.
 */
export async function readLongestTransaction(session: Session, minMs: number): Promise<LongTransaction | null> {
  const [row] = await session.query<{ session: number; user: string; seconds: number }>(
    `SELECT t.trx_mysql_thread_id AS session, p.USER AS user,
       TIMESTAMPDIFF(SECOND, t.trx_started, UTC_TIMESTAMP()) AS seconds
     FROM information_schema.INNODB_TRX t JOIN performance_schema.processlist p ON p.ID = t.trx_mysql_thread_id
     WHERE (t.trx_rows_modified > 0 OR t.trx_tables_locked > 0)
       AND p.USER NOT IN (?, 'system user', 'event_scheduler')
       AND t.trx_started <= UTC_TIMESTAMP() - INTERVAL ? SECOND
     ORDER BY t.trx_started, t.trx_mysql_thread_id LIMIT 1`,
    [ownUser, Math.max(1, Math.ceil(minMs / 1000))],
  );
  return row ? { session: Number(row.session), user: row.user, forMs: Number(row.seconds) * 1000 } : null;
}
