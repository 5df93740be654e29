/**
 * Client of the v1 executor API.
 * - The agent may be away for any length of time: SUBSCRIBE is repeated every 250 to 500 ms for as long as it takes
 *   (after its own restart an agent kills executors that are not back within 2 s). Nothing ends because it is away.
 * - Every status is kept until the agent acknowledged it, and given again with every SUBSCRIBE.
 */
import type { Clock } from '../clock.ts';
import type { Logger } from '../log.ts';
import { type CallLine, CallRejected, createCallLine, NotConnected } from './call-line.ts';
import { type ExecutorCall, type ExecutorEvent, executorEvent } from './executor-api.ts';
import { type Answer, type EventStream, openEventStream } from './http.ts';
import { parseEvent } from './parse-event.ts';
import type { TaskInfo, TaskState } from './types.ts';
import { createUnacknowledged, encodeUuid, type SentStatus } from './unacknowledged.ts';

/** From sending SUBSCRIBE to SUBSCRIBED. */
const SUBSCRIBE_TIMEOUT_MS = 5000;
const RETRY_MIN_MS = 250;
const RETRY_SPREAD_MS = 250;
/** One warning in so many failed attempts: at most one every half minute. */
const ATTEMPTS_PER_WARNING = 100;

type EventOf<T extends ExecutorEvent['type']> = Extract<ExecutorEvent, { type: T }>;

export interface ExecutorHandlers {
  /** Also after every return of the agent. */
  subscribed(event: EventOf<'SUBSCRIBED'>['subscribed']): void;
  /** Once per task id. */
  launch(task: TaskInfo): void;
  /** May come twice. `graceMs`: null if the kill says nothing. */
  kill(kill: { readonly taskId: string; readonly graceMs: number | null }): void;
  /** The executor has its grace period until SIGKILL. May come twice. */
  shutdown(): void;
  message(text: string): void;
  /** Told, not acted upon: the client goes on. */
  error(message: string): void;
}

export interface ExecutorUpdate {
  readonly taskId: string;
  /** Not TASK_STAGING. */
  readonly state: Exclude<TaskState, 'TASK_STAGING'>;
  readonly message?: string;
  readonly reason?: string;
  /** Text, usually JSON; base64 is made here. */
  readonly data?: string;
  readonly healthy?: boolean;
}

/** Of what the agent gives by the environment, the part that its API needs. */
export interface AgentAccess {
  readonly frameworkId: string;
  readonly executorId: string;
  /** host:port; the agent does not tell its scheme. */
  readonly agentEndpoint: string;
  readonly isTls?: boolean;
  /** Bearer token (MESOS_EXECUTOR_AUTHENTICATION_TOKEN). */
  readonly authenticationToken: string | null;
}

export interface ExecutorClientOptions {
  readonly env: AgentAccess;
  readonly ca?: string;
  readonly clock: Clock;
  /** In [0, 1). */
  readonly random: () => number;
  /** Version 4 uuids. */
  readonly newId: () => string;
  readonly log: Logger;
  readonly handlers: ExecutorHandlers;
}

export interface ExecutorClient {
  start(): void;
  /** Drops the connection; what is not acknowledged is lost with the process. */
  stop(): void;
  /** Never fails and never waits: the status is kept and sent until the agent has it. */
  update(update: ExecutorUpdate): void;
  /** Best effort, to the scheduler. Rejects with NotConnected, CallRejected or CallTimeout. */
  sendMessage(text: string): Promise<void>;
  /** True once no update of the task (null: of any) waits for the agent; false when the deadline comes first. */
  whenAcknowledged(taskId: string | null, deadlineMs: number): Promise<boolean>;
  readonly isConnected: boolean;
}

export const createExecutorClient = (options: ExecutorClientOptions): ExecutorClient => new Client(options);

interface Subscription {
  stream: EventStream;
  calls: CallLine | null;
  timer: unknown;
  isSubscribed: boolean;
  /** uuids that the agent was given by SUBSCRIBE or UPDATE here. */
  readonly sent: Set<string>;
}

type CallBody =
  | Pick<Extract<ExecutorCall, { type: 'UPDATE' }>, 'type' | 'update'>
  | Pick<Extract<ExecutorCall, { type: 'MESSAGE' }>, 'type' | 'message'>;

/** The agent is not ready for us, or restarted: nothing is wrong with the call. */
const isAgentNotReady = ({ status, body }: Answer): boolean =>
  status >= 500 || status === 404 || status === 401 || status === 403 || /cannot be found|not subscribed/i.test(body);

