/** What a run of the bench found, and how it is told. */
export type Name = 'provision' | 'failover' | 'switchover';

/** All in milliseconds. */
export interface Sample {
  /** From the command, or the kill, to the first commit of the team. */
  readonly totalMs: number;
  /** From the first broken or refused write to the first commit; null where nothing was written before. */
  readonly workMs: number | null;
  /** More about the run, for people. */
  readonly detail?: string;
}

export interface Round {
  readonly ours: Sample;
  readonly floor: Sample;
}

export const median = (values: readonly number[]): number => {
  const sorted = [...values].sort((one, other) => one - other);
  const middle = sorted.length >> 1;
  const [low = 0, high = 0] = sorted.length % 2 === 1 ? [sorted[middle], sorted[middle]] : sorted.slice(middle - 1);
  return Math.round((low + high) / 2);
};

interface Expectation {
  /** Of the floor on an idle machine with two cores. */
  readonly floorMs: number;
  /** What ours may take: this many floors, and so much besides. */
  readonly ratio: number;
  readonly extraMs: number;
}

/** The extra second of provisioning is one allocation interval of Mesos. */
const expectations: Record<Name, Expectation> = {
  provision: { floorMs: 1100, ratio: 3, extraMs: 1000 },
  failover: { floorMs: 100, ratio: 3, extraMs: 0 },
  switchover: { floorMs: 42, ratio: 4, extraMs: 0 },
};
/** A floor that is so many times slower than expected: the machine is busy or too small, and no figure means much. */
const unfitFactor = 2;

export interface Result {
  readonly name: Name;
  readonly ours: number;
  readonly floor: number;
  readonly ratio: number;
  readonly runs: number;
}

export function summarise(name: Name, rounds: readonly Round[]): { readonly result: Result; readonly lines: string[] } {
  const pick = (of: 'ours' | 'floor', key: 'totalMs' | 'workMs') =>
    median(rounds.flatMap((round) => round[of][key] ?? []));
  const ours = pick('ours', 'totalMs');
  const floor = pick('floor', 'totalMs');
  const ratio = Math.round((100 * ours) / Math.max(1, floor)) / 100;
  const { floorMs, ratio: ratioMax, extraMs } = expectations[name];
  const limitMs = Math.round(floor * ratioMax + extraMs);
  const lines = [row('', 'ours', 'floor', 'ratio'), row('whole', `${ours} ms`, `${floor} ms`, `${ratio}`)];
  if (rounds.some(({ ours: { workMs } }) => workMs !== null)) {
    const [oursWork, floorWork] = [pick('ours', 'workMs'), pick('floor', 'workMs')];
    const workRatio = Math.round((100 * oursWork) / Math.max(1, floorWork)) / 100;
    lines.push(row('the work alone', `${oursWork} ms`, `${floorWork} ms`, `${workRatio}`));
  }
  lines.push(`  ${ours <= limitMs ? 'within' : 'BEYOND'} the limit of ${limitMs} ms`);
  if (floor > floorMs * unfitFactor)
    lines.push(`  This machine is unfit to measure now: the floor is about ${floorMs} ms on two idle cores.`);
  return { result: { name, ours, floor, ratio, runs: rounds.length }, lines };
}

const row = (...cells: readonly string[]): string =>
  `  ${cells.map((cell, index) => (index === 0 ? cell.padEnd(16) : cell.padStart(11))).join('')}`;
