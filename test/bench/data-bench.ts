/** `npm run bench -- backup | verify | rebuild | restore`: with gigabytes of data, beside the plainest way on the same disks. */
import { clusterName } from '../demo/steps.ts';
import { within } from '../demo/wait.ts';
import { destroyInstances } from '../mysql/instance.ts';
import { backupRound, type DataRound, rebuildRound } from './data-rounds.ts';
import { restoreRound, verifyRound } from './data-work.ts';
import { type DataWorld, fill, startDataWorld } from './data-world.ts';
import { median } from './figures.ts';

export const dataNames = ['backup', 'verify', 'rebuild', 'restore'] as const;
export type DataName = (typeof dataNames)[number];

/** What ours may take of the floor; null: not judged. */
const ratioMax: Record<DataName, number | null> = { backup: 1.2, verify: 2, rebuild: 0.33, restore: null };
const rounds: Record<DataName, (world: DataWorld, bytes: number) => Promise<DataRound>> = {
  backup: backupRound,
  verify: verifyRound,
  rebuild: rebuildRound,
  restore: restoreRound,
};
const roundTimeoutMs = 30 * 60_000;

export interface DataOptions {
  readonly name: DataName;
  readonly runs: number;
  readonly gigabytes: number;
  /** What the backup policy allows, in MB/s; null: as fast as it goes. */
  readonly rateMb: number | null;
  /** The replica's disks are others than the primary's. */
  readonly isApart: boolean;
  readonly signal: AbortSignal;
  readonly say: (text: string) => void;
}

export async function benchData({
  name,
  runs,
  gigabytes,
  rateMb,
  isApart,
  signal,
  say,
}: DataOptions): Promise<unknown> {
  const world = await startDataWorld({ signal, isApart });
  try {
    const bytes = gigabytes * 1e9;
    await fill(world, bytes, say);
    if (rateMb !== null) await world.api.setBackupPolicy(clusterName, { maxBytesPerSec: rateMb * 1e6 });
    const done: DataRound[] = [];
    for (let run = 1; run <= runs; run += 1) {
      const round = await within(rounds[name](world, bytes), roundTimeoutMs, `a round of ${name}`);
      done.push(round);
      say(`  ${run}/${runs}  ${tell(round)}`);
    }
    const pick = (of: 'ours' | 'floor') => median(done.map((round) => round[of].totalMs));
    const [ours, floor] = [pick('ours'), pick('floor')];
    const ratio = Math.round((100 * ours) / floor) / 100;
    const names = Object.keys(done[0]?.more ?? {});
    const more = Object.fromEntries(names.map((each) => [each, median(done.map((round) => round.more[each] ?? 0))]));
    say(`\n${name} of ${gigabytes} GB, median of ${runs}: ours ${ours} ms, floor ${floor} ms, ratio ${ratio}`);
    const limit = rateMb === null && !isApart ? ratioMax[name] : null;
    const judged = limit === null ? '' : `${ratio <= limit ? 'within' : 'BEYOND'} the limit of ${limit}; `;
    say(`  ${judged}${JSON.stringify(more)}`);
    return { name, ours, floor, ratio, runs, gigabytes, rateMb, isApart, ...more };
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
