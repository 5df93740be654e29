/**
 * How long tails are kept: 30 days, and on each volume no more than a share of it. The oldest go first, the newest of
 * a volume never: whoever comes after an incident finds it.
 */
import { readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { MemberContext } from './member-context.ts';
import { readTails, refreshTails } from './tails.ts';
import { measureVolume } from './volumes.ts';

const MAX_AGE_MS = 30 * 24 * 3600_000;
/** Of the volume's size; data needs its volume more than backups do. */
const maxShare = { data: 0.05, backup: 0.2 } as const;
const LOOK_EVERY_MS = 3600_000;
/** On its way out: not listed any more, and removed by the next look if this one is interrupted. */
const REMOVED = '.removed';

export interface KeptTail {
  readonly id: string;
  /** UTC milliseconds. */
  readonly at: number;
  /** All its files. */
  readonly bytes: number;
}

/** Pure: ids of those of one volume that go, oldest first. */
export function tailsToRemove(
  tails: readonly KeptTail[],
  limits: { readonly now: number; readonly maxAgeMs: number; readonly maxBytes: number },
): string[] {
  const [newest, ...older] = [...tails].sort((a, b) => b.at - a.at);
  let kept = newest?.bytes ?? 0;
  const going = older.filter(({ at, bytes }) => {
    if (limits.now - at > limits.maxAgeMs || kept + bytes > limits.maxBytes) return true;
    kept += bytes;
    return false;
  });
  return going.map(({ id }) => id).reverse();
}

const lookedAt = new WeakMap<MemberContext, number>();

/** At most once an hour; `isDue` at once, after another one was saved. Never throws. */
export async function pruneTails(context: MemberContext, isDue = false): Promise<void> {
  const now = context.clock.now();
  if (!isDue && now - (lookedAt.get(context) ?? Number.NEGATIVE_INFINITY) < LOOK_EVERY_MS) return;
  lookedAt.set(context, now);
  try {
    let hasRemoved = false;
    for (const place of ['data', 'backup'] as const) hasRemoved = (await pruneVolume(context, place)) || hasRemoved;
    if (!hasRemoved) return;
    await refreshTails(context);
    context.changed();
  } catch (error) {
    context.log.warn({ err: error }, 'old tails were not removed');
  }
}

async function pruneVolume(context: MemberContext, place: 'data' | 'backup'): Promise<boolean> {
  const volume = context.volumes?.[place];
  if (!volume) return false;
  const tails = await readTails(volume);
  const root = join(volume.path, 'tails');
  const { totalMb } = await measureVolume(volume);
  const going = tailsToRemove(
    tails.map(({ id, at, files }) => ({ id, at, bytes: files.reduce((sum, file) => sum + file.bytes, 0) })),
    { now: context.clock.now(), maxAgeMs: MAX_AGE_MS, maxBytes: totalMb * 1024 * 1024 * maxShare[place] },
  );
  for (const id of going) {
    await rename(join(root, id), join(root, `${id}${REMOVED}`));
    context.log.warn({ id, place }, 'an old tail is removed');
  }
  const names = await readdir(root).catch(() => []);
  for (const name of names.filter((one) => one.endsWith(REMOVED))) {
    await rm(join(root, name), { recursive: true, force: true });
  }
  return going.length > 0;
}
