import { expect, test } from 'vitest';
import type { MemberView } from '../../src/controller/gather.ts';
import { describeVoterWaits } from '../../src/controller/voter-actor.ts';
import type { ClusterRow, RebuildRow } from '../../src/store/rows.ts';
import { aMember, aView } from './view.ts';

const context = { unansweredVoters: new Set<string>() };
const spec = { members: 3, durability: 'majority', ackFlush: 'os' } as ClusterRow['spec'];
const aViewOf = (members?: MemberView[]) => aView(members, { spec });
const away = aMember(2, {}, { isConnected: false, isLive: false });

test('a rebuild of the only member that acknowledges says what it waits for', () => {
  const view = aViewOf([aMember(0), aMember(1), away]);
  const rebuild = { id: 'r', ordinal: 1, state: 'open' } as RebuildRow;

  expect(describeVoterWaits(context, { ...view, rebuilds: [rebuild] })).toContain(
    '1 acknowledging voters beside member 1 (are 0), so that it can leave',
  );
});

test('nothing is waited for when all is as wanted, and nothing told while no primary takes writes', () => {
  expect(describeVoterWaits(context, aViewOf())).toEqual([]);
  expect(describeVoterWaits(context, aViewOf([aMember(0, { isWritable: false }), aMember(1), away]))).toEqual([]);
});
