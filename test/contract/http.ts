import { type IncomingMessage, request } from 'node:http';
import { RecordReader } from './recordio.ts';

export interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

export interface Outgoing {
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  /** Milliseconds without an answer after which the call fails. */
  readonly timeoutMs?: number;
}

function send(url: URL, out: Outgoing, onAnswer: (message: IncomingMessage) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const headers = { ...out.headers, 'content-length': String(Buffer.byteLength(out.body)) };
    const call = request(url, { method: out.method, headers, agent: false }, (message) => {
      call.setTimeout(0);
      onAnswer(message);
      resolve();
    });
    call.setTimeout(out.timeoutMs ?? 10_000, () => call.destroy(new Error(`no answer from ${url.href}`)));
    call.on('error', reject);
    call.end(out.body);
  });
}

/** One call, whole answer. */
export async function call(url: URL, out: Outgoing): Promise<Answer> {
  const chunks: Buffer[] = [];
  let done: Promise<void> = Promise.resolve();
  let head: IncomingMessage | undefined;
  await send(url, out, (message) => {
    head = message;
    done = new Promise((resolve, reject) => {
      message.on('data', (chunk: Buffer) => chunks.push(chunk));
      message.on('end', resolve);
      message.on('error', reject);
    });
  });
  await done;
  return { status: head?.statusCode ?? 0, headers: head?.headers ?? {}, body: Buffer.concat(chunks).toString('utf8') };
}

export interface StreamHandlers {
  onRecord(record: unknown): void;
  /** Once, when the other side ends or breaks the stream. */
  onEnd(): void;
}

/** A call answered by RecordIO. Returns when the headers are there; drop() closes it from this side. */
export async function openStream(
  url: URL,
  out: Outgoing,
  handlers: StreamHandlers,
): Promise<Pick<Answer, 'status' | 'headers'> & { drop(): void }> {
  let head: IncomingMessage | undefined;
  await send(url, out, (message) => {
    head = message;
    const reader = new RecordReader();
    let ended = false;
    const end = () => {
      if (!ended) handlers.onEnd();
      ended = true;
    };
    message.on('data', (chunk: Buffer) => {
      for (const record of reader.push(chunk)) handlers.onRecord(record);
    });
    message.on('end', end);
    message.on('error', end);
    message.on('close', end);
  });
  return { status: head?.statusCode ?? 0, headers: head?.headers ?? {}, drop: () => head?.destroy() };
}
