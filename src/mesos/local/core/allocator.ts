/**
 * Who is offered what. A batch every interval, and at once for exactly six events: framework added or
 * activated, agent added or its total updated, unavailability updated, REVIVE. Nothing else may hurry: not a task's
 * end, not DECLINE, not a filter that ran out, not an agent that reconnects.
 */
import { z } from 'zod';
import { add, contains, findRest, normalise, subtract, toFixedPoint, withoutAllocation } from '../../resources.ts';
import type { FrameworkInfo, Resource } from '../../types.ts';
import { type Agent, type Framework, hasCapability, type Master, type Offer, rolesOf, sendTo } from './master-state.ts';
import type { Wire } from './messages.ts';

const DEFAULT_REFUSE_SECONDS = 5;
const MAX_REFUSE_SECONDS = 365 * 24 * 3600;
const DEFAULT_MIN_ALLOCATABLE: readonly Quantities[] = [{ cpus: 0.01 }, { mem: 32 }];

type Quantities = Readonly<Record<string, number>>;

export const plain = (resources: readonly Resource[]): Resource[] => resources.map(withoutAllocation).map(normalise);

export const allocated = (resources: readonly Resource[], role: string): Resource[] =>
  resources.map((resource) => ({ ...normalise(resource), allocation_info: { role } }));

/** What tasks and executors of the agent hold: a task's part till it ends, an executor's part till its process is gone. */
export function usedResources(agent: Agent): Resource[] {
  return add(
    ...[...agent.executors.values()].map(({ info }) => plain(info.resources)),
    ...[...agent.tasks.values()].filter(holdsResources).map(({ info }) => plain(info.resources)),
  );
}

const ended = new Set(['FINISHED', 'FAILED', 'KILLED', 'ERROR', 'LOST', 'DROPPED', 'GONE', 'GONE_BY_OPERATOR']);
const holdsResources = ({ state }: { state: string }): boolean => !ended.has(state.slice('TASK_'.length));

export const offersOf = (master: Master, agentId: string): Offer[] =>
  [...master.offers.values()].filter((offer) => offer.agentId === agentId);

/** Neither used nor offered. */
export function availableResources(master: Master, agent: Agent): readonly Resource[] {
  if (agent.availableCache) return agent.availableCache;
  const taken = add(usedResources(agent), ...offersOf(master, agent.id).map((offer) => plain(offer.resources)));
  // An agent that came back with less than the master thinks is in use has nothing to offer till that ends.
  agent.availableCache = findRest(agent.total, taken) ?? intersectRest(agent.total, taken);
  return agent.availableCache;
}

function intersectRest(total: readonly Resource[], taken: readonly Resource[]): readonly Resource[] {
  return taken.reduce<readonly Resource[]>((rest, part) => findRest(rest, [part]) ?? rest, add(total));
}

export function touch(agent: Agent | undefined): void {
  if (agent) agent.availableCache = null;
}

const innermostRole = (resource: Resource): string | null => resource.reservations?.at(-1)?.role ?? null;

function isOfferable(resource: Resource, framework: Framework, role: string): boolean {
  const reserved = innermostRole(resource);
  if (reserved === null) return true;
  if ((resource.reservations?.length ?? 0) > 1 && !hasCapability(framework, 'RESERVATION_REFINEMENT')) return false;
  return role === reserved || role.startsWith(`${reserved}/`);
}

const offerFilter = z.object({
  min_allocatable_resources: z.object({
    quantities: z
      .array(z.object({ quantities: z.record(z.string(), z.object({ value: z.number() })).default({}) }))
      .default([]),
  }),
});

/** null: everything is worth an offer. What cannot be read counts as absent. */
function minAllocatable(info: FrameworkInfo, role: string): readonly Quantities[] | null {
  const filter = offerFilter.safeParse(info.offer_filters?.[role]);
  if (!filter.success) return DEFAULT_MIN_ALLOCATABLE;
  const { quantities } = filter.data.min_allocatable_resources;
  if (quantities.length === 0) return null;
  return quantities.map((entry) =>
    Object.fromEntries(Object.entries(entry.quantities).map(([name, { value }]) => [name, value])),
  );
}

