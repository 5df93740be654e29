// Makes a fresh checkout ready to run: npm packages, a MySQL distribution in .cache/mysql, a template data directory.
// Plain Node 20 without packages, because it runs before there are any. Installs nothing on the machine, needs no root,
// may be killed at any point and run again. A second run only compares what the first one recorded.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isComplete, listDistributions, series } from '../src/mysql/distribution-cache.mjs';
import { ensureExtra, extraPath, extras } from './extras-from-debian.mjs';
import { fillCache } from './mysql-from-debian.mjs';
import { SetupError, say } from './setup-error.mjs';

const help = `Usage: node scripts/setup.mjs [--with NAME]… [--help]

Prepares this checkout:
  1. npm ci, when node_modules is missing or older than package-lock.json
  2. a MySQL ${series} distribution: SELVEDGE_MYSQL_HOME, else mysqld ${series} on PATH, else .cache/mysql, filled from
     Debian's unstable suite through the machine's own apt configuration (nothing is installed, root is not needed)
  3. a template data directory in .cache/mysql
  4. with "--with haproxy": HAProxy in .cache/haproxy, from Debian's unstable suite, for selvedge proxy;
     with "--with nftables": nft in .cache/nftables, likewise, for tests that cut networks

Environment:
  SELVEDGE_MYSQL_HOME   directory of an unpacked MySQL ${series} (with bin/mysqld or usr/sbin/mysqld)

Exit codes: 0 ready, 1 a step failed, 2 wrong usage, 3 something is missing (the message says what to do)`;

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const cacheDir = join(root, '.cache', 'mysql');
const stampFile = join(cacheDir, 'setup.json');
const cacheRoot = join(root, '.cache');
const installedLock = join(root, 'node_modules', '.package-lock.json');
const home = process.env.SELVEDGE_MYSQL_HOME ?? '';

function modified(file) {
  return statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

const arePackagesFresh = () => modified(installedLock) >= modified(join(root, 'package-lock.json'));

/** What the last complete run recorded still holds: same choice of a distribution, same mysqld, template in place. */
function isMysqlFresh() {
  try {
    const stamp = JSON.parse(readFileSync(stampFile, 'utf8'));
    const mysqld = statSync(stamp.mysqld);
    const isSame = mysqld.size === stamp.size && mysqld.mtimeMs === stamp.mtimeMs && stamp.home === home;
    return isSame && existsSync(stamp.template) && (!stamp.cached || isComplete(stamp.cached));
  } catch {
    return false; // No stamp, or half a stamp: go the long way.
  }
}

function installPackages() {
  if (arePackagesFresh()) return;
  say('npm ci');
  const ci = npm(['ci']);
  if (ci.status !== 0) {
    process.stderr.write(ci.stderr);
    throw new SetupError(1, 'npm ci failed, see above. Mend the cause and run setup again.');
  }
  const now = new Date();
  utimesSync(installedLock, now, now);
}

function npm(args) {
  const argv = process.env.npm_execpath ? [process.execPath, process.env.npm_execpath] : ['npm'];
  const result = spawnSync(argv[0], [...argv.slice(1), ...args, '--no-progress'], {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 16 << 20,
    stdio: ['ignore', 2, 'pipe'],
  });
  if (result.error?.code === 'ENOENT') {
    throw new SetupError(3, 'npm is not on PATH: install it (Debian: apt install npm).');
  }
  return result;
}

/** A mysqld of the tested series on PATH; anything else there (MariaDB, an older series) is passed over. */
function isOnPath() {
  const { stdout } = spawnSync('mysqld', ['--no-defaults', '--version'], { encoding: 'utf8' });
  return Boolean(
    stdout && new RegExp(`Ver ${series.replace('.', '\\.')}\\.\\d`).test(stdout) && !/mariadb/i.test(stdout),
  );
}

async function ensureMysql() {
  const isCached = !home && !isOnPath();
  if (isCached && listDistributions(cacheDir).length === 0) await fillCache(cacheDir, join(root, 'scripts'));
  const node = join(root, 'node_modules', '.bin', 'node');
  const { status, stdout, error } = spawnSync(node, [join(root, 'src', 'mysql', 'prepare.ts'), cacheDir], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 2],
  });
  if (status !== 0)
    throw new SetupError(1, `MySQL could not be prepared${error ? `: ${error.message}` : ', see above'}.`);
  const { mysqld, template } = JSON.parse(stdout);
  const { size, mtimeMs } = statSync(mysqld);
  const cached = isCached ? listDistributions(cacheDir)[0] : null;
  writeFileSync(`${stampFile}.tmp`, `${JSON.stringify({ home, mysqld, size, mtimeMs, template, cached })}\n`);
  renameSync(`${stampFile}.tmp`, stampFile);
}

/** Runs the long way under flock, so that two setups at once do the work once. */
function runLocked(args) {
  mkdirSync(cacheDir, { recursive: true });
  const script = fileURLToPath(import.meta.url);
  const lock = join(cacheDir, 'setup.lock');
  const wait = ['flock', '-w', '1800', '-E', '75', lock, process.execPath, script, ...args];
  const { status, error } = spawnSync(wait[0], wait.slice(1), {
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, SELVEDGE_SETUP_LOCKED: '1' },
  });
  if (error?.code === 'ENOENT') {
    throw new SetupError(3, 'flock is missing; mysqld is started through it, too. Install util-linux.');
  }
  if (status === 75) throw new SetupError(1, `Another setup held ${lock} for 30 minutes. End it and run setup again.`);
  return status ?? 1;
}

/** Of `--with NAME`, any number of times. */
function readExtras(args) {
  const wrong = () => new SetupError(2, `Unknown argument ${args.join(' ')}; see --help.`);
  if (args.length % 2 !== 0) throw wrong();
  return args.flatMap((arg, index) => {
    if (index % 2 === 1) return [];
    const name = args[index + 1];
    if (arg !== '--with' || !Object.hasOwn(extras, name)) throw wrong();
    return [name];
  });
}

async function main(args) {
  if (args.includes('--help') || args.includes('-h')) {
    process.stdout.write(`${help}\n`);
    return 0;
  }
  const wanted = readExtras(args);
  if (Number(process.versions.node.split('.')[0]) < 20) {
    throw new SetupError(3, `Node ${process.versions.node} is too old: install Node 20 or newer.`);
  }
  const findMissing = () => wanted.filter((name) => !existsSync(extraPath(cacheRoot, name)));
  if (arePackagesFresh() && isMysqlFresh() && findMissing().length === 0) return 0;
  if (!process.env.SELVEDGE_SETUP_LOCKED) return runLocked(args);
  installPackages();
  if (!isMysqlFresh()) {
    rmSync(stampFile, { force: true });
    await ensureMysql();
    say('ready');
  }
  for (const name of findMissing()) {
    ensureExtra(name, cacheRoot, join(root, 'scripts'));
    say(`${name} is ready`);
  }
  return 0;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  say(error instanceof SetupError ? error.message : `failed: ${error?.stack ?? error}`);
  process.exitCode = error instanceof SetupError ? error.exitCode : 1;
}
