/**
 * Reads every closed log of the archive again, each once a day, slowly, and compares its SHA-256: a flipped bit is found
 * while the log can still be copied again, or taken from another member.
 */
import { stat } from 'node:fs/promises';
import { delay } from '../clock.ts';
import { hashStart, pathOf } from './archive-segments.ts';
import { isMissing } from './durable.ts';
import type { MemberContext } from './member-context.ts';
import { createThrottle } from './throttle.ts';

const CHECK_EVERY_MS = 24 * 3_600_000;
const IDLE_MS = 5_000;
/** A disk of a busy agent notices no more than that. */
const BYTES_PER_SEC = 16 * 1024 * 1024;

export interface ArchiveChecker {
  close(): Promise<void>;
}

/** Begins with what an earlier executor left. Never throws; ends when it is closed. */
export function startArchiveChecker(context: MemberContext): ArchiveChecker {
  const { clock, log } = context;
  const end = new AbortController();
  const checkedAt = new Map<string, number>();
  const throttle = createThrottle(clock, BYTES_PER_SEC);

  const checkNext = async (): Promise<boolean> => {
    const volume = context.volumes?.backup;
    if (!volume) return false;
    const sealed = context.archive.sealed();
    const isDue = (key: string) => clock.now() - (checkedAt.get(key) ?? Number.NEGATIVE_INFINITY) >= CHECK_EVERY_MS;
    const keyOf = ({ serverUuid, name }: (typeof sealed)[number]) => `${serverUuid}/${name}`;
    const next = sealed.find((segment) => isDue(keyOf(segment)));
    for (const key of checkedAt.keys()) if (!sealed.some((segment) => keyOf(segment) === key)) checkedAt.delete(key);
    if (!next) return false;
    checkedAt.set(keyOf(next), clock.now());
    const path = pathOf(volume, next);
    try {
      const isWhole = (await stat(path)).size === next.bytes;
      const take = (bytes: number, signal: AbortSignal) => throttle.take(bytes, signal);
      if (!isWhole || (await hashStart(path, next.bytes, end.signal, take)) !== next.sha256)
        await context.archive.reject(next);
    } catch (error) {
      if (!isMissing(error)) throw error; // it expired just now, or was removed: the archiver looks by itself
    }
    return true;
  };

  const run = async () => {
    while (!end.signal.aborted) {
      let isMore = false;
      try {
        isMore = await checkNext();
      } catch (error) {
        if (!end.signal.aborted) log.warn({ err: error }, 'an archived binary log could not be checked');
      }
      if (!isMore) await delay(clock, IDLE_MS, end.signal).catch(() => {});
    }
  };
  const ended = run();
  return {
    close() {
      end.abort();
      return ended;
    },
  };
}
