import type { Session } from './connection.ts';
import { semiSyncTimeoutMs } from './my-cnf.ts';
import { readReplication, startReceiver, stopReceiver } from './replication.ts';

export interface SemiSync {
  readonly isSource: boolean;
  /** Acknowledgements that a commit waits for; 0 when semi-sync is off. */
  readonly k: number;
  readonly isReplica: boolean;
  /** Replicas that the source counts; a replica that hangs or just stopped is still among them. */
  readonly clients: number;
  /** Commits that wait for an acknowledgement right now. */
  readonly waitingSessions: number;
  /** Commits since the start that were not acknowledged: must not grow within an epoch. */
  readonly noTx: number;
  /** server_uuids of the replicas that get the log and may acknowledge; null: this is no source. */
  readonly acknowledgers: readonly string[] | null;
}

/** A replica names itself and says that it acknowledges in user variables of its session, before it asks for the log. */
const acknowledgersSql = `
  SELECT u.VARIABLE_VALUE AS uuid FROM performance_schema.threads t
  JOIN performance_schema.user_variables_by_thread u USING (THREAD_ID)
  JOIN performance_schema.user_variables_by_thread s USING (THREAD_ID)
  WHERE t.PROCESSLIST_COMMAND LIKE 'Binlog Dump%' AND u.VARIABLE_NAME = 'replica_uuid'
    AND s.VARIABLE_NAME = 'rpl_semi_sync_replica' AND s.VARIABLE_VALUE = '1'
  ORDER BY 1`;

export async function readSemiSync(session: Session): Promise<SemiSync> {
  const [row] = await session.query<Record<'isSource' | 'k' | 'isReplica', number>>(
    `SELECT @@GLOBAL.rpl_semi_sync_source_enabled AS isSource, @@GLOBAL.rpl_semi_sync_source_wait_for_replica_count AS k,
       @@GLOBAL.rpl_semi_sync_replica_enabled AS isReplica`,
  );
  const status = await readStatus(session);
  const isSource = row?.isSource === 1;
  const acknowledgers = isSource ? await session.query<{ uuid: unknown }>(acknowledgersSql) : null;
  return {
    isSource,
    k: isSource ? Number(row.k) : 0,
    isReplica: row?.isReplica === 1,
    clients: Number(status.get('Rpl_semi_sync_source_clients') ?? 0),
    waitingSessions: Number(status.get('Rpl_semi_sync_source_wait_sessions') ?? 0),
    acknowledgers: acknowledgers?.map(({ uuid }) => String(uuid)) ?? null,
    noTx: Number(status.get('Rpl_semi_sync_source_no_tx') ?? 0),
  };
}

async function readStatus(session: Session): Promise<Map<string, string>> {
  const rows = await session.query<{ Variable_name: string; Value: string }>(
    "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync%'",
  );
  return new Map(rows.map((row) => [row.Variable_name, row.Value]));
}

/**
 * Commits wait for k acknowledgements, for ever. k = 0 turns semi-sync off: MySQL silently takes a count of 0 for 1.
 * Lowering k or turning it off releases the commits that wait.
 */
export async function setSource(session: Session, k: number): Promise<void> {
  if (!Number.isInteger(k) || k < 0) throw new RangeError(`k must be a whole number, not ${k}`);
  if (k > 0) {
    await session.query('SET GLOBAL rpl_semi_sync_source_timeout = ?', [semiSyncTimeoutMs]);
    await session.query('SET GLOBAL rpl_semi_sync_source_wait_for_replica_count = ?', [k]);
  }
  await session.query(`SET GLOBAL rpl_semi_sync_source_enabled = ${k > 0 ? 'ON' : 'OFF'}`);
}

/** Acknowledge transactions or not. The receiver learns it only when it starts: one that runs is started anew. */
export async function setReplica(session: Session, isAcknowledging: boolean): Promise<void> {
  await session.query(`SET GLOBAL rpl_semi_sync_replica_enabled = ${isAcknowledging ? 'ON' : 'OFF'}`);
  const replication = await readReplication(session);
  if (!replication || replication.receiver === 'off') return;
  const isInForce = (await readStatus(session)).get('Rpl_semi_sync_replica_status') === 'ON';
  if (isInForce === isAcknowledging) return;
  await stopReceiver(session);
  await startReceiver(session);
}
