/** Many seeds over a pool, and what to say of one that fails: its story, and the smallest one that breaks the same. */
import type { Pool, SeedTask } from './pool.ts';
import { type Shrunk, shrink } from './shrink.ts';
import type { RunResult } from './simulation.ts';

const shrinkRunsMax = 200;
const shrinkMs = 60_000;

export interface Totals {
  readonly held: number;
  /** In the order of seeds. */
  readonly failed: readonly RunResult[];
  readonly virtualMs: number;
  readonly acknowledged: number;
}

export interface DriveOptions {
  readonly pool: Pool;
  readonly first: number;
  readonly count: number;
  /** For every seed. */
  readonly task?: Omit<SeedTask, 'seed'>;
  /** Go on after a seed has failed. */
  readonly keepsGoing?: boolean;
  /** After each seed, in no order. */
  readonly onResult?: (result: RunResult, totals: Totals) => void;
}

/** Seeds `first` to `first + count - 1`, as many at once as the pool has threads. */
export async function runSeeds(options: DriveOptions): Promise<Totals> {
  const { pool, first, count } = options;
  const failed: RunResult[] = [];
  let totals: Totals = { held: 0, failed, virtualMs: 0, acknowledged: 0 };
  let next = first;
  const take = async () => {
    while (next < first + count && (options.keepsGoing || failed.length === 0)) {
      const seed = next;
      next += 1;
      const result = await pool.run({ ...options.task, seed });
      if (result.failure !== null) failed.push(result);
      totals = {
        held: totals.held + (result.failure === null ? 1 : 0),
        failed,
        virtualMs: totals.virtualMs + result.facts.virtualMs,
        acknowledged: totals.acknowledged + result.facts.acknowledged,
      };
      options.onResult?.(result, totals);
    }
  };
  await Promise.all(Array.from({ length: Math.min(pool.jobs, count) }, take));
  failed.sort((a, b) => a.seed - b.seed);
  return totals;
}

export interface Smallest {
  readonly shrunk: Shrunk;
  /** The run of it. */
  readonly result: RunResult;
}

/** Runs a failed seed with fewer and fewer of its faults; for at most `maxMs` of real time, a minute by default. */
export async function shrinkSeed(
  pool: Pool,
  failed: RunResult,
  task: Omit<SeedTask, 'seed'> = {},
  maxMs = shrinkMs,
): Promise<Smallest> {
  const { seed } = failed;
  const left = task.without ?? [];
  const until = performance.now() + maxMs;
  let result = failed;
  const shrunk = await shrink({
    ids: failed.faults.map((_, index) => index + 1).filter((id) => !left.includes(id)),
    runsMax: shrinkRunsMax,
    isOver: () => performance.now() >= until,
    breaks: async (without) => {
      const one = await pool.run({ ...task, seed, without: [...left, ...without] });
      const isSame = one.guarantee === failed.guarantee;
      if (isSame) result = one;
      return isSame;
    },
  });
  return { shrunk: { ...shrunk, without: [...left, ...shrunk.without].sort((a, b) => a - b) }, result };
}

/** Story, faults and the command that plays it again; the last `lines` lines of the story. */
export function describeFailure(smallest: Smallest, lines: number): string {
  const { shrunk, result } = smallest;
  const needed = shrunk.kept.map((id) => `  ${id} ${JSON.stringify(result.faults[id - 1])}`);
  const without = shrunk.without.length > 0 ? ` --without ${shrunk.without.join(',')}` : '';
  return [
    ...(lines > 0 ? result.story.slice(-lines) : []),
    '',
    `seed ${result.seed} FAILED: ${result.failure}`,
    `${shrunk.kept.length} of ${result.faults.length} faults break ${result.guarantee}, found in ${shrunk.runs} runs` +
      `${shrunk.isMinimal ? ', each of them is needed' : '; there was no time to leave out more'}:`,
    ...needed,
    `again: npm run test:simulation -- --seed ${result.seed}${without} --story`,
  ].join('\n');
}
