/** How fast members were copied and caught up lately, for estimates. Forgotten at a restart: then defaults, and measured anew. */
import { defaultRates, type RebuildRates } from '../cluster/rebuild-way.ts';

/** Less tells about start-up, not about speed. */
const leastMs = 500;
const least: RebuildRates = { diskBytes: 16e6, networkBytes: 16e6, applied: 200 };

export interface Rates {
  read(): RebuildRates;
  /** Bytes or transactions done in `ms`. */
  learn(kind: keyof RebuildRates, done: number, ms: number): void;
}

/** Half of each figure is the newest measurement. */
export function createRates(): Rates {
  let rates = defaultRates;
  const learned = new Set<keyof RebuildRates>();
  return {
    read: () => rates,
    learn(kind, done, ms) {
      if (ms < leastMs || done < least[kind]) return;
      const measured = (1000 * done) / ms;
      rates = { ...rates, [kind]: learned.has(kind) ? (rates[kind] + measured) / 2 : measured };
      learned.add(kind);
    },
  };
}
