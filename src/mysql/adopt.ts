/**
 * Makes the data of one cluster that of another one: whoever could log in cannot any more, and what the old cluster
 * wrote about itself does not speak of the new one. Nothing of it is logged, so the GTID set stays what it is. Only on
 * an instance that nobody but us can reach; may run twice.
 */
import type { Session } from './connection.ts';
import { withLocalWrites } from './read-only.ts';

export interface Adoption {
  /** Uuid of the cluster that wrote the data. */
  readonly from: string;
  /** Names of the accounts that every cluster has, each with passwords of its own: replication, CLONE. */
  readonly own: readonly string[];
}

export async function adoptData(session: Session, { from, own }: Adoption): Promise<void> {
  await withLocalWrites(session, async () => {
    await closeAccounts(session, own);
    await putEpochsAside(session, from);
  });
}

/**
 * Ours go, and are made anew with the new cluster's passwords. Others are locked with a password that nobody knows, not
 * dropped: views, routines and triggers run with the rights of those who defined them, and would fail without them.
 */
async function closeAccounts(session: Session, own: readonly string[]): Promise<void> {
  const accounts = await session.query<{ user: string; host: string }>(
    `SELECT user, host FROM mysql.user
     WHERE user NOT IN ('mysql.sys', 'mysql.session', 'mysql.infoschema')
       AND NOT (user = 'selvedge' AND host = 'localhost')`,
  );
  for (const { user, host } of accounts) {
    if (own.includes(user)) {
      await session.query('DROP USER IF EXISTS ?@?', [user, host]);
      continue;
    }
    await session.query('ALTER USER ?@? IDENTIFIED BY RANDOM PASSWORD ACCOUNT LOCK', [user, host]);
    await session.query('ALTER USER ?@? DISCARD OLD PASSWORD', [user, host]);
  }
}

/** A cluster counts its epochs from 1. The old ones stay readable in `selvedge.origin_epoch`, with whose they were. */
async function putEpochsAside(session: Session, from: string): Promise<void> {
  await session.query(
    `CREATE TABLE IF NOT EXISTS selvedge.origin_epoch (
       cluster CHAR(36) CHARACTER SET ascii NOT NULL,
       epoch BIGINT UNSIGNED NOT NULL,
       member INT UNSIGNED NOT NULL,
       server_uuid CHAR(36) CHARACTER SET ascii NOT NULL,
       at_ms BIGINT UNSIGNED NOT NULL,
       PRIMARY KEY (cluster, epoch)
     ) ENGINE = InnoDB`,
  );
  await session.query(
    `INSERT IGNORE INTO selvedge.origin_epoch (cluster, epoch, member, server_uuid, at_ms)
     SELECT ?, epoch, member, server_uuid, at_ms FROM selvedge.epoch`,
    [from],
  );
  await session.query('DELETE FROM selvedge.epoch');
  await session.query('UPDATE selvedge.heartbeat SET epoch = 0, member = 0, at_ms = 0');
}
