/**
 * The executor's HTTPS server: commands in, statuses out. A bearer token on every request (compared by its SHA-256 in
 * constant time), bounded bodies, bounded waits, a bounded number of connections. Plain node:https: a framework would
 * cost memory on every agent.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import { readBody } from '../channel/client.ts';
import { type Command, type CommandResult, commandSchema, type Status } from '../channel/protocol.ts';
import { TRANSFER_PATH } from '../channel/transfer.ts';
import type { Clock } from '../clock.ts';
import type { Logger } from '../log.ts';
import { listen } from './listen.ts';
import type { Share } from './shares.ts';

const MAX_COMMAND_BYTES = 256 * 1024;
const MAX_CONNECTIONS = 64;
const HEADERS_TIMEOUT_MS = 5_000;
const REQUEST_TIMEOUT_MS = 15_000;
const WATCH_INTERVAL_MS = 1_000;
/** A reader that does not read is dropped rather than buffered for. */
const MAX_UNSENT_BYTES = 1024 * 1024;

export interface ControlServerOptions {
  readonly address: string;
  readonly port: number;
  readonly certPem: string;
  readonly keyPem: string;
  readonly tokenSha256: string;
  readonly clock: Clock;
  readonly log: Logger;
  submit(command: Command): Promise<CommandResult>;
  getStatus(): Status;
  /** Calls back at every change until the returned function is called. */
  onStatus(listener: (status: Status) => void): () => void;
  /** For other executors, with tokens of their own: they open nothing else. Absent: nobody has one. */
  readonly transfer?: {
    findShare(token: string): Share | null;
    serve(request: IncomingMessage, response: ServerResponse, share: Share): Promise<void>;
  };
}

export interface ListeningServer {
  readonly port: number;
  close(): Promise<void>;
}

/** Listens on address:port; rejects when the port is taken. */
export async function startControlServer(options: ControlServerOptions): Promise<ListeningServer> {
  const server = createServer(
    {
      cert: options.certPem,
      key: options.keyPem,
      minVersion: 'TLSv1.3',
      maxHeaderSize: 8192,
      headersTimeout: HEADERS_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      handshakeTimeout: HEADERS_TIMEOUT_MS,
    },
    (request, response) => {
      handle(request, response, options).catch((error: unknown) => {
        options.log.error({ err: error }, 'a control request failed');
        if (!response.headersSent) answer(response, 500, { code: 'INTERNAL' });
        else response.destroy();
      });
    },
  );
  server.maxConnections = MAX_CONNECTIONS;
  server.on('tlsClientError', () => {}); // a scanner; the socket is closed by node
  return listen(server, options, 'the control server has an error');
}

async function handle(request: IncomingMessage, response: ServerResponse, options: ControlServerOptions) {
  if (request.url?.startsWith(TRANSFER_PATH)) {
    const share = options.transfer?.findShare(bearerOf(request.headers.authorization) ?? '');
    if (!share) return reject(request, response, 401, { code: 'UNAUTHORIZED' });
    return options.transfer?.serve(request, response, share);
  }
  if (!isAuthorised(request.headers.authorization, options.tokenSha256)) {
    return reject(request, response, 401, { code: 'UNAUTHORIZED' });
  }
  const route = `${request.method} ${(request.url ?? '').split('?')[0]}`;
  if (route === 'GET /v1/status') return answer(response, 200, options.getStatus());
  if (route === 'GET /v1/watch') return watch(response, options);
  if (route === 'POST /v1/commands') return takeCommand(request, response, options);
  return reject(request, response, 404, { code: 'NOT_FOUND' });
}

async function takeCommand(request: IncomingMessage, response: ServerResponse, options: ControlServerOptions) {
  if (Number(request.headers['content-length'] ?? 0) > MAX_COMMAND_BYTES) {
    return reject(request, response, 413, { code: 'TOO_LARGE' });
  }
  let body: unknown;
  try {
    body = JSON.parse(await readBody(request, MAX_COMMAND_BYTES));
  } catch (error) {
    if (error instanceof RangeError) return reject(request, response, 413, { code: 'TOO_LARGE' });
    return reject(request, response, 400, { code: 'BAD_REQUEST', message: 'the body is not JSON' });
  }
  const parsed = commandSchema.safeParse(body);
  if (!parsed.success) {
    const faults = parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
    return answer(response, 400, { code: 'BAD_REQUEST', message: faults.join('; ').slice(0, 1000) });
  }
  const result = await options.submit(parsed.data);
  if (!response.destroyed) answer(response, 200, result);
}

function isAuthorised(header: string | undefined, tokenSha256: string): boolean {
  const token = bearerOf(header);
  if (token === undefined) return false;
  const actual = createHash('sha256').update(token).digest();
  const expected = Buffer.from(tokenSha256, 'hex');
  return actual.length === expected.length && timingSafeEqual(actual, expected);
}

function bearerOf(header: string | undefined): string | undefined {
  return /^Bearer (\S+)$/.exec(header ?? '')?.[1];
}

/** One status a line: at once, at every change, and each second. */
function watch(response: ServerResponse, options: ControlServerOptions): void {
  const { clock } = options;
  response.writeHead(200, { 'content-type': 'application/x-ndjson', 'cache-control': 'no-store' });
  let timer: unknown;
  const send = (status: Status) => {
    clock.clearTimeout(timer);
    if (response.destroyed) return;
    if (response.writableLength > MAX_UNSENT_BYTES) return void response.destroy();
    response.write(`${JSON.stringify(status)}\n`);
    timer = clock.setTimeout(() => send(options.getStatus()), WATCH_INTERVAL_MS);
  };
  const stop = options.onStatus(send);
  response.on('error', () => {});
  response.on('close', () => {
    stop();
    clock.clearTimeout(timer);
  });
  send(options.getStatus());
}

function answer(response: ServerResponse, status: number, body: unknown): void {
  const text = JSON.stringify(body);
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) });
  response.end(text);
}

/** Answers without having read the body: the connection cannot be used again. */
function reject(request: IncomingMessage, response: ServerResponse, status: number, body: unknown): void {
  response.setHeader('connection', 'close');
  response.on('finish', () => request.destroy());
  answer(response, status, body);
}
