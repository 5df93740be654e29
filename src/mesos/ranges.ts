import type { Range } from './types.ts';

/** Sorted, overlapping and neighbouring ranges joined; both ends are inclusive. Empty ranges (begin > end) vanish. */
export function coalesceRanges(ranges: readonly Range[]): Range[] {
  const sorted = ranges.filter((range) => range.begin <= range.end).sort((a, b) => a.begin - b.begin);
  const joined: Range[] = [];
  for (const { begin, end } of sorted) {
    const last = joined.at(-1);
    if (last && begin <= last.end + 1) last.end = Math.max(last.end, end);
    else joined.push({ begin, end });
  }
  return joined;
}

/** What is in `from` and not in `part`; `part` need not be contained. */
export function subtractRanges(from: readonly Range[], part: readonly Range[]): Range[] {
  let rest = coalesceRanges(from);
  for (const cut of coalesceRanges(part)) {
    rest = rest.flatMap((range) => [
      ...(range.begin < cut.begin ? [{ begin: range.begin, end: Math.min(range.end, cut.begin - 1) }] : []),
      ...(range.end > cut.end ? [{ begin: Math.max(range.begin, cut.end + 1), end: range.end }] : []),
    ]);
  }
  return coalesceRanges(rest);
}

export const containsRanges = (all: readonly Range[], part: readonly Range[]): boolean =>
  subtractRanges(part, all).length === 0;

export const hasOverlap = (ranges: readonly Range[]): boolean => {
  const sorted = [...ranges].sort((a, b) => a.begin - b.begin);
  return sorted.some((range, index) => index > 0 && range.begin <= sorted[index - 1]!.end);
};
