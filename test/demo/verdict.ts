/** What is in the tables of all members, against what the writer noted. */
import { setTimeout as sleep } from 'node:timers/promises';
import { realClock } from '../../src/clock.ts';
import { connect, type Login, type Session } from '../../src/mysql/connection.ts';
import { readGtids, subtractGtids, waitExecuted } from '../../src/mysql/gtid.ts';
import type { Endpoint, Endpoints } from './endpoints.ts';
import { contentOf, type Writer } from './writer.ts';

export interface Verdict {
  readonly acknowledged: number;
  /** Acknowledged rows that some member lacks, or holds with another content. */
  readonly missing: number;
  /** Keys found more than once on some member. */
  readonly duplicates: number;
  /** Rows that nobody wrote. */
  readonly strangers: number;
  readonly unknown: { readonly total: number; readonly [ending: string]: number };
  /** Members whose table, or whose set of transactions, differs from the primary's. */
  readonly differing: number;
  readonly faults: readonly string[];
}

export const isFlawless = ({ missing, duplicates, strangers, differing, faults }: Verdict): boolean =>
  missing + duplicates + strangers + differing + faults.length === 0;

interface Found {
  readonly keys: ReadonlyMap<number, { readonly times: number; readonly content: string }>;
  readonly checksum: string;
  readonly errant: string;
}

const catchUpMs = 20_000;

/** Call it when the writer has stopped: reads everything from every member after it caught up. */
export async function judge(writer: Writer, endpoints: Endpoints, login: Login, caPem: string): Promise<Verdict> {
  const open = ({ host, port }: Endpoint) =>
    connect({ host, port, caPem }, login, { clock: realClock, queryTimeoutMs: 30_000 });
  const primary = endpoints.primary();
  if (!primary) throw new Error('there is no primary to compare with');
  const sessions = await Promise.all(endpoints.all().map(open));
  try {
    const [source] = sessions as [Session];
    const { executed } = await readGtids(source);
    const found = await Promise.all(sessions.map((session) => readMember(writer.table, session, source, executed)));
    return compare(writer, found);
  } finally {
    await Promise.all(sessions.map((session) => session.close()));
  }
}

async function readMember(table: string, session: Session, source: Session, executed: string): Promise<Found> {
  if (!(await waitExecuted(session, executed, catchUpMs))) throw new Error('a member did not catch up');
  const rows = await session.query<{ writerKey: number; times: number; content: string }>(
    `SELECT writer_key AS writerKey, COUNT(*) AS times, MIN(content) AS content
     FROM ${table} IGNORE INDEX (writer_key) GROUP BY writer_key`,
  );
  const [sum] = await session.query<{ Checksum: number | string }>(`CHECKSUM TABLE ${table}`);
  return {
    keys: new Map(rows.map(({ writerKey, times, content }) => [Number(writerKey), { times: Number(times), content }])),
    checksum: String(sum?.Checksum),
    errant: await readErrant(session, source),
  };
}

/** Transactions that only the member has. The primary's set is read second and again: heartbeats go on. */
async function readErrant(session: Session, source: Session): Promise<string> {
  const { executed } = await readGtids(session);
  let rest = executed;
  for (let round = 0; round < 10 && rest !== ''; round += 1) {
    rest = await subtractGtids(source, executed, (await readGtids(source)).executed);
    if (rest !== '') await sleep(50);
  }
  return rest;
}

function compare(writer: Writer, found: readonly Found[]): Verdict {
  const acknowledged = writer.acknowledgedAt.flatMap((at, index) => (at === null ? [] : [index + 1]));
  const written = writer.acknowledgedAt.length;
  const isHeld = ({ keys }: Found, key: number) => keys.get(key)?.content === contentOf(key);
  const count = (test: (member: Found) => number) => Math.max(0, ...found.map(test));
  const first = found[0];
  const endings: Record<string, number> = {};
  for (const { key, ended } of writer.unknown) {
    const isThere = first?.keys.has(key) ? 'found at the end' : 'never committed';
    const ending = ended === 'open' ? isThere : ended;
    endings[ending] = (endings[ending] ?? 0) + 1;
  }
  return {
    acknowledged: acknowledged.length,
    missing: acknowledged.filter((key) => !found.every((member) => isHeld(member, key))).length,
    duplicates: count(({ keys }) => [...keys.values()].filter(({ times }) => times > 1).length),
    strangers: count(({ keys }) => [...keys.keys()].filter((key) => key < 1 || key > written).length),
    unknown: { total: writer.unknown.length, ...endings },
    differing: found.filter(({ checksum, errant }) => checksum !== first?.checksum || errant !== '').length,
    faults: writer.faults,
  };
}
