/**
 * Waking is the only signal inside the controller: cheap, coalescing, and it may be lost, because every waiter also
 * looks again on its own after a tick.
 */
import type { Clock } from '../clock.ts';

/** A waiter looks again after this time even if nobody woke it. */
const tickMs = 1000;

export interface Wakes {
  /** Something about the cluster (or, without an id, about Mesos) may have changed. */
  wake(clusterId?: string): void;
  /** Runs `listener` on every wake of the cluster, or of any cluster with null. */
  listen(clusterId: string | null, listener: (clusterId: string | null) => void): () => void;
}

export function createWakes(): Wakes {
  const listeners = new Map<string | null, Set<(clusterId: string | null) => void>>();
  const run = (key: string | null, clusterId: string | null) => {
    for (const listener of [...(listeners.get(key) ?? [])]) listener(clusterId);
  };
  return {
    wake(clusterId) {
      if (clusterId === undefined) {
        for (const key of [...listeners.keys()]) run(key, null);
        return;
      }
      run(clusterId, clusterId);
      run(null, clusterId);
    },
    listen(clusterId, listener) {
      const set = listeners.get(clusterId) ?? new Set();
      listeners.set(clusterId, set.add(listener));
      return () => {
        set.delete(listener);
        if (set.size === 0) listeners.delete(clusterId);
      };
    },
  };
}

/**
 * Looks until `look` finds something, at each wake of the cluster and at each tick. Rejects with the signal's reason.
 * A wake during a look is not lost: it looks once more.
 */
export async function lookUntil<T>(
  { wakes, clock }: { wakes: Wakes; clock: Clock },
  clusterId: string,
  signal: AbortSignal,
  look: () => Promise<T | undefined> | T | undefined,
): Promise<T> {
  signal.throwIfAborted();
  let cancel = () => {};
  const onAbort = () => cancel();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    for (;;) {
      const woken = nextWake(wakes, clock, clusterId);
      cancel = woken.cancel;
      try {
        const found = await look();
        if (found !== undefined) return found;
        await woken.promise;
      } finally {
        woken.cancel();
      }
      signal.throwIfAborted();
    }
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

function nextWake(wakes: Wakes, clock: Clock, clusterId: string) {
  const { promise, resolve } = Promise.withResolvers<void>();
  const cancel = () => {
    clock.clearTimeout(timer);
    off();
    resolve();
  };
  const timer = clock.setTimeout(cancel, tickMs);
  const off = wakes.listen(clusterId, cancel);
  return { promise, cancel };
}
