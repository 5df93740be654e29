/**
 * `npm run bench -- NAME`: ours beside the floor, in turns on the same machine under the same load. The floor is plain
 * mysqlds and the least statements; the ratio is what certainty costs.
 */
import { parseArgs } from 'node:util';
import { within } from '../demo/wait.ts';
import { destroyInstances, testDistribution } from '../mysql/instance.ts';
import { benchData, type DataName, dataNames } from './data-bench.ts';
import {
  comparedNames,
  isCompared,
  loneNames,
  type Name,
  type RateName,
  type RateRound,
  type Round,
  rateNames,
  summarise,
  summariseRates,
} from './figures.ts';
import { createFloorRounds, startRateFloor } from './floor-rounds.ts';
import { type Ours, startOurs } from './our-rounds.ts';

const usage = `npm run bench -- NAME [options]

  provision      from the request to the first commit
  failover       from the SIGKILL of the primary's mysqld to the first commit on another member
  failover-stop  the same from its SIGSTOP: the deadline of detection and what comes after
  switchover     from the request to the first commit on another member
  rejoin         from the SIGKILL of the primary's mysqld until it serves again as a replica
  commits        commits per second of eight writers at full speed, without a failure
  backup         a full backup, beside cp -a and sync of the same bytes; commits' p99 and memory meanwhile
  verify         a verification, beside the backup that it verifies
  rebuild        from the member's own backup, 1% changed since, beside a CLONE over 1 Gbit/s
  restore        in place, with its safety backup, until all serve; beside cp -a and sync of the same bytes
  memory         resident memory of an executor, the control plane and a mysqld

  --runs N     how often, 5 by default; medians are told
  --saturated  failover: eight writers at full speed instead of a paced one
  --service    failover, switchover: the writer of ours knows the service port alone, behind \`selvedge proxy\`
  --gb N       backup, verify, rebuild, restore: how much data, 2 by default
  --rate N     backup: its policy allows so many MB/s; told is what commits of the primary then feel
  --apart      backup: the replica's volumes are in memory, as on a host of its own; needs root
  --appliers N threads that apply on each replica of the floor; as many as ours by default, MySQL's own default is 4
  --floor-only leave ours out
  --json       only the line of JSON on stdout
  --help       this text

The last line is JSON: {"name","ours","floor","ratio","runs"}, milliseconds (commits: per second); floor and ratio are
null where there is no floor.
`;

const memoryLimitsMb = { executorMb: 90, controlPlaneMb: 200, mysqldMb: 350 } as const;
const roundTimeoutMs = 120_000;
const dataTimeoutMs = 60 * 60_000;
const runsMax = 100;
const gigabytesMax = 20;
const rateMbMax = 10_000;
const appliersMax = 64;

interface Options {
  readonly name: Name | RateName | DataName | 'memory';
  readonly runs: number;
  readonly gigabytes: number;
  readonly rateMb: number | null;
  readonly isApart: boolean;
  readonly appliers: number | null;
  readonly isFloorOnly: boolean;
  readonly say: (text: string) => void;
}

