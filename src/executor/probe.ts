/**
 * The executor's own probe: once a second a fresh login over the socket and SELECT 1, with a deadline of one second.
 * Persistent sessions say nothing about logins, and a stopped process answers neither. The account
 * has CONNECTION_ADMIN: MySQL keeps one more connection for it when the clients have taken all others.
 */
import type { Status } from '../channel/protocol.ts';
import { ownUser } from '../mysql/accounts.ts';
import { connect, errorNumber, type Session } from '../mysql/connection.ts';
import { describe } from './command-queue.ts';
import type { RunningInstance } from './instance.ts';
import type { MemberContext } from './member-context.ts';

const INTERVAL_MS = 1_000;
const DEADLINE_MS = 1_000;
/** A probe under way is no news before. */
const NEWS_MS = 500;
const tooManyConnections = 1040;

export interface Probe {
  /** Null: the last probe of this instance was answered. */
  read(): Status['probeFailing'];
  stop(): void;
}

/** Probes whatever instance runs until it is stopped. `changed` is called when the answer changes. */
export function startProbe(context: MemberContext, changed: () => void): Probe {
  const { clock } = context;
  let isStopped = false;
  let timer: unknown;
  let probed: RunningInstance | null = null;
  /** `since`: when this instance answered last, at most a pause before the first of the probes that failed in a row. */
  let failing: { readonly since: number; readonly message: string } | null = null;
  let underWaySince: number | null = null;
  let answeredAt: number | null = null;

  const probe = async (instance: RunningInstance) => {
    const began = clock.now();
    if (probed !== instance) {
      failing = null;
      answeredAt = null;
    }
    probed = instance;
    underWaySince = began;
    const message = await login(context);
    underWaySince = null;
    if (probed !== context.instance) failing = null;
    else if (message === null) {
      failing = null;
      answeredAt = clock.now();
    } else failing = { since: failing?.since ?? Math.max(answeredAt ?? began, began - INTERVAL_MS), message };
  };
  const next = async () => {
    const began = clock.now();
    const hadFailed = failing !== null;
    if (context.instance && context.phase === 'running') await probe(context.instance);
    else failing = null;
    if (isStopped) return;
    if (hadFailed !== (failing !== null)) changed();
    timer = clock.setTimeout(() => void next(), Math.max(0, INTERVAL_MS - (clock.now() - began)));
  };
  void next();
  return {
    read() {
      if (!context.instance || probed !== context.instance) return null;
      const since = failing?.since ?? underWaySince;
      if (since === null) return null;
      const forMs = clock.now() - since;
      return forMs < NEWS_MS ? null : { forMs, message: failing?.message ?? 'no answer yet' };
    },
    stop() {
      isStopped = true;
      clock.clearTimeout(timer);
    },
  };
}

/** Null when it was answered in time, else why not. Never throws. */
async function login({ clock, paths }: MemberContext): Promise<string | null> {
  const deadline = clock.now() + DEADLINE_MS;
  let session: Session | null = null;
  try {
    session = await connect({ socketPath: paths.socket }, { user: ownUser }, { clock, connectTimeoutMs: DEADLINE_MS });
    await session.query('SELECT 1', [], { timeoutMs: Math.max(1, deadline - clock.now()) });
    return null;
  } catch (error) {
    const isFull = errorNumber(error) === tooManyConnections;
    return isFull ? `it answers, but has too many connections: ${describe(error)}` : describe(error);
  } finally {
    await session?.close();
  }
}
