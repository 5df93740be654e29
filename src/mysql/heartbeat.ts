import { ownGtidTag as gtidTag } from '../cluster/gtid-set.ts';
import { Refusal } from '../errors.ts';
import type { Session } from './connection.ts';

export interface Heartbeat {
  readonly epoch: number;
  /** Ordinal of the primary. */
  readonly member: number;
  /** UTC milliseconds by the primary's clock. */
  readonly atMs: number;
}

export interface EpochRow extends Heartbeat {
  readonly serverUuid: string;
}

/**
 * Commits the heartbeat row; returns when the commit is complete, acknowledgements included. Give it a session of its
 * own: it blocks when the data disk hangs or too few voters answer, and after `timeoutMs` the session is closed.
 * Another `row` than the heartbeat's is nobody's measure: it only frees commits that are stuck.
 */
export async function commitHeartbeat(session: Session, beat: Heartbeat, timeoutMs: number, row = 1): Promise<void> {
  await session.query(`SET SESSION gtid_next = 'AUTOMATIC:${gtidTag}'`, [], { timeoutMs });
  await session.query(
    `INSERT INTO selvedge.heartbeat (id, epoch, member, at_ms) VALUES (?, ?, ?, ?) AS beat
     ON DUPLICATE KEY UPDATE epoch = beat.epoch, member = beat.member, at_ms = beat.at_ms`,
    [row, beat.epoch, beat.member, beat.atMs],
    { timeoutMs },
  );
}

/** The newest heartbeat that this member executed; null before the first. Lag is now - atMs. */
export async function readHeartbeat(session: Session): Promise<Heartbeat | null> {
  const [row] = await session.query<Heartbeat>(
    'SELECT epoch, member, at_ms AS atMs FROM selvedge.heartbeat WHERE id = 1 AND at_ms > 0',
  );
  return row ? { epoch: Number(row.epoch), member: Number(row.member), atMs: Number(row.atMs) } : null;
}

/**
 * First transaction of the primary of an epoch; again is nothing. Refuses with STALE_EPOCH when the epoch belongs to
 * another member or server_uuid, or when a higher one is known here.
 */
export async function writeEpoch(session: Session, row: EpochRow, timeoutMs: number): Promise<void> {
  const known = await session.query<{ epoch: number; member: number; serverUuid: string }>(
    'SELECT epoch, member, server_uuid AS serverUuid FROM selvedge.epoch WHERE epoch >= ? ORDER BY epoch',
    [row.epoch],
  );
  const [same] = known;
  if (known.length === 1 && same && isSameEpoch(same, row)) return;
  if (known.length > 0) {
    throw new Refusal('STALE_EPOCH', `Epoch ${row.epoch} is not free on this member.`, { known });
  }
  await session.query(`SET SESSION gtid_next = 'AUTOMATIC:${gtidTag}'`);
  await session.query(
    'INSERT INTO selvedge.epoch (epoch, member, server_uuid, at_ms) VALUES (?, ?, ?, ?)',
    [row.epoch, row.member, row.serverUuid, row.atMs],
    { timeoutMs },
  );
}

/** Has this member executed the row of that epoch? */
export async function hasEpoch(session: Session, epoch: number): Promise<boolean> {
  const rows = await session.query('SELECT 1 FROM selvedge.epoch WHERE epoch = ?', [epoch]);
  return rows.length > 0;
}

/** Logs a transaction with this GTID and nothing in it. On a session of its own, not read-only. */
export async function logEmpty(session: Session, gtid: string): Promise<void> {
  await session.query('SET SESSION gtid_next = ?', [gtid]);
  await session.query('BEGIN');
  await session.query('COMMIT');
}

function isSameEpoch(known: { epoch: number; member: number; serverUuid: string }, row: EpochRow): boolean {
  return (
    Number(known.epoch) === row.epoch && Number(known.member) === row.member && known.serverUuid === row.serverUuid
  );
}
