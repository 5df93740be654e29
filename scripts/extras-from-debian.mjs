// What only some need: .cache/<name>/<version> with a program from Debian's unstable suite, linked as
// .cache/<name>/<program>.
import { chmodSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { listDistributions } from '../src/mysql/distribution-cache.mjs';
import { fillFromDebian } from './debian-packages.mjs';

/** HAProxy's master starts itself again by its argv[0], so this must be a name that brings the own loader along. */
const starter = (program, { loader, libraryPath }) => `#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
exec "$here/${loader}" --argv0 "$here/${basename(program)}" --library-path "$here/${libraryPath}" "$here/${program}" "$@"
`;

const common = { series: '', shares: [], neededMb: 200 };

/** By the name of `--with`. */
export const extras = {
  haproxy: {
    ...common,
    packages: ['haproxy'],
    programs: ['usr/sbin/haproxy'],
    downloadMb: 20,
    checksums: 'haproxy-checksums.json',
    instead: 'Or install HAProxy 2.6 or newer and have it on PATH.',
  },
  nftables: {
    ...common,
    packages: ['nftables'],
    programs: ['usr/sbin/nft'],
    downloadMb: 20,
    checksums: 'nftables-checksums.json',
    instead: 'Or install nftables and have nft on PATH.',
  },
};

/** Where the program of an extra is when it is ready. */
export const extraPath = (cacheRoot, name) => join(cacheRoot, name, basename(extras[name].programs[0]));

/** Idempotent. Runs under setup's lock. */
export function ensureExtra(name, cacheRoot, checksumsDir) {
  const cacheDir = join(cacheRoot, name);
  const extra = extras[name];
  const [program] = extra.programs;
  const finish = (home, loader) => {
    writeFileSync(join(home, basename(program)), starter(program, loader));
    chmodSync(join(home, basename(program)), 0o755);
  };
  mkdirSync(cacheDir, { recursive: true });
  if (listDistributions(cacheDir).length === 0) fillFromDebian({ ...extra, finish }, cacheDir, checksumsDir);
  const [home] = listDistributions(cacheDir);
  const link = extraPath(cacheRoot, name);
  rmSync(`${link}.new`, { force: true });
  symlinkSync(join(home, basename(program)), `${link}.new`);
  renameSync(`${link}.new`, link);
}
