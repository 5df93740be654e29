/** Worlds that once went wrong, each with the fault of the program that it showed. */
import { expect, test } from 'vitest';
import type { Fault } from './faults.ts';
import { runSeed } from './simulation.ts';

interface Scenario {
  readonly name: string;
  readonly seed: number;
  readonly faults: readonly Fault[];
}

const scenarios: readonly Scenario[] = [
  {
    name: 'an offer that is told twice launches a member once',
    seed: 254,
    faults: [
      { at: 20_000, kind: 'rebootHost', target: 2, keepsId: true },
      { at: 20_300, kind: 'mesosEvent', type: 'OFFERS', how: 'duplicate' },
    ],
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
