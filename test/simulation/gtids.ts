/** A set of GTIDs that grows by one at a time; its text is what MySQL would print. */

export interface Gtids {
  add(key: string, n: number): void;
  remove(key: string, n: number): void;
  has(key: string, n: number): boolean;
  isSubsetOf(other: Gtids): boolean;
  /** Highest number of the key, 0 when there is none. */
  highest(key: string): number;
  copy(): Gtids;
  text(): string;
}

type Line = { first: number; last: number }[];

/** `uuid` or `uuid:tag` to its intervals, sorted, neither overlapping nor adjacent. */
export function createGtids(lines: Map<string, Line> = new Map()): Gtids {
  let cached: string | null = null;
  const format = () => {
    let text = '';
    let last = '';
    for (const key of [...lines.keys()].sort()) {
      const uuid = key.slice(0, 36);
      text += uuid === last ? key.slice(36) : `${text === '' ? '' : ','}${key}`;
      last = uuid;
      for (const one of lines.get(key)!) text += one.first === one.last ? `:${one.first}` : `:${one.first}-${one.last}`;
    }
    return text;
  };
  return {
    add(key, n) {
      cached = null;
      const line = lines.get(key);
      if (!line) {
        lines.set(key, [{ first: n, last: n }]);
        return;
      }
      let index = line.length;
      while (index > 0 && line[index - 1]!.first > n) index -= 1;
      const before = line[index - 1];
      const after = line[index];
      if (before && n <= before.last) return;
      const joinsBefore = before?.last === n - 1;
      const joinsAfter = after?.first === n + 1;
      if (joinsBefore && joinsAfter) {
        before.last = after.last;
        line.splice(index, 1);
      } else if (joinsBefore) before.last = n;
      else if (joinsAfter) after.first = n;
      else line.splice(index, 0, { first: n, last: n });
    },
    remove(key, n) {
      cached = null;
      const line = lines.get(key) ?? [];
      const index = line.findIndex(({ first, last }) => first <= n && n <= last);
      if (index < 0) return;
      const { first, last } = line[index]!;
      const parts = [
        { first, last: n - 1 },
        { first: n + 1, last },
      ].filter((one) => one.first <= one.last);
      line.splice(index, 1, ...parts);
      if (line.length === 0) lines.delete(key);
    },
    has: (key, n) => lines.get(key)?.some(({ first, last }) => first <= n && n <= last) ?? false,
    isSubsetOf(other) {
      for (const [key, line] of lines)
        for (const { first, last } of line) for (let n = first; n <= last; n++) if (!other.has(key, n)) return false;
      return true;
    },
    highest: (key) => lines.get(key)?.at(-1)?.last ?? 0,
    copy: () => createGtids(new Map([...lines].map(([key, line]) => [key, line.map((one) => ({ ...one }))]))),
    text() {
      cached ??= format();
      return cached;
    },
  };
}
