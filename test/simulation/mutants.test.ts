/** Faults of the program, planted on purpose: the simulation finds each, and finds nothing in the same world without it. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { mutants } from './member.ts';
import { planted } from './mutants.ts';
import type { Patch } from './plant.ts';
import { type RunOptions, runSeed } from './simulation.ts';

test('each planted fault of the executor has a world that finds it', () => {
  const found = planted.flatMap(({ mutants: own = [], heldBy }) => [...own, ...(heldBy?.mutants ?? [])]);

  expect(mutants.filter((mutant) => !found.includes(mutant))).toEqual([]);
});

const here = import.meta.dirname;

/** In a process of its own when lines of the program are changed. */
async function run(options: RunOptions, patches: readonly Patch[]): Promise<string | null> {
  if (patches.length === 0) return (await runSeed(options)).failure;
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ['--import', join(here, 'plant.ts'), join(here, 'planted-run.ts'), JSON.stringify(options)],
    {
      env: { ...process.env, NODE_OPTIONS: '', SELVEDGE_PLANTED: JSON.stringify(patches) },
      maxBuffer: 64 * 1024 * 1024,
    },
  );
  return (JSON.parse(stdout) as { failure: string | null }).failure;
}

for (const { name, breaks, seed, faults, mutants: own = [], patches = [], heldBy } of planted) {
  test(`kills: ${name}`, { timeout: 120_000 }, async () => {
    const all = [...own, ...(heldBy?.mutants ?? [])];

    expect(await run({ seed, faults }, [])).toBeNull();
    expect(await run({ seed, faults, mutants: all }, [...patches, ...(heldBy?.patches ?? [])])).toContain(
      `${breaks}: `,
    );
  });

  if (heldBy)
    test(`held by another layer, ${heldBy.layer}: ${name}`, { timeout: 120_000 }, async () => {
      expect(await run({ seed, faults, mutants: own }, patches)).toBeNull();
      expect(await run({ seed, faults, mutants: heldBy.mutants ?? [] }, heldBy.patches ?? [])).toBeNull();
    });
}
