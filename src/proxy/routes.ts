/**
 * Where each cluster's connections go, as far as the proxy was told. Pure. Two rules: what is of an older epoch is
 * ignored, whoever says it, and an epoch has one primary. So connections never go back to an earlier primary.
 */

export interface Place {
  readonly host: string;
  readonly port: number;
  readonly healthPort: number;
}

export interface Route {
  readonly id: string;
  /** A DNS label. */
  readonly name: string;
  readonly servicePort: number;
  /** By ordinal; null until told. A member keeps its place for life. */
  readonly places: readonly (Place | null)[];
  readonly epoch: number;
  /** Ordinal; null between the commit point of an epoch and the moment when its primary takes writes. */
  readonly primary: number | null;
}

export interface Endpoint extends Place {
  readonly ordinal: number;
}

/** What the API's watch stream tells. */
export interface Endpoints {
  readonly epoch: number;
  readonly primary: Endpoint | null;
  readonly replicas: readonly Endpoint[];
}

export function newRoute(cluster: Pick<Route, 'id' | 'name' | 'servicePort'> & { readonly members: number }): Route {
  const { id, name, servicePort, members } = cluster;
  return { id, name, servicePort, places: Array(members).fill(null), epoch: 0, primary: null };
}

/** Answers the same route when nothing is new. */
export function takeEndpoints(route: Route, told: Endpoints): Route {
  if (told.epoch < route.epoch) return route;
  const placed = withPlaces(route, told.primary ? [told.primary, ...told.replicas] : told.replicas);
  if (told.primary === null && told.epoch === route.epoch) return placed;
  return withPrimary(placed, told.epoch, told.primary?.ordinal ?? null);
}

/** A member's own `/primary` answered 200 with this epoch. Answers the same route when nothing is new. */
export function takeClaim(route: Route, claim: { readonly ordinal: number; readonly epoch: number }): Route {
  return claim.epoch < route.epoch ? route : withPrimary(route, claim.epoch, claim.ordinal);
}

function withPrimary(route: Route, epoch: number, primary: number | null): Route {
  if (primary !== null && primary >= route.places.length) return route;
  // An epoch has one primary.
  if (epoch === route.epoch && (route.primary !== null || primary === null)) return route;
  return { ...route, epoch, primary };
}

function withPlaces(route: Route, endpoints: readonly Endpoint[]): Route {
  const places = [...route.places];
  for (const { ordinal, host, port, healthPort } of endpoints) {
    if (ordinal < places.length && !isSame(places[ordinal] ?? null, { host, port, healthPort }))
      places[ordinal] = { host, port, healthPort };
  }
  return places.every((place, ordinal) => place === route.places[ordinal]) ? route : { ...route, places };
}

function isSame(one: Place | null, other: Place | null): boolean {
  return one?.host === other?.host && one?.port === other?.port && one?.healthPort === other?.healthPort;
}

/** live: the stream tells who is the primary. away: nobody does, and the members are asked. */
export type Mode = 'live' | 'away';

/**
 * Commands for HAProxy's runtime socket that bring a backend to `route`, whatever it was before. `known` is what its
 * configuration says of the places. Those who are not the primary are taken out first: there are never two.
 */
export function commandsFor(route: Route, mode: Mode, known: readonly (Place | null)[]): string[] {
  const others: string[] = [];
  const first: string[] = [];
  route.places.forEach((place, ordinal) => {
    const server = `${route.name}/m${ordinal}`;
    if (place === null) return;
    if (!isSame(place, known[ordinal] ?? null))
      others.push(
        `set server ${server} state maint`,
        `set server ${server} addr ${place.host} port ${place.port}`,
        `set server ${server} check-port ${place.healthPort}`,
      );
    if (ordinal === route.primary) {
      first.push(`enable health ${server}`, `set server ${server} health up`);
      // While the stream is alive it is the truth: a slow health check must not break connections.
      if (mode === 'live') first.push(`disable health ${server}`);
      first.push(`set server ${server} state ready`);
    } else {
      // Also when away: HAProxy's checks know no epochs, and it takes a server for up before the first one.
      others.push(`set server ${server} state maint`);
    }
  });
  return [...others, ...first];
}

/** The server, as `backend/server`, whose sessions end where one route follows the other: the old primary. */
export function cutOf(before: Route, after: Route): string | null {
  const { primary } = before;
  return primary === null || primary === after.primary ? null : `${after.name}/m${primary}`;
}
