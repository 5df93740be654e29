import { createInterface } from 'node:readline/promises';
import { realClock } from '../clock.ts';
import type { CliIo } from './io.ts';

/** The process's own streams, environment and terminal. Ctrl-C ends waiting and following, a second one the process. */
export function processIo(): CliIo {
  const abort = new AbortController();
  process.once('SIGINT', () => abort.abort());
  // `selvedge ls | head -1`: the reader has seen enough, which is no fault.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    process.exit(0);
  });
  return {
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
    env: process.env,
    clock: realClock,
    ask: (question) => ask(question, abort.signal),
    signal: abort.signal,
  };
}

async function ask(question: string, signal: AbortSignal): Promise<string | null> {
  if (!process.stdin.isTTY) return null;
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return await lines.question(question, { signal });
  } catch {
    return '';
  } finally {
    lines.close();
  }
}
