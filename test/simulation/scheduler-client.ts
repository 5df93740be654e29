/**
 * The scheduler client's semantics (src/mesos/scheduler-client.ts) over the core: one stream, one ordered line of calls,
 * whatever breaks one gives up both, back-off, the master's own checks of every request.
 */

import { CallRejected, CallTimeout, NotConnected, StaleSubscription } from '../../src/mesos/call-line.ts';
import type { CallBody } from '../../src/mesos/calls.ts';
import { subscribe } from '../../src/mesos/local/core/frameworks.ts';
import { decideSchedulerRequest, type HttpAnswer, type HttpRequest } from '../../src/mesos/local/core/http-table.ts';
import { call } from '../../src/mesos/local/core/master.ts';
import type { Wire } from '../../src/mesos/local/core/messages.ts';
import { isStale } from '../../src/mesos/masters.ts';
import { schedulerEvent } from '../../src/mesos/scheduler-api.ts';
import type { SchedulerClient, SchedulerHandlers } from '../../src/mesos/scheduler-client.ts';
import type { FrameworkInfo } from '../../src/mesos/types.ts';
import type { SimulatedMesos } from './mesos.ts';
import type { Net } from './net.ts';
import type { Process, Time } from './time.ts';

const backOff = { firstMs: 250, maxMs: 15_000 } as const;
const heartbeatDeadlineMs = 75_000;
const callTimeoutMs = 15_000;

interface Subscription {
  readonly streamId: string;
  isSubscribed: boolean;
  deadline: unknown;
  readonly queue: { body: CallBody; resolve: () => void; reject: (error: Error) => void }[];
  isBusy: boolean;
}

