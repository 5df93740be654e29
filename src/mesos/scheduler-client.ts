/**
 * Client of the v1 scheduler API: one long SUBSCRIBE stream and one ordered line of calls beside it.
 * - A subscription is stream, stream id and call line together; whatever breaks one gives up all three. Events and
 *   answers of an older subscription are ignored.
 * - Losing a subscription is not losing tasks: subscribe again, with back-off, for as long as it takes.
 * - 'Framework failed over' means that another scheduler has taken this framework: never subscribe again.
 * - Faults of ours (401, 400 on SUBSCRIBE, a refused FrameworkInfo) are fatal: a loop would not mend them.
 */
import type { Clock } from '../clock.ts';
import { Refusal } from '../errors.ts';
import type { Logger } from '../log.ts';
import {
  type CallLine,
  CallLineFull,
  CallRejected,
  createCallLine,
  NotConnected,
  StaleSubscription,
} from './call-line.ts';
import type { CallBody } from './calls.ts';
import { type Answer, type EventStream, openEventStream } from './http.ts';
import { basicAuthorization, findRedirect, isStale, isTemporary, parseMaster } from './masters.ts';
import { parseEvent } from './parse-event.ts';
import { type MasterInfo, type SchedulerEvent, schedulerEvent } from './scheduler-api.ts';
import type { FrameworkInfo } from './types.ts';

const MAX_REDIRECTS = 5;
/** From sending SUBSCRIBE to the SUBSCRIBED event. */
const SUBSCRIBE_TIMEOUT_MS = 15_000;
/** The answer to TEARDOWN races with the end of the stream that it causes. */
const ANSWER_GRACE_MS = 1000;
const DEFAULT_HEARTBEAT_SECONDS = 15;
const MISSED_HEARTBEATS = 5;
/** A subscription that lived this long begins the back-off anew. */
const BACKOFF = { firstMs: 250, maxMs: 15_000, resetAfterMs: 10_000 } as const;

export interface Subscribed {
  readonly frameworkId: string;
  readonly heartbeatIntervalSeconds: number;
  readonly masterInfo: MasterInfo | null;
}

export interface SchedulerHandlers {
  /** Offers of an earlier subscription are void; decline filters and suppression are gone. Reconcile from here. */
  subscribed(subscribed: Subscribed): void;
  /** All events but SUBSCRIBED, HEARTBEAT and ERROR. Must not act: record the fact and wake. */
  event(event: SchedulerEvent): void;
  /** The subscription is lost; the client is already trying again. */
  disconnected(reason: string): void;
  /** Another scheduler took this framework over; the client has stopped. */
  failedOver(): void;
  /** The framework id is retired (teardown, or failover_timeout ran out): its tasks are dead. The client has stopped. */
  removed(message: string): void;
  /** Mesos refuses us for good: authentication, FrameworkInfo, or a fault of ours. The client has stopped. */
  failed(error: Error): void;
}

export interface SchedulerClientOptions {
  /** Base URLs, `http(s)://host:port`; any of the masters, the leader is found by redirects. */
  readonly masters: readonly string[];
  readonly frameworkInfo: FrameworkInfo;
  /** Null for a new framework. */
  readonly frameworkId: string | null;
  readonly credentials?: { readonly principal: string; readonly secret: string };
  /** PEM, for https masters. */
  readonly ca?: string;
  readonly clock: Clock;
  /** In [0, 1). */
  readonly random: () => number;
  readonly log: Logger;
  readonly handlers: SchedulerHandlers;
}

export interface SchedulerClient {
  start(): void;
  /** Drops the connection; the framework's tasks run on for failover_timeout. Not a TEARDOWN. */
  stop(): void;
  /** Gives the subscription up for a new one: Mesos voids all offers then. Nothing without one. */
  renew(reason: string): void;
  /**
   * Resolves when Mesos took the call (202): not when, or whether, it was carried out. Rejects with NotConnected,
   * CallRejected, StaleSubscription (in all three nothing was done) or CallTimeout (outcome unknown).
   */
  call(body: CallBody): Promise<void>;
  readonly isConnected: boolean;
  /** Null until the first subscription of a new framework. */
  readonly frameworkId: string | null;
}

export const createSchedulerClient = (options: SchedulerClientOptions): SchedulerClient => new Client(options);

interface Subscription {
  readonly generation: number;
  readonly url: URL;
  stream: EventStream;
  timer: unknown;
  calls: CallLine | null;
  heartbeatMs: number;
  isSubscribed: boolean;
  subscribedAt: number;
}

