/** Keeps a stream of bytes at or below a rate. One throttle may be shared by several streams: the rate is their sum. */
import { type Clock, delay } from '../clock.ts';

/** So much may come at once after a pause, as milliseconds of the rate. */
const BURST_MS = 100;
/** The most that is asked for at once waits for no longer than this: readers must see that something comes. */
const LONGEST_WAIT_MS = 5_000;

export interface Throttle {
  /** How many bytes to move at once, at most `wanted`: small enough that no wait is long. */
  portion(wanted: number): number;
  /** Resolves when `bytes` may be moved. Rejects with the signal's reason. */
  take(bytes: number, signal?: AbortSignal): Promise<void>;
}

/** `maxBytesPerSec`: null for no limit. */
export function createThrottle(clock: Clock, maxBytesPerSec: number | null): Throttle {
  if (maxBytesPerSec === null) return { portion: (wanted) => wanted, take: async () => {} };
  const perMs = maxBytesPerSec / 1000;
  let freeAt = Number.NEGATIVE_INFINITY;
  return {
    portion: (wanted) => Math.max(1, Math.min(wanted, Math.floor(perMs * LONGEST_WAIT_MS))),
    async take(bytes, signal) {
      const now = clock.now();
      const from = Math.max(freeAt, now - BURST_MS);
      freeAt = from + bytes / perMs;
      if (from > now) await delay(clock, from - now, signal);
      else signal?.throwIfAborted();
    },
  };
}
