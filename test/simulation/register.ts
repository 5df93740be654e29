/**
 * Is the history of one register linearisable? Every write is a compare-and-set to a value that was never used before,
 * so the values form one chain; reads name a place on it. An operation whose outcome is unknown counts only when
 * somebody saw its value.
 */

export type RegisterOperation =
  | { readonly kind: 'read'; readonly from: number; readonly to: number; readonly value: string }
  | {
      readonly kind: 'set';
      readonly from: number;
      readonly to: number;
      readonly expected: string;
      readonly value: string;
    }
  /** `to` is open: it may take effect at any later time, or never. */
  | { readonly kind: 'maybe'; readonly from: number; readonly expected: string; readonly value: string };

/** What is wrong with it, or null. */
export function findAnomaly(history: readonly RegisterOperation[]): string | null {
  const before = new Map<string, string>();
  const sure = new Set<string>();
  for (const one of history) {
    if (one.kind === 'read') {
      if (one.value !== '') sure.add(one.value);
      continue;
    }
    before.set(one.value, one.expected);
    if (one.kind === 'set') sure.add(one.value);
  }
  for (const value of [...sure])
    for (let at = before.get(value); at !== undefined && at !== ''; at = before.get(at)) sure.add(at);
  const next = new Map<string, string>();
  for (const value of sure) {
    const expected = before.get(value);
    if (expected === undefined) return `value ${value} was read and never written`;
    const other = next.get(expected);
    if (other !== undefined) return `both ${other} and ${value} replaced ${expected || 'nothing'}: one write was lost`;
    next.set(expected, value);
  }
  const place = new Map<string, number>([['', 0]]);
  for (let at = '', index = 1; next.has(at); index++) {
    at = next.get(at)!;
    place.set(at, index);
  }
  for (const value of sure) if (!place.has(value)) return `value ${value} is not on the chain`;
  return findDisorder(history, place);
}

/** Whatever ended before something else began comes no later on the chain. */
function findDisorder(history: readonly RegisterOperation[], place: ReadonlyMap<string, number>): string | null {
  const points = history.flatMap((one) => {
    const index = place.get(one.value);
    if (index === undefined) return [];
    const to = one.kind === 'maybe' ? Number.POSITIVE_INFINITY : one.to;
    return [{ one, from: one.from, to, rank: one.kind === 'read' ? index * 2 + 1 : index * 2 }];
  });
  const byEnd = [...points].sort((a, b) => a.to - b.to);
  const byStart = [...points].sort((a, b) => a.from - b.from);
  let highest: (typeof points)[number] | null = null;
  let index = 0;
  for (const point of byStart) {
    for (; index < byEnd.length && byEnd[index]!.to < point.from; index++)
      if (!highest || byEnd[index]!.rank > highest.rank) highest = byEnd[index]!;
    if (highest && highest.rank > point.rank)
      return `${point.one.kind} of '${point.one.value}' at ${point.from} came after ${highest.one.kind} of '${highest.one.value}'`;
  }
  return null;
}