class Client implements SchedulerClient {
  readonly #options: SchedulerClientOptions;
  readonly #masters: readonly URL[];
  readonly #authorization: Record<string, string>;
  #frameworkId: string | null;
  #isRunning = false;
  #generation = 0;
  #nextMaster = 0;
  #failures = 0;
  #retryTimer: unknown = null;
  #current: Subscription | null = null;

  constructor(options: SchedulerClientOptions) {
    if (options.masters.length === 0) throw new Refusal('BAD_REQUEST', 'No Mesos master is given');
    this.#options = options;
    this.#masters = options.masters.map(parseMaster);
    this.#authorization = options.credentials ? basicAuthorization(options.credentials) : {};
    this.#frameworkId = options.frameworkId;
  }

  get isConnected(): boolean {
    return this.#current?.isSubscribed ?? false;
  }

  get frameworkId(): string | null {
    return this.#frameworkId;
  }

  start(): void {
    if (this.#isRunning) return;
    this.#isRunning = true;
    this.#failures = 0;
    this.#subscribe(this.#masters[this.#nextMaster]!, 0);
  }

  stop(): void {
    this.#isRunning = false;
    this.#options.clock.clearTimeout(this.#retryTimer);
    this.#close('the client was stopped', 0);
  }

  renew(reason: string): void {
    if (this.#current?.isSubscribed) this.#lose(this.#current, reason);
  }

  async call(body: CallBody): Promise<void> {
    const subscription = this.#current;
    if (!subscription?.isSubscribed || !subscription.calls || this.#frameworkId === null) {
      throw new NotConnected('no subscription');
    }
    const text = JSON.stringify({ framework_id: { value: this.#frameworkId }, ...body });
    let answer: Answer;
    try {
      answer = await subscription.calls.send(text);
    } catch (error) {
      if (!(error instanceof CallLineFull)) this.#lose(subscription, String(error));
      throw error;
    }
    if (answer.status >= 200 && answer.status < 300) return;
    if (isStale(answer)) {
      this.#lose(subscription, `stale subscription: ${answer.status} ${answer.body}`);
      throw new StaleSubscription(answer);
    }
    const rejected = new CallRejected(answer);
    if (answer.status === 401) this.#fail(subscription, rejected);
    throw rejected;
  }

  #subscribe(url: URL, redirects: number): void {
    const { clock, frameworkInfo, ca } = this.#options;
    const id = this.#frameworkId;
    const body = JSON.stringify({
      type: 'SUBSCRIBE',
      // Both or none, and equal: else 400.
      ...(id !== null && { framework_id: { value: id } }),
      subscribe: { framework_info: { ...frameworkInfo, ...(id !== null && { id: { value: id } }) } },
    });
    this.#generation += 1;
    const subscription: Subscription = {
      generation: this.#generation,
      url,
      stream: { close: () => {} },
      timer: clock.setTimeout(() => this.#lose(subscription, 'no answer to SUBSCRIBE in time'), SUBSCRIBE_TIMEOUT_MS),
      calls: null,
      heartbeatMs: 0,
      isSubscribed: false,
      subscribedAt: 0,
    };
    this.#current = subscription;
    subscription.stream = openEventStream(
      { url, headers: this.#authorization, body, ca },
      {
        opened: (headers) => this.#openCalls(subscription, headers['mesos-stream-id']),
        alive: () => this.#expectHeartbeat(subscription),
        record: (json) => this.#receive(subscription, json),
        refused: (answer) => this.#refused(subscription, answer, redirects),
        closed: (reason) => this.#lose(subscription, reason),
      },
    );
  }

  #openCalls(subscription: Subscription, streamId: string | string[] | undefined): void {
    if (typeof streamId !== 'string') {
      this.#lose(subscription, 'the answer has no Mesos-Stream-Id');
      return;
    }
    const { clock, ca } = this.#options;
    const headers = { ...this.#authorization, 'Mesos-Stream-Id': streamId };
    subscription.calls = createCallLine({ url: subscription.url, headers, ca, clock, isLast: isStale });
  }

  /** A master that fell silent is indistinguishable from a cut network: the proto says to give up after 5 intervals. */
  #expectHeartbeat(subscription: Subscription): void {
    if (!subscription.isSubscribed || subscription !== this.#current) return;
    const { clock } = this.#options;
    clock.clearTimeout(subscription.timer);
    subscription.timer = clock.setTimeout(
      () => this.#lose(subscription, 'no heartbeat in time'),
      subscription.heartbeatMs * MISSED_HEARTBEATS,
    );
  }

  #refused(subscription: Subscription, answer: Answer, redirects: number): void {
    if (subscription !== this.#current) return;
    const leader = redirects < MAX_REDIRECTS ? findRedirect(answer, subscription.url) : null;
    if (leader) {
      this.#close('redirected to the leader');
      this.#subscribe(leader, redirects + 1);
      return;
    }
    if (isTemporary(answer)) {
      this.#lose(subscription, `${answer.status} ${answer.body.slice(0, 200)}`);
      return;
    }
    this.#fail(subscription, new CallRejected(answer));
  }

  #receive(subscription: Subscription, json: unknown): void {
    if (subscription !== this.#current) return;
    const { log } = this.#options;
    const event = parseEvent(schedulerEvent, json, log);
    if (!event || event.type === 'HEARTBEAT') return;
    if (event.type === 'SUBSCRIBED') {
      this.#subscribed(subscription, event.subscribed);
      return;
    }
    if (event.type === 'ERROR') {
      this.#error(subscription, event.error.message);
      return;
    }
    if (!subscription.isSubscribed) {
      log.warn({ type: event.type }, 'event before SUBSCRIBED is ignored');
      return;
    }
    this.#notify((handlers) => handlers.event(event));
  }

  #subscribed(subscription: Subscription, event: Extract<SchedulerEvent, { type: 'SUBSCRIBED' }>['subscribed']): void {
    const heartbeatIntervalSeconds = event.heartbeat_interval_seconds || DEFAULT_HEARTBEAT_SECONDS;
    const frameworkId = event.framework_id.value;
    this.#frameworkId = frameworkId;
    subscription.isSubscribed = true;
    subscription.subscribedAt = this.#options.clock.now();
    subscription.heartbeatMs = heartbeatIntervalSeconds * 1000;
    this.#expectHeartbeat(subscription);
    const { generation, url } = subscription;
    this.#options.log.info({ frameworkId, master: url.host, generation }, 'subscribed to Mesos');
    const masterInfo = event.master_info ?? null;
    this.#notify((handlers) => handlers.subscribed({ frameworkId, heartbeatIntervalSeconds, masterInfo }));
  }

  #error(subscription: Subscription, message: string): void {
    if (/framework failed over/i.test(message)) {
      this.stop();
      this.#notify((handlers) => handlers.failedOver());
      return;
    }
    if (/framework has been removed/i.test(message)) {
      this.stop();
      this.#notify((handlers) => handlers.removed(message));
      return;
    }
    // Before SUBSCRIBED it is our FrameworkInfo that is refused; later nothing is known to be wrong with it.
    if (!subscription.isSubscribed) {
      this.#fail(subscription, new Error(`Mesos refuses the framework: ${message}`));
      return;
    }
    this.#lose(subscription, `error of the master: ${message}`);
  }

  #fail(subscription: Subscription, error: Error): void {
    if (subscription !== this.#current) return;
    this.stop();
    this.#notify((handlers) => handlers.failed(error));
  }

  /** Gives a subscription up and arranges the next. */
  #lose(subscription: Subscription, reason: string): void {
    if (subscription !== this.#current) return;
    const { clock, random, log } = this.#options;
    const wasSubscribed = subscription.isSubscribed;
    this.#close(reason);
    // The static list is gone through in turn: a dead leader's followers go on redirecting to it for seconds.
    this.#nextMaster = (this.#nextMaster + 1) % this.#masters.length;
    if (wasSubscribed && clock.now() - subscription.subscribedAt >= BACKOFF.resetAfterMs) this.#failures = 0;
    const ceilingMs = Math.min(BACKOFF.firstMs * 2 ** Math.min(this.#failures, 10), BACKOFF.maxMs);
    const delayMs = Math.round(ceilingMs * (0.5 + random() / 2));
    this.#failures += 1;
    log.warn({ master: subscription.url.host, reason, delayMs }, 'no subscription to Mesos, will try again');
    this.#retryTimer = clock.setTimeout(() => this.#subscribe(this.#masters[this.#nextMaster]!, 0), delayMs);
    if (wasSubscribed) this.#notify((handlers) => handlers.disconnected(reason));
  }

  #close(reason: string, graceMs = ANSWER_GRACE_MS): void {
    const subscription = this.#current;
    if (!subscription) return;
    this.#current = null;
    subscription.isSubscribed = false;
    this.#options.clock.clearTimeout(subscription.timer);
    subscription.stream.close();
    subscription.calls?.close(reason, graceMs);
  }

  /** A fault in a handler must not tear the stream down with it. */
  #notify(tell: (handlers: SchedulerHandlers) => void): void {
    try {
      tell(this.#options.handlers);
    } catch (error) {
      this.#options.log.error({ err: error }, 'a handler of Mesos events failed');
    }
  }
}
