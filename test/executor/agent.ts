/**
 * A scripted agent: speaks the v1 executor API to one executor process that it starts in a session of its own with the
 * documented environment, in a sandbox with links to two volume directories. Kills whole sessions, as the real one.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createSocket } from 'node:net';
import { join } from 'node:path';
import { createExecutorClient, type ExecutorClient } from '../../src/channel/client.ts';
import {
  type Command,
  type CommandBody,
  type CommandResult,
  type LaunchPlan,
  launchPlan,
  PROTOCOL_VERSION,
  type Status,
  startedFacts,
} from '../../src/channel/protocol.ts';
import { realClock } from '../../src/clock.ts';
import { executorRuntime } from '../../src/executor/runtime.ts';
import { cacheDir } from '../mysql/instance.ts';

export interface Update {
  readonly state: string;
  readonly message: string | undefined;
  readonly data: string | undefined;
}

export interface AgentOptions {
  /** Holds the sandboxes and both volumes of the member; made when missing. */
  readonly root: string;
  readonly plan: Omit<LaunchPlan, 'version' | 'taskId' | 'tokenSha256'>;
  readonly env?: Readonly<Record<string, string>>;
}

export interface Launch {
  readonly plan: LaunchPlan;
  readonly sandbox: string;
  readonly child: ChildProcess;
  readonly updates: readonly Update[];
  readonly messages: readonly string[];
  /** Exit of the executor process itself. */
  readonly exited: Promise<number | null>;
  client(): ExecutorClient;
  send(body: CommandBody, head?: Partial<Command>): Promise<CommandResult>;
  status(): Promise<Status>;
  kill(graceMs?: number): void;
  shutdown(): void;
  /** The agent process dies and comes back: streams break, nothing is answered in between. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** SIGKILL of the whole session; waits until it is gone. */
  destroy(): Promise<void>;
  stderr(): string;
  /** Of executor and mysqld. */
  logs(): string;
}

const launches = new Set<{ destroy(): Promise<void> }>();
/** For afterAll: nothing stays. */
export async function destroyLaunches(): Promise<void> {
  await Promise.all([...launches].map((each) => each.destroy()));
}

export async function freePorts(address: string, count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createSocket().listen(0, address);
      await once(server, 'listening');
      return server;
    }),
  );
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => once(server.close(), 'close')));
  return ports;
}

/** Starts an executor for a new launch of the member. */
export async function launchExecutor(options: AgentOptions): Promise<Launch> {
  const token = randomUUID();
  const launchId = randomUUID();
  const plan = launchPlan.parse({
    ...options.plan,
    version: PROTOCOL_VERSION,
    taskId: `${options.plan.cluster}.${options.plan.ordinal}.${launchId}`,
    tokenSha256: createHash('sha256').update(token).digest('hex'),
  });
  const sandbox = join(options.root, 'sandboxes', launchId);
  mkdirSync(sandbox, { recursive: true });
  for (const volume of [plan.data, plan.backup]) {
    if (!volume) continue;
    const path = join(options.root, 'volumes', volume.persistenceId);
    mkdirSync(path, { recursive: true });
    symlinkSync(path, join(sandbox, volume.containerPath));
  }
  const agent = await startAgent(plan);
  const stderrPath = join(sandbox, 'stderr');
  const { openSync, closeSync } = await import('node:fs');
  const stderr = openSync(stderrPath, 'a');
  const child = spawn(process.execPath, [join(import.meta.dirname, '..', '..', 'src', 'executor', 'main.ts')], {
    cwd: sandbox,
    detached: true,
    stdio: ['ignore', stderr, stderr],
    env: {
      PATH: '/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin',
      MESOS_FRAMEWORK_ID: 'framework-1',
      MESOS_EXECUTOR_ID: plan.taskId,
      MESOS_SLAVE_ID: 'agent-1',
      MESOS_AGENT_ENDPOINT: `127.0.0.1:${agent.port}`,
      MESOS_SANDBOX: sandbox,
      MESOS_DIRECTORY: sandbox,
      MESOS_CHECKPOINT: '1',
      MESOS_RECOVERY_TIMEOUT: '15mins',
      MESOS_SUBSCRIPTION_BACKOFF_MAX: '250ms',
      MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD: '30secs',
      SELVEDGE_CACHE_DIR: cacheDir,
      ...executorRuntime(cacheDir),
      ...(process.env['SELVEDGE_MYSQL_HOME'] ? { SELVEDGE_MYSQL_HOME: process.env['SELVEDGE_MYSQL_HOME'] } : {}),
      ...options.env,
    },
  });
  closeSync(stderr);
  const exited = new Promise<number | null>((resolve) => child.once('exit', (code) => resolve(code)));
  let connection: ExecutorClient | undefined;
  let sent = 0;
  const client = () => {
    if (connection) return connection;
    const facts = agent.updates.find((update) => update.data !== undefined);
    if (!facts?.data) throw new Error('the executor has not reported its certificate yet');
    const { fingerprint } = startedFacts.parse(JSON.parse(Buffer.from(facts.data, 'base64').toString()));
    connection = createExecutorClient({
      address: plan.address,
      port: plan.ports.control,
      fingerprint,
      token,
      clock: realClock,
    });
    return connection;
  };
  const launch: Launch = {
    plan,
    sandbox,
    child,
    updates: agent.updates,
    messages: agent.messages,
    exited,
    client,
    send(body, head = {}) {
      sent += 1;
      const full = {
        version: PROTOCOL_VERSION,
        id: `${launchId}-${sent}`,
        epoch: 1,
        leaderToken: 1,
        sequence: sent,
        ...body,
        ...head,
      };
      return client().send(full as Command, { timeoutMs: 60_000 });
    },
    status: () => client().getStatus({ timeoutMs: 5000 }),
    kill: (graceMs = 30_000) =>
      agent.event({
        type: 'KILL',
        kill: { task_id: { value: plan.taskId }, kill_policy: { grace_period: { nanoseconds: graceMs * 1e6 } } },
      }),
    shutdown: () => agent.event({ type: 'SHUTDOWN' }),
    pause: () => agent.pause(),
    resume: () => agent.resume(),
    async destroy() {
      connection?.close();
      if (child.pid !== undefined) killSession(child.pid);
      await exited;
      await agent.close();
      launches.delete(launch);
    },
    logs: () => ['stderr', 'mysqld.log'].map((name) => readTail(join(sandbox, name))).join('\n'),
    stderr: () => (existsSync(stderrPath) ? readFileSync(stderrPath, 'utf8') : ''),
  };
  launches.add(launch);
  return launch;
}

