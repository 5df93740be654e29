const UNITS = [
  ['weeks', 7 * 24 * 3600_000],
  ['days', 24 * 3600_000],
  ['hrs', 3600_000],
  ['mins', 60_000],
  ['secs', 1000],
  ['ms', 1],
] as const;

/** As Mesos writes durations: in the largest unit that leaves no fraction, `20secs`, `1mins`, `1.5secs` not. */
export function durationText(ms: number): string {
  const [unit, size] = UNITS.find(([, each]) => ms >= each && ms % each === 0) ?? UNITS[5];
  return `${ms / size}${unit}`;
}
