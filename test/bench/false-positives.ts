/**
 * `npm run bench:false-positives -- --minutes N`: how often a healthy primary is failed over under bad conditions. Busy
 * loops on twice as many threads as there are cores, and every half minute a stall of the primary's mysqld of 1 to 4 s
 * (SIGSTOP, then SIGCONT: harsher than a slow disk). Nothing dies, so every failover is a false one. The last line is
 * JSON; exit code 0 only if there was none and no acknowledged row is missing.
 */
import { availableParallelism } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import { createApiClient, watchEndpoints } from '../demo/api-client.ts';
import { createControlPlane } from '../demo/control-plane.ts';
import { removeRunDirectories } from '../demo/homes.ts';
import { findMember, signalProcess } from '../demo/processes.ts';
import { clusterBody, clusterName, waitReady } from '../demo/steps.ts';
import { isFlawless, judge } from '../demo/verdict.ts';
import { now } from '../demo/wait.ts';
import { startWriter } from '../demo/writer.ts';

const stallEveryMs = 30_000;
const stallsMs = [1000, 2000, 3000, 4000] as const;
const minutesMax = 120;

const { values } = parseArgs({ options: { minutes: { type: 'string', default: '30' } } });
const minutes = Number(values.minutes);
if (!(minutes > 0 && minutes <= minutesMax)) throw new Error(`--minutes takes more than 0 and at most ${minutesMax}`);

const abort = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => abort.abort());
const busy: Worker[] = [];
const plane = await createControlPlane({ agents: 3, signal: abort.signal });
try {
  await plane.start();
  const api = createApiClient(plane.apiUrl);
  const { id, credentials } = await api.create(clusterBody);
  await waitReady(api, abort.signal);
  const { endpoints, stop } = watchEndpoints(api, clusterName);
  const writer = await startWriter({ endpoints, login: credentials, caPem: credentials.caCertPem });
  const threads = 2 * availableParallelism();
  for (let each = 0; each < threads; each += 1) busy.push(new Worker('for (;;);', { eval: true }));
  const startedAt = now();
  const longestGapMs = () => Math.round(writer.longestGapMs(startedAt, now()));
  const until = performance.now() + minutes * 60_000;
  let stalls = 0;
  while (performance.now() < until && !abort.signal.aborted) {
    await sleep(Math.min(stallEveryMs, Math.max(0, until - performance.now())), undefined, { signal: abort.signal });
    const { primary } = await api.cluster(clusterName);
    const mysqld = findMember(id, primary ?? 0)?.mysqld;
    if (!mysqld) continue;
    const stallMs = stallsMs[stalls % stallsMs.length]!;
    signalProcess(mysqld, 'SIGSTOP');
    // Whatever happens, it goes on: a process that stays stopped would be a real failure.
    await sleep(stallMs).finally(() => signalProcess(mysqld, 'SIGCONT'));
    stalls += 1;
    process.stdout.write(`  stall ${stalls}: ${stallMs} ms, longest write gap so far ${longestGapMs()} ms\n`);
  }
  await Promise.all(busy.splice(0).map((worker) => worker.terminate()));
  await waitReady(api, abort.signal);
  const gapMs = longestGapMs();
  await writer.stop();
  const verdict = await judge(writer, endpoints, credentials, credentials.caCertPem);
  stop();
  const failovers = (await api.failovers(clusterName)).filter(({ kind }) => kind !== 'first').length;
  const result = {
    name: 'false-positives',
    minutes,
    threads,
    stalls,
    failovers,
    longestGapMs: gapMs,
  };
  process.stdout.write(`${JSON.stringify({ ...result, isFlawless: isFlawless(verdict) })}\n`);
  process.exitCode = failovers === 0 && isFlawless(verdict) ? 0 : 1;
} finally {
  await Promise.all(busy.map((worker) => worker.terminate()));
  await plane.destroy(removeRunDirectories);
}
