// Unpacks a program of Debian's unstable suite with its whole closure, libc and loader too, into a cache of its own. apt
// does the network, the proxies, the logins and the signatures, in a private state with an empty dpkg status.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { manifestFormat, manifestName } from '../src/mysql/distribution-cache.mjs';
import { SetupError, say } from './setup-error.mjs';

const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';

/**
 * What to take. `packages`: the wanted ones, of one version. `series`: how the version must begin. `shares`: folders of
 * usr/share to keep. `instead`: what a person may do without Debian. `finish`: last touch before the rename.
 * @typedef {{ packages: string[], programs: string[], series: string, shares: string[], neededMb: number,
 *   downloadMb: number, checksums: string, instead: string, finish?: (home: string, loader: Loader) => void }} Product
 * @typedef {{ loader: string, libraryPath: string }} Loader
 */

function run(argv, instead = '') {
  const result = spawnSync(argv[0], argv.slice(1), {
    encoding: 'utf8',
    maxBuffer: 64 << 20,
    env: { ...process.env, LC_ALL: 'C' },
  });
  if (result.error?.code === 'ENOENT') {
    throw new SetupError(3, `${argv[0]} is missing: packages of Debian are read with it. ${instead}`);
  }
  return { ok: result.status === 0, out: result.stdout ?? '', faults: (result.stderr ?? '').trim() };
}

