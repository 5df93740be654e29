/**
 * Virtual time. One queue of everything that will happen; nothing happens but what it holds. Promises of the program
 * are given as many turns as they want between two events, and time stands still meanwhile.
 */
import type { Clock } from '../../src/clock.ts';

interface Happening {
  readonly at: number;
  readonly order: number;
  run: (() => void) | null;
  /** May wake promises of the program: they are let run before the next event. */
  readonly wakesProgram: boolean;
}

export interface Time {
  readonly clock: Clock;
  now(): number;
  /** `quiet`: only the model's own state moves, no promise waits for it. */
  after(ms: number, run: () => void, options?: { readonly quiet?: boolean }): Happening;
  cancel(happening: unknown): void;
  /** Runs the next event; false when there is none before `until`, which is now then. */
  step(until: number): Promise<boolean>;
  pending(): number;
}

/** So many immediates are asked for at once: each round of the event loop costs as much as a small step. */
const immediatesAtOnce = 64;

/**
 * Waits until promises of the program have nothing left to do. Node runs microtasks dry, and tells of rejections that
 * nobody handles, before each immediate, also between those of one round: the one place where the simulation leans on
 * the event loop.
 */
function createDrain(): () => Promise<void> {
  let waiting: (() => void) | null = null;
  let asked = 0;
  const onImmediate = () => {
    asked -= 1;
    const resolve = waiting;
    waiting = null;
    resolve?.();
  };
  return () =>
    new Promise<void>((resolve) => {
      waiting = resolve;
      if (asked > 0) return;
      for (; asked < immediatesAtOnce; asked++) setImmediate(onImmediate);
    });
}

export function createTime(start: number): Time {
  let now = start;
  let order = 0;
  const heap: Happening[] = [];
  const drain = createDrain();
  const isBefore = (left: Happening, right: Happening) =>
    left.at < right.at || (left.at === right.at && left.order < right.order);

  function push(one: Happening): void {
    let index = heap.push(one) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (!isBefore(one, heap[parent]!)) break;
      heap[index] = heap[parent]!;
      index = parent;
    }
    heap[index] = one;
  }

  function pop(): Happening {
    const first = heap[0]!;
    const last = heap.pop()!;
    if (heap.length === 0) return first;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child += 1;
      if (!isBefore(heap[child]!, last)) break;
      heap[index] = heap[child]!;
      index = child;
    }
    heap[index] = last;
    return first;
  }

  const time: Time = {
    clock: {
      now: () => now,
      setTimeout: (run, ms) => time.after(ms, run),
      clearTimeout: (timer) => time.cancel(timer),
    },
    now: () => now,
    after(ms, run, { quiet = false } = {}) {
      order += 1;
      const one: Happening = { at: now + Math.max(0, Math.round(ms)), order, run, wakesProgram: !quiet };
      push(one);
      return one;
    },
    cancel(happening) {
      if (happening) (happening as Happening).run = null;
    },
    async step(until) {
      while (heap.length > 0 && heap[0]!.run === null) pop();
      if (heap.length === 0 || heap[0]!.at > until) {
        now = Math.max(now, until);
        return false;
      }
      const one = pop();
      now = one.at;
      const { run } = one;
      one.run = null;
      run?.();
      if (one.wakesProgram) await drain();
      return true;
    },
    pending: () => heap.filter(({ run }) => run !== null).length,
  };
  return time;
}

/**
 * One process of the program: its timers die with it, and while it is stopped (SIGSTOP) nothing reaches it; all that
 * came meanwhile is there when it wakes.
 */
export interface Process {
  readonly name: string;
  readonly clock: Clock;
  isAlive(): boolean;
  isPaused(): boolean;
  /** Something from outside comes in: a packet, a signal. Lost when the process is dead. */
  deliver(run: () => void): void;
  pause(): void;
  resume(): void;
  kill(): void;
  onKill(listener: () => void): void;
  timers(): number;
}

export function createProcess(time: Time, name: string): Process {
  const timers = new Set<{ happening: Happening | null }>();
  const waiting: (() => void)[] = [];
  const listeners: (() => void)[] = [];
  let isAlive = true;
  let isPaused = false;
  const deliver = (run: () => void) => {
    if (!isAlive) return;
    if (isPaused) waiting.push(run);
    else run();
  };
  return {
    name,
    clock: {
      now: () => time.now(),
      setTimeout(run, ms) {
        const timer: { happening: Happening | null } = { happening: null };
        if (!isAlive) return timer;
        timers.add(timer);
        timer.happening = time.after(ms, () =>
          deliver(() => {
            if (timers.delete(timer)) run();
          }),
        );
        return timer;
      },
      clearTimeout(timer) {
        const known = timer as { happening: Happening | null } | undefined;
        if (known && timers.delete(known)) time.cancel(known.happening);
      },
    },
    isAlive: () => isAlive,
    isPaused: () => isPaused,
    deliver,
    pause() {
      isPaused = true;
    },
    resume() {
      if (!isPaused) return;
      isPaused = false;
      for (const run of waiting.splice(0)) time.after(0, () => deliver(run));
    },
    kill() {
      if (!isAlive) return;
      isAlive = false;
      for (const timer of timers) time.cancel(timer.happening);
      timers.clear();
      waiting.length = 0;
      for (const listener of listeners) listener();
    },
    onKill: (listener) => void listeners.push(listener),
    timers: () => timers.size,
  };
}
