/**
 * POST over node:http(s) and nothing else: Mesos compares Content-Type exactly, its redirects have no scheme, and
 * Authorization must survive them, all of which fetch() handles otherwise.
 */
import http, { type ClientRequest, type IncomingHttpHeaders, type IncomingMessage } from 'node:http';
import https from 'node:https';
import { createRecordDecoder } from './recordio.ts';

const MAX_ANSWER_BYTES = 64 * 1024;

export interface Post {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  /** Certificate authority (PEM) for https; absent = Node's own. */
  readonly ca?: string | undefined;
  /** Absent = a connection of its own. */
  readonly agent?: http.Agent;
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** At most 64 KiB. */
  readonly body: string;
}

export function createKeepAliveAgent(url: URL, ca?: string): http.Agent {
  const options = { keepAlive: true, maxSockets: 1 };
  return url.protocol === 'https:' ? new https.Agent({ ...options, ...(ca && { ca }) }) : new http.Agent(options);
}

export function openPost({ url, headers, body, ca, agent }: Post): ClientRequest {
  const options = {
    method: 'POST',
    agent: agent ?? false,
    headers: {
      Accept: 'application/json',
      ...headers,
      'Content-Type': 'application/json',
      'Content-Length': String(Buffer.byteLength(body)),
    },
  };
  const request =
    url.protocol === 'https:' ? https.request(url, { ...options, ...(ca && { ca }) }) : http.request(url, options);
  // Calls are small and answered one by one: waiting for Nagle would only delay them.
  request.setNoDelay(true);
  request.end(body);
  return request;
}

/** The whole body, cut at 64 KiB. Rejects when the connection breaks before its end. */
export function readAnswer(response: IncomingMessage): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let kept = 0;
    response.on('data', (chunk: Buffer) => {
      const part = chunk.subarray(0, MAX_ANSWER_BYTES - kept);
      kept += part.length;
      chunks.push(part);
    });
    response.on('end', () =>
      resolve({
        status: response.statusCode ?? 0,
        headers: response.headers,
        body: Buffer.concat(chunks).toString('utf8'),
      }),
    );
    response.on('error', reject);
    response.on('close', () => reject(new Error('the answer was cut')));
  });
}

/** True if the connection could not be made: nothing was sent, nothing happened. */
export function isConnectFailure(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const { code, syscall } = error as NodeJS.ErrnoException;
  return syscall === 'connect' || code === 'ENOTFOUND' || code === 'EAI_AGAIN';
}

export interface EventStreamHandlers {
  /** 200: the stream begins. */
  opened(headers: IncomingHttpHeaders): void;
  /** One record, as parsed JSON. */
  record(json: unknown): void;
  /** Bytes arrived, whole record or not. */
  alive(): void;
  /** Any other answer; the stream never began. */
  refused(answer: Answer): void;
  /** The stream ended, or there was no connection or answer. */
  closed(reason: string): void;
}

export interface EventStream {
  /** After this no handler is called any more. */
  close(): void;
}

/** SUBSCRIBE and its RecordIO answer. Exactly one of `refused` and `closed` is called, as the last, unless closed before. */
export function openEventStream(post: Post, handlers: EventStreamHandlers): EventStream {
  const request = openPost(post);
  let isOpen = true;
  const close = () => {
    isOpen = false;
    request.destroy();
  };
  const finish = (last: () => void) => {
    if (!isOpen) return;
    close();
    last();
  };
  const fail = (error: unknown) =>
    finish(() => handlers.closed(error instanceof Error ? error.message : String(error)));

  request.on('error', fail);
  request.on('response', (response) => {
    if (!isOpen) return;
    if (response.statusCode !== 200) {
      readAnswer(response).then((answer) => finish(() => handlers.refused(answer)), fail);
      return;
    }
    // A half-open connection is found by the heartbeat; this one finds a dead host where heartbeats are rare.
    response.socket.setKeepAlive(true, 10_000);
    const decoder = createRecordDecoder();
    handlers.opened(response.headers);
    response.on('data', (chunk: Buffer) => {
      if (!isOpen) return;
      try {
        handlers.alive();
        for (const record of decoder.push(chunk)) if (isOpen) handlers.record(JSON.parse(record.toString('utf8')));
      } catch (error) {
        fail(error);
      }
    });
    response.on('error', fail);
    response.on('close', () => fail('the stream ended'));
  });
  return { close };
}
