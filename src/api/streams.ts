/**
 * Server-sent events. A stream says what is the case now, then every change; a reader that comes back gets the whole
 * again. Changes are looked for when the controller tells of one, and every few seconds because that may be lost.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Clock } from '../clock.ts';
import { Refusal } from '../errors.ts';

const STREAMS_MAX = 1_000;
const HEARTBEAT_MS = 15_000;
/** A reader that leaves so much unread is cut off; it comes back by itself. */
const UNREAD_BYTES_MAX = 1024 * 1024;

export interface StreamMessage {
  readonly event: string;
  readonly data: unknown;
  /** Comes back as Last-Event-ID. */
  readonly id?: string;
}

export interface Stream {
  readonly isClosed: () => boolean;
  send(message: StreamMessage): void;
  close(): void;
}

export interface Follow {
  /** How often to look without being told. */
  readonly everyMs: number;
  /** Tells of changes; answers the way to end it. */
  readonly subscribe: (look: () => void) => () => void;
  /** Sends what is new. Never runs twice at once. */
  readonly look: (stream: Stream) => Promise<void>;
}

export interface Streams {
  open(request: FastifyRequest, reply: FastifyReply, follow: Follow): void;
}

/** Streams are closed with the app, which would otherwise wait for them. */
export function createStreams(app: FastifyInstance, clock: Clock): Streams {
  const open = new Set<Stream>();
  app.addHook('preClose', async () => {
    for (const stream of open) stream.close();
  });
  return {
    open(request, reply, follow) {
      if (open.size >= STREAMS_MAX) throw new Refusal('TOO_MANY_STREAMS', `${STREAMS_MAX} streams are open.`);
      let stop = () => {};
      const stream = openStream(reply, clock, () => {
        open.delete(stream);
        stop();
      });
      open.add(stream);
      if (request.method === 'HEAD') return stream.close();
      stop = run({ request, clock, stream, follow });
      if (stream.isClosed()) stop();
    },
  };
}

function openStream(reply: FastifyReply, clock: Clock, onClosed: () => void): Stream {
  reply.hijack();
  const { raw } = reply;
  let isClosed = false;
  const close = () => {
    if (isClosed) return;
    isClosed = true;
    clock.clearTimeout(timer);
    raw.end();
    onClosed();
  };
  const write = (text: string) => {
    if (isClosed) return;
    raw.write(text);
    if (raw.writableLength > UNREAD_BYTES_MAX) raw.destroy();
  };
  const beat = () => {
    write(': still here\n\n');
    timer = clock.setTimeout(beat, HEARTBEAT_MS);
  };
  let timer = clock.setTimeout(beat, HEARTBEAT_MS);
  raw.on('close', close);
  raw.on('error', close);
  raw.writeHead(200, {
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-store',
    'x-accel-buffering': 'no',
  });
  raw.write('retry: 1000\n\n');
  return {
    isClosed: () => isClosed,
    close,
    send: ({ event, id, data }) =>
      write(`event: ${event}\n${id === undefined ? '' : `id: ${id}\n`}data: ${JSON.stringify(data)}\n\n`),
  };
}

interface Run {
  readonly request: FastifyRequest;
  readonly clock: Clock;
  readonly stream: Stream;
  readonly follow: Follow;
}

/** Looks at once, when told, and every `everyMs`; what is told during a look causes one more. */
function run({ request, clock, stream, follow }: Run): () => void {
  let isLooking = false;
  let isTold = false;
  let timer: unknown;
  const look = () => {
    isTold = true;
    if (isLooking || stream.isClosed()) return;
    isLooking = true;
    void lookWhileTold();
  };
  const lookWhileTold = async () => {
    try {
      while (isTold && !stream.isClosed()) {
        isTold = false;
        await follow.look(stream);
      }
    } catch (error) {
      request.log.error({ err: error }, 'stream failed');
      stream.close();
    } finally {
      isLooking = false;
    }
  };
  const tick = () => {
    look();
    timer = clock.setTimeout(tick, follow.everyMs);
  };
  const unsubscribe = follow.subscribe(look);
  tick();
  return () => {
    clock.clearTimeout(timer);
    unsubscribe();
  };
}
