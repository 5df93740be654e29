/** Who may write, and who may connect (docs/failover-safety.md, rule 2). */
import { type Clock, delay } from '../clock.ts';
import { errorNumber, type Session } from './connection.ts';

export interface Access {
  readonly isSuperReadOnly: boolean;
  readonly isReadOnly: boolean;
  readonly isOffline: boolean;
}

export async function readAccess(session: Session): Promise<Access> {
  const [row] = await session.query<Record<'superReadOnly' | 'readOnly' | 'offline', number>>(
    'SELECT @@GLOBAL.super_read_only AS superReadOnly, @@GLOBAL.read_only AS readOnly, @@GLOBAL.offline_mode AS offline',
  );
  return { isSuperReadOnly: row?.superReadOnly === 1, isReadOnly: row?.readOnly === 1, isOffline: row?.offline === 1 };
}

const lockWaitTimeout = 1205;
const graceMs = 5_000;

/**
 * Nobody writes any more, not even we. 'blocked': a running write (or a commit that waits for its acknowledgement)
 * did not end within `lockWaitSeconds`, and nothing has changed.
 */
export async function setReadOnly(session: Session, lockWaitSeconds: number): Promise<'done' | 'blocked'> {
  const before = await readAccess(session);
  if (before.isSuperReadOnly) return 'done';
  await session.query('SET SESSION lock_wait_timeout = ?', [Math.max(1, Math.ceil(lockWaitSeconds))]);
  try {
    await session.query('SET GLOBAL super_read_only = ON', [], { timeoutMs: lockWaitSeconds * 1000 + graceMs });
    return 'done';
  } catch (error) {
    if (errorNumber(error) !== lockWaitTimeout) throw error;
    if (!before.isReadOnly) await session.query('SET GLOBAL read_only = OFF');
    return 'blocked';
  } finally {
    if (!session.isClosed) await session.query('SET SESSION lock_wait_timeout = DEFAULT');
  }
}

/** Only accounts with CONNECTION_ADMIN (ours) may write: the first transaction of a primary, accounts, a heartbeat. */
export async function openForOwnWrites(session: Session): Promise<void> {
  const { isReadOnly } = await readAccess(session);
  if (!isReadOnly) throw new Error('the instance is writable for everybody');
  await session.query('SET GLOBAL super_read_only = OFF');
}

/** Everybody may write. Only for the primary of the current epoch. */
export async function setWritable(session: Session): Promise<void> {
  await session.query('SET GLOBAL super_read_only = OFF');
  await session.query('SET GLOBAL read_only = OFF');
}

/**
 * ON drops and refuses everybody without CONNECTION_ADMIN within milliseconds, also while commits wait; a client whose
 * commit waits gets an error and never an OK. That includes replicas.
 */
export async function setOffline(session: Session, isOffline: boolean): Promise<void> {
  await session.query(`SET GLOBAL offline_mode = ${isOffline ? 'ON' : 'OFF'}`);
}

/** Sessions of accounts that are not ours: clients and replicas. A fence is proven when none is left. */
export async function countOutsiders(session: Session): Promise<number> {
  const [row] = await session.query<{ outsiders: number }>(
    `SELECT COUNT(*) AS outsiders FROM performance_schema.processlist
     WHERE USER NOT IN ('selvedge', 'root', 'system user', 'event_scheduler', 'unauthenticated user')`,
  );
  return Number(row?.outsiders ?? 0);
}

const pollMs = 10;

/**
 * Drops all clients and lets them in again, for a switchover. false: some session was still there after `timeoutMs`
 * (a dropped client's session stays while its commit waits for an acknowledgement).
 */
export async function dropClients(session: Session, clock: Clock, timeoutMs: number): Promise<boolean> {
  const { isOffline } = await readAccess(session);
  const deadline = clock.now() + timeoutMs;
  await setOffline(session, true);
  try {
    while ((await countOutsiders(session)) > 0) {
      if (clock.now() >= deadline) return false;
      await delay(clock, pollMs);
    }
    return true;
  } finally {
    if (!isOffline && !session.isClosed) await setOffline(session, false);
  }
}

/**
 * Runs changes that belong to this member alone: not in the binary log, hence without GTIDs and without waiting for
 * acknowledgements, which for account statements would lock everybody out. A super_read_only instance is
 * opened for the time; read_only stays, so that no outside account can write through the window.
 */
export async function withLocalWrites<T>(session: Session, change: () => Promise<T>): Promise<T> {
  const { isSuperReadOnly } = await readAccess(session);
  await session.query('SET SESSION sql_log_bin = 0');
  try {
    if (isSuperReadOnly) await openForOwnWrites(session);
    return await change();
  } finally {
    if (!session.isClosed) {
      if (isSuperReadOnly) await session.query('SET GLOBAL super_read_only = ON');
      await session.query('SET SESSION sql_log_bin = 1');
    }
  }
}
