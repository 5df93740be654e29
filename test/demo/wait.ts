/** Time and waiting of the demo and the bench: every wait has a deadline and says what it waited for. */
import { delay, realClock } from '../../src/clock.ts';

/** UTC milliseconds with fractions. */
export const now = (): number => performance.timeOrigin + performance.now();

export interface Wait {
  /** What is waited for, as the end of a sentence: `the cluster to be ready`. */
  readonly what: string;
  readonly timeoutMs: number;
  readonly everyMs?: number;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Asks until `probe` answers something else than null, undefined or false, and returns that. Errors of the probe count
 * as "not yet". Throws after `timeoutMs` with what it waited for and the last error.
 */
export async function waitFor<T>(
  { what, timeoutMs, everyMs = 25, signal }: Wait,
  probe: () => Promise<T | null | undefined | false> | T | null | undefined | false,
): Promise<T> {
  const deadline = now() + timeoutMs;
  for (;;) {
    signal?.throwIfAborted();
    let last: unknown;
    try {
      const found = await probe();
      if (found !== null && found !== undefined && found !== false) return found;
    } catch (error) {
      if (error instanceof Hopeless) throw error;
      last = error;
    }
    if (now() >= deadline) throw new Error(`waited ${timeoutMs / 1000} s for ${what}`, { cause: last });
    await delay(realClock, everyMs, signal);
  }
}

/** Thrown by a probe: waiting longer makes no sense. */
export class Hopeless extends Error {}

/** Rejects when `work` takes longer than `timeoutMs`; the work itself goes on. */
export async function within<T>(work: Promise<T>, timeoutMs: number, what: string): Promise<T> {
  let timer: unknown;
  const late = new Promise<never>((_, reject) => {
    timer = realClock.setTimeout(() => reject(new Error(`waited ${timeoutMs / 1000} s for ${what}`)), timeoutMs);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    realClock.clearTimeout(timer);
  }
}
