import { expect, test } from 'vitest';
import { judgeVolume } from '../../src/cluster/lost-volume.ts';

const found = { place: '7.1', isOwnDevice: false, isMarked: false, isEmpty: true };

test.each([
  ['a marked one is not lost', { isMarked: true, isEmpty: false }, {}, null],
  ['the same directory, emptied', {}, { place: '7.1', isOwnDevice: false }, 'take'],
  ['the same disk, emptied', { isOwnDevice: true }, { place: '7.1', isOwnDevice: true }, 'take'],
  ['another disk is mounted there', { isOwnDevice: true }, { place: '2.1', isOwnDevice: true }, 'take'],
  ['its disk is not mounted', {}, { place: '2.1', isOwnDevice: true }, 'ask'],
  ['another directory, made while its disk was away', {}, { place: '6.1', isOwnDevice: false }, 'ask'],
  ['nothing is remembered of it', {}, {}, 'ask'],
  ['files of somebody', { isEmpty: false }, { place: '7.1' }, 'foreign'],
])('%s', (_, change, known, kind) => {
  expect(judgeVolume('data', { ...found, ...change }, known)?.kind ?? null).toBe(kind);
});
