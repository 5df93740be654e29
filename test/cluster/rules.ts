/** Rules and reached members to vary from: member 0 is the primary, `i<ordinal>` the incarnations. */
import type { VoterRule } from '../../src/cluster/types.ts';
import type { ReachedMember } from '../../src/cluster/voters.ts';

const uuid = '3e11fa47-71ca-11e1-9e33-c80aa9429562';

export const voter = (ordinal: number) => ({ ordinal, incarnation: `i${ordinal}` });

export function rule(members: number, k: number): VoterRule {
  const voters = Array.from({ length: members }, (_, ordinal) => voter(ordinal));
  return { epoch: 3, version: 5, primary: 0, voters, k };
}

/** The first `count` transactions. */
export const gtids = (count: number) => (count === 0 ? '' : `${uuid}:1-${count}`);

/** These very transactions. */
export const gtidsOf = (numbers: Iterable<number>) => {
  const list = [...numbers];
  return list.length === 0 ? '' : `${uuid}:${list.join(':')}`;
};

export const member = (ordinal: number, count: number): ReachedMember => ({
  ordinal,
  incarnation: `i${ordinal}`,
  gtid: gtids(count),
  isApplierRunning: true,
});
