import { afterEach, describe, expect, test } from 'vitest';
import { describeFailure, shrinkSeed } from './drive.ts';
import type { Fault } from './faults.ts';
import { createPool, type Pool } from './pool.ts';
import { shrink } from './shrink.ts';

describe('delta debugging', () => {
  const ids = Array.from({ length: 15 }, (_, index) => index + 1);
  const needs =
    (...needed: number[]) =>
    async (without: readonly number[]) =>
      needed.every((id) => !without.includes(id));
  const never = () => false;

  test('finds the few that are needed together', async () => {
    const found = await shrink({ ids, breaks: needs(3, 9, 14), runsMax: 200, isOver: never });

    expect(found).toMatchObject({ kept: [3, 9, 14], isMinimal: true });
    expect(found.without).toEqual(ids.filter((id) => ![3, 9, 14].includes(id)));
  });

  test('finds that all are needed, and that none is', async () => {
    const all = await shrink({ ids: [1, 2, 3], breaks: needs(1, 2, 3), runsMax: 200, isOver: never });
    const none = await shrink({ ids, breaks: needs(), runsMax: 200, isOver: never });

    expect(all).toMatchObject({ kept: [1, 2, 3], without: [], isMinimal: true });
    expect(none).toMatchObject({ kept: [], without: ids, runs: 1, isMinimal: true });
  });

  test('stops at the limit of runs, and when time is up, with what it has', async () => {
    const few = await shrink({ ids, breaks: needs(3, 9, 14), runsMax: 5, isOver: never });
    const late = await shrink({ ids, breaks: needs(3), runsMax: 200, isOver: () => true });

    expect(few).toMatchObject({ runs: 5, isMinimal: false });
    expect(few.kept).toEqual(expect.arrayContaining([3, 9, 14]));
    expect(late).toMatchObject({ kept: ids, runs: 0, isMinimal: false });
  });
});

describe('a seed that fails', () => {
  let pool: Pool | null = null;
  afterEach(async () => {
    await pool?.close();
    pool = null;
  });

  const faults: readonly Fault[] = [
    { at: 9000, kind: 'slowApplier', target: 1, ms: 20_000 },
    { at: 9000, kind: 'slowApplier', target: 2, ms: 20_000 },
    { at: 9200, kind: 'loseAnswers', count: 1 },
    { at: 9500, kind: 'backup', target: 2 },
    { at: 10_000, kind: 'loseCall', type: 'DECLINE' },
    { at: 12_000, kind: 'killMysqld', target: 'primary' },
    { at: 14_000, kind: 'cutStreams' },
  ];

  test('shrinks to the faults without which it holds, and says how to play it again', {
    timeout: 120_000,
  }, async () => {
    pool = createPool(2);
    const task = { faults, mutants: ['promote-before-applied'] } as const;
    const drawn = await pool.run({ ...task, seed: 1 });

    const smallest = await shrinkSeed(pool, drawn, task, 300_000);

    const { kept, without, isMinimal } = smallest.shrunk;
    expect([drawn.guarantee, smallest.result.guarantee]).toEqual(['G1', 'G1']);
    expect({ isMinimal, all: [...kept, ...without].sort() }).toEqual({ isMinimal: true, all: [1, 2, 3, 4, 5, 6, 7] });
    expect(without).toEqual(expect.arrayContaining([3, 4, 5, 7]));
    const weaker = await pool.run({ ...task, seed: 1, without: [...without, kept[0]!] });
    expect(weaker.guarantee).toBeNull();
    const again = `npm run test:simulation -- --seed 1 --without ${without.join(',')} --story`;
    expect(describeFailure(smallest, 10)).toContain(again);
  });
});
