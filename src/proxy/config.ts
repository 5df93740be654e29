/** HAProxy's configuration: one frontend and one backend a cluster. What changes later goes by the runtime socket. */
import type { Route } from './routes.ts';

/**
 * Where nobody listens: a connection that finds no primary is refused here again and again, CONNECT_MS apart, until
 * there is one, for WAIT_MS at most. So a client that comes back during a failover waits instead of failing.
 */
const NOBODY = '127.0.0.1:1';
const CONNECT_MS = 100;
const WAIT_MS = 10_000;
/**
 * A mysqld that is killed may accept for some milliseconds after it dropped a client's connection. A client that comes
 * back at once would be broken twice.
 */
const HESITATE_MS = 10;
/** MySQL itself ends idle sessions after eight hours by default; the proxy is never the first. */
const IDLE_HOURS = 24;
const FRONTEND_CONNECTIONS_MAX = 5_000;
/** Two a connection. Without it HAProxy takes memory for what the machine allows. */
const FILES_MAX = 40_000;
/** Processes of earlier configurations stay while they have connections; the oldest end after so many changes. */
const EARLIER_PROCESSES_MAX = 50;

export interface ConfigOptions {
  /** IPv4 address of the service ports. */
  readonly listen: string;
  readonly runtimeSocket: string;
}

/** The text of haproxy.cfg. Routes are in the order of their service ports, so that equal facts give equal text. */
export function haproxyConfig(routes: readonly Route[], options: ConfigOptions): string {
  const sorted = [...routes].sort((one, other) => one.servicePort - other.servicePort);
  return [head(options), ...sorted.map((route) => section(route, options))].join('\n');
}

function head({ runtimeSocket }: ConfigOptions): string {
  return `# Written by selvedge proxy; changes are lost.
global
  fd-hard-limit ${FILES_MAX}
  mworker-max-reloads ${EARLIER_PROCESSES_MAX}
  stats socket "${runtimeSocket}" mode 600 level admin expose-fd listeners

defaults
  mode tcp
  maxconn ${FRONTEND_CONNECTIONS_MAX}
  timeout connect ${CONNECT_MS}ms
  timeout client ${IDLE_HOURS}h
  timeout server ${IDLE_HOURS}h
  timeout queue 5s
  timeout check 1s
  option clitcpka
  option srvtcpka
  retries ${WAIT_MS / CONNECT_MS}
  option redispatch 1
  option httpchk GET /primary
  default-server inter 500ms fastinter 250ms fall 2 rise 1 on-marked-down shutdown-sessions
`;
}

function section(route: Route, { listen }: ConfigOptions): string {
  const servers = route.places.map((place, ordinal) => {
    const address = place ? `${place.host}:${place.port} check port ${place.healthPort}` : `${NOBODY} check port 1`;
    return `  server m${ordinal} ${address}${place && ordinal === route.primary ? '' : ' disabled'}`;
  });
  return `frontend in_${route.name}
  bind ${listen}:${route.servicePort}
  tcp-request inspect-delay ${HESITATE_MS}ms
  tcp-request content accept if WAIT_END
  default_backend ${route.name}
backend ${route.name}
${servers.join('\n')}
  server wait ${NOBODY} backup
`;
}
