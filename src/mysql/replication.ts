/**
 * The one replication channel of a member. Rule: CHANGE REPLICATION SOURCE TO throws the relay log
 * away when both threads are stopped, and with it transactions that this member acknowledged. So only the receiver is
 * stopped, and a channel whose applier does not run is changed only when nothing can be lost by it.
 */
import { Refusal } from '../errors.ts';
import type { Session } from './connection.ts';
import { readGtids, stripGtids, subtractGtids, waitExecuted } from './gtid.ts';

export interface Replication {
  readonly sourceHost: string;
  readonly sourcePort: number;
  readonly sourceUser: string;
  readonly receiver: 'on' | 'off' | 'connecting';
  readonly applier: 'on' | 'off';
  readonly receiverError: string;
  readonly applierError: string;
  /** Milliseconds since the receiver queued something or heard a heartbeat; null before the first. */
  readonly heardMsAgo: number | null;
  /** Whole transactions in the relay log or applied since: executed ∪ received is what this member can have. */
  readonly received: string;
}

interface Row {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly receiver: string;
  readonly applier: string;
  readonly receiverError: string;
  readonly applierError: string;
  readonly workerError: string | null;
  readonly heardMsAgo: number | null;
  readonly received: string;
}

const statement = `
  SELECT c.HOST AS host, c.PORT AS port, c.USER AS user, s.SERVICE_STATE AS receiver, a.SERVICE_STATE AS applier,
    s.LAST_ERROR_MESSAGE AS receiverError, IFNULL(k.LAST_ERROR_MESSAGE, '') AS applierError,
    (SELECT MAX(w.LAST_ERROR_MESSAGE) FROM performance_schema.replication_applier_status_by_worker w
      WHERE w.CHANNEL_NAME = '') AS workerError,
    TIMESTAMPDIFF(MICROSECOND, GREATEST(s.LAST_HEARTBEAT_TIMESTAMP, s.LAST_QUEUED_TRANSACTION_END_QUEUE_TIMESTAMP,
      s.QUEUEING_TRANSACTION_START_QUEUE_TIMESTAMP), NOW(6)) DIV 1000 AS heardMsAgo,
    s.RECEIVED_TRANSACTION_SET AS received
  FROM performance_schema.replication_connection_configuration c
  JOIN performance_schema.replication_connection_status s USING (CHANNEL_NAME)
  JOIN performance_schema.replication_applier_status a USING (CHANNEL_NAME)
  LEFT JOIN performance_schema.replication_applier_status_by_coordinator k USING (CHANNEL_NAME)
  WHERE c.CHANNEL_NAME = ''`;

/** null: this member has no channel (never had one, or resetReplication). */
export async function readReplication(session: Session): Promise<Replication | null> {
  const [row] = await session.query<Row>(statement);
  if (!row || row.host === '') return null;
  return {
    sourceHost: row.host,
    sourcePort: row.port,
    sourceUser: row.user,
    receiver: row.receiver === 'ON' ? 'on' : row.receiver === 'CONNECTING' ? 'connecting' : 'off',
    applier: row.applier === 'ON' ? 'on' : 'off',
    receiverError: row.receiverError,
    applierError: row.workerError || row.applierError,
    heardMsAgo: row.heardMsAgo === null ? null : Math.max(0, Number(row.heardMsAgo)),
    received: stripGtids(row.received),
  };
}

export interface Source {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  /** PEM file with the cluster's authority, on this machine. The source's certificate must name `host`. */
  readonly caFile: string;
  /** Address of this member, from which it connects: on a host with several the routes would choose another one. */
  readonly from: string;
}

export interface PointOptions {
  /** What the new source surely has: needed only when the applier does not run and the relay log would be lost. */
  readonly sourceHas?: string;
}

/** Stopping a thread waits for the event that it works on. */
const stopTimeoutMs = 30_000;

/**
 * Points the receiver at `source` and starts both threads, keeping the relay log. Does nothing when the receiver already
 * gets transactions from there. Refuses with RELAY_LOG_AT_RISK when the applier does not start and the relay log holds
 * what neither this member executed nor `sourceHas` contains.
 */
