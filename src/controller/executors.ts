/**
 * The control channel to every live executor: one watch stream each, the last status in memory, and commands.
 * A broken stream is a hint, never a proof; it is opened again until the launch has ended.
 */
import type { Command, CommandBody, CommandResult, Status } from '../channel/protocol.ts';
import { PROTOCOL_VERSION } from '../channel/protocol.ts';
import { type Clock, delay } from '../clock.ts';
import { Refusal, toErrorCode } from '../errors.ts';
import type { Logger } from '../log.ts';

const reconnectMs = { first: 100, max: 2000 } as const;

export interface ExecutorClient {
  send(command: Command, options: { timeoutMs: number; signal?: AbortSignal }): Promise<CommandResult>;
  watch(handlers: { onStatus: (status: Status) => void; onEnd: (error: Error | null) => void }): () => void;
  close(): void;
}

/** Where an executor listens and how it is recognised. */
export interface ExecutorAddress {
  readonly taskId: string;
  readonly clusterId: string;
  readonly address: string;
  readonly port: number;
  readonly fingerprint: string;
  readonly token: string;
}

export interface SendOptions {
  readonly epoch: number;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
  /** Idempotency key; a fresh one if left out. */
  readonly id?: string;
}

export interface Executors {
  /** Opens the watch stream if there is none. Idempotent. */
  connect(executor: ExecutorAddress): void;
  /** The launch has ended: closes its stream and forgets its status. */
  forget(taskId: string): void;
  connected(): readonly string[];
  /** The newest status; null before the first. */
  status(taskId: string | null): Status | null;
  /** When the stream broke; null while it is open. */
  brokenSince(taskId: string): number | null;
  /** Sends a command and waits for its result. Throws Refusal with the executor's code, or the transport's error. */
  send(
    taskId: string,
    body: CommandBody,
    options: SendOptions,
  ): Promise<Extract<CommandResult, { outcome: 'done' | 'accepted' }>>;
  close(): void;
}

interface Connection {
  readonly client: ExecutorClient;
  readonly stop: AbortController;
  status: Status | null;
  brokenAt: number | null;
}

/** `open` makes the pinned client; it is an argument because the simulation has its own. */
export function createExecutors(options: {
  readonly open: (executor: ExecutorAddress) => ExecutorClient;
  readonly leaderToken: number;
  readonly clock: Clock;
  readonly newId: () => string;
  readonly log: Logger;
  readonly onStatus: (clusterId: string, status: Status, previous: Status | null) => void;
}): Executors {
  const { open, leaderToken, clock, newId, log, onStatus } = options;
  const connections = new Map<string, Connection>();
  let sequence = 0;

  /** Resolves when the stream ends, or when the connection is given up. */
  function watchOnce(executor: ExecutorAddress, connection: Connection, onAlive: () => void): Promise<void> {
    const { signal } = connection.stop;
    return new Promise((resolve) => {
      const onAbort = () => {
        stopWatching();
        resolve();
      };
      const stopWatching = connection.client.watch({
        onStatus: (status) => {
          if (signal.aborted || status.taskId !== executor.taskId) return;
          const previous = connection.status;
          connection.status = status;
          connection.brokenAt = null;
          onAlive();
          onStatus(executor.clusterId, status, previous);
        },
        onEnd: (error) => {
          connection.brokenAt ??= clock.now();
          log.debug({ taskId: executor.taskId, err: error }, 'watch stream ended');
          signal.removeEventListener('abort', onAbort);
          resolve();
        },
      });
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  async function keepWatching(executor: ExecutorAddress, connection: Connection): Promise<void> {
    let pauseMs: number = reconnectMs.first;
    while (!connection.stop.signal.aborted) {
      await watchOnce(executor, connection, () => {
        pauseMs = reconnectMs.first;
      });
      await delay(clock, pauseMs, connection.stop.signal).catch(() => {});
      pauseMs = Math.min(pauseMs * 2, reconnectMs.max);
    }
  }

  function forget(taskId: string): void {
    const connection = connections.get(taskId);
    connections.delete(taskId);
    connection?.stop.abort();
    connection?.client.close();
  }

  return {
    connect(executor) {
      if (connections.has(executor.taskId)) return;
      const connection: Connection = {
        client: open(executor),
        stop: new AbortController(),
        status: null,
        brokenAt: clock.now(),
      };
      connections.set(executor.taskId, connection);
      void keepWatching(executor, connection);
    },
    forget,
    connected: () => [...connections.keys()],
    status: (taskId) => (taskId === null ? null : (connections.get(taskId)?.status ?? null)),
    brokenSince: (taskId) => connections.get(taskId)?.brokenAt ?? null,
    async send(taskId, body, { epoch, timeoutMs, signal, id = newId() }) {
      const connection = connections.get(taskId);
      if (!connection) throw new Error(`no control channel to ${taskId}`);
      sequence += 1;
      const command = { version: PROTOCOL_VERSION, id, epoch, leaderToken, sequence, ...body } as Command;
      const result = await connection.client.send(command, signal ? { timeoutMs, signal } : { timeoutMs });
      if (result.outcome !== 'refused') return result;
      throw new Refusal(toErrorCode(result.code), result.message, { ...result.facts, command: body.kind, taskId });
    },
    close() {
      for (const taskId of [...connections.keys()]) forget(taskId);
    },
  };
}