/** The executor leads its session and its group, and keeps its children in both. */
export function killSession(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // gone already
  }
}

async function startAgent(plan: LaunchPlan) {
  const updates: Update[] = [];
  const messages: string[] = [];
  let stream: ServerResponse | undefined;
  let isLaunched = false;
  const waiting: object[] = [];
  const event = (body: object) => {
    const text = JSON.stringify(body);
    if (stream) stream.write(`${Buffer.byteLength(text)}\n${text}`);
    else waiting.push(body);
  };
  const handle = async (request: IncomingMessage, response: ServerResponse) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const call = JSON.parse(Buffer.concat(chunks).toString());
    if (call.type === 'SUBSCRIBE') {
      response.writeHead(200, { 'content-type': 'application/json' });
      stream = response;
      event(subscribed(plan));
      if (!isLaunched) event({ type: 'LAUNCH', launch: { task: taskInfo(plan) } });
      isLaunched = true;
      for (const update of call.subscribe.unacknowledged_updates ?? []) take(update.status);
      for (const body of waiting.splice(0)) event(body);
      return;
    }
    response.writeHead(202).end();
    if (call.type === 'UPDATE') take(call.update.status);
    if (call.type === 'MESSAGE') messages.push(Buffer.from(call.message.data, 'base64').toString());
  };
  const take = (status: { state: string; message?: string; data?: string; uuid: string }) => {
    updates.push({ state: status.state, message: status.message, data: status.data });
    event({ type: 'ACKNOWLEDGED', acknowledged: { task_id: { value: plan.taskId }, uuid: status.uuid } });
  };
  let server: Server;
  const listen = async (port: number) => {
    server = createServer((request, response) => {
      handle(request, response).catch(() => response.destroy());
    });
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
    return (server.address() as { port: number }).port;
  };
  const close = async () => {
    stream = undefined;
    if (!server.listening) return;
    const closed = once(server, 'close');
    server.close();
    server.closeAllConnections();
    await closed;
  };
  const port = await listen(0);
  return { port, updates, messages, event, close, pause: close, resume: async () => void (await listen(port)) };
}

function subscribed(plan: LaunchPlan) {
  return {
    type: 'SUBSCRIBED',
    subscribed: {
      executor_info: { executor_id: { value: plan.taskId }, type: 'CUSTOM' },
      framework_info: { id: { value: 'framework-1' }, user: 'root', name: 'selvedge' },
      agent_info: { hostname: plan.address, id: { value: 'agent-1' } },
      container_id: { value: randomUUID() },
    },
  };
}

function taskInfo(plan: LaunchPlan) {
  return {
    task_id: { value: plan.taskId },
    name: 'member',
    agent_id: { value: 'agent-1' },
    data: Buffer.from(JSON.stringify(plan)).toString('base64'),
  };
}

function readTail(path: string): string {
  return existsSync(path) ? readFileSync(path, 'utf8').slice(-4000) : '';
}
