/** What docs/operations.md tells people to type to start a backup without Selvedge, word for word. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { waitFor } from '../demo/wait.ts';
import { testDistribution } from '../mysql/instance.ts';

export interface ByHand {
  /** Runs statements with the `mysql` client of this machine; answers what it prints. */
  sql(text: string): string;
  end(): Promise<void>;
}

/** Checks `place` with sha256sum and starts mysqld on its `data/`; socket and log go to `place` as `r.*`. */
export async function startByHand(place: string): Promise<ByHand> {
  execFileSync('sha256sum', ['-c', '--quiet', 'SHA256SUMS'], { cwd: place });
  const distribution = await testDistribution();
  const socket = join(place, 'r.sock');
  const [mysqld = '', ...first] = distribution.program('mysqld');
  const child = spawn(
    mysqld,
    [
      ...first,
      '--no-defaults',
      ...distribution.serverArgs,
      `--datadir=${join(place, 'data')}`,
      `--socket=${socket}`,
      `--pid-file=${join(place, 'r.pid')}`,
      `--log-error=${join(place, 'r.log')}`,
      '--skip-grant-tables',
      '--mysqlx=OFF',
      '--skip-replica-start',
      '--event-scheduler=OFF',
      '--gtid-mode=ON',
      '--enforce-gtid-consistency=ON',
      '--server-id=1',
      '--innodb-buffer-pool-size=32M',
      '--performance-schema=OFF',
    ],
    { stdio: 'ignore' },
  );
  const end = () => endChild(child);
  try {
    await waitFor({ what: 'the restored mysqld', timeoutMs: 60_000, everyMs: 100 }, async () => existsSync(socket));
  } catch (error) {
    await end();
    throw error;
  }
  const [mysql = '', ...rest] = distribution.program('mysql');
  const args = [...rest, '--no-defaults', `--socket=${socket}`, '-uroot', '-N', '-B'];
  return { end, sql: (text) => execFileSync(mysql, args, { input: text, encoding: 'utf8' }) };
}

async function endChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}
