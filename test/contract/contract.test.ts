import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readGolden } from './golden.ts';
import { startLocalTarget } from './local-target.ts';
import { realTarget, reasonNotToRun } from './real-target.ts';
import { replay } from './replay.ts';

const executorCommand = `exec '${process.execPath}' '${join(import.meta.dirname, 'executor.ts')}'`;
const goldenFiles = join(import.meta.dirname, '..', 'golden', 'mesos');
const scenarios = ['s0', 's1', 's2', 's3', 's5', 's5-gone', 's7', 's9', 's10', 's11'];
/** Agents listen on fixed ports: two runs of this suite at a time must have other addresses. */
const subnetOf = (index: number) =>
  `127.${64 + (process.pid % 64)}.${(Math.floor(process.pid / 64) % 20) * 12 + index}`;
const realMaster = process.env['MESOS_MASTER'];

/** A real master has one set of agents, so there one scenario runs after the other. */
const run = realMaster ? test : test.concurrent;

run.each(scenarios.map((scenario, index) => ({ scenario, index, title: readGolden(scenario).title })))(
  '$scenario: $title',
  { timeout: realMaster ? 300_000 : 60_000 },
  async ({ scenario, index }) => {
    const golden = readGolden(scenario);
    const reason = realMaster ? await reasonNotToRun(golden, new URL(realMaster)) : undefined;
    if (reason) {
      console.warn(`${scenario} does not run against ${realMaster}: ${reason}`);
      return;
    }
    const target = realMaster
      ? realTarget(new URL(realMaster), executorCommand)
      : await startLocalTarget(golden, subnetOf(index), executorCommand);

    const differences = await replay(golden, target).finally(() => target.close());

    expect(differences).toEqual([]);
  },
);

test('docs/mesos-contract.md lists every scenario with what is replayed of it', () => {
  const text = readFileSync(join(import.meta.dirname, '..', '..', 'docs', 'mesos-contract.md'), 'utf8');

  const rows = scenarios.map((scenario) => {
    const { title, timeline } = readGolden(scenario);
    const count = (field: string) => timeline.filter((item) => field in item).length;
    return `| ${scenario} | ${title} | ${count('call')} | ${count('event')} | ${count('ack')} |`;
  });

  expect(rows.filter((row) => !text.includes(row))).toEqual([]);
  expect(readdirSync(goldenFiles).sort()).toEqual(scenarios.map((scenario) => `${scenario}.json`).sort());
});
