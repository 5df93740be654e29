import type { Connection } from './connection.ts';
import type { ExecutorControl } from './executors.ts';
import type { Golden } from './golden.ts';
import { Ids, type LaunchedTask } from './ids.ts';
import type { Target } from './target.ts';

const maxTimeouts = 4;
const lagStepMs = 10;

/** Too many recorded things never came: the rest of the scenario would only say so again. */
export class GaveUp extends Error {}

/** What one replay knows: ids, connections, launched tasks, and the differences found so far. */
export class Session {
  readonly differences: string[] = [];
  readonly ids = new Ids();
  readonly connections = new Map<string, Connection>();
  readonly launched = new Map<string, LaunchedTask>();
  /** Uuids of updates that came already: a second time they are repeats. */
  readonly uuids = new Set<string>();
  readonly lastUuid = new Map<string, string>();
  /** When each call, fault and drop was, recorded and here. */
  readonly anchors: { readonly t: number; readonly live: number }[] = [];
  /** When the last thing was done by anybody: what is offered follows from it at an allocation. */
  acted = { t: 0, live: performance.now(), lostMs: 0 };
  /** Time in which this process (and the local Mesos in it) could not run. */
  lostMs = 0;
  /** Where we are, for messages. */
  at = '';
  readonly golden: Golden;
  readonly target: Target;
  readonly control: ExecutorControl;
  private timeouts = 0;

  constructor(golden: Golden, target: Target, control: ExecutorControl) {
    this.golden = golden;
    this.target = target;
    this.control = control;
  }

  differ(text: string): void {
    this.differences.push(`[${this.at}] ${text}`);
  }

  note(texts: readonly string[]): void {
    for (const text of texts) this.differ(text);
  }

  /** Waits till it holds: the recorded gap (seconds) at the target's speed and some patience. A difference, and false, if never. */
  async until(what: string, holds: () => boolean, gap = 0): Promise<boolean> {
    const deadline = performance.now() + this.target.patienceMs + (gap * 1000) / this.target.speed;
    while (!holds()) {
      if (performance.now() > deadline) {
        this.differ(`never came: ${what}`);
        if (++this.timeouts >= maxTimeouts) throw new GaveUp(`${maxTimeouts} things never came`);
        return false;
      }
      await new Promise((resolve) => setTimeout(resolve, 4));
    }
    return true;
  }

  /** Measures lostMs till the returned function is called. */
  watchLag(): () => void {
    let last = performance.now();
    const timer = setInterval(() => {
      const now = performance.now();
      this.lostMs += Math.max(0, now - last - lagStepMs);
      last = now;
    }, lagStepMs);
    return () => clearInterval(timer);
  }

  isReplaced(task: string): boolean {
    return this.golden.replaced.includes(task);
  }

  readonly executorOf = (task: string): string => this.launched.get(task)?.executor ?? task;
}
