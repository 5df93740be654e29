/**
 * `selvedge proxy`: HAProxy follows what the API tells of each cluster. While a cluster's stream is alive it is the
 * truth; without it the last known state goes on and the members' `/primary` decides. An older epoch never counts.
 */
import { mkdirSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { type Clock, delay } from '../clock.ts';
import type { Logger } from '../log.ts';
import { type ApiClient, createApiClient, type ListedCluster } from './api-client.ts';
import { haproxyConfig } from './config.ts';
import { type Haproxy, runtimeSocketOf, startHaproxy } from './haproxy.ts';
import { readRoutes, writeRoutes } from './memory.ts';
import { probePrimary } from './probe.ts';
import { commandsFor, cutOf, type Mode, newRoute, type Route, takeClaim, takeEndpoints } from './routes.ts';

/** How often clusters are listed; a new one is reachable by then. */
const LIST_EVERY_MS = 1_000;
const REOPEN_MS = 250;
/** A stream that is gone for so long: the members are asked. */
const AWAY_AFTER_MS = 1_500;
/** The API does not answer for so long: no stream is believed. */
const SILENT_AFTER_MS = 5_000;
const PROBE_EVERY_MS = 500;

export interface ProxyOptions {
  readonly api: { readonly url: string; readonly token: string | undefined };
  /** IPv4 address of the service ports. */
  readonly listen: string;
  /** Path of HAProxy. */
  readonly program: string;
  /** Absolute and short; made when it is not there. */
  readonly dataDir: string;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface RunningProxy {
  readonly haproxyPid: number;
  /** Resolves when HAProxy has ended by itself. */
  readonly ended: Promise<Error>;
  routes(): readonly Route[];
  /** Ends HAProxy with all connections. */
  stop(): Promise<void>;
}

interface Followed {
  route: Route;
  mode: Mode;
  /** Places as HAProxy's newest configuration or the last commands have them; null before it is configured. */
  known: Route['places'] | null;
  /** Ends the stream that is open, so that it is opened anew. */
  stream: AbortController;
  /** Ends following. */
  readonly abort: AbortController;
}

export async function startProxy(options: ProxyOptions): Promise<RunningProxy> {
  const { dataDir, clock, log } = options;
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  const memoryFile = join(dataDir, 'routes.json');
  const followed = new Map<string, Followed>();
  for (const route of readRoutes(memoryFile)) followed.set(route.id, follower(route));
  const writeConfig = () => {
    const routes = [...followed.values()].map(({ route }) => route);
    return haproxyConfig(routes, { listen: options.listen, runtimeSocket: runtimeSocketOf(dataDir) });
  };
  const start = () => startHaproxy({ program: options.program, directory: dataDir, clock, log }, writeConfig());
  const haproxy = await start().catch((error) => {
    if (followed.size === 0) throw error;
    // One port that somebody else took meanwhile is enough; the list of clusters finds out which.
    log.error({ err: error }, 'HAProxy did not start with what was known last; it starts empty');
    followed.clear();
    return start();
  });
  for (const one of followed.values()) one.known = one.route.places;
  const stopped = new AbortController();
  const proxy = new Follower({ ...options, memoryFile, followed, haproxy, stopped, writeConfig });
  proxy.begin();
  return {
    haproxyPid: haproxy.pid,
    ended: haproxy.ended,
    routes: () => [...followed.values()].map(({ route }) => route),
    async stop() {
      stopped.abort(new Error('the proxy is stopped'));
      for (const { abort } of followed.values()) abort.abort();
      await proxy.done();
      await haproxy.stop();
    },
  };
}

function follower(route: Route): Followed {
  return { route, mode: 'away', known: null, stream: new AbortController(), abort: new AbortController() };
}

interface FollowerOptions extends ProxyOptions {
  readonly memoryFile: string;
  readonly followed: Map<string, Followed>;
  readonly haproxy: Haproxy;
  readonly stopped: AbortController;
  readonly writeConfig: () => string;
}

class Follower {
  readonly #options: FollowerOptions;
  readonly #client: ApiClient;
  /** HAProxy is told one thing after the other. */
  #queue: Promise<void> = Promise.resolve();
  /** HAProxy has the list of clusters that is wanted. */
  #isConfigured = true;
  #listedAt: number;
  readonly #loops: Promise<void>[] = [];
  readonly #follows = new Set<Promise<void>>();

  constructor(options: FollowerOptions) {
    this.#options = options;
    this.#client = createApiClient({ ...options.api, clock: options.clock });
    this.#listedAt = options.clock.now();
  }

  begin(): void {
    for (const one of this.#options.followed.values()) {
      this.#apply(one, one.route);
      this.#follow(one);
    }
    this.#loops.push(this.#every(LIST_EVERY_MS, () => this.#list()));
    this.#loops.push(this.#every(PROBE_EVERY_MS, () => this.#probe()));
  }

  async done(): Promise<void> {
    await Promise.all([...this.#loops, ...this.#follows]);
    await this.#queue;
  }

  async #every(everyMs: number, work: () => Promise<void>): Promise<void> {
    const { clock, stopped, log } = this.#options;
    while (!stopped.signal.aborted) {
      await work().catch((error) => log.error({ err: error }, 'a round of the proxy failed'));
      await delay(clock, everyMs, stopped.signal).catch(() => {});
    }
  }

  async #list(): Promise<void> {
    const { clock, followed, log } = this.#options;
    let clusters: ListedCluster[];
    try {
      clusters = await this.#client.list();
    } catch (error) {
      log.warn({ err: error }, 'the clusters could not be listed');
      if (clock.now() - this.#listedAt <= SILENT_AFTER_MS) return;
      for (const one of followed.values()) {
        this.#leave(one);
        // What hangs is opened anew: a stream begins with the whole state.
        one.stream.abort(new Error('the API does not answer'));
      }
      return;
    }
    this.#listedAt = clock.now();
    await this.#reconcile(clusters);
  }

  /** New and gone clusters: a new configuration, taken over without a break. */
  async #reconcile(clusters: readonly ListedCluster[]): Promise<void> {
    const { followed, log, listen, memoryFile, haproxy, writeConfig } = this.#options;
    const added: Followed[] = [];
    let isChanged = !this.#isConfigured;
    for (const [id, one] of followed) {
      const { servicePort, name, places } = one.route;
      const now = clusters.find((cluster) => cluster.id === id);
      if (now?.servicePort === servicePort && now.name === name && now.members === places.length) continue;
      one.abort.abort();
      followed.delete(id);
      isChanged = true;
    }
    for (const cluster of clusters) {
      if (followed.has(cluster.id)) continue;
      if (!(await isFree(listen, cluster.servicePort))) {
        log.error({ cluster: cluster.name, port: cluster.servicePort }, 'the service port is taken by somebody else');
        continue;
      }
      const one = follower(newRoute(cluster));
      followed.set(cluster.id, one);
      added.push(one);
      isChanged = true;
    }
    this.#isConfigured = !isChanged;
    if (isChanged)
      this.#enqueue(async () => {
        const current = [...followed.values()].map((one) => ({ one, places: one.route.places }));
        await haproxy.reload(writeConfig());
        this.#isConfigured = true;
        for (const { one, places } of current) {
          const { route, mode } = one;
          await haproxy.run(commandsFor(route, mode, places));
          one.known = route.places;
        }
        writeRoutes(
          memoryFile,
          current.map(({ one }) => one.route),
        );
        log.info({ clusters: current.length }, 'HAProxy has the new list of clusters');
      });
    for (const one of added) this.#follow(one);
  }

  #follow(one: Followed): void {
    const work = this.#followStream(one).finally(() => this.#follows.delete(work));
    this.#follows.add(work);
  }

  async #followStream(one: Followed): Promise<void> {
    const { clock, log } = this.#options;
    const { signal } = one.abort;
    let away: unknown;
    while (!signal.aborted) {
      one.stream = new AbortController();
      try {
        await this.#client.follow(one.route.id, AbortSignal.any([signal, one.stream.signal]), (told) => {
          // Of an API with an older store: it knows less than the members.
          if (told.epoch < one.route.epoch) return;
          clock.clearTimeout(away);
          away = undefined;
          const before = one.route;
          const wasAway = one.mode === 'away';
          one.mode = 'live';
          one.route = takeEndpoints(before, told);
          if (one.route === before && !wasAway) return;
          this.#apply(one, before);
          const { name, epoch, primary } = one.route;
          if (epoch !== before.epoch || primary !== before.primary)
            log.info({ cluster: name, epoch, primary }, 'told of the primary');
        });
      } catch (error) {
        if (!signal.aborted) log.debug({ err: error, cluster: one.route.name }, 'a stream broke off');
      }
      away ??= clock.setTimeout(() => this.#leave(one), AWAY_AFTER_MS);
      await delay(clock, REOPEN_MS, signal).catch(() => {});
    }
    clock.clearTimeout(away);
  }

  /** Nobody tells any more who the primary is: the members are asked. */
  #leave(one: Followed): void {
    if (one.mode === 'away' || one.abort.signal.aborted) return;
    one.mode = 'away';
    this.#options.log.warn({ cluster: one.route.name }, 'the API is away: the members are asked');
    this.#apply(one, one.route);
  }

  async #probe(): Promise<void> {
    const { clock, followed, log } = this.#options;
    const away = [...followed.values()].filter(({ mode }) => mode === 'away');
    await Promise.all(
      away.flatMap((one) =>
        one.route.places.map(async (place, ordinal) => {
          const epoch = place && (await probePrimary(clock, place));
          if (epoch === null || one.mode !== 'away' || one.abort.signal.aborted) return;
          const before = one.route;
          one.route = takeClaim(before, { ordinal, epoch });
          if (one.route === before) return;
          log.info({ cluster: one.route.name, ordinal, epoch }, 'a member claims to be the primary');
          this.#apply(one, before);
        }),
      ),
    );
  }

  #apply(one: Followed, before: Route): void {
    const { route, mode } = one;
    const { haproxy, memoryFile, followed } = this.#options;
    this.#enqueue(async () => {
      // Not configured yet: the configuration that is on its way is made from the newest route.
      if (one.known === null) return;
      const cut = cutOf(before, route);
      await haproxy.run([
        ...commandsFor(route, mode, one.known),
        ...(cut === null ? [] : [`shutdown sessions server ${cut}`]),
      ]);
      one.known = route.places;
      if (cut !== null) await haproxy.cutEarlier(cut);
      writeRoutes(
        memoryFile,
        [...followed.values()].map((each) => each.route),
      );
    });
  }

  #enqueue(work: () => Promise<void>): void {
    const { log } = this.#options;
    this.#queue = this.#queue.then(work).catch((error) => log.error({ err: error }, 'HAProxy could not be told'));
  }
}

/** Whether one can listen there: a port that is taken would make HAProxy refuse all others, too. */
function isFree(address: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, address, () => server.close(() => resolve(true)));
  });
}
