import { expect, test } from 'vitest';
import { isDonorTaken } from '../../src/controller/rebuild-actors.ts';
import type { RebuildRow } from '../../src/store/rows.ts';
import { aMember, aView } from './view.ts';

const aRebuild = (ordinal: number, way: string) => ({ id: `r${ordinal}`, ordinal, way }) as RebuildRow;
const work = (commandId: string, outcome: 'running' | 'failed') => ({
  ...{ commandId, outcome, kind: 'rebuild' as const, step: 'cloning', doneBytes: 0, totalBytes: null },
  ...{ code: null, message: null },
});

/** Members 1 and 2 are to be filled from member 0; what they do is the test's. */
function aCase(
  first: Parameters<typeof aMember>[1],
  second: Parameters<typeof aMember>[1] = {},
  ways = ['clone:0', 'clone:0'],
) {
  const rebuilds = [aRebuild(1, ways[0]!), aRebuild(2, ways[1]!)];
  const view = { ...aView([aMember(0), aMember(1, first), aMember(2, second)]), rebuilds };
  return rebuilds.map((rebuild) => isDonorTaken(view, rebuild));
}

test('of two that would begin at once the older one does', () => {
  expect(aCase({ instance: 'held' }, { instance: 'held' })).toEqual([false, true]);
});

test('whoever clones is waited for, whichever began', () => {
  expect(aCase({}, { work: work('rebuild.r2.0', 'running') })).toEqual([true, true]);
  expect(aCase({ work: work('rebuild.r1.0', 'running') })).toEqual([false, true]);
});

test('one that failed, has no instance to fill yet, or takes another way keeps nobody waiting', () => {
  expect(aCase({ work: work('rebuild.r1.0', 'failed') })).toEqual([false, false]);
  expect(aCase({ instance: 'none' })).toEqual([false, false]);
  expect(aCase({}, {}, ['backup:b', 'clone:0'])).toEqual([false, false]);
});
