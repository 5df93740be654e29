/**
 * The scheduler's end of the control channel to one executor. The executor's certificate is pinned, the token proves
 * the scheduler; nothing of a request is sent before the pin was checked.
 */
import type { ClientRequest, IncomingMessage } from 'node:http';
import { request } from 'node:https';
import type { Clock } from '../clock.ts';
import type { Logger } from '../log.ts';
import { createLineSplitter } from './lines.ts';
import { createPinnedAgent } from './pinned-agent.ts';
import { type Command, type CommandResult, commandResult, type Status, statusSchema } from './protocol.ts';

export { WrongCertificateError } from './pinned-agent.ts';

const MAX_ANSWER_BYTES = 1024 * 1024;
const MAX_STATUS_BYTES = 1024 * 1024;
/** The executor sends a status at least each second. */
const WATCH_SILENCE_MS = 5000;

/** The executor answered with an HTTP error: 401 for a wrong token, 400 for a command it cannot read, 503 not ready. */
export class ChannelError extends Error {
  readonly httpStatus: number;
  constructor(httpStatus: number, message: string) {
    super(message);
    this.name = 'ChannelError';
    this.httpStatus = httpStatus;
  }
}

export interface ExecutorClient {
  /**
   * Sends one command and waits for its answer. Rejects on a broken connection, a timeout or an HTTP error: whether
   * the command was carried out is then unknown, send it again with the same id. Giving up here stops nothing there.
   */
  send(
    command: Command,
    options: { readonly timeoutMs: number; readonly signal?: AbortSignal },
  ): Promise<CommandResult>;
  /** One status, now. */
  getStatus(options: { readonly timeoutMs: number; readonly signal?: AbortSignal }): Promise<Status>;
  /** Streams statuses until the returned function is called (then silent) or the stream ends (`onEnd`, once). */
  watch(handlers: { onStatus(status: Status): void; onEnd(error: Error): void }): () => void;
  /** Breaks all connections; open calls reject. */
  close(): void;
}

export interface ExecutorAddress {
  readonly address: string;
  readonly port: number;
  /** SHA-256 of the executor's certificate, as in StartedFacts. */
  readonly fingerprint: string;
  readonly token: string;
}

export function createExecutorClient(
  options: ExecutorAddress & { readonly clock: Clock; readonly log?: Logger },
): ExecutorClient {
  const { clock, log } = options;
  const agent = createPinnedAgent(options);
  const open = (method: 'GET' | 'POST', path: string, body?: string): ClientRequest =>
    request({
      agent,
      host: options.address,
      port: options.port,
      method,
      path,
      headers: {
        authorization: `Bearer ${options.token}`,
        ...(body === undefined
          ? {}
          : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }),
      },
    });

  const call = (method: 'GET' | 'POST', path: string, body: string | undefined, limits: Limits) =>
    readAnswer(open(method, path, body), body, { ...limits, clock });

  return {
    async send(command, limits) {
      return commandResult.parse(await call('POST', '/v1/commands', JSON.stringify(command), limits));
    },
    async getStatus(limits) {
      return statusSchema.parse(await call('GET', '/v1/status', undefined, limits));
    },
    watch(handlers) {
      return watchStatus(open('GET', '/v1/watch'), handlers, { clock, log });
    },
    close() {
      agent.destroy();
    },
  };
}

interface Limits {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

function readAnswer(
  call: ClientRequest,
  body: string | undefined,
  limits: Limits & { clock: Clock },
): Promise<unknown> {
  const { clock, timeoutMs, signal } = limits;
  return new Promise<unknown>((resolve, reject) => {
    let hasResponse = false;
    const fail = (error: Error) => {
      reject(error);
      call.destroy();
    };
    const onAbort = () => fail(signal?.reason instanceof Error ? signal.reason : new Error('aborted'));
    // Before anything ends it: a request that is destroyed emits an error, which ends the process when nobody listens.
    call.on('error', reject);
    if (signal?.aborted) return onAbort();
    signal?.addEventListener('abort', onAbort, { once: true });
    const timer = clock.setTimeout(() => fail(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
    call.on('close', () => {
      clock.clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      if (!hasResponse) reject(new Error('the connection closed before an answer'));
    });
    call.on('response', (response) => {
      hasResponse = true;
      readBody(response, MAX_ANSWER_BYTES)
        .then((text) => resolve(parseAnswer(response, text)), fail)
        .catch(fail);
    });
    call.end(body);
  });
}

function parseAnswer(response: IncomingMessage, text: string): unknown {
  const status = response.statusCode ?? 0;
  if (status !== 200) throw new ChannelError(status, `the executor answered ${status}: ${text.slice(0, 500)}`);
  return JSON.parse(text);
}

/** The whole body as text; rejects past `maxBytes` and when the peer goes away in the middle. */
export async function readBody(stream: IncomingMessage, maxBytes: number): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of stream) {
    const bytes = chunk as Buffer;
    size += bytes.length;
    if (size > maxBytes) throw new RangeError(`the body is larger than ${maxBytes} bytes`);
    chunks.push(bytes);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function watchStatus(
  call: ClientRequest,
  handlers: { onStatus(status: Status): void; onEnd(error: Error): void },
  deps: { readonly clock: Clock; readonly log: Logger | undefined },
): () => void {
  const { clock } = deps;
  let hasEnded = false;
  const end = (error: Error | null) => {
    if (hasEnded) return;
    hasEnded = true;
    clock.clearTimeout(timer);
    call.destroy();
    if (error) handlers.onEnd(error);
  };
  const expectMore = () => clock.setTimeout(() => end(new Error('the watch stream fell silent')), WATCH_SILENCE_MS);
  let timer = expectMore();
  const split = createLineSplitter(MAX_STATUS_BYTES, (line) => {
    if (hasEnded) return;
    clock.clearTimeout(timer);
    timer = expectMore();
    const parsed = statusSchema.safeParse(JSON.parse(line));
    if (parsed.success) handlers.onStatus(parsed.data);
    else deps.log?.warn({ fault: parsed.error.issues[0] }, 'a status cannot be read');
  });
  call.on('error', (error) => end(error));
  call.on('close', () => end(new Error('the watch stream ended')));
  call.on('response', (response) => {
    if (response.statusCode !== 200) {
      return end(new ChannelError(response.statusCode ?? 0, `the executor answered ${response.statusCode}`));
    }
    response.on('error', (error) => end(error));
    response.on('data', (chunk: Buffer) => {
      try {
        split(chunk);
      } catch (error) {
        end(error as Error);
      }
    });
    return undefined;
  });
  call.end();
  return () => end(null);
}
