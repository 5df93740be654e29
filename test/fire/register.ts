/**
 * One row, read and compared-and-set at the primary by several clients at once. Every operation begins with
 * START TRANSACTION READ WRITE, which a read-only instance refuses: a read that began at a primary read what the
 * cluster had then. A write whose COMMIT was sent and not answered may have happened.
 */
import { delay, realClock } from '../../src/clock.ts';
import { errorNumber, type Login, type Session } from '../../src/mysql/connection.ts';
import { type Connections, createConnections } from '../demo/connections.ts';
import { type Endpoint, type Endpoints, sameEndpoint } from '../demo/endpoints.ts';
import { now, waitFor } from '../demo/wait.ts';
import type { RegisterOperation } from '../simulation/register.ts';

export interface Register {
  readonly history: readonly RegisterOperation[];
  /** Resolves when an operation ended well that began after `at`. */
  goesOnAfter(at: number, timeoutMs: number): Promise<unknown>;
  stop(): Promise<void>;
}

export interface RegisterOptions {
  /** Of each client. */
  readonly endpoints: readonly [Endpoints, ...Endpoints[]];
  readonly login: Login;
  readonly caPem: string;
}

const table = 'shop.register';
const everyMs = 40;
const pauseMs = 20;
const queryTimeoutMs = 15_000;
/** Every third operation only reads. */
const readEvery = 3;
/** Commits that a read-only instance refuses are rolled back. */
const refusedErrors = new Set([1290, 1836]);

/** Needs the schema `shop`. Throws when the row cannot be made within half a minute. */
export async function startRegister(options: RegisterOptions): Promise<Register> {
  const { endpoints, login, caPem } = options;
  const history: RegisterOperation[] = [];
  const stopping = new AbortController();
  const [first] = endpoints;
  await prepare(first, createConnections(login, caPem));
  let lastFrom = 0;
  const clients = endpoints.map(async (way, client) => {
    const connections = createConnections(login, caPem);
    for (let turn = 1; !stopping.signal.aborted; turn += 1) {
      const endpoint = way.primary();
      const value = turn % readEvery === 0 ? null : `${client}.${turn}`;
      const operation = endpoint && (await operate({ endpoint, endpoints: way, connections, value }));
      if (operation) history.push(operation);
      if (operation && operation.kind !== 'maybe') {
        lastFrom = Math.max(lastFrom, operation.from);
        await delay(realClock, everyMs);
        continue;
      }
      way.ask();
      if (sameEndpoint(endpoint, way.primary())) await way.changed(pauseMs);
    }
    await connections.close();
  });
  return {
    history,
    goesOnAfter: (at, timeoutMs) => waitFor({ what: 'the register to go on', timeoutMs }, () => lastFrom > at),
    async stop() {
      stopping.abort();
      await Promise.all(clients);
    },
  };
}

async function prepare(endpoints: Endpoints, connections: Connections): Promise<void> {
  try {
    await waitFor({ what: 'the register', timeoutMs: 30_000 }, async () => {
      const endpoint = endpoints.primary();
      if (!endpoint) return false;
      const session = await connections.get(endpoint);
      await session.query(`CREATE TABLE IF NOT EXISTS ${table} (id INT PRIMARY KEY, value VARCHAR(40) NOT NULL)`);
      await session.query(`INSERT IGNORE INTO ${table} VALUES (1, '')`);
      return true;
    });
  } finally {
    await connections.close();
  }
}

interface Operation {
  readonly endpoint: Endpoint;
  readonly endpoints: Endpoints;
  readonly connections: Connections;
  /** To be set; null only reads. */
  readonly value: string | null;
}

/** What happened, or null for what certainly did not. */
async function operate({ endpoint, endpoints, connections, value }: Operation): Promise<RegisterOperation | null> {
  let session: Session;
  try {
    session = await connections.get(endpoint);
  } catch {
    return null;
  }
  // Whoever waits at a primary of the past goes where the writes go now.
  const unlisten = endpoints.listen(() => {
    const current = endpoints.primary();
    if (current && !sameEndpoint(current, endpoint)) void session.close();
  });
  const say = (sql: string, params: readonly string[] = []) =>
    session.query<{ value: string }>(sql, params, { timeoutMs: queryTimeoutMs });
  const from = now();
  let doubtful: RegisterOperation | null = null;
  try {
    await say('START TRANSACTION READ WRITE');
    const [row] = await say(`SELECT value FROM ${table} WHERE id = 1 FOR UPDATE`);
    if (!row) throw new Error('the register has no row');
    const expected = row.value;
    if (value !== null) {
      await say(`UPDATE ${table} SET value = ? WHERE id = 1 AND value = ?`, [value, expected]);
      doubtful = { kind: 'maybe', from, expected, value };
    }
    await say('COMMIT');
    return value === null
      ? { kind: 'read', from, to: now(), value: expected }
      : { kind: 'set', from, to: now(), expected, value };
  } catch (error) {
    await session.close();
    return refusedErrors.has(errorNumber(error)) ? null : doubtful;
  } finally {
    unlisten();
  }
}
