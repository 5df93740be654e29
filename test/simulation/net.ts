/** Hosts and the ways between them. A cut way loses nothing at once: like TCP it stalls, and breaks when it lasts. */
import type { Random } from './random.ts';
import type { Time } from './time.ts';

export interface Net {
  /** One way, milliseconds. */
  delay(): number;
  isCut(a: string, b: string): boolean;
  cut(a: string, b: string): void;
  mend(a: string, b: string): void;
  mendAll(): void;
  /** Everything is slower from now on; 1 = as usual. */
  setSlowness(factor: number): void;
  onMend(listener: () => void): void;
}

export const controlHost = 'control';
export const clientHost = 'client';

const wayOf = (a: string, b: string) => (a < b ? `${a} ${b}` : `${b} ${a}`);

export function createNet(random: Random): Net {
  const cuts = new Map<string, number>();
  const listeners: (() => void)[] = [];
  let slowness = 1;
  const heal = () => {
    for (const listener of [...listeners]) listener();
  };
  return {
    delay: () => (random.chance(0.02) ? random.between(5, 60) : random.between(1, 3)) * slowness,
    isCut: (a, b) => a !== b && (cuts.get(wayOf(a, b)) ?? 0) > 0,
    cut: (a, b) => void cuts.set(wayOf(a, b), (cuts.get(wayOf(a, b)) ?? 0) + 1),
    mend(a, b) {
      cuts.set(wayOf(a, b), Math.max(0, (cuts.get(wayOf(a, b)) ?? 0) - 1));
      heal();
    },
    mendAll() {
      cuts.clear();
      slowness = 1;
      heal();
    },
    setSlowness(factor) {
      slowness = factor;
    },
    onMend: (listener) => void listeners.push(listener),
  };
}

/** One connection: what is sent arrives in order, or the connection breaks. */
export interface Connection {
  send(from: 'left' | 'right', run: () => void, quiet?: boolean): void;
  isOpen(): boolean;
  close(): void;
}

export function createConnection(options: {
  readonly time: Time;
  readonly net: Net;
  readonly left: string;
  readonly right: string;
}): Connection {
  const { time, net, left, right } = options;
  const lastAt = { left: 0, right: 0 };
  const stalled: { from: 'left' | 'right'; run: () => void; quiet: boolean }[] = [];
  let isOpen = true;
  const transmit = (from: 'left' | 'right', run: () => void, quiet: boolean) => {
    lastAt[from] = Math.max(lastAt[from], time.now() + net.delay());
    time.after(
      lastAt[from] - time.now(),
      () => {
        if (!isOpen) return;
        if (net.isCut(left, right)) stalled.push({ from, run, quiet });
        else run();
      },
      { quiet },
    );
  };
  net.onMend(() => {
    if (!isOpen || net.isCut(left, right)) return;
    for (const { from, run, quiet } of stalled.splice(0)) transmit(from, run, quiet);
  });
  return {
    send: (from, run, quiet = false) => {
      if (isOpen) transmit(from, run, quiet);
    },
    isOpen: () => isOpen,
    close() {
      isOpen = false;
      stalled.length = 0;
    },
  };
}
