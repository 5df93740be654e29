/** Worlds that once went wrong, each with the fault of the program, or of its judges, that it showed. */
import { expect, test } from 'vitest';
import type { Fault } from './faults.ts';
import { runSeed } from './simulation.ts';

interface Scenario {
  readonly name: string;
  readonly seed: number;
  readonly faults: readonly Fault[];
}

/**
 * The checks took any second filling for a fault. Here nothing is there any more, and nobody can have written: the first
 * primary is chosen when the filling of every member is remembered.
 */
const emptied = (
  seed: number,
  at: number,
  target: number,
  volume: 'data' | 'both',
  before: readonly Fault[] = [],
): Scenario => ({
  name: `a volume that is emptied before its first filling is remembered is filled again (${seed})`,
  seed,
  faults: [...before, { at, kind: 'emptyVolume', target, volume, sparesPrimary: true }],
});

/** Which directory it was counted as unknown until the member served: it could have been a disk that was away. */
const backupEmptied = (seed: number, at: number, target: number, before: readonly Fault[] = []): Scenario => ({
  name: `a backup volume that is emptied before its member serves is taken anew (${seed})`,
  seed,
  faults: [...before, { at, kind: 'emptyVolume', target, volume: 'backup', sparesPrimary: true }],
});

/** Nobody could be filled anew without a primary, and no primary is chosen before everybody runs. */
const emptiedEarly = (...[seed, ...rest]: Parameters<typeof emptied>): Scenario => ({
  ...emptied(seed, ...rest),
  name: `a data volume that is emptied before there is a primary is filled again (${seed})`,
});

