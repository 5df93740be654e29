/**
 * The team's client that judges the whole: it inserts rows under keys that it chooses, one at a time, at a steady pace,
 * to the current endpoint. Rules:
 * - A row whose outcome is unknown (the connection broke before the answer) is sent again under the same key, never
 *   under a new one. A duplicate key after such a retry means that an earlier try was committed.
 * - What the server refused (read-only) was not committed, and is not an unknown outcome.
 * - What was acknowledged, and what was unknown, is noted apart, with times.
 */
import { delay, realClock } from '../../src/clock.ts';
import { errorNumber, type Login, type Session } from '../../src/mysql/connection.ts';
import { type Connections, createConnections } from './connections.ts';
import { type Endpoint, type Endpoints, sameEndpoint } from './endpoints.ts';
import { now } from './wait.ts';

const database = 'shop';

export interface Unknown {
  readonly key: number;
  readonly at: number;
  readonly error: string;
  readonly endpoint: Endpoint;
  /** How it ended: an earlier try had been committed, the retry committed it, or the writer was stopped before. */
  ended: 'committed at first' | 'committed by the retry' | 'open';
}

export interface Writer {
  /** `schema.table` */
  readonly table: string;
  /** Keys are 1, 2, 3, …; index 0 is key 1. UTC milliseconds of the acknowledgement, null while there is none. */
  readonly acknowledgedAt: readonly (number | null)[];
  readonly unknown: readonly Unknown[];
  /** A duplicate key that no earlier try explains: must stay empty. */
  readonly faults: readonly string[];
  /** When the connection to the current endpoint broke or refused a write. */
  readonly breaks: readonly { readonly at: number; readonly endpoint: Endpoint }[];
  /** Resolves with the time of the next acknowledgement after `at` (by one of these members only, when given). */
  acknowledgedAfter(at: number, timeoutMs: number, by?: readonly number[]): Promise<number>;
  /** Longest time without an acknowledgement that overlaps the span; what goes on at its end counts up to it. */
  longestGapMs(from: number, to: number): number;
  /** Ends after the row at hand, or `timeoutMs` later without it. */
  stop(timeoutMs?: number): Promise<void>;
}

export interface WriterOptions {
  readonly endpoints: Endpoints;
  readonly login: Login;
  readonly caPem: string;
  readonly ratePerSecond?: number;
  readonly rowsMax?: number;
  /** In the schema `shop`; must not have rows of another writer. */
  readonly table?: string;
}

const refusedErrors = new Set([1290, 1836]);
const duplicateKey = 1062;
const insertTimeoutMs = 15_000;
/** Between tries; a change of the endpoints ends it at once. */
const pauseMs = 20;
const prepareTimeoutMs = 30_000;

/** What a row holds besides its key: checked at the end. */
export const contentOf = (key: number): string => `order ${key} of ${key * 7919}`;

/** Makes the table, then starts to write. Throws when the table cannot be made within half a minute. */
export async function startWriter(options: WriterOptions): Promise<Writer> {
  const { endpoints, ratePerSecond = 200, rowsMax = 200_000 } = options;
  const table = `${database}.${options.table ?? 'orders'}`;
  const connections = createConnections(options.login, options.caPem);
  await prepareTable(table, endpoints, connections);
  const book = createBook();
  const stopping = new AbortController();
  const killed = new AbortController();
  const stopWarming = keepWarm(endpoints, connections);
  const ended = (async () => {
    let due = now();
    while (!stopping.signal.aborted && book.acknowledgedAt.length < rowsMax) {
      await delay(realClock, Math.max(0, due - now()));
      const key = book.acknowledgedAt.push(null);
      await writeRow({ table, key, endpoints, connections, book, signal: killed.signal });
      due = Math.max(due + 1000 / ratePerSecond, now());
    }
  })();
  return {
    ...book.view,
    table,
    async stop(timeoutMs = 10_000) {
      stopping.abort();
      const timer = realClock.setTimeout(() => killed.abort(), timeoutMs);
      await ended;
      realClock.clearTimeout(timer);
      stopWarming();
      await connections.close();
    },
  };
}

async function prepareTable(table: string, endpoints: Endpoints, connections: Connections): Promise<void> {
  const deadline = now() + prepareTimeoutMs;
  for (;;) {
    try {
      const endpoint = endpoints.primary();
      if (!endpoint) throw new Error('no endpoint takes writes');
      const session = await connections.get(endpoint);
      await session.query(`CREATE DATABASE IF NOT EXISTS ${database}`);
      await session.query(
        `CREATE TABLE IF NOT EXISTS ${table} (
           id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
           writer_key BIGINT UNSIGNED NOT NULL,
           attempt INT UNSIGNED NOT NULL,
           content VARCHAR(100) NOT NULL,
           UNIQUE KEY (writer_key)
         )`,
      );
      return;
    } catch (error) {
      if (now() >= deadline) throw new Error('the writer cannot make its table', { cause: error });
      endpoints.ask();
      await endpoints.changed(50);
    }
  }
}

/** Looks once in a while too: a connection that broke is opened again before it is needed. */
function keepWarm(endpoints: Endpoints, connections: Connections): () => void {
  const warm = () => connections.warm(endpoints.all());
  const timer = setInterval(warm, 250);
  const unlisten = endpoints.listen(warm);
  warm();
  return () => {
    clearInterval(timer);
    unlisten();
  };
}

