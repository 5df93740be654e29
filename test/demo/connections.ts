/** One TLS connection per endpoint, opened ahead, so that a change of the primary costs no handshake. */
import { realClock } from '../../src/clock.ts';
import { connect, type Login, type Session } from '../../src/mysql/connection.ts';
import type { Endpoint } from './endpoints.ts';

export interface Connections {
  /** The open connection to `endpoint`, or a new one. Throws SqlError when there is none to be had. */
  get(endpoint: Endpoint): Promise<Session>;
  /** Opens what is missing, in the background; failures do not matter. */
  warm(endpoints: readonly Endpoint[]): void;
  close(): Promise<void>;
}

const connectTimeoutMs = 2_000;

/** `caPem`: the cluster's authority; certificates that it did not sign are refused. */
export function createConnections(login: Login, caPem: string): Connections {
  const open = new Map<string, Promise<Session>>();
  let isClosed = false;
  const get = (endpoint: Endpoint): Promise<Session> => {
    const key = `${endpoint.host}:${endpoint.port}`;
    const known = open.get(key);
    if (known !== undefined) return known;
    const { host, port } = endpoint;
    const opening = connect({ host, port, caPem }, login, { clock: realClock, connectTimeoutMs });
    open.set(key, opening);
    const forget = () => {
      if (open.get(key) === opening) open.delete(key);
    };
    opening.then((session) => {
      if (isClosed) void session.close();
      void session.closed.then(forget);
    }, forget);
    return opening;
  };
  return {
    get,
    warm(endpoints) {
      for (const endpoint of endpoints) get(endpoint).catch(() => {});
    },
    async close() {
      isClosed = true;
      const sessions = await Promise.allSettled([...open.values()]);
      await Promise.all(sessions.map((each) => (each.status === 'fulfilled' ? each.value.close() : null)));
    },
  };
}
