import { availableParallelism } from 'node:os';
import { afterAll, describe, expect, test } from 'vitest';
import { describeFailure, runSeeds, shrinkSeed } from './drive.ts';
import { faultKinds } from './faults.ts';
import { trimSteps } from './member.ts';
import { createPool } from './pool.ts';
import { findAnomaly, type RegisterOperation } from './register.ts';
import { type RunResult, runSeed } from './simulation.ts';

const seeds = 200;
/** Not only drawn: they found somebody to strike. */
const mustStrike = [
  'stopMysqld',
  'hangDisk',
  'fullDisk data',
  'fullDisk backup',
  'emptyVolume data',
  'emptyVolume backup',
  'purgeLogs',
  'leaveTail',
  'trim',
  ...trimSteps.map((step) => `trim killed at ${step}`),
  'rebootHost',
  'rebootAll',
  'relay log lost',
  'cutMembers',
  'killMysqld',
  'killExecutor',
  'killController',
];

describe('the guarantees hold in worlds that go wrong', () => {
  const pool = createPool(availableParallelism());
  afterAll(() => pool.close());

  test(`seeds 1 to ${seeds}`, { timeout: 600_000 }, async () => {
    const drawn = new Set<string>();
    const hits = new Map<string, number>();
    const onResult = ({ faults, facts }: RunResult) => {
      for (const { kind } of faults) drawn.add(kind);
      for (const [what, times] of Object.entries(facts.hits)) hits.set(what, (hits.get(what) ?? 0) + times);
    };

    const { held, failed } = await runSeeds({ pool, first: 1, count: seeds, onResult });

    if (failed[0]) expect.fail(describeFailure(await shrinkSeed(pool, failed[0]), 60));
    expect(held).toBe(seeds);
    expect(faultKinds.filter((kind) => !drawn.has(kind))).toEqual([]);
    expect(
      mustStrike.filter((what) => !hits.has(what)),
      JSON.stringify([...hits]),
    ).toEqual([]);
  });
});

test('the same seed tells the same story', async () => {
  const first = await runSeed({ seed: 7 });
  const second = await runSeed({ seed: 7 });

  expect(second.story).toEqual(first.story);
  expect(first.story.length).toBeGreaterThan(30);
});

describe('the checker of the register', () => {
  const set = (from: number, to: number, expected: string, value: string): RegisterOperation => ({
    kind: 'set',
    from,
    to,
    expected,
    value,
  });
  const read = (from: number, to: number, value: string): RegisterOperation => ({ kind: 'read', from, to, value });

  test('accepts what can be put in order', () => {
    const history = [set(0, 5, '', 'a'), read(3, 4, ''), set(6, 9, 'a', 'b'), read(7, 8, 'a'), read(10, 11, 'b')];

    expect(findAnomaly(history)).toBeNull();
  });

  test('finds a read of the past', () => {
    expect(findAnomaly([set(0, 5, '', 'a'), read(6, 7, '')])).toContain('came after');
  });

  test('finds a lost write', () => {
    expect(findAnomaly([set(0, 5, '', 'a'), set(6, 9, '', 'b')])).toContain('lost');
  });

  test('counts a write of unknown outcome only when it was seen', () => {
    const maybe: RegisterOperation = { kind: 'maybe', from: 1, expected: '', value: 'x' };

    expect(findAnomaly([maybe, set(2, 3, '', 'a')])).toBeNull();
    expect(findAnomaly([maybe, read(4, 5, 'x'), set(6, 7, '', 'a')])).toContain('lost');
  });
});
