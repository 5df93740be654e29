/** The scheduler's end of the control channel, as src/channel/client.ts behaves over a bad network. */
import { createHash } from 'node:crypto';
import type { Command, CommandResult, Status } from '../../src/channel/protocol.ts';
import type { ExecutorAddress, ExecutorClient } from '../../src/controller/executors.ts';
import type { SimulatedExecutor } from './executor.ts';
import { controlHost, createConnection, type Net } from './net.ts';
import type { Process, Time } from './time.ts';

/** WATCH_SILENCE_MS */
const silenceMs = 5000;
/** WATCH_INTERVAL_MS */
const intervalMs = 1000;

export interface ChannelDeps {
  readonly time: Time;
  readonly net: Net;
  readonly process: Process;
  find(host: string, port: number): SimulatedExecutor | null;
  onCommand(command: Command, executor: ExecutorAddress, when: 'before' | 'after', result: CommandResult | null): void;
  /** The answer of this command is lost. */
  losesAnswer(): boolean;
  /** More milliseconds before a command arrives. */
  lateness(command: Command): number;
}

export function createSimulatedChannel(deps: ChannelDeps, address: ExecutorAddress): ExecutorClient {
  const { time, net, process } = deps;
  const host = address.address;
  const tokenSha256 = createHash('sha256').update(address.token).digest('hex');
  const closing = new AbortController();

  function find(): SimulatedExecutor | null {
    const executor = deps.find(host, address.port);
    if (!executor?.process.isAlive() || executor.fingerprint !== address.fingerprint) return null;
    return executor.plan?.tokenSha256 === tokenSha256 ? executor : null;
  }

  function send(command: Command, limits: { timeoutMs: number; signal?: AbortSignal }): Promise<CommandResult> {
    return new Promise((resolve, reject) => {
      let isSettled = false;
      const settle = (act: () => void) => {
        if (isSettled) return;
        isSettled = true;
        process.clock.clearTimeout(timer);
        limits.signal?.removeEventListener('abort', onAbort);
        closing.signal.removeEventListener('abort', onClose);
        act();
      };
      const onAbort = () => settle(() => reject(limits.signal?.reason ?? new Error('aborted')));
      const onClose = () => settle(() => reject(new Error('the channel was closed')));
      const timer = process.clock.setTimeout(
        () => settle(() => reject(new Error(`no answer within ${limits.timeoutMs} ms`))),
        limits.timeoutMs,
      );
      if (!process.isAlive()) return;
      if (limits.signal?.aborted) return onAbort();
      if (closing.signal.aborted) return onClose();
      limits.signal?.addEventListener('abort', onAbort, { once: true });
      closing.signal.addEventListener('abort', onClose, { once: true });
      deps.onCommand(command, address, 'before', null);
      if (!process.isAlive()) return;
      const broken = () => process.deliver(() => settle(() => reject(new Error('the connection broke'))));
      const arrive = () => {
        if (net.isCut(controlHost, host)) return; // the deadline tells
        const executor = find();
        if (!executor) return void time.after(net.delay(), broken);
        executor.process.onKill(() => time.after(net.delay(), broken));
        executor.process.deliver(() => {
          if (!executor.member) return broken();
          void executor.member.submit(command).then((result) => {
            deps.onCommand(command, address, 'after', result);
            if (deps.losesAnswer()) return void time.after(net.delay(), broken);
            time.after(net.delay(), () => {
              if (net.isCut(controlHost, host)) return;
              process.deliver(() => settle(() => resolve(structuredClone(result))));
            });
          });
        });
      };
      time.after(net.delay() + deps.lateness(command), arrive);
    });
  }

  function watch(handlers: { onStatus: (status: Status) => void; onEnd: (error: Error | null) => void }): () => void {
    let hasEnded = false;
    let stopListening = () => {};
    let interval: unknown;
    const connection = createConnection({ time, net, left: controlHost, right: host });
    const end = (error: Error | null) => {
      if (hasEnded) return;
      hasEnded = true;
      process.clock.clearTimeout(timer);
      time.cancel(interval);
      stopListening();
      connection.close();
      if (error) handlers.onEnd(error);
    };
    const expectMore = () => process.clock.setTimeout(() => end(new Error('the watch stream fell silent')), silenceMs);
    let timer = expectMore();
    const open = () => {
      const executor = find();
      if (!executor?.member || net.isCut(controlHost, host)) {
        time.after(net.delay(), () => process.deliver(() => end(new Error('connection refused'))));
        return;
      }
      const { member } = executor;
      const push = (status: Status) => {
        time.cancel(interval);
        if (hasEnded || !executor.process.isAlive()) return;
        connection.send('right', () =>
          process.deliver(() => {
            if (hasEnded) return;
            process.clock.clearTimeout(timer);
            timer = expectMore();
            handlers.onStatus(status);
          }),
        );
        interval = time.after(intervalMs, () => executor.process.deliver(() => push(member.status())));
      };
      stopListening = member.listen(push);
      executor.process.onKill(() => {
        if (!hasEnded) connection.send('right', () => process.deliver(() => end(new Error('the connection broke'))));
      });
      push(member.status());
    };
    connection.send('left', open);
    process.onKill(() => end(null));
    return () => end(null);
  }

  return { send, watch, close: () => closing.abort() };
}
