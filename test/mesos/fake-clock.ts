import type { Clock } from '../../src/clock.ts';

export interface FakeClock extends Clock {
  /** Runs everything that is due until then, in order. */
  advance(ms: number): void;
  readonly timers: number;
  /** Until the next timer; infinite without one. */
  readonly nextInMs: number;
}

export function createFakeClock(start = 1_000_000): FakeClock {
  const timers = new Map<number, { at: number; fn: () => void }>();
  let now = start;
  let count = 0;
  return {
    now: () => now,
    setTimeout(fn, timeoutMs) {
      count += 1;
      timers.set(count, { at: now + timeoutMs, fn });
      return count;
    },
    clearTimeout: (timer) => void timers.delete(timer as number),
    advance(ms) {
      const end = now + ms;
      for (;;) {
        const [next] = [...timers].filter(([, { at }]) => at <= end).sort((a, b) => a[1].at - b[1].at);
        if (!next) break;
        timers.delete(next[0]);
        now = next[1].at;
        next[1].fn();
      }
      now = end;
    },
    get nextInMs() {
      return Math.min(...[...timers.values()].map(({ at }) => at - now));
    },
    get timers() {
      return timers.size;
    },
  };
}