class Client implements ExecutorClient {
  readonly #options: ExecutorClientOptions;
  readonly #head: { readonly executor_id: { value: string }; readonly framework_id: { value: string } };
  readonly #url: URL;
  readonly #headers: Record<string, string>;
  readonly #unacknowledged = createUnacknowledged();
  readonly #waiting = new Set<() => void>();
  #isRunning = false;
  #attempts = 0;
  #retryTimer: unknown = null;
  #current: Subscription | null = null;

  constructor(options: ExecutorClientOptions) {
    const { executorId, frameworkId, agentEndpoint, isTls = false, authenticationToken } = options.env;
    this.#options = options;
    this.#head = { executor_id: { value: executorId }, framework_id: { value: frameworkId } };
    this.#url = new URL(`${isTls ? 'https' : 'http'}://${agentEndpoint}/api/v1/executor`);
    this.#headers = authenticationToken === null ? {} : { Authorization: `Bearer ${authenticationToken}` };
  }

  get isConnected(): boolean {
    return this.#current?.isSubscribed ?? false;
  }

  start(): void {
    if (this.#isRunning) return;
    this.#isRunning = true;
    this.#subscribe();
  }

  stop(): void {
    this.#isRunning = false;
    this.#options.clock.clearTimeout(this.#retryTimer);
    this.#close('the client was stopped');
  }

  update({ taskId, state, message, reason, data, healthy }: ExecutorUpdate): void {
    const status: SentStatus = {
      task_id: { value: taskId },
      executor_id: this.#head.executor_id,
      state,
      source: 'SOURCE_EXECUTOR',
      timestamp: this.#options.clock.now() / 1000,
      uuid: encodeUuid(this.#options.newId()),
      ...(message !== undefined && { message }),
      ...(reason !== undefined && { reason }),
      ...(data !== undefined && { data: Buffer.from(data, 'utf8').toString('base64') }),
      ...(healthy !== undefined && { healthy }),
    };
    this.#unacknowledged.addUpdate(status);
    const subscription = this.#current;
    if (subscription?.isSubscribed) this.#sendUpdate(subscription, status);
  }

  async sendMessage(text: string): Promise<void> {
    const subscription = this.#current;
    if (!subscription?.isSubscribed) throw new NotConnected('the agent is away');
    await this.#call(subscription, {
      type: 'MESSAGE',
      message: { data: Buffer.from(text, 'utf8').toString('base64') },
    });
  }