function readArguments(): Options | 'help' | null {
  const flag = { type: 'boolean', default: false } as const;
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        runs: { type: 'string', default: '5' },
        gb: { type: 'string', default: '2' },
        rate: { type: 'string' },
        appliers: { type: 'string' },
        saturated: flag,
        service: flag,
        apart: flag,
        'floor-only': flag,
        json: flag,
        help: flag,
      },
    });
    if (values.help) return 'help';
    const { saturated, service, apart: isApart, 'floor-only': isFloorOnly } = values;
    const wanted = [positionals[0], ...(saturated ? ['saturated'] : []), ...(service ? ['service'] : [])].join('-');
    const names = [...comparedNames, ...loneNames, ...rateNames, ...dataNames, 'memory' as const];
    const name = names.find((each) => each === wanted);
    const [runs, gigabytes] = [Number(values.runs), Number(values.gb)];
    if (!name || positionals.length !== 1) throw new Error('name what to measure');
    if (!Number.isInteger(runs) || runs < 1 || runs > runsMax) throw new Error(`--runs takes 1 to ${runsMax}`);
    if (isFloorOnly && !isCompared(name as Name)) throw new Error(`there is no floor of ${name}`);
    if (!(gigabytes > 0 && gigabytes <= gigabytesMax)) throw new Error(`--gb takes up to ${gigabytesMax}`);
    const appliers = values.appliers === undefined ? null : Number(values.appliers);
    if (appliers !== null && !(Number.isInteger(appliers) && appliers >= 1 && appliers <= appliersMax))
      throw new Error(`--appliers takes 1 to ${appliersMax}`);
    if (appliers !== null && !isCompared(name as Name)) throw new Error(`there is no floor of ${name}`);
    const rateMb = values.rate === undefined ? null : Number(values.rate);
    if (isApart && name !== 'backup') throw new Error('--apart is for backup');
    if (rateMb !== null && name !== 'backup') throw new Error('--rate is for backup');
    if (rateMb !== null && !(rateMb >= 1 && rateMb <= rateMbMax)) throw new Error(`--rate takes 1 to ${rateMbMax}`);
    const out = values.json ? process.stderr : process.stdout;
    return {
      name,
      runs,
      gigabytes,
      rateMb,
      isApart,
      appliers,
      isFloorOnly,
      say: (text) => void out.write(`${text}\n`),
    };
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${usage}`);
    return null;
  }
}

async function measure(name: Name, { runs, appliers, say }: Options, ours: Ours | null): Promise<unknown> {
  const rounds: Round[] = [];
  const floorRounds = createFloorRounds({ appliers });
  for (let run = 1; run <= runs; run += 1) {
    const floor = isCompared(name) ? await within(floorRounds[name](), roundTimeoutMs, 'a round of the floor') : null;
    const sample = ours ? await within(ours.rounds[name](), roundTimeoutMs, 'a round of ours') : floor;
    if (sample === null) throw new Error('there is nothing to measure');
    rounds.push({ floor, ours: sample });
    const told = [ours && `ours ${Math.round(sample.totalMs)} ms`, floor && `floor ${Math.round(floor.totalMs)} ms`];
    say(`  ${run}/${runs}  ${told.filter(Boolean).join(', ')}${sample.detail ? `   (${sample.detail})` : ''}`);
  }
  const { result, lines } = summarise(name, rounds);
  say(`\n${name}, median of ${runs}`);
  for (const line of lines) say(line);
  return result;
}

const rateSeconds = 5;

/** In turns, and in turn who begins: what the machine does meanwhile falls on both alike. */
async function measureRates(name: RateName, { runs, say }: Options, ours: Ours): Promise<unknown> {
  const floor = await startRateFloor();
  const rounds: RateRound[] = [];
  for (let run = 1; run <= runs; run += 1) {
    const rate = { ours: 0, floor: 0 };
    const turns = run % 2 === 0 ? (['ours', 'floor'] as const) : (['floor', 'ours'] as const);
    for (const who of turns) {
      const work = who === 'ours' ? ours.measureRate(rateSeconds) : floor(rateSeconds);
      rate[who] = await within(work, roundTimeoutMs, `a round of ${who}`);
    }
    rounds.push({ oursPerSecond: rate.ours, floorPerSecond: rate.floor });
    say(`  ${run}/${runs}  ours ${rate.ours}/s, floor ${rate.floor}/s`);
  }
  const { result, lines } = summariseRates(name, rounds);
  say(`\n${name}, median of ${runs} times ${rateSeconds} s`);
  for (const line of lines) say(line);
  return result;
}

async function measureMemory({ say }: Options, ours: Ours): Promise<unknown> {
  const found = await ours.measureMemory();
  for (const [kind, limitMb] of Object.entries(memoryLimitsMb)) {
    const mb = found[kind as keyof typeof memoryLimitsMb];
    say(`  ${kind.replace('Mb', '').padEnd(14)} ${mb} MB  ${mb <= limitMb ? 'within' : 'BEYOND'} ${limitMb} MB`);
  }
  return { name: 'memory', ...found };
}

/** Ends the whole when a signal comes or a round hangs; what was started is ended in main. */
function createDeadline(timeoutMs: number): AbortController {
  const ending = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(name, () => ending.abort(new Error(`stopped by ${name}`)));
  process.on('uncaughtException', (error) => ending.abort(error));
  setTimeout(() => ending.abort(new Error('the bench took too long')), timeoutMs).unref();
  return ending;
}

function run(name: Options['name'], options: Options, ours: Ours | null): Promise<unknown> {
  if (ours && name === 'memory') return measureMemory(options, ours);
  if (ours && name === 'commits') return measureRates(name, options, ours);
  return measure(name as Name, options, ours);
}

async function main(): Promise<number> {
  const options = readArguments();
  if (options === null) return 2;
  if (options === 'help') {
    process.stdout.write(usage);
    return 0;
  }
  const { name } = options;
  const isData = dataNames.some((each) => each === name);
  const { signal } = createDeadline(isData ? dataTimeoutMs : roundTimeoutMs * (options.runs + 1));
  const aborted = new Promise<never>((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
  });
  let ours: Ours | null = null;
  try {
    await testDistribution();
    if (!options.isFloorOnly && !isData) ours = await startOurs(signal);
    const work = isData ? benchData({ ...options, name: name as DataName, signal }) : run(name, options, ours);
    const result = await Promise.race([work, aborted]);
    process.stdout.write(`${JSON.stringify(result)}\n`);
    return 0;
  } catch (error) {
    for (let each = error; each instanceof Error; each = each.cause) process.stderr.write(`${each.message}\n`);
    await ours?.diagnose((text) => void process.stderr.write(`${text}\n`));
    return 1;
  } finally {
    await destroyInstances();
    await ours?.destroy();
  }
}

process.exitCode = await main();
