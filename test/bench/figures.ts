/** What a run of the bench found, and how it is told. */
import { defaultLimits } from '../../src/cluster/detection.ts';

/** Measured beside the floor. */
export const comparedNames = ['provision', 'failover', 'failover-saturated', 'switchover'] as const;
export type ComparedName = (typeof comparedNames)[number];
/** There is no floor for these: plain mysqlds do nothing of the kind. */
export const loneNames = ['failover-stop', 'rejoin'] as const;
export type LoneName = (typeof loneNames)[number];
export type Name = ComparedName | LoneName;

export const isCompared = (name: Name): name is ComparedName => comparedNames.some((each) => each === name);

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
  /** null: there is none. */
  readonly floor: Sample | null;
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
const expectations: Record<ComparedName, Expectation> = {
  provision: { floorMs: 1100, ratio: 3, extraMs: 1000 },
  failover: { floorMs: 100, ratio: 3, extraMs: 0 },
  'failover-saturated': { floorMs: 150, ratio: 1.4, extraMs: 0 },
  switchover: { floorMs: 42, ratio: 4, extraMs: 0 },
};
const loneLimitsMs: Record<LoneName, number> = {
  'failover-stop': defaultLimits.commitDeadlineMs + 500,
  rejoin: 3000,
};
/** A floor that is so many times slower than expected: the machine is busy or too small, and no figure means much. */
const unfitFactor = 2;

export interface Result {
  readonly name: Name;
  readonly ours: number;
  readonly floor: number | null;
  readonly ratio: number | null;
  readonly runs: number;
}

interface Summary {
  readonly result: Result;
  readonly lines: string[];
}

type Key = 'totalMs' | 'workMs';
const ratioOf = (ours: number, floor: number): number => Math.round((100 * ours) / Math.max(1, floor)) / 100;
const judgement = (ours: number, limitMs: number): string =>
  `  ${ours <= limitMs ? 'within' : 'BEYOND'} the limit of ${limitMs} ms`;

export function summarise(name: Name, rounds: readonly Round[]): Summary {
  const pick = (of: 'ours' | 'floor', key: Key) => median(rounds.flatMap((round) => round[of]?.[key] ?? []));
  return isCompared(name) ? compare(name, rounds, pick) : summariseAlone(name, rounds, pick);
}

type Pick = (of: 'ours' | 'floor', key: Key) => number;

function compare(name: ComparedName, rounds: readonly Round[], pick: Pick): Summary {
  const [ours, floor] = [pick('ours', 'totalMs'), pick('floor', 'totalMs')];
  const ratio = ratioOf(ours, floor);
  const { floorMs, ratio: ratioMax, extraMs } = expectations[name];
  const lines = [row('', 'ours', 'floor', 'ratio'), row('whole', `${ours} ms`, `${floor} ms`, `${ratio}`)];
  if (rounds.some(({ ours: { workMs } }) => workMs !== null)) {
    const [oursWork, floorWork] = [pick('ours', 'workMs'), pick('floor', 'workMs')];
    lines.push(row('the work alone', `${oursWork} ms`, `${floorWork} ms`, `${ratioOf(oursWork, floorWork)}`));
  }
  lines.push(judgement(ours, Math.round(floor * ratioMax + extraMs)));
  if (floor > floorMs * unfitFactor)
    lines.push(`  This machine is unfit to measure now: the floor is about ${floorMs} ms on two idle cores.`);
  return { result: { name, ours, floor, ratio, runs: rounds.length }, lines };
}

function summariseAlone(name: LoneName, rounds: readonly Round[], pick: Pick): Summary {
  const ours = pick('ours', 'totalMs');
  const slowest = Math.round(Math.max(...rounds.map((round) => round.ours.totalMs)));
  const lines = [row('', 'median', 'slowest'), row('whole', `${ours} ms`, `${slowest} ms`)];
  lines.push(judgement(ours, loneLimitsMs[name]));
  return { result: { name, ours, floor: null, ratio: null, runs: rounds.length }, lines };
}

const row = (...cells: readonly string[]): string =>
  `  ${cells.map((cell, index) => (index === 0 ? cell.padEnd(16) : cell.padStart(11))).join('')}`;
