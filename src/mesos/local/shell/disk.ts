/** What agents and the master keep on this machine's disk. */
import {
  chmodSync,
  closeSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeSync,
} from 'node:fs';
import { copyFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { CommandInfo } from '../../types.ts';

/** Durable when it returns: written beside, synced, renamed, and the directory synced. */
export function writeJson(path: string, value: unknown): void {
  mkdirSync(dirname(path), { recursive: true });
  const beside = `${path}.new`;
  const file = openSync(beside, 'w', 0o600);
  try {
    writeSync(file, JSON.stringify(value));
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(beside, path);
  const directory = openSync(dirname(path), 'r');
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}

/** null if there is none. Our own file: what cannot be parsed was damaged and is not guessed at. */
export function readJson(path: string): unknown {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new Error(`read ${path}`, { cause });
  }
}

export const makeDirectory = (path: string): void => {
  mkdirSync(path, { recursive: true });
};

export const removeDirectory = (path: string): void => rmSync(path, { recursive: true, force: true });

export function emptyDirectory(path: string): void {
  mkdirSync(path, { recursive: true });
  for (const name of readdirSync(path)) rmSync(join(path, name), { recursive: true, force: true });
}

const isSymlink = (path: string): boolean => lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() ?? false;

export function symlink(target: string, path: string): void {
  removeSymlink(path);
  symlinkSync(target, path);
}

export function removeSymlink(path: string): void {
  if (isSymlink(path)) rmSync(path);
}

const ARCHIVE = /\.(tar|tgz|tbz2|txz|zip|tar\.(gz|bz2|xz))$/;

/** Files of this machine only. Anything else is refused in words, as a real agent reports a failed fetch. */
export async function fetchUris(uris: NonNullable<CommandInfo['uris']>, directory: string): Promise<void> {
  for (const { value, executable, extract, output_file } of uris) {
    const source = value.startsWith('file://') ? fileURLToPath(value) : value;
    if (!source.startsWith('/')) throw new Error(`mesos-local fetches local files only, not '${value}'`);
    if ((extract ?? true) && ARCHIVE.test(source))
      throw new Error(`mesos-local does not extract archives: set extract to false for '${value}'`);
    const target = join(directory, basename(output_file ?? source));
    await copyFile(source, target);
    if (executable) chmodSync(target, 0o755);
  }
}
