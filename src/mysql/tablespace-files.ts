/**
 * Files that tables need and that are not there. mysqld does not notice: what it has open it goes on using until it
 * ends, and at a start it only warns (both measured on 9.7).
 */
import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { type Clock, delay } from '../clock.ts';
import type { Session } from './connection.ts';

const QUERY_TIMEOUT_MS = 30_000;
/** A statement moves files within moments, unless its commit waits for an acknowledgement. */
const AGAIN_MS = 1_000;
const STATS_AT_ONCE = 64;

/** Without undo logs: mysqld removes and makes them anew when they have grown. The dictionary's own file is not in it. */
const filesSql = `SELECT PATH AS path FROM information_schema.INNODB_TABLESPACES_BRIEF
  WHERE NAME NOT LIKE 'innodb\\_undo\\_%'`;

/**
 * Paths, as mysqld names them, of files that its dictionary names and that are missing. Looked at twice, a second apart;
 * empty while any statement holds a table for itself: its files may be on the move, for as long as its commit waits. A
 * table whose tablespace somebody discarded has no file on purpose.
 */
export async function findMissingFiles(session: Session, dataDir: string, clock: Clock): Promise<string[]> {
  const first = await lookOnce(session, dataDir);
  if (first.length === 0 || (await isMoving(session))) return [];
  await delay(clock, AGAIN_MS);
  const again = new Set(await lookOnce(session, dataDir));
  const missing = first.filter((path) => again.has(path));
  if (missing.length === 0 || (await isMoving(session))) return [];
  const discarded = new Set(await readDiscarded(session));
  return missing.filter((path) => !discarded.has(path));
}

async function lookOnce(session: Session, dataDir: string): Promise<string[]> {
  const known = await readPaths(session, filesSql);
  const paths = ['mysql.ibd', ...known];
  const missing: string[] = [];
  for (let at = 0; at < paths.length; at += STATS_AT_ONCE) {
    const some = paths.slice(at, at + STATS_AT_ONCE);
    const found = await Promise.all(some.map((path) => isThere(resolve(dataDir, path))));
    missing.push(...some.filter((_, index) => !found[index]));
  }
  return missing;
}

/** Only ENOENT says that a file is missing: a disk that does not answer says nothing. */
async function isThere(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ENOENT';
  }
}

async function isMoving(session: Session): Promise<boolean> {
  const [row] = await session.query<{ held: number; lost: string }>(
    `SELECT (SELECT COUNT(*) FROM performance_schema.metadata_locks
              WHERE OBJECT_TYPE IN ('TABLE', 'TABLESPACE', 'SCHEMA') AND LOCK_TYPE = 'EXCLUSIVE') AS held,
            (SELECT VARIABLE_VALUE FROM performance_schema.global_status
              WHERE VARIABLE_NAME = 'Performance_schema_metadata_lock_lost') AS lost`,
    [],
    { timeoutMs: QUERY_TIMEOUT_MS },
  );
  return Number(row?.held ?? 1) > 0 || Number(row?.lost ?? 1) > 0;
}

function readDiscarded(session: Session): Promise<string[]> {
  return readPaths(
    session,
    `SELECT d.PATH AS path FROM information_schema.INNODB_TABLESPACES t
       JOIN information_schema.INNODB_DATAFILES d ON d.SPACE = t.SPACE
      WHERE t.STATE = 'discarded'`,
  );
}

async function readPaths(session: Session, sql: string): Promise<string[]> {
  const rows = await session.query<{ path: string }>(sql, [], { timeoutMs: QUERY_TIMEOUT_MS });
  return rows.map(({ path }) => path);
}