export function createSimulatedScheduler(options: {
  readonly time: Time;
  readonly net: Net;
  readonly mesos: SimulatedMesos;
  readonly process: Process;
  readonly frameworkInfo: FrameworkInfo;
  readonly frameworkId: string | null;
  readonly newId: () => string;
  readonly random: () => number;
  readonly handlers: SchedulerHandlers;
  /** May kill the controller, before the call is sent or after it was carried out. */
  readonly onCall: (type: string, when: 'before' | 'after') => void;
}): SchedulerClient {
  const { time, net, mesos, process, handlers, newId } = options;
  let { frameworkId } = options;
  let current: Subscription | null = null;
  let isRunning = false;
  let failures = 0;
  let retry: unknown;
  process.onKill(() => current && mesos.dropStream(current.streamId));

  function request(body: unknown, streamId?: string): HttpRequest {
    return {
      method: 'POST',
      contentType: 'application/json',
      accept: 'application/json',
      streamId,
      authorization: undefined,
      body: JSON.stringify(body),
    };
  }

  const decide = (body: unknown, streamId?: string) =>
    decideSchedulerRequest(
      mesos.cluster.master,
      { credentials: null, phase: { kind: mesos.isLeading ? 'leading' : 'recovering' } },
      '/api/v1/scheduler',
      request(body, streamId),
    );

  function start(): void {
    const id = frameworkId;
    const body = {
      type: 'SUBSCRIBE',
      ...(id !== null && { framework_id: { value: id } }),
      subscribe: { framework_info: { ...options.frameworkInfo, ...(id !== null && { id: { value: id } }) } },
    };
    const subscription: Subscription = {
      streamId: newId(),
      isSubscribed: false,
      deadline: process.clock.setTimeout(() => lose(subscription, 'no answer to SUBSCRIBE'), callTimeoutMs),
      queue: [],
      isBusy: false,
    };
    current = subscription;
    time.after(net.delay(), () => {
      if (!process.isAlive() || current !== subscription) return;
      const decision = decide(body);
      if (decision.kind !== 'subscribe') {
        const text = decision.kind === 'answer' ? `${decision.status} ${decision.body}` : 'odd';
        time.after(net.delay(), () => process.deliver(() => lose(subscription, text)));
        return;
      }
      mesos.openStream(subscription.streamId, {
        event: (event) => process.deliver(() => receive(subscription, event)),
        closed: () => process.deliver(() => lose(subscription, 'the stream ended')),
      });
      const { framework_info, suppressed_roles } = decision.call.subscribe;
      subscribe(mesos.cluster.master, {
        info: framework_info,
        suppressedRoles: suppressed_roles ?? [],
        streamId: subscription.streamId,
        principal: null,
      });
    });
  }

  function alive(subscription: Subscription): void {
    process.clock.clearTimeout(subscription.deadline);
    subscription.deadline = process.clock.setTimeout(
      () => lose(subscription, 'no heartbeat in time'),
      heartbeatDeadlineMs,
    );
  }

  function receive(subscription: Subscription, wire: Wire): void {
    if (subscription !== current) return;
    const parsed = schedulerEvent.safeParse(wire);
    if (!parsed.success) throw new Error(`event of the core is not understood: ${parsed.error.message}`);
    const event = parsed.data;
    if (event.type === 'SUBSCRIBED') {
      frameworkId = event.subscribed.framework_id.value;
      subscription.isSubscribed = true;
      failures = 0;
      alive(subscription);
      handlers.subscribed({
        frameworkId,
        heartbeatIntervalSeconds: event.subscribed.heartbeat_interval_seconds ?? 15,
        masterInfo: event.subscribed.master_info ?? null,
      });
      return;
    }
    if (event.type === 'ERROR') {
      const { message } = event.error;
      if (/framework failed over/i.test(message)) {
        stop();
        handlers.failedOver();
        return;
      }
      if (/framework has been removed/i.test(message)) {
        stop();
        handlers.removed(message);
        return;
      }
      lose(subscription, message);
      return;
    }
    if (!subscription.isSubscribed) return;
    alive(subscription);
    if (event.type !== 'HEARTBEAT') handlers.event(event);
  }

  function close(reason: string): void {
    const subscription = current;
    if (!subscription) return;
    current = null;
    process.clock.clearTimeout(subscription.deadline);
    mesos.dropStream(subscription.streamId);
    const [sent, ...waiting] = subscription.queue.splice(0);
    if (sent) sent.reject(subscription.isBusy ? new CallTimeout(reason) : new NotConnected(reason));
    for (const { reject } of waiting) reject(new NotConnected(reason));
  }

  function lose(subscription: Subscription, reason: string): void {
    if (subscription !== current) return;
    const { isSubscribed } = subscription;
    close(reason);
    if (isRunning) {
      const ceilingMs = Math.min(backOff.firstMs * 2 ** Math.min(failures, 10), backOff.maxMs);
      failures += 1;
      retry = process.clock.setTimeout(start, Math.round(ceilingMs * (0.5 + options.random() / 2)));
    }
    if (isSubscribed) handlers.disconnected(reason);
  }

  function stop(): void {
    isRunning = false;
    process.clock.clearTimeout(retry);
    close('the client was stopped');
  }

  /** Null: it was carried out and the answer is lost. */
  function carryOut(subscription: Subscription, body: CallBody): HttpAnswer | null {
    const decision = decide({ framework_id: { value: frameworkId }, ...body }, subscription.streamId);
    if (decision.kind === 'answer') return decision;
    if (decision.kind === 'subscribe') throw new Error('a call is no SUBSCRIBE');
    const fault = call(mesos.cluster.master, decision.framework, decision.call);
    const { lostAnswers } = mesos.cluster;
    const lost = lostAnswers.findIndex((type) => type === body.type || type === '*');
    if (lost !== -1) {
      lostAnswers.splice(lost, 1);
      return null;
    }
    return { kind: 'answer', status: fault === null ? 202 : 400, body: fault ?? '' };
  }

  function sendNext(subscription: Subscription): void {
    const next = subscription.queue[0];
    if (!next || subscription.isBusy || current !== subscription) return;
    subscription.isBusy = true;
    options.onCall(next.body.type, 'before');
    if (!process.isAlive()) return;
    time.after(net.delay(), () => {
      // What was sent arrives although the sender has died meanwhile.
      const answer = carryOut(subscription, next.body);
      options.onCall(next.body.type, 'after');
      time.after(net.delay(), () => process.deliver(() => answered(subscription, next, answer)));
    });
  }

  function answered(subscription: Subscription, sent: Subscription['queue'][number], answer: HttpAnswer | null): void {
    if (subscription !== current || subscription.queue[0] !== sent) return;
    if (!answer) {
      lose(subscription, 'the connection broke');
      return;
    }
    subscription.queue.shift();
    subscription.isBusy = false;
    if (answer.status < 300) sent.resolve();
    else if (isStale({ ...answer, headers: {} })) {
      sent.reject(new StaleSubscription(answer));
      lose(subscription, `stale subscription: ${answer.status} ${answer.body}`);
      return;
    } else sent.reject(new CallRejected(answer));
    sendNext(subscription);
  }

  return {
    start() {
      if (isRunning) return;
      isRunning = true;
      start();
    },
    stop,
    renew(reason) {
      if (current?.isSubscribed) lose(current, reason);
    },
    call(body) {
      const subscription = current;
      if (!process.isAlive() || !subscription?.isSubscribed) return Promise.reject(new NotConnected('no subscription'));
      return new Promise((resolve, reject) => {
        subscription.queue.push({ body, resolve, reject });
        sendNext(subscription);
      });
    },
    get isConnected() {
      return current?.isSubscribed ?? false;
    },
    get frameworkId() {
      return frameworkId;
    },
  };
}
