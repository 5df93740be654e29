/**
 * `npm run bench:false-positives -- --minutes N`: how often a healthy primary is failed over under bad conditions. Busy
 * loops on twice as many threads as there are cores; all the while a part of the packets between members is lost; every
 * half minute a stall of 1 to 4 s, in turn of the primary's process (SIGSTOP) and of its data disk (fsfreeze). Nothing
 * dies, so every failover is a false one. The last line is JSON; exit code 0 only if there was none and no acknowledged
 * row is missing.
 */
import { availableParallelism } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import { createApiClient, watchEndpoints } from '../demo/api-client.ts';
import { type ControlPlane, createControlPlane } from '../demo/control-plane.ts';
import { readHomes, removeRunDirectories } from '../demo/homes.ts';
import { findMember, signalProcess } from '../demo/processes.ts';
import { clusterBody, clusterName, waitReady } from '../demo/steps.ts';
import { isFlawless, judge } from '../demo/verdict.ts';
import { now } from '../demo/wait.ts';
import { startWriter, type Writer } from '../demo/writer.ts';
import { type Disks, mountDisks } from '../fire/disks.ts';
import { findNft, runInside } from '../network/namespace.ts';
import { createNetwork, type Network } from '../network/network.ts';

const stallEveryMs = 30_000;
const stallsMs = [1000, 1000, 2000, 2000, 3000, 3000, 4000, 4000] as const;
const minutesMax = 120;
const lossMax = 20;
const agents = 3;

const usage = `npm run bench:false-positives -- [options]

  --minutes N  how long, 30 by default
  --loss P     of a hundred packets between members so many are lost, 5 by default; takes root
  --help       this text

Exit codes: 0 no failover and no row missing, 1 otherwise, 2 wrong use.
`;

interface Settings {
  readonly minutes: number;
  readonly lossPercent: number;
}

const say = (text: string) => void process.stdout.write(`  ${text}\n`);

function readSettings(): Settings | 'help' | null {
  try {
    const text = { type: 'string' } as const;
    const { values } = parseArgs({ options: { minutes: text, loss: text, help: { type: 'boolean' } } });
    if (values.help) return 'help';
    const [minutes, lossPercent] = [Number(values.minutes ?? 30), Number(values.loss ?? 5)];
    if (!(minutes > 0 && minutes <= minutesMax))
      throw new Error(`--minutes takes more than 0 and at most ${minutesMax}`);
    if (!(lossPercent >= 0 && lossPercent <= lossMax)) throw new Error(`--loss takes 0 to ${lossMax}`);
    return { minutes, lossPercent };
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${usage}`);
    return null;
  }
}

function tryDisks(plane: ControlPlane): Disks | null {
  try {
    return mountDisks(plane, agents);
  } catch (error) {
    say(`No disk can be frozen here: ${(error as Error).message.split('\n')[0]}`);
    return null;
  }
}

interface Scene {
  readonly api: ReturnType<typeof createApiClient>;
  readonly clusterId: string;
  readonly disks: Disks | null;
  readonly writer: Writer;
  readonly signal: AbortSignal;
}

/** Whatever happens, it goes on afterwards: what stays stopped would be a real failure. */
async function stall({ api, clusterId, disks }: Scene, index: number): Promise<string | null> {
  const primary = (await api.cluster(clusterName)).primary ?? 0;
  const stallMs = stallsMs[index % stallsMs.length]!;
  if (disks && index % 2 === 1) {
    const path = (await readHomes(api, clusterId))[primary]?.dataDir ?? '';
    disks.freeze(path);
    await sleep(stallMs).finally(() => disks.thaw(path));
    return `disk ${stallMs} ms`;
  }
  const mysqld = findMember(clusterId, primary)?.mysqld;
  if (!mysqld) return null;
  signalProcess(mysqld, 'SIGSTOP');
  await sleep(stallMs).finally(() => signalProcess(mysqld, 'SIGCONT'));
  return `process ${stallMs} ms`;
}

async function stallOn(scene: Scene, minutes: number): Promise<number> {
  const { signal, writer } = scene;
  const startedAt = now();
  const until = startedAt + minutes * 60_000;
  let stalls = 0;
  while (now() < until) {
    await sleep(Math.min(stallEveryMs, Math.max(0, until - now())), undefined, { signal });
    const told = await stall(scene, stalls);
    if (told === null) continue;
    stalls += 1;
    say(`stall ${stalls}: ${told}, longest write gap so far ${Math.round(writer.longestGapMs(startedAt, now()))} ms`);
  }
  return stalls;
}

async function run({ minutes, lossPercent }: Settings): Promise<number> {
  const abort = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => abort.abort());
  const busy: Worker[] = [];
  const calm = () => Promise.all(busy.splice(0).map((worker) => worker.terminate()));
  const plane = await createControlPlane({ agents, signal: abort.signal });
  const disks = tryDisks(plane);
  try {
    await plane.start();
    const api = createApiClient(plane.apiUrl);
    const { id: clusterId, credentials } = await api.create(clusterBody);
    await waitReady(api, abort.signal);
    const { endpoints, stop } = watchEndpoints(api, clusterName);
    const writer = await startWriter({ endpoints, login: credentials, caPem: credentials.caCertPem });
    const network = await startLoss(api, lossPercent);
    const threads = 2 * availableParallelism();
    for (let each = 0; each < threads; each += 1) busy.push(new Worker('for (;;);', { eval: true }));
    const startedAt = now();
    const stalls = await stallOn({ api, clusterId, disks, writer, signal: abort.signal }, minutes);
    await calm();
    const packetsLost = network?.readDropped() ?? 0;
    network?.mend();
    await waitReady(api, abort.signal);
    const longestGapMs = Math.round(writer.longestGapMs(startedAt, now()));
    await writer.stop();
    const verdict = await judge(writer, endpoints, credentials, credentials.caCertPem);
    stop();
    const failovers = (await api.failovers(clusterName)).filter(({ kind }) => kind !== 'first').length;
    const conditions = { minutes, threads, stalls, lossPercent: network ? lossPercent : 0, packetsLost };
    const figures = { failovers, longestGapMs, rows: verdict.acknowledged, isFlawless: isFlawless(verdict) };
    process.stdout.write(`${JSON.stringify({ name: 'false-positives', ...conditions, ...figures })}\n`);
    return failovers === 0 && isFlawless(verdict) ? 0 : 1;
  } finally {
    await calm();
    disks?.calm();
    await plane.destroy((dataDir) => {
      removeRunDirectories(dataDir);
      disks?.unmount();
    });
  }
}

/** null outside of a network of its own. */
async function startLoss(api: Scene['api'], lossPercent: number): Promise<Network | null> {
  const nft = findNft();
  if (nft === null || lossPercent === 0) return null;
  const network = createNetwork(nft);
  network.lose(
    (await api.reservations()).map(({ host, ports }) => ({ host, port: ports.mysql })),
    lossPercent,
  );
  return network;
}

const settings = readSettings();
if (settings === null) process.exitCode = 2;
else if (settings === 'help') process.stdout.write(usage);
else process.exitCode = (await runInside(say)) ?? (await run(settings));
