/** `selvedge proxy` as a team has it: a process of its own, and one port that never changes. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { ControlPlane } from '../demo/control-plane.ts';
import { createEndpoints, type Endpoints } from '../demo/endpoints.ts';
import { isAlive, killProcess, readProcess } from '../demo/processes.ts';
import { Hopeless, waitFor } from '../demo/wait.ts';
import { ensureTool } from '../network/tools.ts';

const mainFile = join(import.meta.dirname, '..', '..', 'src', 'main.ts');
/** In the net of the run's own agents: several runs may be on one machine. */
const listenOf = ({ agentDirs: [first = ''] }: ControlPlane) => basename(first).replace(/\.\d+-\d+$/, '.9');
const upTimeoutMs = 30_000;
const endTimeoutMs = 10_000;

export interface ServicePort {
  /** For a writer: the one place to write to, whoever the primary is. */
  readonly endpoints: Endpoints;
  /** SIGKILL of `selvedge proxy`; resolves when HAProxy has ended too. Throws when it stays. */
  kill(): Promise<void>;
  start(): Promise<void>;
  stop(): Promise<void>;
}

/** Nothing runs before start(). Its directory is in the control plane's and goes with it. */
export function createServicePort(plane: ControlPlane, port: number): ServicePort {
  const listen = listenOf(plane);
  const endpoints = createEndpoints();
  endpoints.set({ ordinal: -1, host: listen, port }, []);
  let child: ChildProcess | null = null;
  let haproxy = -1;
  const hasEnded = () => !child || child.exitCode !== null || child.signalCode !== null;
  const end = async (name: NodeJS.Signals) => {
    if (!child || hasEnded()) return;
    const exited = once(child, 'exit');
    child.kill(name);
    await exited;
  };
  return {
    endpoints,
    async start() {
      const options = ['--api', plane.apiUrl, '--listen', listen, '--data-dir', join(plane.dataDir, 'proxy')];
      const program = ['--haproxy', ensureTool('haproxy'), '--json', '--log-level', 'info'];
      const log = openSync(join(plane.dataDir, 'proxy.log'), 'a');
      child = spawn(process.execPath, [mainFile, 'proxy', ...options, ...program], { stdio: ['ignore', 'pipe', log] });
      closeSync(log);
      let told = '';
      child.stdout?.setEncoding('utf8').on('data', (text: string) => {
        told += text;
      });
      await waitFor({ what: '`selvedge proxy` to be up', timeoutMs: upTimeoutMs }, () => {
        if (hasEnded()) throw new Hopeless('`selvedge proxy` ended: see proxy.log');
        return told.includes('\n');
      });
      haproxy = (JSON.parse(told) as { readonly haproxy: number }).haproxy;
    },
    async kill() {
      const left = readProcess(haproxy);
      await end('SIGKILL');
      try {
        await waitFor(
          { what: 'HAProxy to end with its parent', timeoutMs: endTimeoutMs },
          () => !left || !isAlive(left),
        );
      } finally {
        if (left) killProcess(left);
      }
    },
    stop: () => end('SIGTERM'),
  };
}
