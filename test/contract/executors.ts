import { createServer, type Server, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { asText, dig, type Json, type JsonObject } from './resources.ts';

/** The executors of one replay, as the test sees them: what they said and heard, and orders to them. */
export interface RemoteExecutor {
  readonly pid: number;
  readonly env: readonly string[];
  readonly isCheckpointed: boolean;
  /** Container path to target, at process start. */
  readonly linksAtStart: JsonObject;
  /** Container path to names in the volume, at process start. */
  readonly contentsAtStart: JsonObject;
  /** Events from the agent, oldest first, with the sandbox links of that moment. */
  readonly saw: { readonly event: Json; readonly links: JsonObject; used: boolean }[];
  /** HTTP statuses of its calls, with texts. */
  readonly answers: { readonly status: number; readonly body: string }[];
  readonly subscribed: { readonly status: number; readonly streamId: Json }[];
  order(order: JsonObject): void;
}

export class ExecutorControl {
  readonly byId = new Map<string, RemoteExecutor>();
  private readonly sockets = new Set<Socket>();
  private readonly server: Server;

  private constructor(server: Server) {
    this.server = server;
  }

  static async start(): Promise<ExecutorControl> {
    const server = createServer();
    const control = new ExecutorControl(server);
    server.on('connection', (socket) => control.accept(socket));
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(0, '127.0.0.1', resolve);
    });
    return control;
  }

  get port(): number {
    const address = this.server.address();
    return typeof address === 'object' && address ? address.port : 0;
  }

  private accept(socket: Socket): void {
    this.sockets.add(socket);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.sockets.delete(socket));
    let executor: RemoteExecutor | undefined;
    createInterface({ input: socket }).on('line', (line) => {
      const message = JSON.parse(line) as JsonObject;
      if (message['hello'] !== undefined) {
        executor = greet(message, socket);
        this.byId.set(asText(message['hello']), executor);
      } else if (executor) hear(executor, message);
    });
  }

  /** Ends the connections: every executor ends itself then. */
  async close(): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    await new Promise<void>((resolve) => this.server.close(() => resolve()));
  }
}

function greet(message: JsonObject, socket: Socket): RemoteExecutor {
  return {
    pid: Number(message['pid']),
    env: message['env'] as readonly string[],
    isCheckpointed: message['checkpoint'] === '1',
    linksAtStart: (message['links'] ?? {}) as JsonObject,
    contentsAtStart: (message['contents'] ?? {}) as JsonObject,
    saw: [],
    answers: [],
    subscribed: [],
    order: (order) => socket.write(`${JSON.stringify(order)}\n`),
  };
}

function hear(executor: RemoteExecutor, message: JsonObject): void {
  if (message['saw'] !== undefined) {
    executor.saw.push({ event: message['saw'], links: (message['links'] ?? {}) as JsonObject, used: false });
  } else if (message['answered'] !== undefined) {
    executor.answers.push({ status: Number(message['answered']), body: asText(message['body']) });
  } else {
    executor.subscribed.push({ status: Number(message['subscribed']), streamId: message['streamId'] ?? null });
  }
}

/** The first event of the type (about the task, if it names one) that no step has used yet; marks it used. */
export function takeSeen(executor: RemoteExecutor, type: string, task: string | undefined): boolean {
  const found = executor.saw.find((entry) => !entry.used && isAbout(entry.event, type, task));
  if (found && type !== 'LAUNCH' && type !== 'KILL') found.used = true;
  return found !== undefined;
}

export function isAbout(event: Json, type: string, task: string | undefined): boolean {
  if (dig(event, 'type') !== type) return false;
  if (type === 'LAUNCH') return dig(event, 'launch.task.task_id.value') === task;
  if (type === 'KILL') return dig(event, 'kill.task_id.value') === task;
  return true;
}
