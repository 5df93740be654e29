/** Programs from Debian that only some tests need. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..', '..');

/** Fetches the tool on the first run; nothing afterwards. Throws what setup says when it cannot. */
export function ensureTool(name: 'haproxy' | 'nftables'): string {
  const setup = [join(root, 'scripts', 'setup.mjs'), '--with', name];
  const { status, stderr } = spawnSync(process.execPath, setup, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${name} could not be fetched: ${stderr.trim()}`);
  return join(root, '.cache', name, name === 'nftables' ? 'nft' : name);
}