interface Book {
  readonly acknowledgedAt: (number | null)[];
  readonly view: Omit<Writer, 'stop' | 'table'>;
  acknowledge(key: number, endpoint: Endpoint): void;
  note(unknown: Unknown): void;
  noteFault(text: string): void;
  noteBreak(endpoint: Endpoint): void;
}

function createBook(): Book {
  const acknowledgedAt: (number | null)[] = [];
  const times: number[] = [];
  const unknown: Unknown[] = [];
  const faults: string[] = [];
  const breaks: { at: number; endpoint: Endpoint }[] = [];
  const waiting = new Set<(at: number, ordinal: number) => void>();
  return {
    acknowledgedAt,
    acknowledge(key, endpoint) {
      const at = now();
      acknowledgedAt[key - 1] = at;
      times.push(at);
      for (const tell of waiting) tell(at, endpoint.ordinal);
    },
    note: (each) => unknown.push(each),
    noteFault: (text) => faults.push(text),
    noteBreak: (endpoint) => breaks.push({ at: now(), endpoint }),
    view: {
      acknowledgedAt,
      unknown,
      faults,
      breaks,
      acknowledgedAfter: (after, timeoutMs, by) =>
        new Promise((resolve, reject) => {
          const end = () => {
            waiting.delete(tell);
            realClock.clearTimeout(timer);
          };
          const tell = (at: number, ordinal: number) => {
            if (at <= after || (by && !by.includes(ordinal))) return;
            end();
            resolve(at);
          };
          const timer = realClock.setTimeout(() => {
            end();
            reject(new Error(`no row was acknowledged for ${timeoutMs / 1000} s`));
          }, timeoutMs);
          waiting.add(tell);
        }),
      longestGapMs(from, to) {
        let longest = 0;
        let last: number | null = null;
        for (const at of [...times, now()]) {
          if (last !== null && at >= from && last <= to) longest = Math.max(longest, at - last);
          last = at;
        }
        return Math.round(longest);
      },
    },
  };
}

interface Write {
  readonly table: string;
  readonly key: number;
  readonly endpoints: Endpoints;
  readonly connections: Connections;
  readonly book: Book;
  readonly signal: AbortSignal;
}

/** Until the row is acknowledged, or known to be in the table, or the writer is killed. */
async function writeRow({ table, key, endpoints, connections, book, signal }: Write): Promise<void> {
  const open: Unknown[] = [];
  for (let attempt = 1; !signal.aborted; attempt += 1) {
    const endpoint = endpoints.primary();
    const outcome = endpoint && (await tryRow({ table, key, attempt, endpoint, endpoints, connections, signal }));
    if (endpoint && (outcome?.kind === 'done' || outcome?.kind === 'duplicate')) {
      if (outcome.kind === 'duplicate' && open.length === 0)
        book.noteFault(`key ${key} was there before its first try`);
      for (const each of open) each.ended = outcome.kind === 'done' ? 'committed by the retry' : 'committed at first';
      return book.acknowledge(key, endpoint);
    }
    if (endpoint && outcome) book.noteBreak(endpoint);
    if (endpoint && outcome?.kind === 'unknown') {
      const unknown: Unknown = { key, at: now(), error: outcome.error, endpoint, ended: 'open' };
      open.push(unknown);
      book.note(unknown);
    }
    endpoints.ask();
    if (sameEndpoint(endpoint, endpoints.primary())) await endpoints.changed(pauseMs);
  }
}

type Outcome =
  | { readonly kind: 'done' | 'duplicate' | 'refused' | 'unreached' }
  | { readonly kind: 'unknown'; readonly error: string };

interface Try {
  readonly table: string;
  readonly key: number;
  readonly attempt: number;
  readonly endpoint: Endpoint;
  readonly endpoints: Endpoints;
  readonly connections: Connections;
  readonly signal: AbortSignal;
}

async function tryRow({ table, key, attempt, endpoint, endpoints, connections, signal }: Try): Promise<Outcome> {
  let session: Session;
  try {
    session = await connections.get(endpoint);
  } catch {
    return { kind: 'unreached' };
  }
  // A commit that waits on a primary which is none any more would wait for long: go where the writes go now.
  const leave = () => void session.close();
  const unlisten = endpoints.listen(() => {
    const current = endpoints.primary();
    if (current && !sameEndpoint(current, endpoint)) leave();
  });
  signal.addEventListener('abort', leave, { once: true });
  try {
    await session.query(
      `INSERT INTO ${table} (writer_key, attempt, content) VALUES (?, ?, ?)`,
      [key, attempt, contentOf(key)],
      { timeoutMs: insertTimeoutMs },
    );
    return { kind: 'done' };
  } catch (error) {
    const number = errorNumber(error);
    if (number === duplicateKey) return { kind: 'duplicate' };
    if (refusedErrors.has(number)) return { kind: 'refused' };
    await session.close();
    return { kind: 'unknown', error: (error as Error).message };
  } finally {
    unlisten();
    signal.removeEventListener('abort', leave);
  }
}
