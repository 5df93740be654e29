/** `npm run test:simulation`: many seeds on all cores; one that fails is made smaller and tells its story. */
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { describeFailure, runSeeds, shrinkSeed, type Totals } from './drive.ts';
import { createPool, type Pool, type SeedTask } from './pool.ts';
import type { RunResult } from './simulation.ts';

const usage = `npm run test:simulation -- [options]

  --seeds N      how many seeds: 200 by default, 1 when --seed is given
  --seed S       the first of them, 1 by default
  --jobs J       at once; as many as there are cores by default
  --without IDS  leave out these faults of the seed, as in 3,5,9; the ids are those of the story
  --keep         go on after a seed that fails; one seed for each guarantee that broke is shrunk at the end
  --no-shrink    tell a failed seed as it was drawn
  --story        tell the whole story, also of a seed that is well; one at a time
  --lines N      of the story of a seed that fails, the last 120 by default
  --help         this text

Exit codes: 0 all held, 1 a seed failed, 2 wrong use.
`;

const seedsMax = 10_000_000;
const jobsMax = 256;
const progressMs = 10_000;

interface Arguments {
  readonly first: number;
  readonly count: number;
  readonly jobs: number;
  readonly without: readonly number[];
  readonly keep: boolean;
  readonly shrinks: boolean;
  readonly story: boolean;
  readonly lines: number;
  readonly help: boolean;
}

function readArguments(): Arguments {
  const text = { type: 'string' } as const;
  const flag = { type: 'boolean', default: false } as const;
  const { values } = parseArgs({
    options: {
      ...{ seeds: text, seed: text, jobs: text, without: text, lines: text },
      ...{ keep: flag, 'no-shrink': flag, story: flag, help: flag },
    },
  });
  const whole = (name: keyof typeof values, fallback: number, [min, max]: readonly [number, number]): number => {
    const value = values[name];
    if (value === undefined) return fallback;
    const number = /^\d{1,10}$/.test(String(value)) ? Number(value) : Number.NaN;
    if (!(number >= min && number <= max)) throw new Error(`--${name} takes a whole number from ${min} to ${max}`);
    return number;
  };
  const ids = values.without === undefined ? [] : values.without.split(',');
  if (ids.some((id) => !/^[1-9]\d{0,3}$/.test(id))) throw new Error('--without takes numbers like 3,5,9');
  const count = whole('seeds', values.seed === undefined ? 200 : 1, [1, seedsMax]);
  if (ids.length > 0 && count !== 1) throw new Error('--without is for one seed');
  return {
    first: whole('seed', 1, [0, 0xff_ff_ff_ff]),
    count,
    // Stories of several worlds at once cannot be read.
    jobs: values.story ? 1 : whole('jobs', availableParallelism(), [1, jobsMax]),
    without: ids.map(Number),
    keep: values.keep,
    shrinks: !values['no-shrink'],
    story: values.story,
    lines: whole('lines', 120, [0, 1_000_000]),
    help: values.help,
  };
}

/** A line every ten seconds to stderr. */
function startProgress(count: number): { look(totals: Totals): void } {
  const begun = performance.now();
  let last = begun;
  return {
    look({ held, failed }) {
      const now = performance.now();
      if (now - last < progressMs) return;
      last = now;
      const done = held + failed.length;
      const rate = done / ((now - begun) / 1000);
      const left = Math.ceil((count - done) / rate);
      process.stderr.write(
        `${done} of ${count} seeds, ${failed.length} failed, ${rate.toFixed(1)} seeds a second, ${left} s left\n`,
      );
    },
  };
}

async function tellFailures(pool: Pool, totals: Totals, options: Arguments, task: Omit<SeedTask, 'seed'>) {
  for (const { seed, failure } of totals.failed) console.log(`seed ${seed}: ${failure?.split('\n')[0]}`);
  const seen = new Set<string | null>();
  for (const failed of totals.failed) {
    if (seen.has(failed.guarantee)) continue;
    seen.add(failed.guarantee);
    const asDrawn = { kept: keptOf(failed, options), without: options.without, runs: 1, isMinimal: false };
    const smallest = options.shrinks ? await shrinkSeed(pool, failed, task) : { shrunk: asDrawn, result: failed };
    console.log(describeFailure(smallest, options.story ? Number.POSITIVE_INFINITY : options.lines));
  }
}

const keptOf = ({ faults }: RunResult, { without }: Arguments): number[] =>
  faults.map((_, index) => index + 1).filter((id) => !without.includes(id));

async function main(): Promise<number> {
  let options: Arguments;
  try {
    options = readArguments();
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${usage}`);
    return 2;
  }
  if (options.help) {
    process.stdout.write(usage);
    return 0;
  }
  const { first, count, keep: keepsGoing, story: withStory, without } = options;
  const pool = createPool(options.jobs);
  const begun = performance.now();
  const cpuBegun = process.cpuUsage();
  const progress = startProgress(count);
  const task = { withStory, without };
  try {
    const totals = await runSeeds({
      ...{ pool, first, count, keepsGoing, task },
      onResult(result, now) {
        if (withStory && result.failure === null)
          console.log([...result.story, `seed ${result.seed} is well: ${JSON.stringify(result.facts)}`].join('\n'));
        // A long run tells at once: it may be ended before its end.
        if (result.failure !== null && keepsGoing)
          process.stderr.write(`seed ${result.seed}: ${result.failure.split('\n')[0]}\n`);
        progress.look(now);
      },
    });
    const seconds = (performance.now() - begun) / 1000;
    const { user, system } = process.cpuUsage(cpuBegun);
    const done = totals.held + totals.failed.length;
    await tellFailures(pool, totals, options, task);
    console.log(
      `${done} of ${count} seeds: ${totals.held} held, ${totals.failed.length} failed; ` +
        `${(done / seconds).toFixed(1)} seeds a second, ${((done * 1e6) / (user + system)).toFixed(1)} a CPU second; ` +
        `${Math.round(totals.virtualMs / 1000)} virtual seconds, ${totals.acknowledged} acknowledged writes`,
    );
    return totals.failed.length > 0 ? 1 : 0;
  } finally {
    await pool.close();
  }
}

process.exitCode = await main();