function osRelease() {
  const text = existsSync('/etc/os-release') ? readFileSync('/etc/os-release', 'utf8') : '';
  return Object.fromEntries([...text.matchAll(/^(\w+)="?([^"\n]*)"?$/gm)].map(([, key, value]) => [key, value]));
}

/** Mirrors of Debian itself in the machine's own apt configuration, as apt reads it. */
function findMirrors() {
  const { VERSION_CODENAME = '' } = osRelease();
  const releases = new Set([VERSION_CODENAME, 'oldstable', 'stable', 'testing', 'unstable', 'sid']);
  const format = '$(REPO_URI) $(RELEASE) $(COMPONENT)';
  const { out } = run(['apt-get', 'indextargets', '--no-release-info', '--format', format, 'Created-By: Packages']);
  const rows = out.split('\n').map((line) => line.trim().split(' '));
  const mirrors = rows.filter(([, release, component]) => releases.has(release) && component === 'main');
  return [...new Set(mirrors.map(([uri]) => uri))];
}

function requireMachine(cacheDir, { neededMb, instead }) {
  const { ID = 'unknown', PRETTY_NAME = process.platform } = osRelease();
  if (process.platform !== 'linux' || ID !== 'debian') {
    throw new SetupError(3, `This is ${PRETTY_NAME}; only Debian's apt can fill the cache. ${instead}`);
  }
  for (const tool of ['apt-get', 'apt-cache', 'dpkg-deb', 'dpkg']) run([tool, '--version'], instead);
  if (!existsSync(keyring)) {
    throw new SetupError(3, `${keyring} is missing: install debian-archive-keyring. ${instead}`);
  }
  const disk = statfsSync(cacheDir);
  const freeMb = Math.floor((disk.bavail * disk.bsize) / 1e6);
  if (freeMb < neededMb) {
    throw new SetupError(3, `${cacheDir} has ${freeMb} MB free and needs ${neededMb} MB while it unpacks: make room.`);
  }
  return run(['dpkg', '--print-architecture']).out.trim();
}

/** apt's private state below `dir`. Proxies, timeouts and logins of the machine's own configuration stay in force. */
function writeAptState(dir, mirror, architecture) {
  for (const path of ['state/lists/partial', 'cache/archives/partial', 'sources', 'empty']) {
    mkdirSync(join(dir, path), { recursive: true });
  }
  writeFileSync(join(dir, 'state', 'status'), '');
  writeFileSync(
    join(dir, 'sources', 'unstable.sources'),
    `Types: deb\nURIs: ${mirror}\nSuites: unstable\nComponents: main\nArchitectures: ${architecture}\nSigned-By: ${keyring}\n`,
  );
  const settings = [
    `Dir::State "${dir}/state";`,
    `Dir::State::status "${dir}/state/status";`,
    `Dir::Cache "${dir}/cache";`,
    'Dir::Etc::sourcelist "/dev/null";',
    `Dir::Etc::sourceparts "${dir}/sources";`,
    'Dir::Etc::preferences "/dev/null";',
    `Dir::Etc::preferencesparts "${dir}/empty";`,
    `APT::Architecture "${architecture}";`,
    '#clear APT::Architectures;',
    'APT::Install-Recommends "false";',
    'Acquire::Languages "none";',
    'Acquire::Retries "3";',
    // The state belongs to whoever runs this: no change to user _apt, no locks of the system.
    'APT::Sandbox::User "";',
    'Debug::NoLocking "true";',
    // Hooks of the machine tidy the machine's own state, which was not touched.
    '#clear APT::Update::Pre-Invoke;',
    '#clear APT::Update::Post-Invoke;',
    '#clear APT::Update::Post-Invoke-Success;',
    '#clear DPkg::Pre-Install-Pkgs;',
    '#clear DPkg::Post-Invoke;',
  ];
  writeFileSync(join(dir, 'apt.conf'), `${settings.join('\n')}\n`);
}

function findVersion(apt, { packages: wanted, series, instead }) {
  const { out } = run(['apt-cache', ...apt, 'madison', wanted[0]]);
  const versions = out.split('\n').map((line) => line.split('|')[1]?.trim());
  const version = versions.find((each) => each?.replace(/^\d+:/, '').startsWith(series));
  if (!version) {
    const seen = versions.filter(Boolean).join(', ') || 'none';
    throw new SetupError(3, `Debian unstable has no ${wanted[0]} ${series} (it has: ${seen}). ${instead}`);
  }
  return version;
}

/** Brings every .deb of the closure into the private archive; apt checks sizes and hashes against the signed index. */
function download(dir, architecture, product) {
  const { packages: wanted, downloadMb, instead } = product;
  const faults = [];
  for (const mirror of findMirrors()) {
    writeAptState(dir, mirror, architecture);
    const apt = ['-c', join(dir, 'apt.conf')];
    say(`reading Debian unstable at ${mirror}`);
    const update = run(['apt-get', ...apt, '-q', '--error-on=any', 'update']);
    if (!update.ok) {
      faults.push(`${mirror}: ${update.faults}`);
      continue;
    }
    const version = findVersion(apt, product);
    say(`downloading ${wanted.join(', ')} ${version} with all dependencies (about ${downloadMb} MB)`);
    const names = wanted.map((name) => `${name}=${version}`);
    const fetched = run(['apt-get', ...apt, '-q', '-y', '--download-only', 'install', ...names]);
    if (fetched.ok) return { version, archives: join(dir, 'cache', 'archives') };
    faults.push(`${mirror}: ${fetched.faults}`);
  }
  const why = faults.join('\n') || 'its apt configuration names no mirror of Debian with component main';
  throw new SetupError(
    3,
    `Debian unstable could not be read:\n${why}\nCheck network, proxy and apt configuration. ${instead}`,
  );
}

function describe(archives) {
  const debs = readdirSync(archives).filter((name) => name.endsWith('.deb'));
  return debs.sort().map((name) => {
    const [packageName, version] = basename(name, '.deb').split('_').map(decodeURIComponent);
    const sha256 = createHash('sha256')
      .update(readFileSync(join(archives, name)))
      .digest('hex');
    return { file: join(archives, name), name: packageName, version, sha256 };
  });
}

/** Compares with the versions that the project was tested with. apt has verified the signatures either way. */
function compare(packages, architecture, checksumsFile) {
  const known = JSON.parse(readFileSync(checksumsFile, 'utf8'))[architecture] ?? [];
  const recorded = new Map(known.map((each) => [each.name, each]));
  const newer = [];
  for (const each of packages) {
    const tested = recorded.get(each.name);
    if (tested?.version === each.version && tested.sha256 !== each.sha256) {
      const detail = `${each.name} ${each.version} has SHA-256 ${each.sha256}, expected ${tested.sha256}`;
      throw new SetupError(1, `A package was changed under its version: ${detail}. Do not use this mirror.`);
    }
    if (tested?.version !== each.version) newer.push(`${each.name} ${each.version}`);
  }
  if (newer.length > 0) say(`note: not the versions in scripts/${basename(checksumsFile)}: ${newer.join(', ')}`);
}

/** Removes what the programs do not need; the copyright files stay, since members hand MySQL on. */
function prune(home, { programs, shares }) {
  const keep = new Set(programs.map((path) => basename(path)));
  const remove = (folder, isNeeded) => {
    for (const name of existsSync(join(home, folder)) ? readdirSync(join(home, folder)) : []) {
      if (!isNeeded(name)) rmSync(join(home, folder, name), { recursive: true, force: true });
    }
  };
  remove('usr/bin', (name) => keep.has(name));
  remove('usr/sbin', (name) => keep.has(name));
  remove('usr/share', (name) => name === 'doc' || shares.includes(name));
  for (const name of readdirSync(join(home, 'usr/share/doc'))) {
    if (!lstatSync(join(home, 'usr/share/doc', name)).isDirectory()) continue; // a link to another package's folder
    remove(`usr/share/doc/${name}`, (file) => file === 'copyright');
  }
  for (const name of readdirSync(join(home, 'usr/lib'))) {
    remove(`usr/lib/${name}`, (file) => !/^(perl|perl-base|gconv|engines-3|libicu(test|tu)\.so.*)$/.test(file));
  }
  rmSync(join(home, 'etc'), { recursive: true, force: true });
}

function findLoader(home, { instead }) {
  for (const folder of readdirSync(join(home, 'usr/lib'))) {
    const path = join('usr/lib', folder);
    if (!statSync(join(home, path)).isDirectory()) continue;
    const loader = readdirSync(join(home, path)).find((name) => /^ld-linux.*\.so\.\d+$/.test(name));
    if (loader) return { loader: join(path, loader), libraryPath: path };
  }
  throw new SetupError(1, `The loader of libc6 is not where it was expected below ${home}/usr/lib. ${instead}`);
}

/** Every program starts with nothing but its own libraries; a gap shows here, not on an agent. */
function proveClosed(home, { loader, libraryPath }, { programs }) {
  for (const program of programs) {
    const argv = [join(home, loader), '--library-path', join(home, libraryPath), '--list', join(home, program)];
    const { ok, out, faults } = run(argv);
    const foreign = out.split('\n').filter((line) => /=> /.test(line) && !line.includes(home));
    if (!ok || foreign.length > 0) throw new SetupError(1, `${program} is not self-contained: ${faults}${foreign}`);
  }
}

/**
 * Fills the cache. Runs under setup's lock. Leftovers of a killed run: apt continues its downloads, an unpacked
 * directory without its rename is thrown away.
 * @param {Product} product
 */
export function fillFromDebian(product, cacheDir, checksumsDir) {
  const architecture = requireMachine(cacheDir, product);
  for (const name of readdirSync(cacheDir)) {
    if (name.startsWith('unpack-')) rmSync(join(cacheDir, name), { recursive: true, force: true });
  }
  const apt = join(cacheDir, 'apt');
  const { version, archives } = download(apt, architecture, product);
  const packages = describe(archives);
  compare(packages, architecture, join(checksumsDir, product.checksums));
  const home = join(cacheDir, `unpack-${version.replace(/^\d+:/, '')}`);
  mkdirSync(home);
  for (const [index, { file, name }] of packages.entries()) {
    if (index % 10 === 0) say(`unpacking ${index + 1} of ${packages.length}`);
    const { ok, faults } = run(['dpkg-deb', '-x', file, home]);
    if (!ok) throw new SetupError(1, `${name} does not unpack: ${faults}\nRemove ${apt} and run setup again.`);
  }
  prune(home, product);
  const loader = findLoader(home, product);
  proveClosed(home, loader, product);
  product.finish?.(home, loader);
  const files = readdirSync(home, { recursive: true }).filter((path) => lstatSync(join(home, path)).isFile());
  const marks = Object.fromEntries(files.sort().map((path) => [path, statSync(join(home, path)).size]));
  const manifest = {
    format: manifestFormat,
    version,
    architecture,
    ...loader,
    packages: packages.map(({ file, ...rest }) => rest),
    marks,
  };
  writeFileSync(join(home, manifestName), `${JSON.stringify(manifest, null, 2)}\n`);
  run(['sync', '-f', join(home, manifestName)]);
  const target = join(cacheDir, version.replace(/^\d+:/, ''));
  rmSync(target, { recursive: true, force: true });
  renameSync(home, target);
  rmSync(apt, { recursive: true, force: true });
}
