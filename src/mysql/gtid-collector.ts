/** A GTID set that grows by one transaction at a time: constant work for each that follows the last of its kind. */
import { formatGtidSet, GTID_INTERVALS_MAX, parseGtidSet } from '../cluster/gtid-set.ts';
import { stripGtids } from './gtid.ts';

export interface GtidCollector {
  /** `key` is `uuid` or `uuid:tag`. Throws when the set gets more than 100,000 intervals. */
  add(key: string, number: bigint): void;
  /** Without white space; '' when nothing was added. */
  text(): string;
}

export function createGtidCollector(): GtidCollector {
  const lines = new Map<string, { first: bigint; last: bigint }[]>();
  let intervals = 0;
  return {
    add(key, number) {
      const line = lines.get(key) ?? [];
      const last = line.at(-1);
      if (last && number >= last.first && number <= last.last + 1n) {
        if (number > last.last) last.last = number;
        return;
      }
      intervals += 1;
      if (intervals > GTID_INTERVALS_MAX) throw new Error(`more than ${GTID_INTERVALS_MAX} intervals of GTIDs`);
      line.push({ first: number, last: number });
      lines.set(key, line);
    },
    text() {
      const parts = [...lines].flatMap(([key, line]) => line.map(({ first, last }) => `${key}:${first}-${last}`));
      return stripGtids(formatGtidSet(parseGtidSet(parts.join(','))));
    },
  };
}