export async function pointReceiver(
  session: Session,
  source: Source,
  { sourceHas = '' }: PointOptions = {},
): Promise<void> {
  const now = await readReplication(session);
  if (!now) {
    await changeSource(session, source, { isFirst: true });
    return startReplication(session);
  }
  const isSame = now.sourceHost === source.host && now.sourcePort === source.port && now.sourceUser === source.user;
  if (isSame && now.receiver === 'on') return startReplication(session);
  // One that has just failed still says ON: its workers have ended, and with both threads off the change ends the relay log.
  if (now.applier === 'off' || now.applierError !== '') await startApplierOrRefuse(session, sourceHas);
  await stopReceiver(session);
  await changeSource(session, source, { isFirst: false });
  await startReplication(session);
}

/** An applier that fails says ON at first: it has this long to show that it runs. */
const applierProofMs = 1_000;

async function startApplierOrRefuse(session: Session, sourceHas: string): Promise<void> {
  const atRisk = await readAtRisk(session, sourceHas);
  await session.query('START REPLICA SQL_THREAD');
  if (atRisk === '' || (await waitExecuted(session, atRisk, applierProofMs))) return;
  const replication = await readReplication(session);
  if (!replication || replication.applier === 'on') return;
  const message = `The applier does not run (${replication.applierError}) and the relay log holds ${atRisk}.`;
  throw new Refusal('RELAY_LOG_AT_RISK', message, { atRisk });
}

/** What was received, is not executed here, and is not known to be elsewhere. */
async function readAtRisk(session: Session, sourceHas: string): Promise<string> {
  const replication = await readReplication(session);
  const { executed } = await readGtids(session);
  const kept = [executed, sourceHas].filter((each) => each !== '').join(',');
  return replication ? subtractGtids(session, replication.received, kept) : '';
}

async function changeSource(
  session: Session,
  source: Source,
  { isFirst }: { readonly isFirst: boolean },
): Promise<void> {
  const options = [
    'SOURCE_HOST = ?',
    'SOURCE_PORT = ?',
    'SOURCE_USER = ?',
    'SOURCE_PASSWORD = ?',
    'SOURCE_BIND = ?',
    'SOURCE_SSL = 1',
    'SOURCE_SSL_CA = ?',
    'SOURCE_SSL_VERIFY_SERVER_CERT = 1',
    'SOURCE_CONNECT_RETRY = 1',
    // 0 is for ever: the default gives up after ten tries.
    'SOURCE_RETRY_COUNT = 0',
    'SOURCE_HEARTBEAT_PERIOD = 1',
    // With a running applier this one is refused (3081), and it never changes.
    ...(isFirst ? ['SOURCE_AUTO_POSITION = 1'] : []),
  ];
  const { host, port, user, password, from, caFile } = source;
  const values = [host, port, user, password, from, caFile];
  await session.query(`CHANGE REPLICATION SOURCE TO ${options.join(', ')}`, values);
}

/** Starts receiver and applier; those that run go on. */
export async function startReplication(session: Session): Promise<void> {
  await session.query('START REPLICA');
}

/** Stops the receiver and leaves the applier alone: this member acknowledges nothing more. */
export async function stopReceiver(session: Session): Promise<void> {
  if (await readReplication(session)) await session.query('STOP REPLICA IO_THREAD', [], { timeoutMs: stopTimeoutMs });
}

/** Of a channel whose applier was not started, and has not failed. */
export async function startIdleApplier(session: Session): Promise<void> {
  const replication = await readReplication(session);
  if (replication?.applier === 'off' && replication.applierError === '')
    await session.query('START REPLICA SQL_THREAD');
}

/** Starts the receiver again. Without a channel there is nothing to start. */
export async function startReceiver(session: Session): Promise<void> {
  if (await readReplication(session)) await session.query('START REPLICA IO_THREAD');
}

/** Removes channel and relay log. Last step of a promotion, never before the commit point of a failover. */
export async function resetReplication(session: Session): Promise<void> {
  await session.query('STOP REPLICA', [], { timeoutMs: stopTimeoutMs });
  await session.query('RESET REPLICA ALL', [], { timeoutMs: stopTimeoutMs });
}
