// Fills .cache/haproxy/<version> with HAProxy from Debian's unstable suite, and links .cache/haproxy/haproxy to it.
import { chmodSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { listDistributions } from '../src/mysql/distribution-cache.mjs';
import { fillFromDebian } from './debian-packages.mjs';

/** HAProxy's master starts itself again by its argv[0], so this must be a name that brings the own loader along. */
const starter = ({ loader, libraryPath }) => `#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
exec "$here/${loader}" --argv0 "$here/haproxy" --library-path "$here/${libraryPath}" "$here/usr/sbin/haproxy" "$@"
`;

const haproxy = {
  packages: ['haproxy'],
  programs: ['usr/sbin/haproxy'],
  series: '',
  shares: [],
  neededMb: 200,
  downloadMb: 20,
  checksums: 'haproxy-checksums.json',
  instead: 'Or install HAProxy 2.6 or newer and have it on PATH.',
  finish: (home, loader) => {
    writeFileSync(join(home, 'haproxy'), starter(loader));
    chmodSync(join(home, 'haproxy'), 0o755);
  },
};

/** Idempotent. Runs under setup's lock. */
export function ensureHaproxy(cacheDir, checksumsDir) {
  if (listDistributions(cacheDir).length === 0) fillFromDebian(haproxy, cacheDir, checksumsDir);
  const [home] = listDistributions(cacheDir);
  const link = join(cacheDir, 'haproxy');
  rmSync(`${link}.new`, { force: true });
  symlinkSync(join(home, 'haproxy'), `${link}.new`);
  renameSync(`${link}.new`, link);
}
