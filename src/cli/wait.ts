import { delay } from '../clock.ts';
import { ApiError } from './http.ts';
import { CliError, type CliIo, exitCodes } from './io.ts';
import { clean } from './tables.ts';

const POLL_MS = 250;

export interface Wait<T> {
  readonly io: CliIo;
  readonly timeoutMs: number;
  readonly look: () => Promise<T>;
  /** One line; said on stderr whenever it changed. */
  readonly describe: (seen: T) => string;
  readonly isDone: (seen: T) => boolean;
}

export type Waited<T> = { readonly seen: T | null; readonly error: CliError | null };

/**
 * Looks until it is done. An API that is away for a while (a restart) is not the end of what it works on: it is asked
 * again until the time is up. Answers the last that was seen, also when it ended otherwise.
 */
export async function waitUntil<T>({ io, timeoutMs, look, describe, isDone }: Wait<T>): Promise<Waited<T>> {
  const endAt = io.clock.now() + timeoutMs;
  let seen: T | null = null;
  let said = '';
  const say = (line: string) => {
    if (line !== said) io.err(`${clean(line)}\n`);
    said = line;
  };
  for (;;) {
    try {
      seen = await look();
      say(describe(seen));
      if (isDone(seen)) return { seen, error: null };
    } catch (error) {
      if (!isPassing(error)) return { seen, error: toCliError(error) };
      say(`${error.message.split('\n')[0]} Still trying.`);
    }
    if (io.clock.now() >= endAt)
      return {
        seen,
        error: new CliError(exitCodes.timedOut, `Not done after ${timeoutMs / 1000} s; it goes on there.`),
      };
    try {
      await delay(io.clock, POLL_MS, io.signal);
    } catch {
      return { seen, error: new CliError(exitCodes.refused, 'Interrupted; it goes on there.') };
    }
  }
}

function isPassing(error: unknown): error is CliError {
  if (error instanceof ApiError) return error.status >= 500;
  return error instanceof CliError && error.exitCode === exitCodes.notReachable;
}

function toCliError(error: unknown): CliError {
  if (error instanceof CliError) return error;
  throw error;
}
