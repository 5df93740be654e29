/** What a strike is, and what more than one kind of them needs. */
import type { Random } from '../simulation/random.ts';
import type { World } from './world.ts';

export interface Strike {
  /** As it is told in the table. */
  readonly name: string;
  /** Does a whole cluster with automation on get a new primary by it? */
  readonly changesPrimary: 'yes' | 'no' | 'maybe';
  strike(world: World, random: Random): Promise<string>;
}
