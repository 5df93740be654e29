/** What goes wrong, drawn from the seed: a list that can be shortened and run again. */
import type { Command } from '../../src/channel/protocol.ts';
import { type TrimStep, trimSteps } from './member.ts';
import { createRandom, type Random } from './random.ts';

/** Whom it hits: the primary of the moment, or a member by ordinal. */
export type Target = 'primary' | number;
type Moment = 'before' | 'after';

export type FaultBody =
  | { readonly kind: 'killController' }
  | { readonly kind: 'killAtCommit'; readonly count: number; readonly when: Moment }
  | { readonly kind: 'killAtCommand'; readonly count: number; readonly when: Moment }
  | { readonly kind: 'killAtCall'; readonly count: number; readonly when: Moment }
  | { readonly kind: 'pauseController'; readonly ms: number; readonly hasSuccessor: boolean }
  | { readonly kind: 'loseAnswers'; readonly count: number }
  | {
      readonly kind: 'lateCommands';
      readonly ms: number;
      readonly count: number;
      /** Only those of this kind. */
      readonly command?: Command['kind'];
      /** Only those of this epoch. */
      readonly epoch?: number;
    }
  | { readonly kind: 'killMysqld'; readonly target: Target }
  | { readonly kind: 'stopMysqld'; readonly target: Target; readonly ms: number }
  | { readonly kind: 'hangDisk'; readonly target: Target; readonly ms: number }
  | { readonly kind: 'fullDisk'; readonly target: Target; readonly volume: 'data' | 'backup'; readonly ms: number }
  /** A member dies, and what was on its volume is gone; the directory is the same. */
  | {
      readonly kind: 'emptyVolume';
      readonly target: Target;
      readonly volume: 'data' | 'backup' | 'both';
      /** The data of the primary of the moment stay: with another loss before they would be all that is left. */
      readonly sparesPrimary?: boolean;
    }
  | { readonly kind: 'purgeLogs'; readonly target: Target }
  /** The primary is cut off from the others and dies: its rejoin has a tail to trim, and may be killed at a step. */
  | { readonly kind: 'leaveTail'; readonly ms: number; readonly killAt: TrimStep | null }
  | { readonly kind: 'killExecutor'; readonly target: Target }
  | { readonly kind: 'killAgent'; readonly target: Target; readonly ms: number }
  | { readonly kind: 'partitionAgent'; readonly target: Target; readonly ms: number }
  /** Its applier is behind for so long before: a part of the relay log is only in memory. */
  | { readonly kind: 'rebootHost'; readonly target: Target; readonly keepsId: boolean; readonly behindMs?: number }
  | { readonly kind: 'rebootAll' }
  | { readonly kind: 'killAllMysqld' }
  | { readonly kind: 'diskAway'; readonly target: Target; readonly ms: number }
  | { readonly kind: 'mesosEvent'; readonly type: string; readonly how: 'drop' | 'duplicate' | 'delay' }
  | { readonly kind: 'loseCall'; readonly type: string }
  | { readonly kind: 'cutStreams' }
  | { readonly kind: 'masterAway'; readonly ms: number }
  | { readonly kind: 'failOverMaster' }
  | { readonly kind: 'cutMembers'; readonly a: Target; readonly b: Target; readonly ms: number }
  | { readonly kind: 'cutControl'; readonly target: Target; readonly ms: number }
  | { readonly kind: 'isolate'; readonly target: Target; readonly ms: number }
  | { readonly kind: 'slowNet'; readonly factor: number; readonly ms: number }
  | { readonly kind: 'slowApplier'; readonly target: Target; readonly ms: number }
  | { readonly kind: 'switchover'; readonly candidate: number | null }
  | { readonly kind: 'failover'; readonly candidate: number | null; readonly force: boolean }
  | { readonly kind: 'rebuild'; readonly target: Target }
  | { readonly kind: 'backup'; readonly target: Target };

export type Fault = FaultBody & { readonly at: number };

const events = ['OFFERS', 'UPDATE', 'RESCIND', 'UPDATE_OPERATION_STATUS', 'FAILURE'] as const;
const calls = ['ACCEPT', 'ACKNOWLEDGE', 'DECLINE', 'REVIVE', 'KILL', 'ACKNOWLEDGE_OPERATION_STATUS'] as const;

