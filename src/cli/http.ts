/** The API as the verbs call it. Answers are checked by the API's own schemas. */
import type { z } from 'zod';
import { problemView } from '../api/schemas.ts';
import { CliError, type CliIo, exitCodes, usageError } from './io.ts';

const REQUEST_TIMEOUT_MS = 30_000;
const DEFAULT_URL = 'http://127.0.0.1:7070';
/** An answer larger than this is not ours. */
const LINE_LENGTH_MAX = 1024 * 1024;

export interface Client {
  request<S extends z.ZodType>(call: Call<S>): Promise<z.output<S>>;
  /** Hands over the body as it comes; answers the length that was announced. */
  download(path: string, take: (body: AsyncIterable<Uint8Array>) => Promise<void>): Promise<number | null>;
  /** Calls `onMessage` for each server-sent event until the stream ends or `io.signal` aborts. */
  follow(path: string, onMessage: (event: string, data: unknown) => void): Promise<void>;
}

export interface Call<S extends z.ZodType> {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  readonly path: string;
  readonly body?: unknown;
  readonly schema: S;
}

/** The API refused or failed; `status` 404 is what waiting for an end looks for. */
export class ApiError extends CliError {
  readonly status: number;
  /** The problem as it came, for `--json`. */
  readonly problem: unknown;
  constructor(status: number, problem: unknown, message: string) {
    super(exitCodes.refused, message);
    this.status = status;
    this.problem = problem;
  }
}

export interface ClientOptions {
  readonly api: string | undefined;
  readonly token: string | undefined;
}

export function createClient(io: CliIo, options: ClientOptions): Client {
  const base = parseUrl(options.api ?? io.env['SELVEDGE_API'] ?? DEFAULT_URL);
  const token = options.token ?? io.env['SELVEDGE_TOKEN'];
  const headers = { accept: 'application/json', ...(token ? { authorization: `Bearer ${token}` } : {}) };

  const send = async (path: string, init: RequestInit): Promise<Response> => {
    try {
      return await fetch(`${base}${path}`, { ...init, redirect: 'error' });
    } catch (cause) {
      if (io.signal?.aborted) throw new CliError(exitCodes.refused, 'Interrupted.');
      throw new CliError(exitCodes.notReachable, `The API at ${base} is not reachable: ${reasonOf(cause)}`);
    }
  };

  return {
    async request({ method, path, body, schema }) {
      const abort = new AbortController();
      const timer = io.clock.setTimeout(() => abort.abort(new Error('no answer in time')), REQUEST_TIMEOUT_MS);
      try {
        const hasBody = body !== undefined;
        const response = await send(path, {
          method,
          signal: withSignal(io, abort),
          headers: hasBody ? { ...headers, 'content-type': 'application/json' } : headers,
          ...(hasBody ? { body: JSON.stringify(body) } : {}),
        });
        return readAnswer(schema, response, await readText(response, base));
      } finally {
        io.clock.clearTimeout(timer);
      }
    },

    async download(path, take) {
      const response = await send(path, { headers, signal: withSignal(io, new AbortController()) });
      if (!response.ok || !response.body) throw toApiError(response.status, await readText(response, base));
      try {
        await take(response.body);
      } catch (cause) {
        if (cause instanceof CliError) throw cause;
        const why = io.signal?.aborted ? 'Interrupted.' : `The download broke off: ${reasonOf(cause)}`;
        throw new CliError(io.signal?.aborted ? exitCodes.refused : exitCodes.notReachable, why);
      }
      const length = response.headers.get('content-length');
      return length === null ? null : Number(length);
    },

    async follow(path, onMessage) {
      const response = await send(path, {
        headers: { ...headers, accept: 'text/event-stream' },
        signal: withSignal(io, new AbortController()),
      });
      if (!response.ok || !response.body) throw toApiError(response.status, await readText(response, base));
      try {
        await readMessages(response.body, onMessage);
      } catch (cause) {
        if (io.signal?.aborted) return;
        if (cause instanceof CliError) throw cause;
        throw new CliError(exitCodes.notReachable, `The stream of ${base} broke off: ${reasonOf(cause)}`);
      }
    },
  };
}

function withSignal(io: CliIo, abort: AbortController): AbortSignal {
  return io.signal ? AbortSignal.any([io.signal, abort.signal]) : abort.signal;
}

function parseUrl(text: string): string {
  if (!URL.canParse(text)) throw usageError(`--api ${text} is not a URL, such as ${DEFAULT_URL}`);
  const url = new URL(text);
  if (!['http:', 'https:'].includes(url.protocol)) throw usageError('--api must begin with http:// or https://');
  return `${url.origin}${url.pathname.replace(/\/+$/, '')}`;
}

async function readText(response: Response, base: string): Promise<string> {
  try {
    return await response.text();
  } catch (cause) {
    throw new CliError(exitCodes.notReachable, `The answer of ${base} broke off: ${reasonOf(cause)}`);
  }
}

function readAnswer<S extends z.ZodType>(schema: S, response: Response, text: string): z.output<S> {
  if (!response.ok) throw toApiError(response.status, text);
  const parsed = schema.safeParse(parseJson(text));
  if (parsed.success) return parsed.data;
  throw new CliError(exitCodes.refused, 'The answer is not understood: is this the API of Selvedge, of this version?');
}

/** Title, detail, every fault, and what to do. */
function toApiError(status: number, text: string): ApiError {
  const json = parseJson(text);
  const problem = problemView.safeParse(json);
  if (!problem.success) return new ApiError(status, json, `The API answered ${status}.`);
  const { title, detail, code, todo, faults } = problem.data;
  const lines = [
    `${title} (${code})`,
    detail,
    ...faults.map((fault) => `  ${fault.path}: ${fault.message}`),
    `To do: ${todo}`,
  ];
  return new ApiError(status, json, lines.join('\n'));
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

async function readMessages(
  body: ReadableStream<Uint8Array<ArrayBuffer>>,
  onMessage: (event: string, data: unknown) => void,
): Promise<void> {
  let rest = '';
  for await (const part of body.pipeThrough(new TextDecoderStream())) {
    rest += part;
    if (rest.length > LINE_LENGTH_MAX) throw new CliError(exitCodes.refused, 'The stream is not understood.');
    const messages = rest.split('\n\n');
    rest = messages.pop() ?? '';
    for (const message of messages) {
      const data = /^data: (.*)$/m.exec(message)?.[1];
      if (data !== undefined) onMessage(/^event: (.*)$/m.exec(message)?.[1] ?? 'message', parseJson(data));
    }
  }
}

/** fetch hides what happened in `cause`. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error && error.cause.message ? error.cause.message : error.message;
}
