/** `npm run test:fire`: real mysqlds, real processes, faults of a seed's, and proof at the end that all holds. */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { runInside } from '../network/namespace.ts';
import { runFire } from './fire.ts';
import { kindsOf, tableOf } from './report.ts';

const usage = `npm run test:fire -- [options]

  --seconds N  how long to strike, 60 by default; provisioning and judgement come on top
  --seed N     order and times of the strikes; drawn when it is not given
  --only TEXT  only strikes whose name holds this
  --disks      with disks that are frozen, filled and write-protected: loop devices, so only for root
  --json FILE  the table, every strike and every check as JSON
  --story      tell the events of a run that is well, too, and keep its logs
  --help       this text

As root it runs in a network namespace of its own, where it also cuts members off from each other.
Exit codes: 0 all holds, 1 something does not, 2 wrong use.
`;

const secondsMax = 24 * 3600;
/** Provisioning, the last strike's recovery, and the judgement. */
const graceMs = 300_000;

interface Arguments {
  readonly seconds: number;
  readonly seed: number;
  readonly only: string | undefined;
  readonly withDisks: boolean;
  readonly withStory: boolean;
  readonly jsonFile: string | undefined;
  readonly help: boolean;
}

function readArguments(): Arguments | null {
  const text = { type: 'string' } as const;
  const flag = { type: 'boolean', default: false } as const;
  try {
    const { values } = parseArgs({
      options: { seconds: text, seed: text, only: text, disks: flag, story: flag, json: text, help: flag },
    });
    const seconds = Number(values.seconds ?? 60);
    const seed = Number(values.seed ?? Math.floor(Math.random() * 1e6));
    if (!(seconds >= 1 && seconds <= secondsMax)) throw new Error(`--seconds takes 1 to ${secondsMax}`);
    if (!Number.isInteger(seed) || seed < 0) throw new Error('--seed takes a whole number');
    const { only, disks: withDisks, story: withStory, json: jsonFile, help } = values;
    return { seconds, seed, only, withDisks, withStory, jsonFile, help };
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${usage}`);
    return null;
  }
}

async function main(): Promise<number> {
  const options = readArguments();
  if (options === null) return 2;
  if (options.help) {
    process.stdout.write(usage);
    return 0;
  }
  const say = (text: string) => void process.stdout.write(`${text}\n`);
  const exitCode = await runInside((why) => say(`  ${why}`));
  if (exitCode !== null) return exitCode;
  const ending = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(name, () => ending.abort(new Error(`stopped by ${name}`)));
  process.on('uncaughtException', (error) => ending.abort(error));
  const tooLong = () => ending.abort(new Error('the fire took too long'));
  setTimeout(tooLong, options.seconds * 1000 + graceMs).unref();
  say(
    `Fire for ${options.seconds} s, seed ${options.seed}: four agents, three members, three writers, one register;\ntwo of the writers and half of the register use the service port.\n`,
  );
  const result = await runFire({ ...options, signal: ending.signal, say });
  if (options.jsonFile !== undefined)
    writeFileSync(options.jsonFile, `${JSON.stringify({ ...result, kinds: kindsOf(result) }, null, 2)}\n`);
  for (const line of ['', ...tableOf(result)]) say(line);
  say(
    result.isGood
      ? '\n  All holds.'
      : `\n  Something does not hold. Again: npm run test:fire -- --seed ${options.seed}`,
  );
  return result.isGood ? 0 : 1;
}

process.exitCode = await main();
