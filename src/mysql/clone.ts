import { errorNumber, type Session, SqlError } from './connection.ts';
import { stripGtids } from './gtid.ts';
import { readAccess } from './read-only.ts';

/** Exit code of a mysqld (with MYSQLD_PARENT_PID set) that wants to be started again: its clone is complete. */
export const restartExitCode = 16;

export interface Donor {
  /** IPv4; CLONE takes no other. */
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
}

/** Copies the running instance into `dir`, which must not exist. Takes as long as it takes. */
export async function cloneLocal(session: Session, dir: string): Promise<void> {
  await session.query('CLONE LOCAL DATA DIRECTORY = ?', [dir], { timeoutMs: null });
}

/**
 * Bounds what CLONE copies from or to here, in whole MiB per second (rounded up); null: no bound. Stays until it is set
 * again. It holds for `cloneLocal` too.
 */
export async function limitClone(session: Session, bytesPerSec: number | null): Promise<void> {
  const mib = bytesPerSec === null ? 0 : Math.ceil(bytesPerSec / 1048576);
  await session.query('SET GLOBAL clone_max_data_bandwidth = ?', [mib]);
}

/**
 * Replaces everything in this instance with the donor's data, accounts included. Then mysqld ends with
 * restartExitCode and must be started again; success is what readCloneStatus says after that. Use a session of its own.
 */
export async function cloneFrom(session: Session, donor: Donor): Promise<void> {
  await session.query('SET GLOBAL clone_valid_donor_list = ?', [`${donor.host}:${donor.port}`]);
  // An instance that holds accounts of ours is not empty for CLONE, and refuses with 1290 while it is super_read_only.
  if ((await readAccess(session)).isSuperReadOnly) await session.query('SET GLOBAL super_read_only = OFF');
  try {
    await session.query(
      'CLONE INSTANCE FROM ?@?:? IDENTIFIED BY ? REQUIRE SSL',
      [donor.user, donor.host, donor.port, donor.password],
      { timeoutMs: null },
    );
  } catch (error) {
    // The server may end before its answer is out. Whether it succeeded is known after the restart.
    if (errorNumber(error) !== 0) throw error;
    if (!(error instanceof SqlError) || error.code === 'QUERY_TIMEOUT') throw error;
  }
}

export interface CloneProgress {
  /** Stage of CLONE that is under way or was last. */
  readonly stage: string;
  readonly doneBytes: number;
  /** Sum of the estimates of all stages that have one. */
  readonly totalBytes: number;
}

/** null: no clone since the start. For cloneLocal read it on the donor, for cloneFrom on the recipient. */
export async function readCloneProgress(session: Session): Promise<CloneProgress | null> {
  const rows = await session.query<{ stage: string; state: string; estimate: number; done: number }>(
    'SELECT STAGE AS stage, STATE AS state, ESTIMATE AS estimate, DATA AS done FROM performance_schema.clone_progress ORDER BY ID',
  );
  const current = rows.findLast((row) => row.state !== 'Not Started');
  if (!current) return null;
  return {
    stage: current.stage,
    doneBytes: rows.reduce((sum, row) => sum + Number(row.done), 0),
    totalBytes: rows.reduce((sum, row) => sum + Number(row.estimate), 0),
  };
}

export interface CloneStatus {
  readonly state: 'Not Started' | 'In Progress' | 'Completed' | 'Failed';
  readonly error: string;
  /** Exact set of the copy; empty for cloneLocal, whose set is learned by starting the copy. */
  readonly gtidExecuted: string;
}

export async function readCloneStatus(session: Session): Promise<CloneStatus | null> {
  const [row] = await session.query<CloneStatus>(
    `SELECT STATE AS state, IF(ERROR_NO = 0, '', CONCAT(ERROR_NO, ' ', ERROR_MESSAGE)) AS error,
       IFNULL(GTID_EXECUTED, '') AS gtidExecuted
     FROM performance_schema.clone_status`,
  );
  return row ? { state: row.state, error: row.error, gtidExecuted: stripGtids(row.gtidExecuted) } : null;
}

/** Thread of the operating system that carries this session out; null when it is not told. */
export async function readThreadId(session: Session): Promise<number | null> {
  const [row] = await session.query<{ id: number | null }>(
    'SELECT THREAD_OS_ID AS id FROM performance_schema.threads WHERE PROCESSLIST_ID = CONNECTION_ID()',
  );
  return row?.id == null ? null : Number(row.id);
}