  whenAcknowledged(taskId: string | null, deadlineMs: number): Promise<boolean> {
    const { clock } = this.#options;
    if (!this.#unacknowledged.hasUpdates(taskId)) return Promise.resolve(true);
    return new Promise((resolve) => {
      const end = (isAcknowledged: boolean) => {
        clock.clearTimeout(timer);
        this.#waiting.delete(check);
        resolve(isAcknowledged);
      };
      const check = () => {
        if (!this.#unacknowledged.hasUpdates(taskId)) end(true);
      };
      const timer = clock.setTimeout(() => end(false), deadlineMs);
      this.#waiting.add(check);
    });
  }

  #subscribe(): void {
    const { clock, ca } = this.#options;
    const updates = this.#unacknowledged.updates;
    const call: ExecutorCall = {
      ...this.#head,
      type: 'SUBSCRIBE',
      subscribe: {
        unacknowledged_tasks: [...this.#unacknowledged.tasks],
        unacknowledged_updates: updates.map((status) => ({ status })),
      },
    };
    const subscription: Subscription = {
      stream: { close: () => {} },
      calls: null,
      timer: clock.setTimeout(() => this.#lose(subscription, 'no answer to SUBSCRIBE in time'), SUBSCRIBE_TIMEOUT_MS),
      isSubscribed: false,
      sent: new Set(updates.map(({ uuid }) => uuid)),
    };
    this.#current = subscription;
    subscription.stream = openEventStream(
      { url: this.#url, headers: this.#headers, body: JSON.stringify(call), ca },
      {
        opened: () => {
          subscription.calls = createCallLine({
            url: this.#url,
            headers: this.#headers,
            ca,
            clock,
            isLast: isAgentNotReady,
          });
        },
        // The agent's heartbeat comes every 30 minutes: no use. It lives on this host; its end closes the connection.
        alive: () => {},
        record: (json) => this.#receive(subscription, json),
        refused: ({ status, body }) => this.#lose(subscription, `${status} ${body.slice(0, 200)}`),
        closed: (reason) => this.#lose(subscription, reason),
      },
    );
  }

  #receive(subscription: Subscription, json: unknown): void {
    if (subscription !== this.#current) return;
    const { log, handlers } = this.#options;
    const event = parseEvent(executorEvent, json, log);
    if (!event) return;
    try {
      this.#dispatch(subscription, event, handlers);
    } catch (error) {
      log.error({ err: error, type: event.type }, 'a handler of Mesos events failed');
    }
  }

  #dispatch(subscription: Subscription, event: ExecutorEvent, handlers: ExecutorHandlers): void {
    switch (event.type) {
      case 'SUBSCRIBED':
        this.#subscribed(subscription);
        handlers.subscribed(event.subscribed);
        break;
      case 'LAUNCH':
        this.#launch(event.launch.task);
        break;
      case 'LAUNCH_GROUP':
        handlers.error('LAUNCH_GROUP is not supported');
        break;
      case 'KILL': {
        const grace = event.kill.kill_policy?.grace_period?.nanoseconds;
        handlers.kill({ taskId: event.kill.task_id.value, graceMs: grace === undefined ? null : grace / 1e6 });
        break;
      }
      case 'ACKNOWLEDGED':
        this.#unacknowledged.acknowledge(event.acknowledged.task_id.value, event.acknowledged.uuid);
        this.#checkWaiting();
        break;
      case 'MESSAGE':
        handlers.message(Buffer.from(event.message.data, 'base64').toString('utf8'));
        break;
      case 'SHUTDOWN':
        handlers.shutdown();
        break;
      case 'ERROR':
        handlers.error(event.error.message);
        break;
      case 'HEARTBEAT':
        break;
    }
  }

  #checkWaiting(): void {
    for (const check of [...this.#waiting]) check();
  }

  #subscribed(subscription: Subscription): void {
    const { clock, log } = this.#options;
    clock.clearTimeout(subscription.timer);
    subscription.isSubscribed = true;
    this.#attempts = 0;
    log.info({ agent: this.#url.host }, 'subscribed to the agent');
    // Made after SUBSCRIBE was sent.
    for (const status of this.#unacknowledged.updates) {
      if (!subscription.sent.has(status.uuid)) this.#sendUpdate(subscription, status);
    }
  }

  #launch(task: TaskInfo): void {
    const { log, handlers } = this.#options;
    if (this.#unacknowledged.addTask(task)) handlers.launch(task);
    else log.warn({ taskId: task.task_id.value }, 'LAUNCH of a known task is ignored');
  }

  #sendUpdate(subscription: Subscription, status: SentStatus): void {
    const { log, handlers } = this.#options;
    subscription.sent.add(status.uuid);
    this.#call(subscription, { type: 'UPDATE', update: { status } }).catch((error: unknown) => {
      if (!(error instanceof CallRejected) || isAgentNotReady({ ...error, headers: {} })) return;
      // The agent calls the status invalid. Given again in SUBSCRIBE it would be refused for ever, or end the agent.
      log.error({ err: error, state: status.state }, 'the agent refuses a status update');
      this.#unacknowledged.dropUpdate(status.uuid);
      this.#checkWaiting();
      handlers.error(`the agent refuses ${status.state}: ${error.body}`);
    });
  }

  /** Whatever fails otherwise than by a refusal loses the subscription; pending updates go with the next SUBSCRIBE. */
  async #call(subscription: Subscription, body: CallBody): Promise<void> {
    let answer: Answer;
    try {
      if (!subscription.calls) throw new NotConnected('the agent is away');
      answer = await subscription.calls.send(JSON.stringify({ ...this.#head, ...body }));
    } catch (error) {
      this.#lose(subscription, String(error));
      throw error;
    }
    if (answer.status >= 200 && answer.status < 300) return;
    if (isAgentNotReady(answer)) this.#lose(subscription, `${answer.status} ${answer.body.slice(0, 200)}`);
    throw new CallRejected(answer);
  }

  #lose(subscription: Subscription, reason: string): void {
    if (subscription !== this.#current) return;
    const { clock, random, log } = this.#options;
    this.#close(reason);
    if (this.#attempts % ATTEMPTS_PER_WARNING === 0) {
      log.warn(
        { agent: this.#url.host, reason, attempts: this.#attempts },
        'not subscribed to the agent, will try again',
      );
    }
    this.#attempts += 1;
    this.#retryTimer = clock.setTimeout(() => this.#subscribe(), RETRY_MIN_MS + Math.round(random() * RETRY_SPREAD_MS));
  }

  #close(reason: string): void {
    const subscription = this.#current;
    if (!subscription) return;
    this.#current = null;
    subscription.isSubscribed = false;
    this.#options.clock.clearTimeout(subscription.timer);
    subscription.stream.close();
    subscription.calls?.close(reason, 0);
  }
}
