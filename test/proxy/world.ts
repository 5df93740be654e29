/** An API and members that a test plays, in front of a real HAProxy. */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer as createHttpServer, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { realClock } from '../../src/clock.ts';
import { type RunningProxy, startProxy } from '../../src/proxy/proxy.ts';
import { ensureTool } from '../network/tools.ts';

export const haproxyProgram = join(import.meta.dirname, '..', '..', '.cache', 'haproxy', 'haproxy');

/** Fetches HAProxy on the first run; nothing afterwards. */
export const ensureHaproxy = (): void => void ensureTool('haproxy');

/** A loopback net of this process: `net.9` for the proxy, `net.21`, … for members. */
export const net = `127.${192 + ((process.pid >> 8) & 31)}.${process.pid & 255}`;
export const listen = `${net}.9`;

const closers: (() => Promise<unknown> | unknown)[] = [];
export const atEnd = (close: () => Promise<unknown> | unknown) => closers.push(close);
export async function closeAll(): Promise<void> {
  for (const close of closers.splice(0).reverse()) await close();
}

export function aDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'sv-proxy-'));
  atEnd(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** Greets every connection with its ordinal and keeps it; answers `/primary` as it is told. */
export async function aMember(ordinal: number) {
  const host = `${net}.${21 + ordinal}`;
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {}).on('close', () => sockets.delete(socket));
    socket.write(String(ordinal));
  });
  const health = { epoch: null as number | null };
  const http = createHttpServer((_, response) => {
    response.writeHead(health.epoch === null ? 503 : 200).end(JSON.stringify({ role: 'primary', epoch: health.epoch }));
  });
  await Promise.all([once(server.listen(31_000, host), 'listening'), once(http.listen(31_002, host), 'listening')]);
  const kill = () => {
    server.close();
    for (const socket of sockets) socket.resetAndDestroy();
  };
  atEnd(() => {
    kill();
    http.close();
    http.closeAllConnections();
  });
  return { endpoint: { ordinal, host, port: 31_000, healthPort: 31_002 }, health, kill };
}
export type Member = Awaited<ReturnType<typeof aMember>>;

export interface Told {
  readonly epoch: number;
  readonly primary: Member | null;
}

export class FakeApi {
  readonly clusters: { id: string; name: string; servicePort: number; spec: { members: number } }[] = [];
  readonly members: readonly Member[];
  readonly #last = new Map<string, string>();
  readonly #streams = new Map<ServerResponse, string>();
  #server: Server | null = null;
  #port = 0;

  constructor(members: readonly Member[]) {
    this.members = members;
    atEnd(() => this.stop());
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  async start(): Promise<void> {
    this.#server = createHttpServer((request, response) => {
      const id = /^\/v1\/clusters\/([^/]+)\/endpoints\?watch=true$/.exec(request.url ?? '')?.[1];
      if (id === undefined) return void response.end(JSON.stringify({ clusters: this.clusters }));
      response.writeHead(200, { 'content-type': 'text/event-stream' }).write('retry: 1000\n\n');
      this.#streams.set(response, id);
      response.on('close', () => this.#streams.delete(response));
      const last = this.#last.get(id);
      if (last) response.write(last);
    });
    await once(this.#server.listen(this.#port, '127.0.0.1'), 'listening');
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  add(name: string, servicePort: number): void {
    this.clusters.push({ id: `id-of-${name}`, name, servicePort, spec: { members: this.members.length } });
  }

  tell(name: string, { epoch, primary }: Told): void {
    const replicas = this.members.filter((member) => member !== primary).map(({ endpoint }) => endpoint);
    const data = JSON.stringify({ cluster: name, epoch, primary: primary?.endpoint ?? null, replicas });
    const message = `event: endpoints\ndata: ${data}\n\n`;
    this.#last.set(`id-of-${name}`, message);
    for (const [response, id] of this.#streams) if (id === `id-of-${name}`) response.write(message);
  }

  stop(): void {
    this.#server?.close();
    this.#server?.closeAllConnections();
    this.#server = null;
  }
}

export async function aProxy(url: string, dataDir: string): Promise<RunningProxy> {
  const level = process.env['SELVEDGE_TEST_LOG'] ?? 'silent';
  const options = { api: { url, token: undefined }, listen, program: haproxyProgram, dataDir };
  const proxy = await startProxy({ ...options, clock: realClock, log: pino({ level }) });
  let isStopped = false;
  const stop = async () => {
    if (isStopped) return;
    isStopped = true;
    await proxy.stop();
  };
  atEnd(stop);
  return { ...proxy, stop };
}

export interface Client {
  /** What the member behind said of itself; null when the connection ended before. */
  readonly greeting: Promise<string | null>;
  readonly closed: Promise<void>;
  isClosed(): boolean;
}

export function aClient(port: number): Client {
  const socket = connect(port, listen);
  const closed = new Promise<void>((resolve) => void socket.on('error', () => {}).once('close', () => resolve()));
  const greeted = once(socket, 'data').then(([data]) => String(data));
  atEnd(() => socket.destroy());
  const greeting = Promise.race([greeted.catch(() => null), closed.then(() => null)]);
  return { closed, greeting, isClosed: () => socket.destroyed };
}
