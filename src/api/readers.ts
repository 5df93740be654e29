import { Refusal } from '../errors.ts';
import type { App } from './deps.ts';

/** Counted by `begin`, which throws TOO_MANY_STREAMS, until its `end`; `signal` aborts then, and when the API ends. */
export type BeginReading = () => { readonly signal: AbortSignal; readonly end: () => void };

/** Bounds how many clients at once read through an executor. `what`: of `max`, for the message. */
export function boundReaders(app: App, max: number, what: string): BeginReading {
  const running = new Set<AbortController>();
  app.addHook('preClose', async () => {
    for (const abort of running) abort.abort(new Error('the API ends'));
  });
  return () => {
    if (running.size >= max) throw new Refusal('TOO_MANY_STREAMS', `${max} ${what}.`);
    const abort = new AbortController();
    running.add(abort);
    const end = () => {
      running.delete(abort);
      abort.abort(new Error('the reader went away'));
    };
    return { signal: abort.signal, end };
  };
}
