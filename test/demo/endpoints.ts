/** Where to write: as the writer sees it, whoever tells it. */
import { delay, realClock } from '../../src/clock.ts';

export interface Endpoint {
  readonly ordinal: number;
  readonly host: string;
  readonly port: number;
}

export const sameEndpoint = (one: Endpoint | null, other: Endpoint | null): boolean =>
  one?.host === other?.host && one?.port === other?.port;

export interface Endpoints {
  /** The last that was told; null when nobody takes writes. */
  primary(): Endpoint | null;
  /** Primary and replicas. */
  all(): readonly Endpoint[];
  /** Asks again, without waiting for the answer. Called after every error. */
  ask(): void;
  /** Resolves at the next change, or after `timeoutMs`. */
  changed(timeoutMs: number): Promise<void>;
  /** Calls `listener` at every change; answers the way to end it. */
  listen(listener: () => void): () => void;
}

export interface KnownEndpoints extends Endpoints {
  set(primary: Endpoint | null, replicas: readonly Endpoint[]): void;
}

/** What somebody sets by hand; `ask` is what to do when the writer asks again. */
export function createEndpoints(ask: () => void = () => {}): KnownEndpoints {
  let primary: Endpoint | null = null;
  let replicas: readonly Endpoint[] = [];
  const listeners = new Set<() => void>();
  return {
    primary: () => primary,
    all: () => (primary ? [primary, ...replicas] : replicas),
    ask,
    async changed(timeoutMs) {
      const woken = new AbortController();
      const wake = () => woken.abort();
      listeners.add(wake);
      try {
        await delay(realClock, timeoutMs, woken.signal);
      } catch {
        // a change came
      } finally {
        listeners.delete(wake);
      }
    },
    listen(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    set(nextPrimary, nextReplicas) {
      const isSame =
        sameEndpoint(primary, nextPrimary) &&
        replicas.length === nextReplicas.length &&
        replicas.every((each, index) => sameEndpoint(each, nextReplicas[index] ?? null));
      primary = nextPrimary;
      replicas = nextReplicas;
      if (!isSame) for (const listener of [...listeners]) listener();
    },
  };
}
