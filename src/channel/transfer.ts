/**
 * How one executor reads backups and archives of another one: over its control server, by a token that the scheduler
 * gave to both (`share` to the donor, with the command to the recipient). Shapes, paths, and the client's end: pinned,
 * with deadlines, one stream a request.
 */
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { z } from 'zod';
import type { Clock } from '../clock.ts';
import { type ErrorCode, errors, Refusal } from '../errors.ts';
import { readBody } from './client.ts';
import type { Donor } from './donor.ts';
import { createPinnedAgent, WrongCertificateError } from './pinned-agent.ts';

export const TRANSFER_PATH = '/v1/transfer/';
const MAX_JSON_BYTES = 16 * 1024 * 1024;
/** A donor that sends nothing for this long is asked anew. Its throttle sends small pieces more often. */
const SILENCE_MS = 30_000;

/** One archived binary log. `sha256` is null while it grows; `bytes` are whole transactions. */
export const segmentSchema = z.object({
  serverUuid: z.string().regex(/^[0-9a-f-]{36}$/),
  name: z.string().regex(/^binlog\.\d{6,10}$/),
  bytes: z.number().int().min(0),
  sha256: z.string().nullable(),
  /** All that the server had in logs before this one. */
  previousGtids: z.string(),
  gtidSet: z.string(),
  /** UTC ms of the first and last commit by the clock of the server that issued them; null: no transaction yet. */
  firstAt: z.number().nullable(),
  lastAt: z.number().nullable(),
});
export type Segment = z.infer<typeof segmentSchema>;
export const archiveIndexSchema = z.object({ version: z.literal(1), segments: z.array(segmentSchema) });

export const transferPaths = {
  manifest: (backupId: string) => `backups/${encodeURIComponent(backupId)}/manifest.json`,
  files: (backupId: string) => `backups/${encodeURIComponent(backupId)}/files.json`,
  /** `path` is relative to the backup's data directory. */
  data: (backupId: string, path: string) =>
    `backups/${encodeURIComponent(backupId)}/data?path=${encodeURIComponent(path)}`,
  /** As it lies there: a packed file, relative to `packed/`, or one of the small files beside the manifest. */
  stored: (backupId: string, path: string) =>
    `backups/${encodeURIComponent(backupId)}/stored?path=${encodeURIComponent(path)}`,
  /** A file that the list of the tail names. */
  tail: (tailId: string, name: string) => `tails/${encodeURIComponent(tailId)}/${encodeURIComponent(name)}`,
  archive: () => 'archive',
  segment: ({ serverUuid, name }: Pick<Segment, 'serverUuid' | 'name'>) => `archive/${serverUuid}/${name}`,
} as const;

export interface TransferClient {
  /** Throws Refusal as `open` does, or an error when the connection breaks or the answer has another shape. */
  readJson<T>(path: string, schema: z.ZodType<T>, signal: AbortSignal): Promise<T>;
  /**
   * The bytes from `from` on. A connection that breaks or falls silent rejects in the iteration: ask anew from there.
   * Throws Refusal with the donor's code; TRANSFER_REFUSED when it does not know the token (any more), or another
   * executor answers: then only a new `share` helps.
   */
  open(path: string, from: number, signal: AbortSignal): Promise<AsyncIterable<Buffer>>;
  close(): void;
}

export function createTransferClient(donor: Donor, clock: Clock): TransferClient {
  const agent = createPinnedAgent({ fingerprint: donor.fingerprint, clock });
  const ask = async (path: string, from: number, signal: AbortSignal): Promise<Answer> => {
    signal.throwIfAborted();
    const { address: host, port, token } = donor;
    const range = from > 0 ? { range: `bytes=${from}-` } : {};
    const call = request({
      agent,
      host,
      port,
      path: `${TRANSFER_PATH}${path}`,
      headers: { authorization: `Bearer ${token}`, ...range },
    });
    // It is told below, or by the response; an error that nobody listens to would end the process.
    call.on('error', () => {});
    const guard = watchSilence(clock, signal, (error) => call.destroy(error));
    try {
      call.end();
      const [response] = (await once(call, 'response')) as [IncomingMessage];
      response.on('error', () => {});
      return { response, guard };
    } catch (error) {
      guard.stop();
      if (error instanceof WrongCertificateError) throw new Refusal('TRANSFER_REFUSED', error.message);
      throw error;
    }
  };
  return {
    async readJson(path, schema, signal) {
      const { response, guard } = await ask(path, 0, signal);
      try {
        if (response.statusCode !== 200) throw await readRefusal(response);
        return schema.parse(JSON.parse(await readBody(response, MAX_JSON_BYTES)));
      } finally {
        guard.stop();
        response.destroy();
      }
    },
    async open(path, from, signal) {
      const { response, guard } = await ask(path, from, signal);
      const isRight = response.statusCode === (from > 0 ? 206 : 200);
      if (isRight) return readGuarded(response, guard);
      try {
        throw await readRefusal(response);
      } finally {
        guard.stop();
        response.destroy();
      }
    },
    close: () => agent.destroy(),
  };
}

interface Answer {
  readonly response: IncomingMessage;
  readonly guard: SilenceGuard;
}

interface SilenceGuard {
  heard(): void;
  stop(): void;
}

/** Ends a request that is silent for too long, or whose signal aborts. */
function watchSilence(clock: Clock, signal: AbortSignal, end: (error: Error) => void): SilenceGuard {
  const onAbort = () => end(signal.reason instanceof Error ? signal.reason : new Error('aborted'));
  signal.addEventListener('abort', onAbort, { once: true });
  const begin = () => clock.setTimeout(() => end(new Error(`the donor was silent for ${SILENCE_MS} ms`)), SILENCE_MS);
  let timer = begin();
  return {
    heard() {
      clock.clearTimeout(timer);
      timer = begin();
    },
    stop() {
      clock.clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
    },
  };
}

async function* readGuarded(response: IncomingMessage, guard: SilenceGuard): AsyncIterable<Buffer> {
  try {
    for await (const chunk of response) {
      guard.heard();
      yield chunk as Buffer;
      // Writing what came may take longer than the donor may be silent.
      guard.heard();
    }
  } finally {
    guard.stop();
    response.destroy();
  }
}

const problem = z.object({ code: z.string(), message: z.string().optional() });

async function readRefusal(response: IncomingMessage): Promise<Error> {
  const status = response.statusCode ?? 0;
  if (status === 401) return new Refusal('TRANSFER_REFUSED', 'the donor does not know the token');
  try {
    const { code, message } = problem.parse(JSON.parse(await readBody(response, 64 * 1024)));
    if (code in errors) return new Refusal(code as ErrorCode, `the donor: ${message ?? code}`);
    return new Error(`the donor answered ${status}: ${code}`);
  } catch {
    return new Error(`the donor answered ${status}`);
  }
}
