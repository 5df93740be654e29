/** Seeds on several cores: worker threads that each run one world at a time. */
import { Worker } from 'node:worker_threads';
import type { RunOptions, RunResult } from './simulation.ts';

/** A world takes a tenth of a second; one that takes this long of real time will never end. */
const seedTimeoutMs = 120_000;

export type SeedTask = Omit<RunOptions, 'sabotage'> & {
  /** Bring the story of a seed that is well, too. */
  readonly withStory?: boolean;
};

export interface Pool {
  readonly jobs: number;
  /** Waits for a free thread. Rejects when the simulation itself breaks or a world never ends. */
  run(task: SeedTask): Promise<RunResult>;
  close(): Promise<void>;
}

interface Waiting {
  readonly task: SeedTask;
  readonly resolve: (result: RunResult) => void;
  readonly reject: (error: Error) => void;
}

/** Threads begin when they are first needed. Close it, or the process never ends. */
export function createPool(jobs: number): Pool {
  const idle: Worker[] = [];
  const all = new Set<Worker>();
  const queue: Waiting[] = [];
  let isClosed = false;

  function start(): Worker {
    // What the caller's process was started with is not for the thread.
    const worker = new Worker(new URL('./seed-worker.ts', import.meta.url), { execArgv: [] });
    all.add(worker);
    return worker;
  }

  function next(): void {
    while (queue.length > 0 && (idle.length > 0 || all.size < jobs)) give(idle.pop() ?? start(), queue.shift()!);
  }

  function give(worker: Worker, { task, resolve, reject }: Waiting): void {
    const settle = (isUsable: boolean) => {
      clearTimeout(timer);
      worker.off('message', onMessage).off('error', onError).off('exit', onExit);
      if (isUsable) idle.push(worker);
      else {
        all.delete(worker);
        void worker.terminate();
      }
    };
    const fail = (why: string, cause?: unknown) => {
      settle(false);
      reject(new Error(`seed ${task.seed}: ${why}`, { cause }));
      next();
    };
    const onMessage = (result: RunResult) => {
      settle(true);
      resolve(result);
      next();
    };
    const onError = (error: unknown) => fail('the simulation broke', error);
    const onExit = (code: number) => fail(`its thread ended with ${code}`);
    const timer = setTimeout(() => fail(`has not ended after ${seedTimeoutMs} ms`), seedTimeoutMs);
    worker.on('message', onMessage).on('error', onError).on('exit', onExit);
    worker.postMessage(task);
  }

  return {
    jobs,
    run: (task) =>
      new Promise((resolve, reject) => {
        if (isClosed) return reject(new Error('the pool is closed'));
        queue.push({ task, resolve, reject });
        next();
      }),
    async close() {
      isClosed = true;
      for (const { reject, task } of queue.splice(0)) reject(new Error(`seed ${task.seed}: the pool was closed`));
      await Promise.all([...all].map((worker) => worker.terminate()));
    },
  };
}
