/**
 * `npm run demo`: the whole story on real MySQL through the real protocol, told step by step and judged by a writer.
 * Exit code 0 only if every step did what it promises and no acknowledged row is missing, doubled or different.
 */
import { parseArgs } from 'node:util';
import type { Login } from '../../src/mysql/connection.ts';
import { type Api, createApiClient, watchEndpoints } from './api-client.ts';
import { type ControlPlane, createControlPlane } from './control-plane.ts';
import { diagnose } from './diagnosis.ts';
import { readHomes, removeRunDirectories } from './homes.ts';
import { createReport, type Report, type StepResult } from './report.ts';
import * as steps from './steps.ts';
import { isFlawless, judge, type Verdict } from './verdict.ts';
import { now } from './wait.ts';
import { startWriter, type Writer } from './writer.ts';

const usage = `npm run demo -- [options]

Starts Selvedge with a local Mesos of four agents, makes a cluster of three members, breaks it in every way while a
writer writes, and compares at the end. Nothing is left behind.

  --keep   leave it running at the end, with its cluster
  --short  shorter waits, for continuous integration
  --json   one line of JSON on stdout; everything else goes to stderr
  --help   this text

Exit codes: 0 all holds, 1 something does not, 2 wrong use.
`;

interface Options {
  readonly keep: boolean;
  readonly short: boolean;
  readonly json: boolean;
}

function readArguments(): (Options & { readonly help: boolean }) | null {
  const flag = { type: 'boolean', default: false } as const;
  try {
    return parseArgs({ options: { keep: flag, short: flag, json: flag, help: flag } }).values;
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${usage}`);
    return null;
  }
}

interface Told {
  readonly results: StepResult[];
  verdict: Verdict | null;
}

/** Everything that may have to be looked at or undone when it ends early. */
interface Stage {
  readonly plane: ControlPlane;
  readonly api: Api;
  writer: Writer | null;
  stopWatching: () => void;
}

interface Run {
  readonly options: Options;
  readonly report: Report;
  readonly told: Told;
  readonly stage: Stage;
  readonly signal: AbortSignal;
}

async function step(run: Run, name: string, work: () => Promise<string>): Promise<void> {
  const number = run.told.results.length + 1;
  const startedAt = now();
  run.report.begin(number, name);
  const detail = await work();
  const endedAt = now();
  const gapMs = run.stage.writer?.longestGapMs(startedAt, endedAt) ?? null;
  const result = { number, name, ms: Math.round(endedAt - startedAt), gapMs, detail };
  run.told.results.push(result);
  run.report.end(result);
}

async function tell(run: Run): Promise<void> {
  const { stage, options, signal } = run;
  const { plane, api } = stage;
  await plane.start();
  let login: Login = { user: '' };
  let clusterId = '';
  let caPem = '';
  await step(run, 'provisioned', async () => {
    const created = await api.create(steps.clusterBody);
    login = created.credentials;
    caPem = created.credentials.caCertPem;
    clusterId = created.id;
    await steps.waitReady(api, signal);
    const homes = await readHomes(api, clusterId);
    return `3 members on ${homes.map(({ agent }) => agent).join(', ')}; data on mount, backup on path disks`;
  });
  const { endpoints, stop } = watchEndpoints(api, steps.clusterName);
  stage.stopWatching = stop;
  const writer = await startWriter({ endpoints, login, caPem });
  stage.writer = writer;
  await writer.acknowledgedAfter(now(), 10_000);
  const settleMs = options.short ? 300 : 1_000;
  const story: steps.Story = { plane, api, endpoints, writer, login, clusterId, signal, settleMs };
  await step(run, "primary's mysqld killed", () => steps.failOver(story));
  await step(run, 'switchover back', () => steps.switchBack(story));
  await step(run, 'backup of a replica', () => steps.backUp(story));
  await step(run, "replica's data destroyed", () => steps.destroyDataFiles(story));
  await step(run, 'executor killed', () => steps.killExecutor(story));
  await step(run, 'control plane killed', () => steps.killControlPlane(story));
  await writer.stop();
  run.told.verdict = await judge(writer, endpoints, login, caPem);
  stage.writer = null;
  if (options.keep) return explainKept(run, login);
  await step(run, 'cluster deleted', () => steps.removeCluster(story));
}

function explainKept({ report, stage }: Run, { user, password }: Login): void {
  const { plane } = stage;
  report.say(`
  It runs on. API ${plane.apiUrl}  Mesos master ${plane.masterUrl}  files in ${plane.dataDir}
    npx selvedge status ${steps.clusterName} --api ${plane.apiUrl}
    npx selvedge endpoints ${steps.clusterName} --api ${plane.apiUrl}
  Log in to MySQL over TLS as ${user} with password ${password}
  Stop it:
    npx selvedge rm ${steps.clusterName} --yes --wait --api ${plane.apiUrl} && kill ${plane.pid()} && rm -r ${plane.dataDir}`);
}

const totalTimeoutMs = 240_000;

/** Ends early on a signal, a fault of our own, or past the total time; what was started is ended all the same. */
function createDeadline(): AbortController {
  const ending = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(name, () => ending.abort(new Error(`stopped by ${name}`)));
  process.on('uncaughtException', (error) => ending.abort(error));
  setTimeout(() => ending.abort(new Error('the demo took too long')), totalTimeoutMs).unref();
  return ending;
}

async function cleanUp({ stage, options }: Run, isTold: boolean): Promise<void> {
  await stage.writer?.stop(0);
  stage.stopWatching();
  if (isTold && options.keep) return stage.plane.leaveRunning();
  // The files name what is to be removed outside: first the processes, then these, then the files.
  await stage.plane.destroy(removeRunDirectories);
}

async function main(): Promise<number> {
  const options = readArguments();
  if (options === null) return 2;
  if (options.help) {
    process.stdout.write(usage);
    return 0;
  }
  const { signal } = createDeadline();
  const report = createReport(options.json ? process.stderr : process.stdout);
  const startedAt = now();
  const plane = await createControlPlane({ agents: 4, signal });
  const stage = { plane, api: createApiClient(plane.apiUrl), writer: null, stopWatching: () => {} };
  const run: Run = { options, report, told: { results: [], verdict: null }, stage, signal };
  report.say('Selvedge on this machine: four agents, three members, one writer.\n');
  let failure: unknown = null;
  try {
    await Promise.race([tell(run), rejectOnAbort(signal)]);
  } catch (error) {
    failure = error;
    report.fail(error);
    await diagnose(plane, stage.api, report.say);
  } finally {
    await cleanUp(run, failure === null);
  }
  const { verdict, results } = run.told;
  const isGood = failure === null && verdict !== null && isFlawless(verdict);
  const ms = Math.round(now() - startedAt);
  if (verdict) report.summarise(verdict, isGood, ms);
  if (options.json) {
    const error = failure instanceof Error ? failure.message : null;
    process.stdout.write(`${JSON.stringify({ isGood, ms, steps: results, ...verdict, error })}\n`);
  }
  return isGood ? 0 : 1;
}

function rejectOnAbort(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
  });
}

process.exitCode = await main();
