/** What lies in a member's archive, beside what lies in its data directory. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Status } from '../../src/channel/protocol.ts';
import { volumeOf } from './trim-world.ts';
import type { TestMember } from './world.ts';

export type Archive = NonNullable<Status['archive']>;

export const archiveDirectory = (member: TestMember, serverUuid?: string): string =>
  join(volumeOf(member, 'backup'), 'archive', serverUuid ?? '');

export const dataDirectory = (member: TestMember): string => join(volumeOf(member, 'data'), 'data');

export function logNames(directory: string): string[] {
  return readdirSync(directory)
    .filter((name) => /^binlog\.\d+$/.test(name))
    .sort();
}

/** Both as bytes, the flag of an open log aside: the archive holds logs as they are closed. */
export function compareLog(member: TestMember, serverUuid: string, name: string): 'equal' | 'differs' | 'prefix' {
  const source = readFileSync(join(dataDirectory(member), name));
  const copy = readFileSync(join(archiveDirectory(member, serverUuid), name));
  source[21]! &= ~1;
  if (source.equals(copy)) return 'equal';
  return source.subarray(0, copy.length).equals(copy) ? 'prefix' : 'differs';
}

export const sizeOf = (path: string): number => statSync(path).size;

/** Waits until everything that was written so far is durable in the archive. */
export async function archived(member: TestMember): Promise<Archive> {
  const { at } = await member.status();
  const isArchived = ({ archive }: Status) => (archive?.archivedAt ?? 0) > at && archive?.error === null;
  return (await member.until(isArchived)).archive!;
}