const scenarios: readonly Scenario[] = [
  backupEmptied(1285, 1221, 1),
  backupEmptied(4184, 2052, 2),
  backupEmptied(2781, 5505, 4, [{ at: 1695, kind: 'lateCommands', ms: 12_378, count: 1 }]),
  backupEmptied(3389, 26_900, 1, [{ at: 1950, kind: 'hangDisk', target: 2, ms: 36_211 }]),
  backupEmptied(7863, 3699, 2, [{ at: 1786, kind: 'killAtCommand', count: 4, when: 'after' }]),
  backupEmptied(8098, 10_737, 0, [{ at: 1268, kind: 'cutControl', target: 'primary', ms: 19_919 }]),
  backupEmptied(16_076, 6383, 1, [
    { at: 2616, kind: 'leaveTail', ms: 5998, killAt: 'named' },
    { at: 2762, kind: 'switchover', candidate: 2 },
  ]),
  emptiedEarly(4679, 24_474, 2, 'data', [{ at: 1041, kind: 'cutControl', target: 0, ms: 16_699 }]),
  emptiedEarly(6362, 2713, 3, 'data'),
  emptiedEarly(7839, 2249, 1, 'both'),
  emptiedEarly(10_331, 1979, 2, 'both'),
  emptiedEarly(11_957, 10_892, 1, 'both', [
    { at: 735, kind: 'killAtCommit', count: 16, when: 'before' },
    { at: 3079, kind: 'isolate', target: 0, ms: 11_030 },
  ]),
  emptiedEarly(15_029, 4466, 2, 'both', [
    { at: 146, kind: 'pauseController', ms: 19_285, hasSuccessor: true },
    { at: 2433, kind: 'diskAway', target: 0, ms: 10_506 },
  ]),
  emptied(3326, 18_123, 2, 'both', [
    { at: 1455, kind: 'isolate', target: 2, ms: 21_720 },
    { at: 1480, kind: 'killExecutor', target: 'primary' },
    { at: 1506, kind: 'killAtCommand', count: 1, when: 'before' },
  ]),
  emptied(3751, 1610, 1, 'both'),
  emptied(4819, 1359, 1, 'both'),
  emptied(5278, 1249, 1, 'data'),
  emptied(6398, 1575, 3, 'data'),
  emptied(6643, 2249, 3, 'both'),
  emptied(11_170, 2375, 1, 'both'),
  emptied(11_685, 1993, 2, 'both'),
  emptied(13_103, 1700, 1, 'data'),
  {
    name: 'an offer that is told twice launches a member once',
    seed: 254,
    faults: [
      { at: 1035, kind: 'failover', candidate: 1, force: true },
      { at: 45_556, kind: 'rebootHost', target: 2, keepsId: true },
      { at: 45_922, kind: 'mesosEvent', type: 'OFFERS', how: 'duplicate' },
    ],
  },
  {
    name: 'a member whose rebuild was given up is rebuilt again',
    seed: 254,
    faults: [
      { at: 15_000, kind: 'cutMembers', a: 1, b: 0, ms: 40_000 },
      { at: 15_000, kind: 'cutMembers', a: 1, b: 2, ms: 40_000 },
      { at: 15_100, kind: 'rebuild', target: 1 },
    ],
  },
  {
    name: 'a voter that is filled anew right after the restart of its host leaves the voters',
    seed: 294,
    faults: [
      { at: 16_019, kind: 'rebootAll' },
      { at: 16_500, kind: 'rebuild', target: 2 },
    ],
  },
  {
    name: 'a member that was not reached joins by itself while the new primary waits for it',
    seed: 282,
    faults: [
      { at: 15_000, kind: 'cutControl', target: 1, ms: 8000 },
      { at: 15_100, kind: 'fullDisk', target: 'primary', volume: 'data', ms: 900_000 },
      { at: 15_200, kind: 'killMysqld', target: 'primary' },
    ],
  },
  {
    name: 'a member whose mysqld was started again acknowledges the first commit that the new primary waits for',
    seed: 785,
    faults: [
      { at: 26_794, kind: 'leaveTail', ms: 1687, killAt: 'marked' },
      { at: 26_828, kind: 'leaveTail', ms: 5589, killAt: 'cutting' },
      { at: 26_832, kind: 'stopMysqld', target: 0, ms: 6170 },
    ],
  },
  {
    name: 'of two that hold all of a dead primary the one with a heartbeat more is promoted',
    seed: 675,
    faults: [
      { at: 9954, kind: 'killExecutor', target: 1 },
      { at: 10_047, kind: 'rebootAll' },
    ],
  },
  {
    name: 'the only member that was left passes over the heartbeats that both others have',
    seed: 255,
    faults: [
      { at: 12_077, kind: 'isolate', target: 'primary', ms: 13_899 },
      { at: 14_376, kind: 'killMysqld', target: 2 },
      { at: 26_493, kind: 'stopMysqld', target: 'primary', ms: 20_255 },
      { at: 26_526, kind: 'rebootHost', target: 1, keepsId: true, behindMs: 2775 },
      { at: 29_090, kind: 'leaveTail', ms: 3164, killAt: 'cutting' },
    ],
  },
  {
    name: 'a member that was trimmed is the same writer after a restart',
    seed: 677,
    faults: [
      { at: 10_163, kind: 'leaveTail', ms: 5533, killAt: 'marked' },
      { at: 10_197, kind: 'failover', candidate: null, force: true },
      { at: 19_054, kind: 'leaveTail', ms: 2189, killAt: 'cutting' },
      { at: 38_065, kind: 'leaveTail', ms: 3737, killAt: 'named' },
    ],
  },
  {
    name: 'a backup that failed unseen, because a rebuild came after it, is begun anew',
    seed: 7644,
    faults: [
      { at: 14_936, kind: 'backup', target: 0 },
      { at: 14_946, kind: 'killAtCommit', count: 21, when: 'before' },
      { at: 14_973, kind: 'killMysqld', target: 'primary' },
    ],
  },
  {
    name: 'a task that went with its agent is asked for when the master has told it in vain',
    seed: 10_252,
    faults: [
      { at: 7419, kind: 'rebootHost', target: 'primary', keepsId: true },
      { at: 7440, kind: 'isolate', target: 'primary', ms: 23_943 },
      { at: 13_649, kind: 'mesosEvent', type: 'UPDATE', how: 'drop' },
    ],
  },
  {
    name: 'an empty disk that comes back over the directory that was filled in its place is filled, too',
    seed: 6590,
    faults: [
      { at: 83, kind: 'diskAway', target: 2, ms: 21_291 },
      { at: 22_620, kind: 'loseAnswers', count: 1 },
    ],
  },
  {
    name: 'two replicas that are to be filled anew have their turn one after the other',
    seed: 14604,
    faults: [
      { at: 7230, kind: 'pauseController', ms: 52100, hasSuccessor: false },
      { at: 25277, kind: 'rebuild', target: 2 },
      { at: 25328, kind: 'rebootHost', target: 2, keepsId: true, behindMs: 2914 },
      { at: 26556, kind: 'rebuild', target: 1 },
    ],
  },
  {
    name: 'what was still on its way from a dead primary is seen before a member follows another one',
    seed: 3862,
    faults: [
      { at: 11_871, kind: 'rebuild', target: 1 },
      { at: 15_717, kind: 'lateCommands', ms: 6975, count: 3 },
      { at: 16_485, kind: 'switchover', candidate: 1 },
      { at: 19_814, kind: 'leaveTail', ms: 3985, killAt: 'cutting' },
    ],
  },
  {
    name: 'voters whose hosts were restarted, and that were told to acknowledge again, count as who they are now',
    seed: 7637,
    faults: [
      { at: 3900, kind: 'lateCommands', ms: 10_638, count: 4 },
      { at: 4106, kind: 'rebuild', target: 4 },
      { at: 13_011, kind: 'failover', candidate: null, force: true },
      { at: 20_354, kind: 'backup', target: 3 },
      { at: 20_399, kind: 'rebootAll' },
    ],
  },
  {
    name: 'a voter that waits for its turn to be filled anew acknowledges until then, restarted or not',
    seed: 17_436,
    faults: [
      { at: 15_381, kind: 'killAtCall', count: 1, when: 'after' },
      { at: 17_566, kind: 'cutControl', target: 'primary', ms: 17_897 },
      { at: 18_258, kind: 'pauseController', ms: 46_950, hasSuccessor: true },
      { at: 18_263, kind: 'emptyVolume', target: 0, volume: 'backup', sparesPrimary: true },
      { at: 26_435, kind: 'rebuild', target: 2 },
      { at: 27_925, kind: 'emptyVolume', target: 0, volume: 'data', sparesPrimary: true },
      { at: 36_794, kind: 'emptyVolume', target: 0, volume: 'backup', sparesPrimary: true },
      { at: 38_093, kind: 'killExecutor', target: 2 },
    ],
  },
  {
    name: 'a rebuild whose answer was lost is waited for, and not begun beside itself',
    seed: 10_439,
    faults: [
      { at: 16_080, kind: 'emptyVolume', target: 2, volume: 'both', sparesPrimary: true },
      { at: 18_302, kind: 'diskAway', target: 1, ms: 26_564 },
      { at: 19_325, kind: 'loseAnswers', count: 4 },
    ],
  },
  {
    name: 'a restarted voter that holds everything does not wait for one whose receiver stands',
    seed: 22_732,
    faults: [
      { at: 13_987, kind: 'stopMysqld', target: 2, ms: 20_746 },
      { at: 18_683, kind: 'purgeLogs', target: 0 },
      { at: 18_786, kind: 'rebootHost', target: 1, keepsId: false },
      { at: 24_981, kind: 'leaveTail', ms: 3996, killAt: 'saved' },
    ],
  },
  {
    name: 'a disk that comes back after the member was filled elsewhere is filled anew, held or not',
    seed: 15257,
    faults: [
      { at: 8219, kind: 'diskAway', target: 'primary', ms: 9550 },
      { at: 11202, kind: 'rebuild', target: 0 },
      { at: 15078, kind: 'stopMysqld', target: 2, ms: 1160 },
    ],
  },
  {
    name: 'a slow answer may come after the cluster was deleted',
    seed: 16200,
    faults: [
      { at: 9808, kind: 'lateCommands', ms: 17258, count: 1 },
      { at: 10008, kind: 'killMysqld', target: 'primary' },
      { at: 15593, kind: 'rebootHost', target: 0, keepsId: false },
      { at: 16559, kind: 'switchover', candidate: null },
      { at: 17730, kind: 'killAtCommand', count: 2, when: 'after' },
      { at: 17907, kind: 'slowNet', factor: 44, ms: 9488 },
    ],
  },
  {
    name: 'a primary may be filled in the place of a disk that nobody had seen',
    seed: 16_414,
    faults: [{ at: 17, kind: 'diskAway', target: 'primary', ms: 24_584 }],
  },
  {
    name: 'a disk that goes away while it is first filled is waited for',
    seed: 544,
    faults: [{ at: 1058, kind: 'diskAway', target: 'primary', ms: 9687 }],
  },
];

for (const { name, seed, faults } of scenarios)
  test(name, { timeout: 120_000 }, async () => {
    const { failure, story } = await runSeed({ seed, faults });

    expect(failure, story.slice(-60).join('\n')).toBeNull();
  });
