import { z } from 'zod';
import { type EventKind, events } from '../events.ts';
import type { EventRow } from './rows.ts';
import { takeNumbers } from './sequence.ts';
import { allRows, findRow, json, run } from './sql.ts';
import { type Store, transaction } from './store.ts';

/** Events kept; the oldest are dropped. They are history for people, nothing is decided by them. */
const EVENTS_MAX = 200_000;
const PRUNE_EVERY = 1_000;
export const EVENTS_PAGE_MAX = 1_000;

const eventRow: z.ZodType<EventRow> = z.object({
  seq: z.number(),
  at: z.number(),
  kind: z.string(),
  clusterId: z.string().nullable(),
  cluster: z.string().nullable(),
  ordinal: z.number().nullable(),
  message: z.string(),
  data: json(z.record(z.string(), z.unknown())),
});

export interface NewEvent {
  readonly kind: EventKind;
  readonly clusterId?: string | null;
  /** Name of the cluster. */
  readonly cluster?: string | null;
  readonly ordinal?: number | null;
  /** The catalogue's sentence when not given. */
  readonly message?: string;
  readonly data?: Readonly<Record<string, unknown>>;
}

/** Tells people. Not idempotent: call it where a fact was really changed. */
export function addEvent(store: Store, event: NewEvent): Promise<EventRow> {
  return transaction(store, () => writeEvent(store, event));
}

/** For use inside a transaction: the event is told if and only if the change is made. */
export function writeEvent(store: Store, event: NewEvent): EventRow {
  const row: EventRow = {
    seq: takeNumbers(store, 'event', 1),
    at: store.clock.now(),
    kind: event.kind,
    clusterId: event.clusterId ?? null,
    cluster: event.cluster ?? null,
    ordinal: event.ordinal ?? null,
    message: event.message ?? events[event.kind],
    data: event.data ?? {},
  };
  run(
    store,
    'INSERT INTO event (seq, at, kind, cluster_id, cluster, ordinal, message, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?)',
    row.seq,
    row.at,
    row.kind,
    row.clusterId,
    row.cluster,
    row.ordinal,
    row.message,
    JSON.stringify(row.data),
  );
  if (row.seq % PRUNE_EVERY === 0) run(store, 'DELETE FROM event WHERE seq <= ?', row.seq - EVENTS_MAX);
  return row;
}

/** The newest that tells what became of the member; null when there is none. */
export async function findMemberEvent(store: Store, clusterId: string, ordinal: number): Promise<EventRow | null> {
  const sql = `SELECT * FROM event WHERE cluster_id = ? AND ordinal = ? AND (kind LIKE 'member.%' OR kind LIKE 'rebuild.%')
    ORDER BY seq DESC LIMIT 1`;
  return findRow(store, eventRow, sql, clusterId, ordinal);
}

export interface EventsQuery {
  /** Only events with a higher `seq`; without it the newest ones. */
  readonly after?: number;
  /** Id or name of a cluster. */
  readonly cluster?: string;
  readonly limit?: number;
}

/** Oldest first, at most `limit` (1,000 at the most). */
export async function listEvents(store: Store, query: EventsQuery = {}): Promise<EventRow[]> {
  const limit = Math.min(query.limit ?? EVENTS_PAGE_MAX, EVENTS_PAGE_MAX);
  const cluster = query.cluster === undefined ? [] : [query.cluster, query.cluster];
  const ofCluster = query.cluster === undefined ? '' : 'AND (cluster_id = ? OR cluster = ?)';
  if (query.after !== undefined) {
    const sql = `SELECT * FROM event WHERE seq > ? ${ofCluster} ORDER BY seq LIMIT ?`;
    return allRows(store, eventRow, sql, query.after, ...cluster, limit);
  }
  const sql = `SELECT * FROM event WHERE seq > 0 ${ofCluster} ORDER BY seq DESC LIMIT ?`;
  return allRows(store, eventRow, sql, ...cluster, limit).reverse();
}
