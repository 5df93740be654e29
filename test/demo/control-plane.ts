/** `selvedge up` as a child process that can be killed and started again; all that it started ends with destroy(). */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { killUsersOf } from './processes.ts';
import { Hopeless, waitFor } from './wait.ts';

const mainFile = join(import.meta.dirname, '..', '..', 'src', 'main.ts');
const upTimeoutMs = 20_000;
const agentPort = 5051;
const firstAgentHost = 11;

export interface ControlPlane {
  readonly apiUrl: string;
  readonly masterUrl: string;
  readonly dataDir: string;
  readonly logFile: string;
  /** Work directories of the agents, in their order. */
  readonly agentDirs: readonly string[];
  /** Of the process that runs now. */
  pid(): number;
  /** Starts it (again) on the same directory and ports; resolves when it is connected to its Mesos. */
  start(): Promise<void>;
  /** SIGKILL, and waits until it is reaped. What it launched runs on. */
  kill(): Promise<void>;
  readLogTail(lines: number): string;
  /** Lets it run on when this process ends. */
  leaveRunning(): void;
  /** Ends every process that uses the data directory, calls `before`, and removes it. May be called twice. */
  destroy(before?: (dataDir: string) => void): Promise<void>;
}

export interface ControlPlaneOptions {
  readonly agents: number;
  /** Further arguments of `selvedge up`. */
  readonly more?: readonly string[];
  readonly signal?: AbortSignal;
}

/** Chooses a directory, ports and a loopback net of its own; nothing runs before start(). */
export async function createControlPlane({ agents, more = [], signal }: ControlPlaneOptions): Promise<ControlPlane> {
  const dataDir = mkdtempSync(join(tmpdir(), 'selvedge-demo-'));
  const logFile = join(dataDir, 'up.log');
  const [apiPort, masterPort, subnet] = await Promise.all([freePort(), freePort(), freeSubnet(agents)]);
  const apiUrl = `http://127.0.0.1:${apiPort}`;
  let child: ChildProcess | null = null;

  const readLogTail = (lines: number) =>
    existsSync(logFile) ? readFileSync(logFile, 'utf8').trimEnd().split('\n').slice(-lines).join('\n') : '';
  const hasEnded = () => !child || child.exitCode !== null || child.signalCode !== null;
  const end = async (name: NodeJS.Signals) => {
    if (!child || hasEnded()) return;
    const exited = once(child, 'exit');
    child.kill(name);
    await exited;
  };
  return {
    apiUrl,
    masterUrl: `http://127.0.0.1:${masterPort}`,
    dataDir,
    logFile,
    agentDirs: Array.from({ length: agents }, (_, index) =>
      join(dataDir, 'mesos', 'agents', `${subnet}.${firstAgentHost + index}-${agentPort}`),
    ),
    pid: () => child?.pid ?? -1,
    async start() {
      const options = { agents, 'data-dir': dataDir, port: apiPort, 'master-port': masterPort, subnet };
      const args = Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]);
      const log = openSync(logFile, 'a');
      // Detached: an interrupt at the terminal reaches us first, and we decide.
      child = spawn(process.execPath, [mainFile, 'up', ...args, '--log-level', 'info', ...more], {
        detached: true,
        stdio: ['ignore', log, log],
      });
      closeSync(log);
      await waitFor({ what: '`selvedge up` to be ready', timeoutMs: upTimeoutMs, signal }, async () => {
        if (hasEnded()) throw new Hopeless(`\`selvedge up\` ended: ${readLogTail(5)}`);
        return (await fetch(`${apiUrl}/readyz`, { signal: AbortSignal.timeout(2000) })).ok;
      });
    },
    kill: () => end('SIGKILL'),
    readLogTail,
    leaveRunning: () => child?.unref(),
    async destroy(before = () => {}) {
      await end('SIGKILL');
      await killUsersOf(dataDir);
      before(dataDir);
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
}

/** A port of `host` that nobody listens on now; 0 asks for any. Throws when it is taken. */
async function freePort(host = '127.0.0.1', wanted = 0): Promise<number> {
  const server = createServer().listen(wanted, host);
  await once(server, 'listening');
  const bound = server.address();
  server.close();
  await once(server, 'close');
  if (bound === null || typeof bound === 'string') throw new Error('no TCP port');
  return bound.port;
}

const subnetTries = 20;

/** Several demos may run on one machine: the first net from our pid on that nobody uses. */
async function freeSubnet(agents: number): Promise<string> {
  for (let index = 0; index < subnetTries; index += 1) {
    const number = (process.pid + index * 7919) % 32_000;
    const subnet = `127.${64 + (number >> 8)}.${number & 255}`;
    try {
      for (let agent = 0; agent < agents; agent += 1) await freePort(`${subnet}.${firstAgentHost + agent}`, agentPort);
      return subnet;
    } catch {
      // taken: the next one
    }
  }
  throw new Error('no loopback net is free for the agents');
}
