/** How long a commit takes while something else goes on: a client of its own, a hundred times a second. */
import { delay, realClock } from '../../src/clock.ts';
import { connect } from '../../src/mysql/connection.ts';
import { now } from '../demo/wait.ts';
import type { DataWorld } from './data-world.ts';

const ratePerSecond = 100;
const beforeMs = 5_000;

export interface Latency<T> {
  readonly result: T;
  /** 99th percentile in milliseconds while `work` ran, and in the five seconds before it. */
  readonly p99Ms: number;
  readonly p99BeforeMs: number;
}

export async function measureLatency<T>(world: DataWorld, work: () => Promise<T>): Promise<Latency<T>> {
  const { host, port } = world.endpoints.primary() ?? { host: '', port: 0 };
  const session = await connect({ host, port, caPem: world.caPem }, world.login, { clock: realClock });
  await session.query('CREATE DATABASE IF NOT EXISTS latency');
  await session.query('CREATE TABLE IF NOT EXISTS latency.t (id BIGINT AUTO_INCREMENT PRIMARY KEY, at DOUBLE)');
  const samples: { readonly at: number; readonly ms: number }[] = [];
  const stopping = new AbortController();
  const writing = (async () => {
    for (let due = now(); !stopping.signal.aborted; due = Math.max(due + 1000 / ratePerSecond, now())) {
      await delay(realClock, Math.max(0, due - now()));
      const at = now();
      await session.query('INSERT INTO latency.t (at) VALUES (?)', [at]);
      samples.push({ at, ms: now() - at });
    }
  })();
  writing.catch(() => {}); // awaited below
  try {
    await delay(realClock, beforeMs);
    const startedAt = now();
    const result = await work();
    const p99 = (isWanted: (at: number) => boolean) =>
      percentile(samples.filter(({ at }) => isWanted(at)).map(({ ms }) => ms));
    return { result, p99Ms: p99((at) => at >= startedAt), p99BeforeMs: p99((at) => at < startedAt) };
  } finally {
    stopping.abort();
    await writing.finally(() => session.close());
  }
}

function percentile(values: readonly number[]): number {
  const sorted = [...values].sort((one, other) => one - other);
  return Math.round((sorted[Math.floor(sorted.length * 0.99)] ?? 0) * 10) / 10;
}
