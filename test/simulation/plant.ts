/**
 * Loaded before a run (`node --import`): replaces lines of the program, to show that the simulation finds it out. A line
 * that is not there any more is an error: the planted fault would silently be none.
 */
import { readFileSync } from 'node:fs';
import { registerHooks } from 'node:module';
import { fileURLToPath } from 'node:url';

/** In one file of src/: `find`, which is there once, becomes `replace`. */
export interface Patch {
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

const patches = JSON.parse(process.env['SELVEDGE_PLANTED'] ?? '[]') as readonly Patch[];

registerHooks({
  load(url, context, nextLoad) {
    const mine = patches.filter(({ file }) => url.endsWith(`/src/${file}`));
    if (mine.length === 0) return nextLoad(url, context);
    let source = readFileSync(fileURLToPath(url), 'utf8');
    for (const { file, find, replace } of mine) {
      const parts = source.split(find);
      if (parts.length !== 2) throw new Error(`${file} has this ${parts.length - 1} times: ${find}`);
      source = parts.join(replace);
    }
    return { format: 'module-typescript', shortCircuit: true, source };
  },
});
