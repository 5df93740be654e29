import { execFile } from 'node:child_process';
import { existsSync, realpathSync } from 'node:fs';
import { userInfo } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { Refusal } from '../errors.ts';
import { listDistributions, readManifest, series } from './distribution-cache.mjs';

const run = promisify(execFile);
const versionTimeoutMs = 20_000;

type Program = 'mysqld' | 'mysqlbinlog' | 'mysql' | 'mysqldump';

/** MySQL's programs and files on this machine. */
export interface Distribution {
  /** Directory that can be handed on as a whole. */
  readonly home: string;
  /** As mysqld says it: `9.7.4` or `9.7.4-2`. */
  readonly version: string;
  /** Path of the mysqld file itself. */
  readonly mysqld: string;
  /** argv prefix; with the distribution's own loader and libc where it has them. */
  program(name: Program): string[];
  /** Arguments that every mysqld of this distribution needs, after `--defaults-file` or `--no-defaults`. */
  readonly serverArgs: readonly string[];
}

export interface FindOptions {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Where setup and the executor keep unpacked distributions. */
  readonly cacheDir: string;
  /** Take a series that the project is not tested with. */
  readonly allowUntestedVersion?: boolean;
}

/**
 * SELVEDGE_MYSQL_HOME, else a tested mysqld on PATH, else the newest complete one of the cache.
 * Refuses with MYSQL_MISSING or MYSQL_UNSUPPORTED. Runs `mysqld --version` of what it returns.
 */
export async function findDistribution({ env, cacheDir, allowUntestedVersion }: FindOptions): Promise<Distribution> {
  const explicit = env['SELVEDGE_MYSQL_HOME'];
  if (explicit) return openDistribution(explicit, { allowUntestedVersion: allowUntestedVersion ?? false });
  const seen: string[] = [];
  const candidates = [...findOnPath(env['PATH'] ?? ''), ...listDistributions(cacheDir)];
  for (const home of candidates) {
    try {
      return await openDistribution(home, { allowUntestedVersion: false });
    } catch (error) {
      // What merely happens to be installed is passed over: nobody asked for it.
      if (!(error instanceof Refusal)) throw error;
      seen.push(error.message);
    }
  }
  const found = seen.length > 0 ? ` Passed over: ${seen.join(' ')}` : '';
  throw new Refusal('MYSQL_MISSING', `No MySQL ${series} in SELVEDGE_MYSQL_HOME, PATH or ${cacheDir}.${found}`);
}

function findOnPath(path: string): string[] {
  const folder = path.split(delimiter).find((each) => each !== '' && existsSync(join(each, 'mysqld')));
  if (!folder) return [];
  return [dirname(dirname(realpathSync(join(folder, 'mysqld'))))];
}

/** Looks at the files of one home (Debian's layout, with or without `usr`, or the layout of Oracle's archives). */
async function openDistribution(
  home: string,
  { allowUntestedVersion }: { readonly allowUntestedVersion: boolean },
): Promise<Distribution> {
  const base = [join(home, 'usr'), home].find((each) => findBelow(each, ['sbin/mysqld', 'bin/mysqld']));
  if (!base) {
    const which = ['sbin/mariadbd', 'bin/mariadbd', 'usr/sbin/mariadbd', 'usr/bin/mariadbd'];
    const isMariaDb = findBelow(home, which) !== null;
    if (isMariaDb) throw new Refusal('MYSQL_UNSUPPORTED', `${home} is MariaDB, not MySQL.`);
    throw new Refusal('MYSQL_MISSING', `${home} has no bin/mysqld or sbin/mysqld.`);
  }
  const mysqld = findBelow(base, ['sbin/mysqld', 'bin/mysqld'])!;
  const prefix = loaderPrefix(home);
  const version = await readVersion([...prefix, mysqld]);
  if (!version.startsWith(`${series}.`) && !allowUntestedVersion) {
    throw new Refusal('MYSQL_UNSUPPORTED', `${mysqld} is MySQL ${version}; tested is ${series}.`, { version });
  }
  return {
    home,
    version,
    mysqld,
    program: (name) => [...prefix, name === 'mysqld' ? mysqld : findProgram(base, name)],
    serverArgs: serverArgs(base),
  };
}

function findProgram(base: string, name: Program): string {
  const path = findBelow(base, [`bin/${name}`, `sbin/${name}`]);
  if (!path) throw new Refusal('MYSQL_MISSING', `${base} has no bin/${name}.`);
  return path;
}

function findBelow(base: string, paths: readonly string[]): string | null {
  const path = paths.find((each) => existsSync(join(base, each)));
  return path === undefined ? null : join(base, path);
}

/** A cached distribution brings libc and loader of its own: it runs on any Linux of its architecture. */
function loaderPrefix(home: string): string[] {
  const manifest = readManifest(home);
  if (!manifest) return [];
  return [join(home, manifest.loader), '--library-path', join(home, manifest.libraryPath)];
}

async function readVersion(argv: readonly string[]): Promise<string> {
  const [file = '', ...args] = argv;
  const mysqld = args.at(-1) ?? file;
  let text: string;
  try {
    text = (await run(file, [...args, '--no-defaults', '--version'], { timeout: versionTimeoutMs })).stdout;
  } catch (error) {
    throw new Refusal('MYSQL_UNSUPPORTED', `${mysqld} does not run here: ${(error as Error).message.trim()}`);
  }
  if (/mariadb/i.test(text)) throw new Refusal('MYSQL_UNSUPPORTED', `${mysqld} is MariaDB, not MySQL.`);
  const version = /\bVer (\d+\.\d+\.\d+\S*)/.exec(text)?.[1];
  if (!version) throw new Refusal('MYSQL_UNSUPPORTED', `${mysqld} does not tell its version: ${text.trim()}`);
  return version;
}

function serverArgs(base: string): string[] {
  const plugins = findBelow(base, ['lib/mysql/plugin', 'lib64/mysql/plugin', 'lib/plugin']);
  const share = ['share/mysql', 'share'].find((each) => existsSync(join(base, each, 'charsets')));
  const args = [`--basedir=${base}`];
  if (plugins) args.push(`--plugin-dir=${plugins}`);
  if (share)
    args.push(`--lc-messages-dir=${join(base, share)}`, `--character-sets-dir=${join(base, share, 'charsets')}`);
  // Debian's build would abort without its default directory for LOAD DATA.
  args.push('--secure-file-priv=NULL');
  // mysqld refuses to run as root unless it is told so.
  if (process.getuid?.() === 0) args.push(`--user=${userInfo().username}`);
  return args;
}
