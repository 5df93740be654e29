/**
 * Outstanding offers and the members that want something from them. Every offer is answered: used, or declined with
 * the reasons kept for `GET /v1/offers`. An offer of an agent that somebody waits for is held for a moment, because
 * Mesos offers freed pieces separately and does not merge them.
 */

import type { Clock } from '../clock.ts';
import type { Stage } from '../cluster/placement.ts';
import type { AgentOffer } from '../cluster/types.ts';
import type { Logger } from '../log.ts';
import { toAgentOffer } from '../mesos/offers.ts';
import type { Offer, OfferOperation } from '../mesos/types.ts';

/** An offer of a wanted agent is held this long before it is declined; everything else is answered at once. */
const holdMs = 4000;
/** Filter while somebody wants something, and while nobody does. Both end with the REVIVE of the next want. */
const refuseSeconds = { wanted: 1, idle: 120 } as const;
/** REVIVE is cheap for us and costly for a busy master: a bucket of tokens. */
const revive = { bucket: 20, refillMs: 1000 } as const;
/**
 * Mesos offers what is free within seconds. When somebody waits for so long (then twice as long, and so on) for what an
 * agent holds for it, or for any offer at all, one may have been lost, as one that could not be read: it counts as
 * outstanding for ever, and only a new subscription voids it. Other pieces of that agent may well be offered meanwhile.
 */
const silence = { firstMs: 60_000, maxMs: 16 * 60_000 } as const;
/** Who is not back after this time waits no more. */
const goneMs = 5_000;
const maxRecent = 200;

export interface AgentOffers {
  readonly agentId: string;
  readonly offers: readonly Offer[];
  /** What is not reserved, added up; null for an agent without an IPv4 address. */
  readonly free: AgentOffer | null;
}

export interface Use {
  readonly offerIds: readonly string[];
  readonly operations: readonly OfferOperation[];
}

/** What a member's want made of an agent's offers, stage by stage. */
export interface Trial {
  readonly agentId: string;
  readonly clusterId: string;
  readonly cluster: string;
  readonly ordinal: number;
  readonly outcome: 'placed' | 'refused';
  readonly stages: readonly Stage[];
}

/** An offer that came in lately, and what was tried on it. */
export interface RecentOffer {
  readonly offerId: string;
  readonly receivedAt: number;
  readonly free: AgentOffer;
  readonly tried: readonly Trial[];
}

export interface Want {
  /** Unique; registering the same key again replaces the want. */
  readonly key: string;
  /** The agent that this want waits for, if it is bound to one. */
  readonly agentId: string | null;
  /** Stores its intent, then says what to do with which offers; null if these offers do not do. */
  consider(agents: readonly AgentOffers[], report: (trial: Trial) => void): Promise<Use | null>;
}

export interface Market {
  add(offers: readonly Offer[]): void;
  rescind(offerId: string): void;
  /** A new subscription: older offers are void. */
  reset(): void;
  want(want: Want): void;
  drop(key: string): void;
  /** Outstanding offers by agent. */
  agents(): readonly AgentOffers[];
  /** The last offers, newest last, used and declined ones too. */
  recent(): readonly RecentOffer[];
  /** What is free on each agent as far as the last offers told. */
  known(): readonly AgentOffer[];
  /** Declines what was held too long; called on every tick. */
  sweep(): void;
  /** Waits until no consideration is under way. */
  settled(): Promise<void>;
}

interface Waiting {
  readonly since: number;
  /** Whoever waits looks at the facts anew once in a while, and is back at once. */
  readonly droppedAt: number | null;
}

type MarketCall =
  | { readonly type: 'ACCEPT'; readonly use: Use }
  | { readonly type: 'DECLINE'; readonly offerIds: readonly string[]; readonly refuseSeconds: number }
  | { readonly type: 'REVIVE' };

