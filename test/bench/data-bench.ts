/** `npm run bench -- backup | rebuild`: with gigabytes of data, beside the plainest way on the same disks. */
import { within } from '../demo/wait.ts';
import { destroyInstances } from '../mysql/instance.ts';
import { backupRound, type DataRound, rebuildRound } from './data-rounds.ts';
import { fill, startDataWorld } from './data-world.ts';
import { median } from './figures.ts';

export const dataNames = ['backup', 'rebuild'] as const;
export type DataName = (typeof dataNames)[number];

/** What ours may take of the floor. */
const ratioMax: Record<DataName, number> = { backup: 1.2, rebuild: 0.33 };
const roundTimeoutMs = 30 * 60_000;

export interface DataOptions {
  readonly name: DataName;
  readonly runs: number;
  readonly gigabytes: number;
  readonly signal: AbortSignal;
  readonly say: (text: string) => void;
}

export async function benchData({ name, runs, gigabytes, signal, say }: DataOptions): Promise<unknown> {
  const world = await startDataWorld(signal);
  try {
    const bytes = gigabytes * 1e9;
    await fill(world, bytes, say);
    const rounds: DataRound[] = [];
    for (let run = 1; run <= runs; run += 1) {
      const work = name === 'backup' ? backupRound(world) : rebuildRound(world, bytes);
      const round = await within(work, roundTimeoutMs, `a round of ${name}`);
      rounds.push(round);
      say(`  ${run}/${runs}  ${tell(round)}`);
    }
    const pick = (of: 'ours' | 'floor') => median(rounds.map((round) => round[of].totalMs));
    const [ours, floor] = [pick('ours'), pick('floor')];
    const ratio = Math.round((100 * ours) / floor) / 100;
    const names = Object.keys(rounds[0]?.more ?? {});
    const more = Object.fromEntries(names.map((each) => [each, median(rounds.map((round) => round.more[each] ?? 0))]));
    say(`\n${name} of ${gigabytes} GB, median of ${runs}: ours ${ours} ms, floor ${floor} ms, ratio ${ratio}`);
    say(`  ${ratio <= ratioMax[name] ? 'within' : 'BEYOND'} the limit of ${ratioMax[name]}; ${JSON.stringify(more)}`);
    return { name, ours, floor, ratio, runs, gigabytes, ...more };
  } catch (error) {
    await world.diagnose(say);
    throw error;
  } finally {
    await destroyInstances();
    await world.destroy();
  }
}

const tell = ({ ours, floor, more }: DataRound): string =>
  `ours ${Math.round(ours.totalMs)} ms, floor ${Math.round(floor.totalMs)} ms ${ours.detail ?? ''} ${JSON.stringify(more)}`;