function quantityOf(resources: readonly Resource[], name: string): number {
  return resources
    .filter((resource) => resource.name === name)
    .reduce((sum, { scalar }) => sum + toFixedPoint(scalar?.value ?? 0), 0);
}

function isAllocatable(resources: readonly Resource[], info: FrameworkInfo, role: string): boolean {
  if (resources.length === 0) return false;
  const minimum = minAllocatable(info, role);
  if (minimum === null) return true;
  return minimum.some((quantities) =>
    Object.entries(quantities).every(([name, value]) => quantityOf(resources, name) >= toFixedPoint(value)),
  );
}

function isRefused(
  master: Master,
  framework: Framework,
  agentId: string,
  role: string,
  resources: readonly Resource[],
) {
  return framework.refused.some(
    (filter) =>
      filter.agentId === agentId &&
      filter.role === role &&
      filter.until > master.clock.now() &&
      contains(filter.resources, resources),
  );
}

/**
 * Remembers what a framework does not want. 0 = no filter; absent, negative or no number = 5 s; at least one
 * allocation interval, at most a year. It matches while the refused resources contain all that is available there.
 */
export function refuse(
  master: Master,
  framework: Framework,
  refused: { agentId: string; role: string; resources: readonly Resource[]; seconds: number | undefined },
): void {
  let seconds = refused.seconds ?? DEFAULT_REFUSE_SECONDS;
  if (seconds === 0 || refused.resources.length === 0) return;
  if (!(seconds > 0)) seconds = DEFAULT_REFUSE_SECONDS;
  const timeoutMs = Math.max(Math.min(seconds, MAX_REFUSE_SECONDS) * 1000, master.options.allocationIntervalMs);
  const now = master.clock.now();
  framework.refused = framework.refused.filter(({ until }) => until > now);
  framework.refused.push({
    agentId: refused.agentId,
    role: refused.role,
    resources: plain(refused.resources),
    until: now + timeoutMs,
  });
}

/** Allocates soon, in this turn of the clock, together with whatever else asks for it. */
export function requestAllocation(master: Master, agentId: string | null): void {
  if (master.pendingAllocation === null) {
    master.pendingAllocation = new Set();
    master.clock.setTimeout(() => {
      const pending = master.pendingAllocation;
      master.pendingAllocation = null;
      if (master.isStopped || pending === null) return;
      allocate(master, pending === 'all' ? [...master.agents.values()] : agentsOf(master, pending));
    }, 0);
  }
  if (agentId === null) master.pendingAllocation = 'all';
  else if (master.pendingAllocation !== 'all') master.pendingAllocation.add(agentId);
}

const agentsOf = (master: Master, ids: ReadonlySet<string>): Agent[] =>
  [...master.agents.values()].filter(({ id }) => ids.has(id));

/** Frameworks by what they hold, least first: a simple form of DRF over cpus. */
function byShare(master: Master): { framework: Framework; role: string }[] {
  const share = (framework: Framework): number => {
    const tasks = [...framework.tasks.values()].filter(holdsResources);
    return tasks.reduce((sum, { info }) => sum + quantityOf(info.resources, 'cpus'), 0);
  };
  return [...master.frameworks.values()]
    .filter((framework) => framework.streamId !== null)
    .map((framework) => ({ framework, held: share(framework) }))
    .sort((a, b) => a.held - b.held)
    .flatMap(({ framework }) => rolesOf(framework.info).map((role) => ({ framework, role })))
    .filter(({ framework, role }) => !framework.suppressed.has(role));
}

