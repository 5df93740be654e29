/**
 * What mysqld's error log tells about its data. Decided by the codes of its lines, never by their words; a member's log
 * has errors and warnings only (my.cnf). Each code was seen on MySQL 9.7 after the damage that stands beside it; what is
 * left out is left out on purpose: MY-012224 (a first page that does not match) is also told of one that mysqld mends
 * from its doublewrite file, MY-010020 (no data dictionary) and MY-012930 follow a full disk too.
 */
import { open, stat } from 'node:fs/promises';

/** These prove it: mysqld ends on all of them, at once or when it tries to start. */
const proofs: ReadonlySet<string> = new Set([
  'MY-011906', // a page that does not match its checksum, or that the disk cannot read (a hundred times, then it ends)
  'MY-012094', // a file that is shorter than its own header says
  'MY-012237', // a first page that does not match, and is not in the doublewrite file
  'MY-012263', // ibdata1 has another size
  'MY-012642', // less could be read than the file should hold
  'MY-012964', // recovery has changes of a tablespace that has no file
  'MY-013857', // a redo log that is too short
  'MY-013859', // the header of a redo log cannot be read
  'MY-013862', // there is no redo log
]);

/** These ask for a look at the files: they are also told of what people do on purpose (DISCARD TABLESPACE). */
const hints: ReadonlySet<string> = new Set(['MY-012049', 'MY-012216', 'MY-012351']);

/** One damaged page is told with a dump of 40 KB, a hundred times. */
const LOOK_BYTES = 1024 * 1024;
const LINE_CHARACTERS = 300;
const line = /^\d{4}-\d{2}-\d{2}T\S+ \d+ \[(?:ERROR|Warning)\] \[(MY-\d{6})\] \[\w+\] (.*)/;

export interface LogLook {
  /** The first line that proves damage, its code before it. */
  readonly damage: string | null;
  readonly hasHint: boolean;
  /** Where the next look begins. */
  readonly end: number;
}

/** Bytes of the log; 0 when there is none. */
export async function measureLog(path: string): Promise<number> {
  return (await stat(path).catch(() => null))?.size ?? 0;
}

/** Reads whole lines from byte `from` on, at most 1 MB of them. Never throws. */
export async function lookAtLog(path: string, from: number): Promise<LogLook> {
  try {
    await using file = await open(path, 'r');
    const { size } = await file.stat();
    // It is emptied when it has grown too large.
    const start = from > size ? 0 : from;
    const { buffer, bytesRead } = await file.read(Buffer.alloc(Math.min(LOOK_BYTES, size - start)), 0, null, start);
    const lastEnd = buffer.lastIndexOf(0x0a, bytesRead - 1) + 1;
    // A line that fills all of it is none of mysqld's.
    const read = lastEnd === 0 && bytesRead === LOOK_BYTES ? bytesRead : lastEnd;
    return { ...judgeLog(buffer.toString('utf8', 0, read)), end: start + read };
  } catch {
    return { damage: null, hasHint: false, end: from };
  }
}

/** The first line from byte `from` on that proves damage; null: none, or it was not found before `signal`. */
export async function findDamage(path: string, from: number, signal: AbortSignal): Promise<string | null> {
  for (let at = from; !signal.aborted; ) {
    const { damage, end } = await lookAtLog(path, at);
    if (damage !== null || end === at) return damage;
    at = end;
  }
  return null;
}

/** Pure: what these lines tell. */
export function judgeLog(text: string): Pick<LogLook, 'damage' | 'hasHint'> {
  let damage: string | null = null;
  let hasHint = false;
  for (const each of text.split('\n')) {
    const [, code = '', words = ''] = line.exec(each) ?? [];
    if (proofs.has(code)) damage ??= `${code} ${words}`.slice(0, LINE_CHARACTERS);
    else hasHint ||= hints.has(code);
  }
  return { damage, hasHint };
}