export function createMarket(options: {
  readonly clock: Clock;
  readonly log: Logger;
  readonly send: (call: MarketCall) => Promise<void>;
  /** Asks for a new subscription. */
  readonly renew: (reason: string) => void;
}): Market {
  const { clock, log, send, renew } = options;
  const outstanding = new Map<string, { readonly offer: Offer; readonly since: number }>();
  const wants = new Map<string, Want>();
  const recent: (RecentOffer & { tried: Trial[] })[] = [];
  const known = new Map<string, AgentOffer>();
  let heardAt = 0;
  const waiting = new Map<string, Waiting>();
  let silenceMs: number = silence.firstMs;
  let renewedAt = 0;
  let tokens: number = revive.bucket;
  let refilledAt = clock.now();
  let isReviveDue = false;
  let chain: Promise<void> = Promise.resolve();

  const attempt = (call: MarketCall) =>
    send(call).catch((error) => log.debug({ err: error, call: call.type }, 'call was not taken'));

  function agents(): AgentOffers[] {
    const byAgent = new Map<string, Offer[]>();
    for (const { offer } of outstanding.values()) {
      byAgent.set(offer.agent_id.value, [...(byAgent.get(offer.agent_id.value) ?? []), offer]);
    }
    return [...byAgent].map(([agentId, offers]) => ({ agentId, offers, free: toAgentOffer(offers) }));
  }

  function report(trial: Trial): void {
    for (const entry of recent) {
      if (entry.free.agentId !== trial.agentId || !outstanding.has(entry.offerId)) continue;
      // Only the last word about a member: it is tried again at every offer.
      entry.tried = [
        ...entry.tried.filter((one) => one.clusterId !== trial.clusterId || one.ordinal !== trial.ordinal),
        trial,
      ];
    }
  }

  function remember(offers: readonly Offer[]): void {
    for (const offer of offers) {
      const free = toAgentOffer([offer]);
      if (free) recent.push({ offerId: offer.id.value, receivedAt: clock.now(), free, tried: [] });
    }
    recent.splice(0, Math.max(0, recent.length - maxRecent));
    const touched = new Set(offers.map((offer) => offer.agent_id.value));
    for (const { agentId, free } of agents()) if (free && touched.has(agentId)) known.set(agentId, free);
  }

  async function considerAll(): Promise<void> {
    for (const want of [...wants.values()]) {
      if (outstanding.size === 0) break;
      if (wants.get(want.key) !== want) continue;
      const use = await want.consider(agents(), report).catch((error) => {
        log.error({ err: error, want: want.key }, 'a want could not be considered');
        return null;
      });
      if (!use) continue;
      // Rescinded or void meanwhile: Mesos answers TASK_DROPPED, which is how the want learns of it.
      for (const id of use.offerIds) outstanding.delete(id);
      waiting.set(want.key, { since: clock.now(), droppedAt: null });
      await attempt({ type: 'ACCEPT', use });
    }
    await declineUnused();
  }

  async function declineUnused(): Promise<void> {
    const bound = new Set([...wants.values()].map((want) => want.agentId));
    const unused = [...outstanding.values()].filter(
      ({ offer, since }) => !(bound.has(offer.agent_id.value) && clock.now() - since < holdMs),
    );
    if (unused.length === 0) return;
    for (const { offer } of unused) outstanding.delete(offer.id.value);
    const offerIds = unused.map(({ offer }) => offer.id.value);
    await attempt({
      type: 'DECLINE',
      offerIds,
      refuseSeconds: wants.size > 0 ? refuseSeconds.wanted : refuseSeconds.idle,
    });
  }

  function consider(): void {
    chain = chain.then(considerAll).catch((error) => log.error({ err: error }, 'offers could not be considered'));
  }

  function renewIfSilent(): void {
    const now = clock.now();
    for (const [key, { droppedAt }] of waiting) if (droppedAt !== null && now - droppedAt > goneMs) waiting.delete(key);
    if (waiting.size === 0) silenceMs = silence.firstMs;
    for (const { key, agentId } of wants.values()) {
      const since = Math.max(renewedAt, waiting.get(key)?.since ?? now, agentId === null ? heardAt : 0);
      if (now - since < silenceMs) continue;
      const what = agentId === null ? 'no offer' : `nothing to use on agent ${agentId}`;
      renew(`${what} for ${Math.round((now - since) / 1000)} s`);
      renewedAt = now;
      silenceMs = Math.min(2 * silenceMs, silence.maxMs);
      return;
    }
  }

  function reviveIfDue(): void {
    const gained = Math.floor((clock.now() - refilledAt) / revive.refillMs);
    if (gained > 0) {
      tokens = Math.min(revive.bucket, tokens + gained);
      refilledAt += gained * revive.refillMs;
    }
    if (!isReviveDue || tokens === 0) return;
    tokens -= 1;
    isReviveDue = false;
    void attempt({ type: 'REVIVE' });
  }

  return {
    add(offers) {
      heardAt = clock.now();
      for (const offer of offers) outstanding.set(offer.id.value, { offer, since: heardAt });
      remember(offers);
      consider();
    },
    rescind: (offerId) => void outstanding.delete(offerId),
    reset() {
      outstanding.clear();
      isReviveDue ||= wants.size > 0;
    },
    want(want) {
      const isNew = !wants.has(want.key);
      wants.set(want.key, want);
      // What was declined before sits behind a filter; what is outstanding may already do.
      if (isNew) {
        isReviveDue = true;
        waiting.set(want.key, { since: waiting.get(want.key)?.since ?? clock.now(), droppedAt: null });
      }
      if (outstanding.size > 0) consider();
      reviveIfDue();
    },
    drop(key) {
      wants.delete(key);
      const known = waiting.get(key);
      if (known) waiting.set(key, { ...known, droppedAt: known.droppedAt ?? clock.now() });
    },
    agents,
    recent: () => recent,
    known: () => [...known.values()],
    sweep() {
      if (outstanding.size > 0) consider();
      renewIfSilent();
      reviveIfDue();
    },
    settled: () => chain,
  };
}
