// Layout of a distribution in the cache, known to setup (Node 20, before npm ci) and to distribution.ts.
// <cache>/<Debian version>/distribution.json   written last, inside the directory that is renamed into place
// <cache>/<Debian version>/usr/…               as in the .deb files, with libc and loader
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';

/** The MySQL series that everything is tested with. */
export const series = '9.7';
export const manifestName = 'distribution.json';
export const manifestFormat = 1;

/** The manifest of a cached distribution, or null when there is none or it is of another format. */
export function readManifest(home) {
  try {
    const manifest = JSON.parse(readFileSync(join(home, manifestName), 'utf8'));
    return manifest.format === manifestFormat ? manifest : null;
  } catch {
    return null;
  }
}

/** Every file that the manifest marks is there with its size: cheap, and finds a torn or thinned-out cache. */
export function isComplete(home) {
  const marks = Object.entries(readManifest(home)?.marks ?? {});
  return (
    marks.length > 0 &&
    marks.every(([file, size]) => statSync(join(home, file), { throwIfNoEntry: false })?.size === size)
  );
}

/** Homes of the complete distributions of the cache, newest version first. */
export function listDistributions(cacheDir) {
  let names;
  try {
    names = readdirSync(cacheDir);
  } catch {
    return [];
  }
  const byVersion = new Intl.Collator('en', { numeric: true }).compare;
  return names
    .filter((name) => /^\d/.test(name))
    .sort((a, b) => byVersion(b, a))
    .map((name) => join(cacheDir, name))
    .filter(isComplete);
}
