/** Runs one seed in a process of its own, where plant.ts has changed the program; prints what failed, as JSON. */
import { type RunOptions, runSeed } from './simulation.ts';

const options = JSON.parse(process.argv[2] ?? '{}') as RunOptions;
const { failure, story } = await runSeed(options);
process.stdout.write(JSON.stringify({ failure, story: process.argv[3] ? story : [] }));
