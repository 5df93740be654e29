/** `npm run test:simulation -- --seeds N [--seed S] [--story]`: runs seeds and tells the story of the first that fails. */
import { parseArgs } from 'node:util';
import { runSeed } from './simulation.ts';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '200' },
    seed: { type: 'string' },
    story: { type: 'boolean', default: false },
    lines: { type: 'string', default: '120' },
    keep: { type: 'boolean', default: false },
  },
});

const first = values.seed === undefined ? 1 : Number(values.seed);
const count = values.seed === undefined ? Number(values.seeds) : values.seeds === '200' ? 1 : Number(values.seeds);
const startedAt = performance.now();
let failed = 0;
let virtualMs = 0;
let acknowledged = 0;
for (let seed = first; seed < first + count; seed++) {
  const result = await runSeed({ seed });
  virtualMs += result.facts.virtualMs;
  acknowledged += result.facts.acknowledged;
  const isLong = result.failure !== null || values.story;
  if (isLong) {
    const lines = values.story ? result.story : result.story.slice(-Number(values.lines));
    if (values.keep) console.log(`seed ${seed}: ${result.failure}`);
    else console.log(lines.join('\n'));
  }
  if (result.failure !== null) {
    failed += 1;
    if (!values.keep) {
      console.log(`\nseed ${seed} FAILED: ${result.failure}`);
      console.log(`faults: ${JSON.stringify(result.faults)}`);
      break;
    }
  } else if (values.story) console.log(`seed ${seed} is well: ${JSON.stringify(result.facts)}`);
}
const seconds = (performance.now() - startedAt) / 1000;
console.log(
  `${count} seeds, ${failed} failed, ${(count / seconds).toFixed(1)} seeds a second, ` +
    `${Math.round(virtualMs / 1000)} virtual seconds, ${acknowledged} acknowledged writes`,
);
process.exitCode = failed > 0 ? 1 : 0;
