/**
 * Time as an argument. Everything below main takes a Clock, so that tests and the simulation own time.
 * The shape of setTimeout/clearTimeout is also what xstate accepts as its clock.
 */
export interface Clock {
  /** UTC milliseconds since 1970. */
  now(): number;
  setTimeout(fn: () => void, timeoutMs: number): unknown;
  clearTimeout(timer: unknown): void;
}

export const realClock: Clock = {
  now: () => Date.now(),
  setTimeout: (fn, timeoutMs) => setTimeout(fn, timeoutMs),
  clearTimeout: (timer) => clearTimeout(timer as NodeJS.Timeout),
};

/** Resolves after `ms`; rejects with the signal's reason when it aborts first. Leaves no timer and no listener behind. */
export function delay(clock: Clock, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const onAbort = () => {
      clock.clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = clock.setTimeout(() => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    }, ms);
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}

/** The same clock, whose timers never throw: what they throw goes to `onError`. */
export function guardedClock(clock: Clock, onError: (error: unknown) => void): Clock {
  const guard = (fn: () => void) => () => {
    try {
      fn();
    } catch (error) {
      onError(error);
    }
  };
  return {
    now: () => clock.now(),
    setTimeout: (fn, timeoutMs) => clock.setTimeout(guard(fn), timeoutMs),
    clearTimeout: (timer) => clock.clearTimeout(timer),
  };
}
