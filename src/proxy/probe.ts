import { z } from 'zod';
import type { Clock } from '../clock.ts';
import type { Place } from './routes.ts';

const TIMEOUT_MS = 1_000;
const primaryBody = z.object({ role: z.literal('primary'), epoch: z.int().min(0) });

/** Asks a member itself whether it is the primary; its epoch when it is, null when it is not or does not answer. */
export async function probePrimary(clock: Clock, { host, healthPort }: Place): Promise<number | null> {
  const abort = new AbortController();
  const timer = clock.setTimeout(() => abort.abort(new Error('no answer in time')), TIMEOUT_MS);
  try {
    const response = await fetch(`http://${host}:${healthPort}/primary`, { redirect: 'error', signal: abort.signal });
    const body = primaryBody.safeParse(await response.json());
    return response.ok && body.success ? body.data.epoch : null;
  } catch {
    return null;
  } finally {
    clock.clearTimeout(timer);
  }
}
