/** Text for people. What comes from elsewhere is cleaned: a name must not steer the terminal. */

/** Columns wide enough for their cells, two spaces between. */
export function table(head: readonly string[], rows: readonly (readonly unknown[])[]): string {
  const lines = [head, ...rows].map((row) => row.map(cell));
  const widths = head.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  return lines
    .map(
      (line) =>
        `${line
          .map((text, column) => text.padEnd(widths[column] ?? 0))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('');
}

export function cell(value: unknown): string {
  return value === null || value === undefined || value === '' ? '-' : clean(String(value));
}

export function clean(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}]+/gu, ' ');
}

/** UTC, to the millisecond: steps of a failover are compared by it. */
export function time(ms: number | null): string {
  return ms === null ? '-' : new Date(ms).toISOString();
}

export function bytes(count: number | null): string {
  return count === null ? '-' : `${Math.round(count / 1024 / 1024)} MB`;
}

/** `300/9000 MB`. */
export function fill(volume: { readonly totalMb: number; readonly usedMb: number } | null): string {
  return volume === null ? '-' : `${Math.round(volume.usedMb)}/${Math.round(volume.totalMb)} MB`;
}
