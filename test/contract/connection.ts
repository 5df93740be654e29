import { asList, asText, Bag, dig, type Json, toText } from './resources.ts';

/** An offer as it came: resources as text. */
export interface LiveOffer {
  readonly id: string;
  readonly agent: string;
  readonly resources: readonly string[];
  readonly executors: readonly string[];
  readonly keys: readonly string[];
  readonly raw: Json;
}

interface RecordedOffer {
  readonly agent: string;
  readonly resources: readonly string[];
}

/**
 * One event stream of the run beside its recording. Offers are compared as what is on offer per agent (the sum of outstanding
 * offers): which tick brought what differs with the speed of processes, what can be had does not.
 */
export class Connection {
  readonly name: string;
  streamId = '';
  framework = '';
  closed = false;
  drop: () => void = () => {};
  /** Events that are neither offers nor heartbeats nor repeats, oldest first. */
  readonly queue: Json[] = [];
  /** Updates whose uuid was seen before. */
  readonly repeats: Json[] = [];
  readonly types: string[] = [];
  readonly live = new Map<string, LiveOffer>();
  readonly recorded = new Map<string, RecordedOffer>();
  /** Last live ids that stood for a recorded offer: stale offers are named again. */
  readonly history = new Map<string, readonly string[]>();
  /** Everything but heartbeats since the start. */
  busy = 0;
  /** When the last OFFERS came. */
  offeredAt = 0;
  /** RESCIND events so far, and how many of them the recorded ones are found to stand for. */
  rescinded = 0;
  rescindsSeen = 0;

  constructor(name: string) {
    this.name = name;
  }

  onOffers(event: Json): LiveOffer[] {
    const offers = asList(dig(event, 'offers.offers')).map((offer) => ({
      id: asText(dig(offer, 'id.value')),
      agent: asText(dig(offer, 'agent_id.value')),
      resources: asList(dig(offer, 'resources')).map(toText).sort(),
      executors: asList(dig(offer, 'executor_ids')).map((id) => asText(dig(id, 'value'))),
      keys: Object.keys(offer as object).sort(),
      raw: offer,
    }));
    for (const offer of offers) this.live.set(offer.id, offer);
    return offers;
  }

  liveBag(agentId: string): Bag {
    const bag = new Bag();
    for (const offer of this.live.values()) if (offer.agent === agentId) bag.add(offer.resources);
    return bag;
  }

  recordedBag(agent: string): Bag {
    const bag = new Bag();
    for (const offer of this.recorded.values()) if (offer.agent === agent) bag.add(offer.resources);
    return bag;
  }

  /**
   * Live offers that stand for recorded ones in an ACCEPT or DECLINE, in their order; both are off the table then. All
   * outstanding offers of an agent stand for all recorded ones of it; else those inside the recorded ones.
   */
  take(symbols: readonly string[], agentIdOf: (symbol: string) => string | undefined): string[] {
    const listed = [...new Set(symbols)].filter((symbol) => this.recorded.has(symbol));
    for (const agent of new Set(listed.map((symbol) => this.recorded.get(symbol)!.agent))) {
      const here = [...this.recorded].filter(([, offer]) => offer.agent === agent).map(([symbol]) => symbol);
      const wanted = listed.filter((symbol) => here.includes(symbol));
      const agentId = agentIdOf(agent);
      const all = [...this.live.values()].filter((offer) => offer.agent === agentId);
      this.assign(wanted, wanted.length === here.length ? all : this.inside(wanted, all));
    }
    return symbols.flatMap((symbol) => this.history.get(symbol) ?? [`stale-${symbol}`]);
  }

  private assign(wanted: readonly string[], taken: readonly LiveOffer[]): void {
    const left = new Set(taken);
    for (const symbol of wanted) {
      const room = Bag.of(this.recorded.get(symbol)!.resources);
      const isLast = symbol === wanted.at(-1);
      const own = [...left].filter((offer) => isLast || room.contains(Bag.of(offer.resources)));
      for (const offer of own) {
        left.delete(offer);
        this.live.delete(offer.id);
      }
      this.history.set(
        symbol,
        own.map((offer) => offer.id),
      );
      this.recorded.delete(symbol);
    }
  }

  private inside(wanted: readonly string[], all: readonly LiveOffer[]): LiveOffer[] {
    const room = Bag.of(wanted.flatMap((symbol) => this.recorded.get(symbol)!.resources));
    const exact = all.filter((offer) =>
      wanted.some((symbol) => Bag.of(this.recorded.get(symbol)!.resources).equals(Bag.of(offer.resources))),
    );
    if (exact.length >= wanted.length) return exact.slice(0, wanted.length);
    const taken: LiveOffer[] = [];
    for (const offer of all) {
      if (!room.contains(Bag.of(offer.resources))) continue;
      room.remove(offer.resources);
      taken.push(offer);
    }
    return taken;
  }
}
