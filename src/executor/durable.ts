/** Files that survive a crash of the process or the host whole: old content or new, never a mixture. */
import { constants } from 'node:fs';
import { mkdir, open, readdir, readFile, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';

/** Hardly a file of ours that is read back whole is larger. */
const MAX_FILE_BYTES = 4 * 1024 * 1024;

const SYNCS_AT_ONCE = 8;

/** Writes a temporary file beside `path`, flushes it, renames it into place and flushes the directory. */
export async function writeDurable(path: string, content: string | Uint8Array, mode = 0o600): Promise<void> {
  const temporary = `${path}.new`;
  const file = await open(temporary, constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC, mode);
  try {
    await file.chmod(mode); // an older temporary file may have another mode
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
  await renameDurable(temporary, path);
}

/** Renames within one file system and flushes the directory, so that the name survives too. */
export async function renameDurable(from: string, to: string): Promise<void> {
  await rename(from, to);
  await syncDirectory(dirname(to));
  if (dirname(from) !== dirname(to)) await syncDirectory(dirname(from));
}

/** Flushes the entries of a directory. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** Flushes every file and directory below `root`, and itself; a few at a time, since each waits for the disk. */
export async function syncTree(root: string): Promise<void> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  const paths = entries
    .filter((entry) => entry.isFile() || entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name));
  const next = paths.values();
  const work = async () => {
    for (const path of next) await syncPath(path);
  };
  await Promise.all(Array.from({ length: SYNCS_AT_ONCE }, work));
  await syncDirectory(root);
}

async function syncPath(path: string): Promise<void> {
  const file = await open(path, constants.O_RDONLY);
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Makes a directory (and its parents) and flushes the parent. */
export async function makeDirectory(path: string, mode = 0o700): Promise<void> {
  await mkdir(path, { recursive: true, mode });
  await syncDirectory(dirname(path));
}

/** The text of a file, or null when there is none. Throws past `maxBytes` (default 4 MB): it is not ours then. */
export async function readIfThere(path: string, maxBytes = MAX_FILE_BYTES): Promise<string | null> {
  let file: Awaited<ReturnType<typeof open>>;
  try {
    file = await open(path, constants.O_RDONLY);
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
  try {
    const { size } = await file.stat();
    if (size > maxBytes) throw new Error(`${path} is too large: ${size} bytes`);
    return await readFile(file, 'utf8');
  } finally {
    await file.close();
  }
}

/** True for ENOENT and ENOTDIR. */
export function isMissing(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException | null)?.code;
  return code === 'ENOENT' || code === 'ENOTDIR';
}
