import type { Session } from './connection.ts';

export interface Gtids {
  readonly executed: string;
  readonly purged: string;
}

/** Sets come with line breaks after commas; the set algebra everywhere else wants none. */
export function stripGtids(text: string): string {
  return text.replace(/\s+/g, '');
}

/** What this instance executed, and what of it is in no binary log any more. */
export async function readGtids(session: Session): Promise<Gtids> {
  const [row] = await session.query<Gtids>('SELECT @@GLOBAL.gtid_executed AS executed, @@GLOBAL.gtid_purged AS purged');
  return { executed: stripGtids(row?.executed ?? ''), purged: stripGtids(row?.purged ?? '') };
}

/** What of `set` is not in `other`, computed by the server. */
export async function subtractGtids(session: Session, set: string, other: string): Promise<string> {
  const [row] = await session.query<{ rest: string }>('SELECT GTID_SUBTRACT(?, ?) AS rest', [set, other]);
  return stripGtids(row?.rest ?? '');
}

const graceMs = 2_000;

/** true when all of `gtidSet` is executed here within `timeoutMs`; needs a running applier (or a writer). */
export async function waitExecuted(session: Session, gtidSet: string, timeoutMs: number): Promise<boolean> {
  // 0 would wait for ever.
  const seconds = Math.max(1, timeoutMs) / 1000;
  const [row] = await session.query<{ isLate: number }>(
    'SELECT WAIT_FOR_EXECUTED_GTID_SET(?, ?) AS isLate',
    [gtidSet, seconds],
    { timeoutMs: timeoutMs + graceMs },
  );
  return Number(row?.isLate) === 0;
}
