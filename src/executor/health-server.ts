/** Plain HTTP for load balancers and people, as HAProxy knows it from Patroni: 200 or 503 and a little JSON. */
import { createServer } from 'node:http';
import type { Status } from '../channel/protocol.ts';
import type { Logger } from '../log.ts';
import type { ListeningServer } from './control-server.ts';
import { listen } from './listen.ts';

/** A primary that waits for acknowledgements must have committed a heartbeat this recently. */
export const LEASE_MS = 3_000;
const MAX_CONNECTIONS = 256;
const TIMEOUT_MS = 5_000;

export interface HealthFacts {
  readonly status: Status;
  /** Epoch in which this member was made writable; null when it was not. */
  readonly promotedEpoch: number | null;
  readonly now: number;
}

export interface HealthAnswer {
  readonly isHealthy: boolean;
  readonly body: Readonly<Record<string, unknown>>;
}

/**
 * `/primary`: writable, no higher epoch known, and with k > 0 a heartbeat commit younger than the lease.
 * `/replica?maxLagMs=`: a running read-only member that applies, not further behind than asked. `/health`: mysqld runs.
 */
export function answerHealth(url: string, facts: HealthFacts): HealthAnswer | null {
  const { status, now } = facts;
  const parsed = URL.parse(url, 'http://health');
  if (!parsed) return null;
  const { pathname, searchParams } = parsed;
  const { epoch, instance, isWritable, lagMs } = status;
  const isRunning = instance === 'running';
  switch (pathname) {
    case '/primary': {
      const heartbeatAgeMs = status.heartbeatAt === null ? null : now - status.heartbeatAt;
      const isLeased = status.semiSync.k === 0 || (heartbeatAgeMs !== null && heartbeatAgeMs < LEASE_MS);
      const isCurrent = facts.promotedEpoch !== null && facts.promotedEpoch >= epoch;
      const isHealthy = isRunning && isWritable && isCurrent && isLeased;
      return { isHealthy, body: { role: isHealthy ? 'primary' : 'none', epoch, isWritable, heartbeatAgeMs } };
    }
    case '/replica': {
      const asked = searchParams.get('maxLagMs');
      const maxLagMs = asked === null ? null : Number(asked);
      const applies = status.replication?.applier === 'on';
      const isNear =
        maxLagMs === null || (Number.isFinite(maxLagMs) && lagMs !== null && Math.max(0, lagMs) <= maxLagMs);
      const isHealthy = isRunning && !isWritable && applies && isNear;
      return { isHealthy, body: { role: isHealthy ? 'replica' : 'none', epoch, lagMs } };
    }
    case '/health':
      return { isHealthy: isRunning, body: { instance, epoch, reason: status.reason } };
    default:
      return null;
  }
}

/** Listens on address:port. GET and HEAD only. */
export async function startHealthServer(options: {
  readonly address: string;
  readonly port: number;
  readonly log: Logger;
  getFacts(): HealthFacts;
}): Promise<ListeningServer> {
  const limits = { maxHeaderSize: 4096, headersTimeout: TIMEOUT_MS, requestTimeout: TIMEOUT_MS };
  const server = createServer(limits, (request, response) => {
    const isRead = request.method === 'GET' || request.method === 'HEAD';
    const url = request.url ?? '/';
    const found = isRead && url.startsWith('/') && !url.startsWith('//') ? answerHealth(url, options.getFacts()) : null;
    const status = !isRead ? 405 : !found ? 404 : found.isHealthy ? 200 : 503;
    const text = JSON.stringify(found?.body ?? { code: 'NOT_FOUND' });
    response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) });
    response.end(request.method === 'HEAD' ? undefined : text);
  });
  server.maxConnections = MAX_CONNECTIONS;
  return listen(server, options, 'the health server has an error');
}
