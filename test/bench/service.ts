/** One `selvedge proxy` as a process of its own, and its port as the only endpoint that a writer knows. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createEndpoints, type Endpoints } from '../demo/endpoints.ts';
import { ensureHaproxy, haproxyProgram } from '../proxy/world.ts';

const mainFile = join(import.meta.dirname, '..', '..', 'src', 'main.ts');
const address = '127.0.0.1';

export interface Service {
  /** Answers for every cluster of the control plane. */
  endpoints(servicePort: number): Endpoints;
  destroy(): Promise<void>;
}

export async function startService(apiUrl: string): Promise<Service> {
  ensureHaproxy();
  const dataDir = mkdtempSync(join(tmpdir(), 'sv-proxy-'));
  const args = ['--api', apiUrl, '--listen', address, '--data-dir', dataDir, '--haproxy', haproxyProgram];
  const child = spawn(process.execPath, [mainFile, 'proxy', ...args, '--json', '--log-level', 'error'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await Promise.race([
    once(child.stdout, 'data'),
    once(child, 'exit').then(() => Promise.reject(new Error('the proxy ended'))),
  ]);
  return {
    endpoints(port) {
      const endpoints = createEndpoints();
      // It is the primary, whoever that is.
      endpoints.set({ ordinal: -1, host: address, port }, []);
      return endpoints;
    },
    async destroy() {
      await end(child);
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGTERM');
  await exited;
}
