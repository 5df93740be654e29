import { spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

const VERSION_TIMEOUT_MS = 10_000;
/** 2.6: limits of files. Tested with 3.2. */
const OLDEST = [2, 6] as const;

export interface Program {
  readonly path: string;
  readonly version: string;
}

/**
 * The given one, else the first on PATH, else the one that setup fetched. Throws a sentence for people when there is
 * none, it does not run, or it is too old.
 */
export function findHaproxy(options: {
  readonly given: string | undefined;
  readonly path: string;
  readonly cacheDir: string;
}): Program {
  const { given, path, cacheDir } = options;
  const folders = path.split(delimiter).filter((folder) => folder !== '');
  const candidates = given ? [given] : [...folders, cacheDir].map((folder) => join(folder, 'haproxy'));
  const found = candidates.find(isExecutable);
  const instead = 'Install HAProxy 2.6 or newer, run `node scripts/setup.mjs --with haproxy`, or give --haproxy PATH.';
  if (!found) throw new Error(`${given ?? 'haproxy'} is not there or not executable. ${instead}`);
  const { stdout } = spawnSync(found, ['-v'], { encoding: 'utf8', timeout: VERSION_TIMEOUT_MS });
  const version = /^HAProxy version (\d+)\.(\d+)\S*/m.exec(stdout ?? '');
  if (!version) throw new Error(`${found} does not run here or is no HAProxy. ${instead}`);
  const [major, minor] = [Number(version[1]), Number(version[2])];
  if (major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1]))
    throw new Error(`${found} is too old: ${version[0]}. ${instead}`);
  return { path: found, version: version[0].slice('HAProxy version '.length) };
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
