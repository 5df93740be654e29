/** One thread that runs seeds for pool.ts, one after the other. */
import { parentPort } from 'node:worker_threads';
import type { SeedTask } from './pool.ts';
import { type RunResult, runSeed } from './simulation.ts';

const port = parentPort;
if (!port) throw new Error('this file is a worker thread of pool.ts');

async function work({ withStory = false, ...options }: SeedTask): Promise<RunResult> {
  const result = await runSeed(options);
  // A story is long: it travels only when somebody reads it.
  return { ...result, story: withStory || result.failure !== null ? result.story : [] };
}

// What is thrown ends the thread, and the pool tells of it.
port.on('message', (task: SeedTask) => void work(task).then((result) => port.postMessage(result)));
