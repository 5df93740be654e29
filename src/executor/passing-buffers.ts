/**
 * Streams make new memory for each chunk, outside of V8's heap, and V8 lets 32 MB of it gather before it looks: an
 * executor that received a backup was 45 MB larger (measured). It is told to look after every few megabytes; what lived
 * through two looks by chance goes with a whole one. Without `--expose-gc` (runtime.ts) nothing happens.
 */
const MINOR_BYTES = 2 * 1024 * 1024;
const MAJOR_BYTES = 32 * 1024 * 1024;

let sinceMinor = 0;
let sinceMajor = 0;

/** To be called with the bytes of each chunk of a long stream that was done with. */
export function passBuffer(bytes: number): void {
  sinceMinor += bytes;
  if (sinceMinor < MINOR_BYTES) return;
  sinceMajor += sinceMinor;
  sinceMinor = 0;
  const isMajor = sinceMajor >= MAJOR_BYTES;
  if (isMajor) sinceMajor = 0;
  globalThis.gc?.({ type: isMajor ? 'major' : 'minor', execution: 'sync' });
}
