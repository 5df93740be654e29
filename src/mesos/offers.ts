/** What outstanding offers hold: for placement the unreserved part, for a relaunch or a release what is ours by label. */
import { isIPv4 } from 'node:net';
import type { AgentOffer, OfferedDisk } from '../cluster/types.ts';
import { add, isReserved, withoutAllocation } from './resources.ts';
import type { Attribute, Labels, Offer, Resource } from './types.ts';

const labelKeys = {
  installation: 'selvedge.installation',
  cluster: 'selvedge.cluster',
  member: 'selvedge.member',
  reservation: 'selvedge.reservation',
} as const;

/** Who a reservation is for; the label set of everything that a member owns. */
export interface ReservationOwner {
  readonly installation: string;
  /** Cluster uuid. */
  readonly cluster: string;
  /** Ordinal of the member. */
  readonly member: string;
  /** Fresh uuid per attempt: equal labels merge, and a doubled bundle could not be told apart. */
  readonly reservation: string;
}

export function reservationLabels(owner: ReservationOwner): Labels {
  const names = ['installation', 'cluster', 'member', 'reservation'] as const;
  return { labels: names.map((name) => ({ key: labelKeys[name], value: owner[name] })) };
}

/** Sum of all offers' resources, without allocation_info: freed pieces of an agent are offered apart and not merged. */
export const sumOffers = (offers: readonly Offer[]): Resource[] => add(offers.flatMap(plainResources));

/** An offer never changes, and every look at the market adds up all of them. */
const plainOf = new WeakMap<Offer, readonly Resource[]>();

function plainResources(offer: Offer): readonly Resource[] {
  const known = plainOf.get(offer);
  if (known) return known;
  const plain = offer.resources.map(withoutAllocation);
  plainOf.set(offer, plain);
  return plain;
}

const findLabel = ({ reservations }: Resource, key: string): string | undefined =>
  reservations?.at(-1)?.labels?.labels.find((label) => label.key === key)?.value;

/** Resources whose innermost reservation carries the label `selvedge.reservation` = id; empty if none is offered. */
export const findReserved = (offers: readonly Offer[], reservationId: string): Resource[] =>
  sumOffers(offers).filter((resource) => findLabel(resource, labelKeys.reservation) === reservationId);

/** Labels as found, '' where one is missing: they may come from anybody. */
export interface FoundReservation extends ReservationOwner {
  readonly agentId: string;
  readonly resources: readonly Resource[];
}

/** Everything on offer that carries our installation's label, by agent and reservation: what has no row is an orphan. */
export function findOurReservations(offers: readonly Offer[], installation: string): FoundReservation[] {
  const found: FoundReservation[] = [];
  for (const agentId of new Set(offers.map((offer) => offer.agent_id.value))) {
    const ours = sumOffers(offers.filter((offer) => offer.agent_id.value === agentId)).filter(
      (resource) => findLabel(resource, labelKeys.installation) === installation,
    );
    const groups = Map.groupBy(ours, (resource) => findLabel(resource, labelKeys.reservation) ?? '');
    for (const [reservation, resources] of groups) {
      const cluster = findLabel(resources[0]!, labelKeys.cluster) ?? '';
      const member = findLabel(resources[0]!, labelKeys.member) ?? '';
      found.push({ installation, cluster, member, reservation, agentId, resources });
    }
  }
  return found;
}

/**
 * All offers of the agent that offers one of these volumes; empty if none does. By persistence id, not by agent id:
 * an agent may come back with a new id and its old volumes.
 */
export function findOffersOfVolumes(offers: readonly Offer[], persistenceIds: readonly string[]): Offer[] {
  const holder = offers.find(({ resources }) =>
    resources.some(({ disk }) => disk?.persistence !== undefined && persistenceIds.includes(disk.persistence.id)),
  );
  return holder ? offers.filter((offer) => offer.agent_id.value === holder.agent_id.value) : [];
}

function formatAttribute({ type, text, scalar, ranges }: Attribute): string {
  if (type === 'SCALAR') return String(scalar?.value ?? '');
  if (type === 'RANGES') return `[${(ranges?.range ?? []).map(({ begin, end }) => `${begin}-${end}`).join(',')}]`;
  return text?.value ?? '';
}

/** Null for disks that we could not ask for exactly as offered: raw blocks, or those of a storage plugin. */
function findDisk({ disk, scalar }: Resource): OfferedDisk | null {
  const sizeMb = scalar?.value ?? 0;
  const source = disk?.source;
  if (disk?.persistence) return null;
  if (!source) return { type: 'root', path: null, sizeMb };
  if (source.id !== undefined || source.profile !== undefined || source.vendor !== undefined) return null;
  if (source.type === 'PATH' && source.path?.root) return { type: 'path', path: source.path.root, sizeMb };
  if (source.type === 'MOUNT' && source.mount?.root) return { type: 'mount', path: source.mount.root, sizeMb };
  return null;
}

/**
 * The unreserved part of all outstanding offers of one agent, added up. Null without an offer or without an IPv4
 * address: a member must be reachable under the address that it binds.
 */
export function toAgentOffer(offers: readonly Offer[]): AgentOffer | null {
  const [first] = offers;
  if (!first) return null;
  if (offers.some((offer) => offer.agent_id.value !== first.agent_id.value))
    throw new Error('offers of several agents');
  const ip = [first.url?.address.ip, first.url?.address.hostname, first.hostname].find(
    (address) => address !== undefined && isIPv4(address),
  );
  if (ip === undefined) return null;

  const usable = sumOffers(offers).filter(
    (resource) => !isReserved(resource) && !resource.revocable && !resource.shared && !resource.provider_id,
  );
  const scalar = (name: string) => usable.find((resource) => resource.name === name)?.scalar?.value ?? 0;
  return {
    agentId: first.agent_id.value,
    hostname: first.hostname,
    ip,
    cpus: scalar('cpus'),
    memMb: scalar('mem'),
    ports: usable.filter(({ name }) => name === 'ports').flatMap(({ ranges }) => ranges?.range ?? []),
    disks: usable.filter(({ name }) => name === 'disk').flatMap((resource) => findDisk(resource) ?? []),
    attributes: Object.fromEntries(first.attributes.map((attribute) => [attribute.name, formatAttribute(attribute)])),
    isUnavailable: offers.some((offer) => offer.unavailability !== undefined),
  };
}
