import { execFile } from 'node:child_process';
import { constants, existsSync, readdirSync } from 'node:fs';
import { chmod, cp, mkdir, mkdtemp, open, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import type { Distribution } from './distribution.ts';

const run = promisify(execFile);
/** Raised when the content of a template changes, so that older ones are not taken. */
const templateFormat = 1;
const initialiseTimeoutMs = 180_000;
/** What tells one server from another. */
const notCopied = 'auto.cnf';
const isCopied = (name: string) => name !== notCopied && !name.endsWith('.pem');

/** Where ensureTemplate puts the template of this version. */
export function templateDir(distribution: Distribution, cacheDir: string): string {
  return join(cacheDir, `template-${templateFormat}-${distribution.version}`);
}

/**
 * An initialised data directory with an empty root password, no binary log and no server_uuid, made once per version.
 * It has its name only when it is complete and on disk. Answers its path.
 */
export async function ensureTemplate(distribution: Distribution, cacheDir: string): Promise<string> {
  const target = templateDir(distribution, cacheDir);
  if (existsSync(target)) return target;
  await mkdir(cacheDir, { recursive: true });
  await removeLeftovers(cacheDir);
  const work = await mkdtemp(join(cacheDir, `${leftoverPrefix}${process.pid}-`));
  try {
    await initialise(distribution, join(work, 'data'));
    await syncTree(join(work, 'data'));
    await renameUnlessThere(join(work, 'data'), target);
    await syncDirectory(cacheDir);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return target;
}

const leftoverPrefix = 'initialising-';

/** Directories of processes that were killed while they initialised. */
async function removeLeftovers(cacheDir: string): Promise<void> {
  for (const name of readdirSync(cacheDir)) {
    if (!name.startsWith(leftoverPrefix)) continue;
    const pid = name.slice(leftoverPrefix.length).split('-')[0] ?? '';
    if (!existsSync(`/proc/${pid}`)) await rm(join(cacheDir, name), { recursive: true, force: true });
  }
}

async function initialise(distribution: Distribution, dataDir: string): Promise<void> {
  const [file = '', ...args] = distribution.program('mysqld');
  const options = [
    '--no-defaults',
    ...distribution.serverArgs,
    '--initialize-insecure',
    `--datadir=${dataDir}`,
    '--skip-log-bin',
    '--auto-generate-certs=OFF',
    '--caching-sha2-password-auto-generate-rsa-keys=OFF',
    '--innodb-redo-log-capacity=8M',
    // Nothing is synced while it initialises; the tree is synced as a whole before it gets its name.
    '--innodb-flush-method=nosync',
    '--innodb-flush-log-at-trx-commit=0',
  ];
  try {
    await run(file, [...args, ...options], { timeout: initialiseTimeoutMs, maxBuffer: 16 << 20 });
  } catch (error) {
    const output = String((error as { stderr?: string }).stderr ?? '').trim();
    const reason = output.split('\n').filter((line) => line.includes('[ERROR]'));
    throw new Error(`initialise a data directory with ${file}: ${reason.join('\n') || output}`, { cause: error });
  }
}

/** Two processes may have made the template at the same time: they are equal, and the first one stays. */
async function renameUnlessThere(from: string, to: string): Promise<void> {
  try {
    await rename(from, to);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOTEMPTY' && code !== 'EEXIST') throw error;
  }
}

/**
 * Fills `targetDir` (missing or empty) with the template, by reflink where the file system can.
 * `isDurable`: the copy is on disk when this returns, so that a marker may follow; tests do without.
 */
export async function copyTemplate(
  template: string,
  targetDir: string,
  { isDurable = true }: { readonly isDurable?: boolean } = {},
): Promise<void> {
  await mkdir(targetDir, { recursive: true, mode: 0o750 });
  if ((await readdir(targetDir)).length > 0) throw new Error(`${targetDir} is not empty`);
  await cp(template, targetDir, {
    recursive: true,
    errorOnExist: true,
    mode: constants.COPYFILE_FICLONE,
    filter: (source) => source === template || isCopied(basename(source)),
  });
  await chmod(targetDir, 0o750);
  if (!isDurable) return;
  await syncTree(targetDir);
  await syncDirectory(dirname(targetDir));
}

/** fsync of every file and directory below `dir`. */
export async function syncTree(dir: string): Promise<void> {
  for (const entry of await readdir(dir, { withFileTypes: true, recursive: true })) {
    if (entry.isFile() || entry.isDirectory()) await syncDirectory(join(entry.parentPath, entry.name));
  }
  await syncDirectory(dir);
}

/** fsync of one directory (or file): makes the names in it durable. */
async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
