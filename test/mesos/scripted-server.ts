import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { z } from 'zod';
import { encodeRecord } from '../../src/mesos/recordio.ts';

const body = z.looseObject({ type: z.string() });

export interface Received {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: z.infer<typeof body>;
  readonly response: ServerResponse;
  readonly socket: Socket;
  /** Answers and ends. */
  answer(status: number, text?: string, headers?: Record<string, string>): void;
  /** Begins the stream of a SUBSCRIBE. */
  open(headers?: Record<string, string>): void;
  /** One record; `cut`: a byte at a time. */
  event(event: object, cut?: boolean): void;
}

export interface ScriptedServer {
  readonly url: string;
  readonly port: number;
  readonly received: Received[];
  readonly subscribes: Received[];
  readonly calls: Received[];
  close(): Promise<void>;
}

/** A server that notes what it is sent and lets `script` answer; by default calls get 202 and a SUBSCRIBE nothing. */
export async function startServer(
  script?: (received: Received) => void,
  tls?: { readonly cert: string; readonly key: string },
): Promise<ScriptedServer> {
  const received: Received[] = [];
  const serve = async (request: IncomingMessage, response: ServerResponse) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const one: Received = {
      path: request.url ?? '',
      headers: request.headers,
      body: body.parse(JSON.parse(Buffer.concat(chunks).toString())),
      response,
      socket: request.socket,
      answer(status, text = '', headers = {}) {
        response.writeHead(status, headers);
        response.end(text);
      },
      open(headers = {}) {
        response.writeHead(200, { 'Content-Type': 'application/json', ...headers });
        response.flushHeaders();
      },
      event(event, cut = false) {
        const bytes = encodeRecord(JSON.stringify(event));
        if (cut) for (const byte of bytes) response.write(Buffer.of(byte));
        else response.write(bytes);
      },
    };
    received.push(one);
    if (script) script(one);
    else if (one.body.type !== 'SUBSCRIBE') one.answer(202);
  };
  const server = tls ? createTlsServer(tls) : createServer();
  server.on('request', (request, response) => void serve(request, response));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    url: `${tls ? 'https' : 'http'}://127.0.0.1:${port}`,
    port,
    received,
    get subscribes() {
      return received.filter((one) => one.body.type === 'SUBSCRIBE');
    },
    get calls() {
      return received.filter((one) => one.body.type !== 'SUBSCRIBE');
    },
    async close() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}
