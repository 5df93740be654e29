/** What a run of fire tells at its end: one line a kind of strike, then the checks. */
import type { FireResult } from './fire.ts';

export interface Kind {
  readonly name: string;
  readonly times: number;
  readonly survived: number;
  /** Longest time without an acknowledged row of any one writer. */
  readonly longestGapMs: number;
  /** Most connections that one writer behind the service port lost. */
  readonly mostBreaks: number;
}

export function kindsOf({ blows }: FireResult): Kind[] {
  const names = [...new Set(blows.map(({ name }) => name))].sort();
  return names.map((name) => {
    const same = blows.filter((each) => each.name === name);
    return {
      name,
      times: same.length,
      survived: same.filter(({ fault }) => fault === null).length,
      longestGapMs: Math.max(...same.map(({ gapMs }) => gapMs)),
      mostBreaks: Math.max(...same.map(({ breaks }) => breaks)),
    };
  });
}

export function tableOf(result: FireResult): string[] {
  const { blows, checks } = result;
  const kinds = kindsOf(result);
  const width = Math.max(30, ...[...kinds, ...checks].map(({ name }) => name.length)) + 2;
  const row = (name: string, ...cells: readonly (string | number)[]) =>
    `  ${name.padEnd(width)}${cells.map((cell) => String(cell).padStart(12)).join('')}`;
  const lines = [row('fault', 'struck', 'survived', 'longest gap', 'breaks')];
  for (const { name, times, survived, longestGapMs, mostBreaks } of kinds)
    lines.push(row(name, times, survived, `${longestGapMs} ms`, mostBreaks));
  lines.push(row('all', blows.length, blows.filter(({ fault }) => fault === null).length), '');
  for (const { name, told, fault } of checks)
    lines.push(`  ${name.padEnd(width)}${fault === null ? `holds: ${told}` : `DOES NOT HOLD: ${fault}`}`);
  return lines;
}
