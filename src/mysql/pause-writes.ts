/**
 * The first step of a switchover: read-only for everybody, within a time. `super_read_only = ON` waits for running
 * writes, LOCK TABLES and commits, and lets no new ones begin. Running writers get until `maxPauseMs`; then the sessions
 * that hold it up are killed, and it has two more seconds. A commit that waits for an acknowledgement is not freed by a
 * KILL: its client is dropped without an OK, and the pause is given up.
 */
import { type Clock, delay } from '../clock.ts';
import { ownUser } from './accounts.ts';
import { errorNumber, type Session } from './connection.ts';
import { readAccess } from './read-only.ts';

/** After the kill: rolling back what was killed takes its time. */
const afterKillMs = 2_000;
const killEveryMs = 200;
const graceMs = 5_000;
const lockWaitTimeout = 1205;
const interrupted = 1317;
const noSuchThread = 1094;

export interface PauseWrites {
  readonly clock: Clock;
  readonly maxPauseMs: number;
  /** Writers are killed then, and `maxPauseMs` is the end of all. Absent: at `maxPauseMs`, with two seconds more. */
  readonly killAfterMs?: number | undefined;
  /** Another session of ours: the first one waits. */
  readonly killer: Session;
}

export interface Paused {
  /** blocked: something did not end; the instance takes writes as before. */
  readonly outcome: 'done' | 'blocked';
  /** Connection ids of the sessions that were killed. */
  readonly killed: readonly number[];
}

/** Throws SqlError when a session breaks; nobody knows then whether writes are paused. */
export async function pauseWrites(session: Session, options: PauseWrites): Promise<Paused> {
  const before = await readAccess(session);
  if (before.isSuperReadOnly) return { outcome: 'done', killed: [] };
  const [me] = await session.query<{ id: number }>('SELECT CONNECTION_ID() AS id');
  // Counted in seconds, at least one: the exact end is a KILL QUERY, this one stands behind it.
  const seconds = Math.ceil(deadlines(options).endMs / 1000) + 1;
  await session.query('SET SESSION lock_wait_timeout = ?', [seconds]);
  const ended = new AbortController();
  const pausing = session.query('SET GLOBAL super_read_only = ON', [], { timeoutMs: seconds * 1000 + graceMs });
  const killing = enforce(options, Number(me?.id), ended.signal);
  try {
    await pausing;
    ended.abort();
    return { outcome: 'done', killed: await killing };
  } catch (error) {
    ended.abort();
    const killed = await killing;
    if (errorNumber(error) !== lockWaitTimeout && errorNumber(error) !== interrupted) throw error;
    if (!before.isReadOnly) await session.query('SET GLOBAL read_only = OFF');
    return { outcome: 'blocked', killed };
  } finally {
    if (!session.isClosed) await session.query('SET SESSION lock_wait_timeout = DEFAULT');
  }
}

function deadlines({ maxPauseMs, killAfterMs }: PauseWrites): { readonly killMs: number; readonly endMs: number } {
  if (killAfterMs === undefined) return { killMs: maxPauseMs, endMs: maxPauseMs + afterKillMs };
  return { killMs: Math.min(killAfterMs, maxPauseMs), endMs: maxPauseMs };
}

/** Kills who holds it up when the time is up, and ends the wait itself at the last. Answers whom it killed. */
async function enforce(options: PauseWrites, id: number, signal: AbortSignal): Promise<number[]> {
  const { clock, killer } = options;
  const { killMs, endMs } = deadlines(options);
  const killed = new Set<number>();
  const more = Math.max(1, Math.ceil((endMs - killMs) / killEveryMs));
  const pauses = [killMs, ...Array.from({ length: more }, () => (endMs - killMs) / more)];
  try {
    for (const pauseMs of pauses) {
      await delay(clock, pauseMs, signal);
      for (const holder of await findHolders(killer)) {
        if (killed.has(holder)) continue;
        await kill(killer, `KILL ${holder}`);
        killed.add(holder);
      }
    }
    await kill(killer, `KILL QUERY ${id}`);
  } catch {
    // Aborted: the pause is decided. Else the killer's session is broken, and the wait ends by its own limit.
  }
  return [...killed];
}

/** Sessions of others that hold what a pause waits for. Replicas that fetch the log hold nothing of it. */
async function findHolders(session: Session): Promise<number[]> {
  const rows = await session.query<{ id: number }>(
    `SELECT DISTINCT t.PROCESSLIST_ID AS id FROM performance_schema.metadata_locks l
     JOIN performance_schema.threads t ON t.THREAD_ID = l.OWNER_THREAD_ID
     WHERE l.OBJECT_TYPE IN ('GLOBAL', 'COMMIT') AND l.LOCK_STATUS = 'GRANTED' AND t.TYPE = 'FOREGROUND'
       AND t.PROCESSLIST_ID IS NOT NULL AND t.PROCESSLIST_USER NOT IN (?, 'system user', 'event_scheduler')`,
    [ownUser],
    { timeoutMs: killEveryMs * 5 },
  );
  return rows.map(({ id }) => Number(id));
}

async function kill(session: Session, sql: string): Promise<void> {
  try {
    await session.query(sql, [], { timeoutMs: killEveryMs * 5 });
  } catch (error) {
    if (errorNumber(error) !== noSuchThread) throw error;
  }
}
