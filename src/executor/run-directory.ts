/**
 * A short private directory outside the sandbox: Unix sockets have at most 107 bytes of path, and Mesos shows the
 * sandbox to whoever may look at the task, so keys do not belong there. One per data volume, so that an executor that
 * was killed leaves nothing behind that its successor does not take over.
 */
import { createHash } from 'node:crypto';
import { lstat, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';

/** Makes it empty, mode 0700. Throws when someone else's thing has the name. */
export async function openRunDirectory(root: string, volumePath: string): Promise<string> {
  const digest = createHash('sha256').update(volumePath).digest('hex').slice(0, 16);
  const path = join(root, `selvedge-${process.getuid?.() ?? 0}-${digest}`);
  const found = await lstat(path).catch(() => null);
  if (found && (!found.isDirectory() || found.uid !== process.getuid?.())) {
    throw new Error(`${path} is not ours`);
  }
  await rm(path, { recursive: true, force: true });
  await mkdir(path, { mode: 0o700 });
  return path;
}

/** At the end of a task: mysqld has ended, and a next launch makes it anew. */
export async function removeRunDirectory(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true });
}
