/** Copying a backup's files while checking each against its SHA-256: a damaged backup is never started. */
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { copyFile, mkdir, open, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Refusal } from '../errors.ts';
import { createDirect } from './direct-io.ts';
import { syncDirectory } from './durable.ts';
import type { WorkHandle } from './long-work.ts';
import { type BackupFiles, dataOf, hashFile, makeDirectories } from './manifest.ts';
import { type OpenBackup, readFiles } from './open-backup.ts';
import { copyUnpacked, type Packed } from './packing.ts';
import { readThrough } from './read-through.ts';

/** Fills `target`, which must not exist, with the backup's data; on disk when it returns. Throws BACKUP_DAMAGED. */
export async function copyBackup(options: {
  readonly backup: OpenBackup;
  readonly target: string;
  readonly work: Pick<WorkHandle, 'signal' | 'progress'>;
}): Promise<void> {
  const { backup, target, work } = options;
  const { directory, manifest, packed } = backup;
  const files = await readFiles(backup);
  await mkdir(target, { mode: 0o750 });
  const directories = new Set([target, ...(await makeDirectories(target, manifest))]);
  let done = 0;
  for (const file of files) {
    const to = join(target, file.path);
    await mkdir(dirname(to), { recursive: true, mode: 0o750 });
    for (let at = dirname(to); at !== target; at = dirname(at)) directories.add(at);
    if (packed) await writeUnpacked({ packed, file, to, signal: work.signal });
    else {
      const copied = await copyChecked(join(dataOf(directory), file.path), to, work.signal);
      if (copied.sha256 !== file.sha256 || copied.bytes !== file.bytes) {
        throw new Refusal('BACKUP_DAMAGED', `${file.path} of backup ${manifest.id} does not match its checksum`);
      }
    }
    done += file.bytes;
    work.progress(done, manifest.bytes);
  }
  for (const each of [...directories].sort().reverse()) await syncDirectory(each);
  await syncDirectory(dirname(target));
}

/** A file of a packed backup, plain, on disk when it returns. Throws BACKUP_DAMAGED. */
export async function writeUnpacked(options: {
  readonly packed: Packed;
  readonly file: BackupFiles[number];
  readonly to: string;
  readonly signal: AbortSignal;
  onChunk?(bytes: number): Promise<void>;
}): Promise<void> {
  const { to, onChunk } = options;
  await using target = await open(to, 'wx', 0o640);
  const take = async (chunk: Buffer) => {
    await target.writeFile(chunk);
    await onChunk?.(chunk.length);
  };
  await copyUnpacked({ ...options, take });
  await target.sync();
}

/** By reflink where the file system can (then only read to be checked), else read once for both copy and check. */
async function copyChecked(from: string, to: string, signal: AbortSignal): Promise<{ bytes: number; sha256: string }> {
  try {
    await copyFile(from, to, constants.COPYFILE_FICLONE_FORCE | constants.COPYFILE_EXCL);
    await using file = await open(to, 'r+');
    await file.chmod(0o640);
    await file.sync();
    return await hashFile(to, signal);
  } catch {
    // Not one file system, or one that cannot: what a failed try left is made anew, and a read error comes up again.
    await rm(to, { force: true });
  }
  const hash = createHash('sha256');
  await using file = await createDirect(to, 0o640);
  const bytes = await readThrough(from, signal, async (chunk) => {
    const written = file.write(chunk);
    hash.update(chunk);
    await written;
  });
  await file.sync();
  return { bytes, sha256: hash.digest('hex') };
}
