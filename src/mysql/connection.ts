/**
 * One connection to one mysqld. Every wait has a deadline, TCP always has TLS, and errors never carry the statement:
 * mysql2 puts its full text, with passwords, on each error.
 */
import { type Connection, createConnection, type QueryError } from 'mysql2';
import type { Clock } from '../clock.ts';

export type Address =
  | { readonly socketPath: string }
  /** `caPem`: the cluster's authority. The server's certificate must be signed by it. */
  | { readonly host: string; readonly port: number; readonly caPem: string };

export interface Login {
  readonly user: string;
  /** Absent: an account without a password or with auth_socket. */
  readonly password?: string;
}

export interface ConnectOptions {
  readonly clock: Clock;
  /** Until the login is complete; an open port without a handshake counts as failed. */
  readonly connectTimeoutMs?: number;
  /** For each query that does not say otherwise. */
  readonly queryTimeoutMs?: number;
}

export interface Session {
  /**
   * Runs one statement; `?` in it stands for the next of `params`. Throws SqlError for what the server says.
   * After `timeoutMs` (null: none) the session is closed, since nobody knows how far the statement came.
   */
  query<Row = Record<string, unknown>>(
    sql: string,
    params?: readonly SqlValue[],
    options?: { readonly timeoutMs?: number | null },
  ): Promise<Row[]>;
  close(): Promise<void>;
  readonly isClosed: boolean;
  /** Settles when the connection is gone: null when close() did it. Never rejects. */
  readonly closed: Promise<Error | null>;
}

type SqlValue = string | number | bigint | boolean | null;

/** What the server (or the connection) answered. `errno` is MySQL's number, 0 for a broken or timed out connection. */
export class SqlError extends Error {
  readonly errno: number;
  readonly code: string;
  constructor(message: string, { errno, code }: { readonly errno: number; readonly code: string }) {
    super(message);
    this.name = 'SqlError';
    this.errno = errno;
    this.code = code;
  }
}

const defaultConnectTimeoutMs = 5_000;
const defaultQueryTimeoutMs = 10_000;

/** Logs in. Throws SqlError; leaves nothing open when it does. */
export function connect(address: Address, login: Login, options: ConnectOptions): Promise<Session> {
  const { clock, connectTimeoutMs = defaultConnectTimeoutMs } = options;
  const connection = createConnection({
    ...place(address),
    user: login.user,
    ...(login.password === undefined ? {} : { password: login.password }),
    // The clock's deadline below covers connect, TLS, handshake and login; mysql2's own timer is real time.
    connectTimeout: 0,
    charset: 'utf8mb4',
    timezone: 'Z',
    dateStrings: true,
    supportBigNumbers: true,
    multipleStatements: false,
    enableKeepAlive: true,
  });
  return new Promise((resolve, reject) => {
    const fail = (error: SqlError) => {
      clock.clearTimeout(timer);
      connection.destroy();
      reject(error);
    };
    const timer = clock.setTimeout(
      () => fail(new SqlError(`no login within ${connectTimeoutMs} ms`, { errno: 0, code: 'CONNECT_TIMEOUT' })),
      connectTimeoutMs,
    );
    // Stays on for good: an 'error' event without a listener would end the process.
    connection.on('error', (error: QueryError) => fail(toSqlError(error)));
    connection.once('connect', () => {
      clock.clearTimeout(timer);
      resolve(openSession(connection, options));
    });
  });
}

function place(address: Address) {
  if ('socketPath' in address) return { socketPath: address.socketPath };
  const { host, port, caPem } = address;
  return { host, port, ssl: { ca: caPem, minVersion: 'TLSv1.2', rejectUnauthorized: true } };
}

interface QueryOptions {
  readonly timeoutMs?: number | null;
}

function openSession(
  connection: Connection,
  { clock, queryTimeoutMs = defaultQueryTimeoutMs }: ConnectOptions,
): Session {
  let isClosed = false;
  let settle: (reason: Error | null) => void = () => {};
  const closed = new Promise<Error | null>((resolve) => {
    settle = resolve;
  });
  /** destroy() drops the callbacks of queries under way: these answer them. */
  const pending = new Set<(reason: Error) => void>();
  const end = (reason: Error | null) => {
    if (isClosed) return;
    isClosed = true;
    if (reason === null && pending.size === 0) connection.end(() => connection.destroy());
    else connection.destroy();
    for (const fail of pending) fail(reason ?? closedError('the session was closed'));
    settle(reason);
  };
  connection.on('error', (error: QueryError) => end(toSqlError(error)));
  connection.on('end', () => end(closedError('the server closed the connection')));

  const query = <Row>(
    sql: string,
    params: readonly SqlValue[] = [],
    { timeoutMs = queryTimeoutMs }: QueryOptions = {},
  ) =>
    new Promise<Row[]>((resolve, reject) => {
      if (isClosed) return reject(closedError('the session is closed'));
      const expire = () => end(new SqlError(`no answer within ${timeoutMs} ms`, { errno: 0, code: 'QUERY_TIMEOUT' }));
      const timer = timeoutMs === null ? null : clock.setTimeout(expire, timeoutMs);
      const finish = () => {
        pending.delete(fail);
        if (timer !== null) clock.clearTimeout(timer);
      };
      const fail = (reason: Error) => {
        finish();
        reject(reason);
      };
      pending.add(fail);
      connection.query({ sql, values: [...params] }, (error: QueryError | null, result: unknown) => {
        if (error) fail(toSqlError(error));
        else finish();
        if (error?.fatal) end(toSqlError(error));
        resolve(Array.isArray(result) ? (result as Row[]) : []);
      });
    });
  return {
    query,
    close: async () => end(null),
    get isClosed() {
      return isClosed;
    },
    closed,
  };
}

function closedError(message: string): SqlError {
  return new SqlError(message, { errno: 0, code: 'CLOSED' });
}

function toSqlError(error: QueryError): SqlError {
  return new SqlError(error.message, { errno: error.errno ?? 0, code: error.code ?? 'UNKNOWN' });
}

/** MySQL's error number, or 0 for anything that no server said. */
export function errorNumber(error: unknown): number {
  return error instanceof SqlError ? error.errno : 0;
}
