/**
 * A network of its own for a whole run: the program starts itself again in a new network namespace (and a mount
 * namespace: what it mounts goes with it), where it may drop packets without anybody else noticing. For root only.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { ensureTool } from './tools.ts';

const marker = 'SELVEDGE_TEST_NETWORK';
const inside = ['--net', '--mount', 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh'];
const tryTimeoutMs = 10_000;

/** The way of nft, inside such a namespace; null outside. */
export const findNft = (): string | null => process.env[marker] ?? null;

/** Why there can be none here, or null and the way of nft. Starts nothing that stays. */
function tryNetwork(): { readonly nft: string } | { readonly why: string } {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return { why: 'it takes root on Linux' };
  let nft: string;
  try {
    nft = ensureTool('nftables');
  } catch (error) {
    return { why: (error as Error).message };
  }
  const options = { encoding: 'utf8', timeout: tryTimeoutMs, input: 'add table inet selvedge_test\n' } as const;
  const { status, stderr, error } = spawnSync('unshare', [...inside, nft, '-f', '-'], options);
  return status === 0 ? { nft } : { why: (error?.message ?? stderr).trim().split('\n')[0] ?? 'unshare failed' };
}

export interface Inside {
  /** Its outputs are this process's, but for what `stdio` says. */
  readonly child: ChildProcess;
}

/** Starts `argv` (of Node) inside a namespace of its own. It gets SIGTERM when this process ends. */
export function startInside(argv: readonly string[], stdout: 'inherit' | 'pipe'): Inside | { readonly why: string } {
  const found = tryNetwork();
  if ('why' in found) return found;
  const command = ['--pdeathsig', 'TERM', 'unshare', ...inside, process.execPath, ...argv];
  const child = spawn('setpriv', command, {
    stdio: ['ignore', stdout, 'inherit'],
    env: { ...process.env, [marker]: found.nft },
  });
  return { child };
}

/** Exit code of this program inside a namespace; null, after `say` told why, when it must go on here. */
export async function runInside(say: (why: string) => void): Promise<number | null> {
  if (findNft() !== null) return null;
  const started = startInside(process.argv.slice(1), 'inherit');
  if ('why' in started) {
    say(`No network can be cut here: ${started.why}`);
    return null;
  }
  const { child } = started;
  // At a terminal it gets its own; what is sent to this process alone is handed on.
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => child.kill(name));
  const [code] = await once(child, 'exit');
  return typeof code === 'number' ? code : 1;
}
