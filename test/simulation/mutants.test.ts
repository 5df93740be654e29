/** Faults of the program, planted on purpose: the simulation finds each, and finds nothing in the same world without it. */
import { expect, test } from 'vitest';
import type { Fault } from './faults.ts';
import type { Mutant } from './member.ts';
import { runSeed } from './simulation.ts';

interface Planted {
  readonly mutant: Mutant;
  readonly breaks: string;
  /** A world of three members. */
  readonly seed: number;
  readonly faults: readonly Fault[];
}

const planted: readonly Planted[] = [
  {
    mutant: 'promote-before-applied',
    breaks: 'G1',
    seed: 1,
    faults: [
      { at: 9000, kind: 'slowApplier', target: 1, ms: 20_000 },
      { at: 9000, kind: 'slowApplier', target: 2, ms: 20_000 },
      { at: 12_000, kind: 'killMysqld', target: 'primary' },
    ],
  },
  {
    mutant: 'same-boot-id',
    breaks: 'G1',
    // Of those whose replicas do not flush.
    seed: 5,
    faults: [
      { at: 8900, kind: 'cutControl', target: 0, ms: 60_000 },
      { at: 9000, kind: 'slowApplier', target: 1, ms: 20_000 },
      { at: 9000, kind: 'slowApplier', target: 2, ms: 20_000 },
      { at: 12_000, kind: 'isolate', target: 0, ms: 40_000 },
      { at: 12_100, kind: 'rebootHost', target: 1, keepsId: true },
      { at: 12_100, kind: 'rebootHost', target: 2, keepsId: true },
      { at: 25_000, kind: 'failover', candidate: null, force: true },
    ],
  },
  {
    mutant: 'freeze-without-stop',
    breaks: 'G2',
    seed: 1,
    faults: [
      { at: 9000, kind: 'cutControl', target: 'primary', ms: 30_000 },
      { at: 9500, kind: 'failover', candidate: null, force: true },
      { at: 9700, kind: 'lateCommands', ms: 1500, count: 3 },
    ],
  },
  {
    mutant: 'trust-empty-volume',
    breaks: 'G4',
    seed: 1,
    faults: [{ at: 9000, kind: 'diskAway', target: 1, ms: 20_000 }],
  },
  {
    mutant: 'keep-server-uuid',
    breaks: 'G1',
    seed: 1,
    faults: [
      { at: 9000, kind: 'cutMembers', a: 0, b: 1, ms: 8000 },
      { at: 9000, kind: 'cutMembers', a: 0, b: 2, ms: 8000 },
      { at: 12_000, kind: 'killMysqld', target: 0 },
      { at: 30_000, kind: 'switchover', candidate: 0 },
      { at: 33_000, kind: 'backup', target: 0 },
    ],
  },
];

for (const { mutant, breaks, seed, faults } of planted)
  test(`kills: ${mutant}`, { timeout: 120_000 }, async () => {
    const sane = await runSeed({ seed, faults });
    const mad = await runSeed({ seed, faults, mutants: [mutant] });

    expect(sane.failure).toBeNull();
    expect(mad.failure ?? 'nothing was found').toContain(`${breaks}: `);
  });