export function allocate(master: Master, agents: readonly Agent[]): void {
  const takers = byShare(master);
  if (takers.length === 0) return;
  const made = new Map<Framework, Offer[]>();
  for (const agent of agents) {
    if (!agent.isConnected) continue;
    for (const { framework, role } of takers) {
      const resources = availableResources(master, agent).filter((each) => isOfferable(each, framework, role));
      if (!isAllocatable(resources, framework.info, role)) continue;
      if (isRefused(master, framework, agent.id, role, resources)) continue;
      const offer = makeOffer(master, { framework, agent, role, resources });
      made.set(framework, [...(made.get(framework) ?? []), offer]);
    }
  }
  for (const [framework, offers] of made) {
    const wires = offers.map((offer) => offerToWire(master, framework, offer));
    sendTo(master, framework, { type: 'OFFERS', offers: { offers: wires } });
  }
}

function makeOffer(
  master: Master,
  from: { framework: Framework; agent: Agent; role: string; resources: readonly Resource[] },
): Offer {
  const { framework, agent, role } = from;
  const offer: Offer = {
    id: `${master.id}-O${master.nextOffer++}`,
    frameworkId: framework.id,
    agentId: agent.id,
    role,
    resources: allocated(from.resources, role),
    executorIds: [...agent.executors.values()]
      .filter(({ frameworkId }) => frameworkId === framework.id)
      .map(({ info }) => info.executor_id.value),
  };
  master.offers.set(offer.id, offer);
  agent.availableCache = subtract(availableResources(master, agent), plain(from.resources));
  return offer;
}

/** The form without capabilities is the one before MULTI_ROLE and RESERVATION_REFINEMENT. */
export function resourceForFramework(framework: Framework, resource: Resource): Resource {
  const shown = hasCapability(framework, 'MULTI_ROLE') ? resource : withoutAllocation(resource);
  if (hasCapability(framework, 'RESERVATION_REFINEMENT')) return shown;
  const { reservations = [], ...rest } = shown;
  const last = reservations.at(-1);
  if (!last) return { ...rest, role: '*' };
  const { type, role, ...reservation } = last;
  return { ...rest, role: role ?? '*', ...(type === 'DYNAMIC' ? { reservation } : {}) };
}

export const agentUrl = ({ info }: Agent) => ({
  scheme: 'http',
  address: { hostname: info.hostname, ip: info.ip, port: info.port },
  path: '/slave(1)',
});

export function offerToWire(master: Master, framework: Framework, offer: Offer): Record<string, unknown> {
  const agent = master.agents.get(offer.agentId);
  return {
    id: { value: offer.id },
    framework_id: { value: offer.frameworkId },
    agent_id: { value: offer.agentId },
    ...(agent ? { hostname: agent.info.hostname, url: agentUrl(agent) } : {}),
    resources: offer.resources.map((resource) => resourceForFramework(framework, resource)),
    ...(agent && agent.info.attributes.length > 0 ? { attributes: agent.info.attributes } : {}),
    ...(offer.executorIds.length > 0 ? { executor_ids: offer.executorIds.map((value) => ({ value })) } : {}),
    ...(hasCapability(framework, 'MULTI_ROLE') ? { allocation_info: { role: offer.role } } : {}),
  };
}

/** Takes an offer back. Without RESCIND it is void all the same: after a fail over nobody is told. */
export function removeOffer(master: Master, offer: Offer, isRescinded: boolean): void {
  if (!master.offers.delete(offer.id)) return;
  touch(master.agents.get(offer.agentId));
  const framework = master.frameworks.get(offer.frameworkId);
  if (isRescinded && framework) {
    const event: Wire = { type: 'RESCIND', rescind: { offer_id: { value: offer.id } } };
    sendTo(master, framework, event);
  }
}

export function startAllocator(master: Master): void {
  const tick = () => {
    if (master.isStopped) return;
    allocate(master, [...master.agents.values()]);
    master.allocationTimer = master.clock.setTimeout(tick, master.options.allocationIntervalMs);
  };
  master.allocationTimer = master.clock.setTimeout(tick, master.options.allocationIntervalMs);
}
