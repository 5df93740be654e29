/**
 * The one connection for all calls but SUBSCRIBE: Mesos keeps an order only within a connection, so each call waits
 * for the answer to the one before.
 */
import type { Clock } from '../clock.ts';
import { type Answer, createKeepAliveAgent, isConnectFailure, openPost, readAnswer } from './http.ts';

/** Not sent: nothing happened. */
export class NotConnected extends Error {
  constructor(why: string) {
    super(`Not connected to Mesos: ${why}`);
    this.name = 'NotConnected';
  }
}

export class CallLineFull extends NotConnected {
  constructor() {
    super('too many calls are waiting');
    this.name = 'CallLineFull';
  }
}

/**
 * Sent, but without an answer: it may or may not have been carried out. The subscription is given up with it, so that
 * a late arrival of this call is refused by its stream id instead of overtaking newer calls.
 */
export class CallTimeout extends Error {
  constructor(why: string) {
    super(`Outcome of a call to Mesos is unknown: ${why}`);
    this.name = 'CallTimeout';
  }
}

/** Answered with an error status: nothing was done. */
export class CallRejected extends Error {
  readonly status: number;
  readonly body: string;
  constructor({ status, body }: Pick<Answer, 'status' | 'body'>) {
    super(`Mesos rejected a call with ${status}: ${body.slice(0, 500)}`);
    this.name = 'CallRejected';
    this.status = status;
    this.body = body;
  }
}

/** The master does not know our stream any more: nothing was done, and the client is subscribing again. */
export class StaleSubscription extends CallRejected {
  constructor(answer: Pick<Answer, 'status' | 'body'>) {
    super(answer);
    this.name = 'StaleSubscription';
  }
}

const CALL_TIMEOUT_MS = 15_000;
const MAX_QUEUED_CALLS = 10_000;

export interface CallLine {
  /** Resolves with any answer. Rejects with NotConnected (not sent) or CallTimeout (outcome unknown). */
  send(body: string): Promise<Answer>;
  /** What is queued rejects with NotConnected; what is sent has `graceMs` to be answered, then rejects with CallTimeout. */
  close(reason: string, graceMs: number): void;
}

export function createCallLine(options: {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly ca?: string | undefined;
  readonly clock: Clock;
  /** An answer after which nothing more may be sent here. */
  readonly isLast: (answer: Answer) => boolean;
}): CallLine {
  const { url, headers, ca, clock, isLast } = options;
  const agent = createKeepAliveAgent(url, ca);
  const queue: { body: string; resolve: (answer: Answer) => void; reject: (error: Error) => void }[] = [];
  let closedBecause: string | null = null;
  let abortCurrent: ((why: string) => void) | null = null;
  let shortenCurrent: ((why: string, graceMs: number) => void) | null = null;

  const perform = (body: string): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const request = openPost({ url, headers, body, agent, ca });
      let isSettled = false;
      const end = (settle: () => void) => {
        // A late error of this request must not touch the next one.
        if (isSettled) return;
        isSettled = true;
        clock.clearTimeout(timer);
        abortCurrent = null;
        shortenCurrent = null;
        settle();
      };
      abortCurrent = (why) =>
        end(() => {
          request.destroy();
          reject(new CallTimeout(why));
        });
      let timer = clock.setTimeout(() => abortCurrent?.('no answer in time'), CALL_TIMEOUT_MS);
      shortenCurrent = (why, graceMs) => {
        clock.clearTimeout(timer);
        timer = clock.setTimeout(() => abortCurrent?.(why), graceMs);
      };
      const fail = (error: Error) =>
        end(() => reject(isConnectFailure(error) ? new NotConnected(error.message) : new CallTimeout(error.message)));
      request.on('error', fail);
      request.on('response', (response) => {
        readAnswer(response).then((answer) => end(() => resolve(answer)), fail);
      });
    });

  const run = async () => {
    for (let next = queue[0]; next; next = queue[0]) {
      try {
        if (closedBecause !== null) throw new NotConnected(closedBecause);
        const answer = await perform(next.body);
        if (isLast(answer)) closedBecause ??= `${answer.status} ${answer.body.slice(0, 200)}`;
        next.resolve(answer);
      } catch (error) {
        // Whatever waits must not overtake a call that may still be on its way.
        closedBecause ??= error instanceof Error ? error.message : String(error);
        next.reject(error as Error);
      }
      queue.shift();
    }
    if (closedBecause !== null) agent.destroy();
  };

  return {
    send(body) {
      if (closedBecause !== null) return Promise.reject(new NotConnected(closedBecause));
      if (queue.length >= MAX_QUEUED_CALLS) return Promise.reject(new CallLineFull());
      return new Promise((resolve, reject) => {
        queue.push({ body, resolve, reject });
        if (queue.length === 1) void run();
      });
    },
    close(reason, graceMs) {
      closedBecause ??= reason;
      if (!abortCurrent) agent.destroy();
      else if (graceMs === 0) abortCurrent(reason);
      else shortenCurrent?.(reason, graceMs);
    },
  };
}
