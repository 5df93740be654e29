/** What a run of the bench found, and how it is told. */
import { defaultLimits } from '../../src/cluster/detection.ts';

/** Measured beside the floor. */
export const comparedNames = [
  'provision',
  'failover',
  'failover-saturated',
  'failover-service',
  'switchover',
  'switchover-service',
] as const;
export type ComparedName = (typeof comparedNames)[number];
/** Commits per second of the same three mysqlds, with us and without. */
export const rateNames = ['commits'] as const;
export type RateName = (typeof rateNames)[number];
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
  /** What ours may take at the median: this many floors, and so much besides. */
  readonly ratio: number;
  readonly extraMs: number;
  /** What the slowest run may take, in median floors; null: not judged. */
  readonly slowestRatio: number | null;
}

/** The extra second of provisioning is one allocation interval of Mesos. */
const expectations: Record<ComparedName, Expectation> = {
  provision: { floorMs: 1100, ratio: 3, extraMs: 1000, slowestRatio: null },
  failover: { floorMs: 100, ratio: 2, extraMs: 0, slowestRatio: 5 },
  'failover-saturated': { floorMs: 750, ratio: 1.4, extraMs: 0, slowestRatio: null },
  'failover-service': { floorMs: 100, ratio: 1, extraMs: 200, slowestRatio: null },
  switchover: { floorMs: 42, ratio: 2.5, extraMs: 0, slowestRatio: null },
  'switchover-service': { floorMs: 42, ratio: 1, extraMs: 200, slowestRatio: null },
};
/** The work alone, from the broken connection, in floors. */
const workRatio = 5;
/** Ours may commit this much of what the floor commits. */
const rateMin = 0.97;
const loneLimitsMs: Record<LoneName, number> = {
  'failover-stop': defaultLimits.commitDeadlineMs + 500,
  rejoin: 3000,
};
/** A floor that is so many times slower than expected: the machine is busy or too small, and no figure means much. */
const unfitFactor = 2;

export interface Result {
  readonly name: Name | RateName;
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
const judgement = (ours: number, limitMs: number, what = 'whole'): string =>
  `  ${what}: ${ours <= limitMs ? 'within' : 'BEYOND'} the limit of ${limitMs} ms`;
const slowestOf = (rounds: readonly Round[], of: 'ours' | 'floor'): number =>
  Math.round(Math.max(...rounds.map((round) => round[of]?.totalMs ?? 0)));

export function summarise(name: Name, rounds: readonly Round[]): Summary {
  const pick = (of: 'ours' | 'floor', key: Key) => median(rounds.flatMap((round) => round[of]?.[key] ?? []));
  return isCompared(name) ? compare(name, rounds, pick) : summariseAlone(name, rounds, pick);
}

type Pick = (of: 'ours' | 'floor', key: Key) => number;

function compare(name: ComparedName, rounds: readonly Round[], pick: Pick): Summary {
  const [ours, floor] = [pick('ours', 'totalMs'), pick('floor', 'totalMs')];
  const ratio = ratioOf(ours, floor);
  const { floorMs, ratio: ratioMax, extraMs, slowestRatio } = expectations[name];
  const slowest = slowestOf(rounds, 'ours');
  const lines = [
    row('', 'ours', 'floor', 'ratio'),
    row('whole', `${ours} ms`, `${floor} ms`, `${ratio}`),
    row('the slowest', `${slowest} ms`, `${slowestOf(rounds, 'floor')} ms`, `${ratioOf(slowest, floor)} *`),
  ];
  if (rounds.some(({ ours: { workMs } }) => workMs !== null)) {
    const [oursWork, floorWork] = [pick('ours', 'workMs'), pick('floor', 'workMs')];
    lines.push(row('the work alone', `${oursWork} ms`, `${floorWork} ms`, `${ratioOf(oursWork, floorWork)}`));
    if (name === 'failover') lines.push(judgement(oursWork, floorWork * workRatio, 'the work alone'));
  }
  lines.push(judgement(ours, Math.round(floor * ratioMax + extraMs)));
  if (slowestRatio !== null) lines.push(judgement(slowest, floor * slowestRatio, 'the slowest'));
  lines.push('  * of the median floor');
  if (floor > floorMs * unfitFactor)
    lines.push(`  This machine is unfit to measure now: the floor is about ${floorMs} ms on two idle cores.`);
  return { result: { name, ours, floor, ratio, runs: rounds.length }, lines };
}

function summariseAlone(name: LoneName, rounds: readonly Round[], pick: Pick): Summary {
  const ours = pick('ours', 'totalMs');
  const slowest = slowestOf(rounds, 'ours');
  const lines = [row('', 'median', 'slowest'), row('whole', `${ours} ms`, `${slowest} ms`)];
  lines.push(judgement(ours, loneLimitsMs[name]));
  return { result: { name, ours, floor: null, ratio: null, runs: rounds.length }, lines };
}

export interface RateRound {
  readonly oursPerSecond: number;
  readonly floorPerSecond: number;
}

/** Commits per second, in turns. */
export function summariseRates(name: RateName, rounds: readonly RateRound[]): Summary {
  const ours = median(rounds.map((round) => round.oursPerSecond));
  const floor = median(rounds.map((round) => round.floorPerSecond));
  const ratio = ratioOf(ours, floor);
  const lines = [row('', 'ours', 'floor', 'ratio'), row('commits/s', `${ours}`, `${floor}`, `${ratio}`)];
  lines.push(`  ${ratio >= rateMin ? 'within' : 'BEYOND'} the limit: at least ${rateMin} of the floor`);
  return { result: { name, ours, floor, ratio, runs: rounds.length }, lines };
}

const row = (...cells: readonly string[]): string =>
  `  ${cells.map((cell, index) => (index === 0 ? cell.padEnd(16) : cell.padStart(11))).join('')}`;
