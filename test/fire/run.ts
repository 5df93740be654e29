/** `npm run test:fire`: real mysqlds, real processes, faults of a seed's, and proof at the end that all holds. */
import { parseArgs } from 'node:util';
import { runFire, tableOf } from './fire.ts';

const usage = `npm run test:fire -- [options]

  --seconds N  how long to strike, 60 by default; provisioning and judgement come on top
  --seed N     order and times of the strikes; drawn when it is not given
  --only TEXT  only strikes whose name holds this
  --disks      with data disks that are frozen and filled: loop devices, so only for root
  --story      tell the events of a run that is well, too, and keep its logs
  --help       this text

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
  readonly help: boolean;
}

function readArguments(): Arguments | null {
  const text = { type: 'string' } as const;
  const flag = { type: 'boolean', default: false } as const;
  try {
    const { values } = parseArgs({
      options: { seconds: text, seed: text, only: text, disks: flag, story: flag, help: flag },
    });
    const seconds = Number(values.seconds ?? 60);
    const seed = Number(values.seed ?? Math.floor(Math.random() * 1e6));
    if (!(seconds >= 1 && seconds <= secondsMax)) throw new Error(`--seconds takes 1 to ${secondsMax}`);
    if (!Number.isInteger(seed) || seed < 0) throw new Error('--seed takes a whole number');
    return { seconds, seed, only: values.only, withDisks: values.disks, withStory: values.story, help: values.help };
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
  const ending = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(name, () => ending.abort(new Error(`stopped by ${name}`)));
  process.on('uncaughtException', (error) => ending.abort(error));
  const tooLong = () => ending.abort(new Error('the fire took too long'));
  setTimeout(tooLong, options.seconds * 1000 + graceMs).unref();
  const say = (text: string) => void process.stdout.write(`${text}\n`);
  say(
    `Fire for ${options.seconds} s, seed ${options.seed}: four agents, three members, three writers, one register.\n`,
  );
  const result = await runFire({ ...options, signal: ending.signal, say });
  for (const line of ['', ...tableOf(result)]) say(line);
  say(
    result.isGood
      ? '\n  All holds.'
      : `\n  Something does not hold. Again: npm run test:fire -- --seed ${options.seed}`,
  );
  return result.isGood ? 0 : 1;
}

process.exitCode = await main();
