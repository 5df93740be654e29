/** Which transfer tokens an executor honours. In memory only: who is refused asks the scheduler for a new share. */
import { createHash } from 'node:crypto';
import type { Clock } from '../clock.ts';
import { createThrottle, type Throttle } from './throttle.ts';

/** The oldest goes when more are given: the scheduler gives a few at a time. */
const SHARES_MAX = 64;

export interface Share {
  readonly throttle: Throttle;
}

export interface Shares {
  /** The same token again: a new deadline and rate. `maxBytesPerSec`: null for no limit. */
  add(share: {
    readonly tokenSha256: string;
    readonly expiresInMs: number;
    readonly maxBytesPerSec: number | null;
  }): void;
  /** Null: unknown or expired. */
  find(token: string): Share | null;
}

export function createShares(clock: Clock): Shares {
  const shares = new Map<string, { readonly throttle: Throttle; readonly expiresAt: number }>();
  return {
    add({ tokenSha256, expiresInMs, maxBytesPerSec }) {
      shares.delete(tokenSha256);
      shares.set(tokenSha256, {
        throttle: createThrottle(clock, maxBytesPerSec),
        expiresAt: clock.now() + expiresInMs,
      });
      for (const oldest of shares.keys()) {
        if (shares.size <= SHARES_MAX) break;
        shares.delete(oldest);
      }
    },
    // Looked up by its hash: how long that takes tells nothing of the token.
    find(token) {
      const key = createHash('sha256').update(token).digest('hex');
      const found = shares.get(key);
      if (!found) return null;
      if (found.expiresAt > clock.now()) return found;
      shares.delete(key);
      return null;
    },
  };
}
