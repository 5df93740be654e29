/** The paths of master and agents over real HTTP. Decisions are the core's; here is only the wire. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { executorDisconnected, messageFromExecutor, subscribeExecutor, updateFromExecutor } from '../core/agent.ts';
import { type AgentCore, keyOf } from '../core/agent-state.ts';
import type { Cluster } from '../core/cluster.ts';
import { disconnect, subscribe } from '../core/frameworks.ts';
import {
  answer,
  authenticate,
  decideExecutorRequest,
  decideSchedulerRequest,
  type HttpAnswer,
  type HttpRequest,
  type MasterDoor,
  redirectOrRecover,
} from '../core/http-table.ts';
import { call } from '../core/master.ts';
import { answerOperator } from '../core/operator.ts';
import type { Streams } from './streams.ts';

const MAX_BODY_BYTES = 64 * 1024 * 1024;

export interface Shell {
  readonly cluster: Cluster;
  readonly streams: Streams;
  readonly newId: () => string;
  /** null: `POST /faults` does not exist. */
  readonly faults: ((body: string) => Promise<HttpAnswer>) | null;
}

async function readRequest(request: IncomingMessage): Promise<HttpRequest | null> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_BODY_BYTES) return null;
    chunks.push(chunk);
  }
  const header = (name: string): string | undefined => {
    const value = request.headers[name];
    return Array.isArray(value) ? value.join(', ') : value;
  };
  return {
    method: request.method ?? '',
    contentType: header('content-type'),
    accept: header('accept'),
    streamId: header('mesos-stream-id'),
    authorization: header('authorization'),
    body: Buffer.concat(chunks).toString('utf8'),
  };
}

function reply(response: ServerResponse, { status, body, headers }: HttpAnswer): void {
  response.writeHead(status, {
    ...(body === '' ? {} : { 'Content-Type': 'text/plain; charset=utf-8' }),
    'Content-Length': Buffer.byteLength(body),
    ...headers,
  });
  response.end(body);
}

export type Handler = (path: string, request: HttpRequest, response: ServerResponse) => Promise<void> | void;

/** A failure here is a fault of ours: 500 and the text, never the end of the process. */
export function serve(handler: Handler): Server {
  const server = createServer((incoming, response) => {
    const path = (incoming.url ?? '/').replace(/[?#].*$/, '');
    const work = async () => {
      const request = await readRequest(incoming);
      if (!request) return reply(response, answer(413, 'The body is too large'));
      await handler(path, request, response);
    };
    work().catch((error: unknown) => {
      if (response.headersSent) response.destroy();
      else reply(response, answer(500, error instanceof Error ? error.message : String(error)));
    });
  });
  // Like the real one it does not close a connection because it is idle.
  server.keepAliveTimeout = 0;
  return server;
}

const SCHEDULER = new Set(['/api/v1/scheduler', '/master/api/v1/scheduler']);
const OPERATOR = new Set(['/api/v1', '/master/api/v1', '/api/v1/', '/master/api/v1/']);
const HEALTH = new Set(['/health', '/master/health']);
const REDIRECT = new Set(['/redirect', '/master/redirect']);

export function masterHandler(shell: Shell, door: () => MasterDoor): Handler {
  return async (path, request, response) => {
    if (SCHEDULER.has(path)) return scheduler(shell, door(), { path, request, response });
    if (OPERATOR.has(path)) return reply(response, operator(shell, door(), path, request));
    if (HEALTH.has(path)) return reply(response, answer(200, ''));
    if (REDIRECT.has(path)) {
      const { ip, port } = shell.cluster.setup.masterOptions;
      return reply(response, answer(307, '', { Location: `//${ip}:${port}` }));
    }
    if (path === '/version') {
      const body = JSON.stringify({ version: shell.cluster.setup.masterOptions.version, build_user: 'mesos-local' });
      return reply(response, answer(200, body, { 'Content-Type': 'application/json' }));
    }
    if (path === '/faults' && shell.faults && request.method === 'POST')
      return reply(response, await shell.faults(request.body));
    reply(response, answer(404, ''));
  };
}

function scheduler(
  shell: Shell,
  door: MasterDoor,
  { path, request, response }: { path: string; request: HttpRequest; response: ServerResponse },
): void {
  const { cluster, streams } = shell;
  const { master } = cluster;
  const decision = decideSchedulerRequest(master, door, path, request);
  if (decision.kind === 'answer') {
    reply(response, decision);
    return;
  }
  if (decision.kind === 'subscribe') {
    const streamId = shell.newId();
    response.writeHead(200, { 'Mesos-Stream-Id': streamId, 'Content-Type': 'application/json' });
    streams.open(streamId, response, () => disconnect(master, streamId));
    const { framework_info, suppressed_roles } = decision.call.subscribe;
    const { principal } = decision;
    subscribe(master, { info: framework_info, suppressedRoles: suppressed_roles ?? [], streamId, principal });
    return;
  }
  const { type } = decision.call;
  const fault = call(master, decision.framework, decision.call);
  const lost = cluster.lostAnswers.indexOf(type);
  if (lost !== -1) {
    cluster.lostAnswers.splice(lost, 1);
    response.destroy(); // carried out, and nobody is told
    return;
  }
  if (fault !== null) {
    reply(response, answer(400, fault));
    return;
  }
  reply(response, answer(type === 'UPDATE_FRAMEWORK' ? 200 : 202, ''));
}

function operator({ cluster }: Shell, door: MasterDoor, path: string, request: HttpRequest): HttpAnswer {
  const who = authenticate(door, request.authorization, 'mesos-master-readwrite');
  if ('kind' in who) return who;
  return redirectOrRecover(door, path) ?? answerOperator(cluster.master, request);
}

const EXECUTOR = new Set(['/api/v1/executor', '/slave(1)/api/v1/executor']);

/** `findCore` answers null while the agent's process is dead: connections break then. */
export function agentHandler(shell: Shell, findCore: () => AgentCore | null): Handler {
  return (path, request, response) => {
    const agent = findCore();
    if (!agent) {
      response.destroy();
      return;
    }
    if (path === '/health' || path === '/slave(1)/health') return reply(response, answer(200, ''));
    if (!EXECUTOR.has(path)) return reply(response, answer(404, ''));
    const decision = decideExecutorRequest(agent, request);
    if (decision.kind === 'answer') return reply(response, decision);
    const { executor, call: message } = decision;
    switch (message.type) {
      case 'SUBSCRIBE': {
        const streamId = `${keyOf(executor)}/${shell.newId()}`;
        response.writeHead(200, { 'Content-Type': 'application/json' });
        shell.streams.open(streamId, response, () => executorDisconnected(agent, streamId));
        return subscribeExecutor(agent, executor, {
          streamId,
          unacknowledgedTasks: message.subscribe.unacknowledged_tasks,
          unacknowledgedUpdates: message.subscribe.unacknowledged_updates.map(({ status }) => status),
        });
      }
      case 'UPDATE':
        reply(response, answer(202, ''));
        return updateFromExecutor(agent, executor, message.update.status);
      case 'MESSAGE':
        messageFromExecutor(agent, executor, message.message.data);
        return reply(response, answer(202, ''));
      case 'HEARTBEAT':
        return reply(response, answer(202, ''));
    }
  };
}