/** `weight` how often, beside the others. */
const table: readonly [number, (random: Random, members: number) => FaultBody][] = [
  [2, () => ({ kind: 'killController' })],
  [6, (r) => ({ kind: 'killAtCommit', count: r.between(1, 25), when: r.pick(['before', 'after']) })],
  [5, (r) => ({ kind: 'killAtCommand', count: r.between(1, 8), when: r.pick(['before', 'after']) })],
  [3, (r) => ({ kind: 'killAtCall', count: r.between(1, 6), when: r.pick(['before', 'after']) })],
  [4, (r) => ({ kind: 'pauseController', ms: r.between(500, 60_000), hasSuccessor: r.chance(0.7) })],
  [4, (r) => ({ kind: 'loseAnswers', count: r.between(1, 4) })],
  [3, (r) => ({ kind: 'lateCommands', ms: r.between(100, 20_000), count: r.between(1, 4) })],
  [8, (r, n) => ({ kind: 'killMysqld', target: pickTarget(r, n) })],
  [4, (r, n) => ({ kind: 'stopMysqld', target: pickTarget(r, n), ms: drawHang(r) })],
  [3, (r, n) => ({ kind: 'hangDisk', target: pickTarget(r, n), ms: drawHang(r) })],
  [2, (r, n) => ({ kind: 'fullDisk', target: pickTarget(r, n), volume: r.pick(['data', 'backup']), ms: drawHang(r) })],
  [2, (r, n) => ({ kind: 'purgeLogs', target: pickTarget(r, n) })],
  [3, (r, n) => drawEmptyVolume(r, n)],
  [12, (r) => ({ kind: 'leaveTail', ms: r.between(1500, 6000), killAt: r.chance(0.9) ? r.pick(trimSteps) : null })],
  [5, (r, n) => ({ kind: 'killExecutor', target: pickTarget(r, n) })],
  [2, (r, n) => ({ kind: 'killAgent', target: pickTarget(r, n), ms: r.between(1000, 30_000) })],
  [2, (r, n) => ({ kind: 'partitionAgent', target: pickTarget(r, n), ms: r.between(1000, 40_000) })],
  [4, (r, n) => ({ kind: 'rebootHost', target: pickTarget(r, n), keepsId: r.chance(0.7) })],
  [3, (r, n) => ({ kind: 'rebootHost', target: r.between(0, n - 1), keepsId: true, behindMs: r.between(500, 3000) })],
  [1, () => ({ kind: 'rebootAll' })],
  [1, () => ({ kind: 'killAllMysqld' })],
  [1, (r, n) => ({ kind: 'diskAway', target: pickTarget(r, n), ms: r.between(3000, 30_000) })],
  [3, (r) => drawEventFault(r)],
  [3, (r) => ({ kind: 'loseCall', type: r.pick(calls) })],
  [2, () => ({ kind: 'cutStreams' })],
  [1, (r) => ({ kind: 'masterAway', ms: r.between(1000, 20_000) })],
  [1, () => ({ kind: 'failOverMaster' })],
  [4, (r, n) => ({ kind: 'cutMembers', a: pickTarget(r, n), b: r.between(0, n - 1), ms: r.between(200, 15_000) })],
  [3, (r, n) => ({ kind: 'cutControl', target: pickTarget(r, n), ms: r.between(200, 20_000) })],
  [4, (r, n) => ({ kind: 'isolate', target: pickTarget(r, n), ms: r.between(500, 25_000) })],
  [1, (r) => ({ kind: 'slowNet', factor: r.between(5, 60), ms: r.between(1000, 15_000) })],
  [2, (r, n) => ({ kind: 'slowApplier', target: pickTarget(r, n), ms: r.between(1000, 15_000) })],
  [6, (r, n) => ({ kind: 'switchover', candidate: r.chance(0.5) ? r.between(0, n - 1) : null })],
  [3, (r, n) => ({ kind: 'failover', candidate: r.chance(0.5) ? r.between(0, n - 1) : null, force: r.chance(0.7) })],
  [3, (r, n) => ({ kind: 'rebuild', target: r.between(0, n - 1) })],
  [3, (r, n) => ({ kind: 'backup', target: r.between(0, n - 1) })],
];

function drawEmptyVolume(random: Random, members: number): FaultBody {
  const volume = random.pick(['data', 'backup', 'both'] as const);
  return { kind: 'emptyVolume', target: random.between(0, members - 1), volume, sparesPrimary: true };
}

/** Shorter and longer than what detection waits for. */
const drawHang = (random: Random): number =>
  random.chance(0.4) ? random.between(300, 4000) : random.between(6000, 40_000);

/** An offer is told once: it may be late, come twice, or not be understood, which loses it. */
const drawEventFault = (random: Random): FaultBody => ({
  kind: 'mesosEvent',
  type: random.pick(events),
  how: random.pick(['drop', 'duplicate', 'delay']),
});

const pickTarget = (random: Random, members: number): Target =>
  random.chance(0.55) ? 'primary' : random.between(0, members - 1);

/** Every kind that a seed may draw. */
export const faultKinds: readonly string[] = table.map(([, make]) => make(createRandom(1), 3).kind);

/** Faults come in bursts: the bad moment for one is right after another. */
export function drawFaults(random: Random, options: { members: number; fromMs: number; toMs: number }): Fault[] {
  const { members, fromMs, toMs } = options;
  const total = table.reduce((sum, [weight]) => sum + weight, 0);
  const draw = (): FaultBody => {
    let at = random.between(1, total);
    for (const [weight, make] of table) {
      at -= weight;
      if (at <= 0) return make(random, members);
    }
    throw new Error('the table of faults is empty');
  };
  const faults: Fault[] = [];
  for (let bursts = random.between(1, 5); bursts > 0; bursts--) {
    let at = random.chance(0.15) ? random.between(0, fromMs) : random.between(fromMs, toMs);
    for (let count = random.between(1, 3); count > 0; count--) {
      faults.push({ at, ...draw() });
      at += random.chance(0.5) ? random.between(0, 60) : random.between(0, 4000);
    }
  }
  return faults.sort((a, b) => a.at - b.at);
}
