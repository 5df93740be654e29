/** Which agent takes a member, and could any ever? Built on placement.ts, which knows one agent. */
import type { PersistenceIds, Stage } from './placement.ts';
import { placeMember, withoutBundle } from './placement.ts';
import type { AgentOffer, Bundle, ClusterSpec } from './types.ts';

export interface ChooseAgentInput {
  readonly spec: ClusterSpec;
  readonly ordinal: number;
  /** One entry an agent: all its outstanding offers added up. */
  readonly offers: readonly AgentOffer[];
  /** Agents of the cluster's other members; an agent that holds two stands here twice. */
  readonly agentsInUse: readonly string[];
  /** Members of any cluster on each agent; an agent that is not named holds none. */
  readonly membersByAgent: ReadonlyMap<string, number>;
  readonly newPersistenceIds: PersistenceIds;
}

/** Why an agent was not taken: all stages, the failed ones among them. */
export interface AgentJudgement {
  readonly agentId: string;
  readonly hostname: string;
  readonly stages: readonly Stage[];
}

export type AgentChoice =
  | {
      readonly kind: 'placed';
      readonly offer: AgentOffer;
      readonly bundle: Bundle;
      readonly stages: readonly Stage[];
      /** The agents that do not fit; not those that fit and were liked less. */
      readonly refused: readonly AgentJudgement[];
    }
  | { readonly kind: 'refused'; readonly refused: readonly AgentJudgement[] };

/**
 * Prefers agents with fewer members of this cluster, then fewer members of any, then the one that wastes least of
 * its mount disks, then by host name and id: the same input gives the same answer.
 */
export function chooseAgent(input: ChooseAgentInput): AgentChoice {
  const { spec, agentsInUse, membersByAgent } = input;
  const refused: AgentJudgement[] = [];
  const fits: { offer: AgentOffer; bundle: Bundle; stages: readonly Stage[]; rank: readonly (number | string)[] }[] =
    [];
  for (const offer of input.offers) {
    const placement = placeMember({ ...input, offer });
    if (placement.kind === 'refused') {
      refused.push({ agentId: offer.agentId, hostname: offer.hostname, stages: placement.stages });
      continue;
    }
    const ofCluster = agentsInUse.filter((agentId) => agentId === offer.agentId).length;
    const ofAll = membersByAgent.get(offer.agentId) ?? 0;
    const rank = [ofCluster, ofAll, wastedMb(spec, placement.bundle), offer.hostname, offer.agentId];
    fits.push({ offer, bundle: placement.bundle, stages: placement.stages, rank });
  }
  const best = fits.sort((a, b) => compareRanks(a.rank, b.rank))[0];
  if (!best) return { kind: 'refused', refused };
  return { kind: 'placed', offer: best.offer, bundle: best.bundle, stages: best.stages, refused };
}

export type EverFit =
  /** No agent is known: nothing can be said. */
  | { readonly kind: 'unknown' }
  /** `places` members would fit on the agents if they were empty; fewer than asked for means waiting for more agents. */
  | { readonly kind: 'fits'; readonly places: number; readonly agents: number }
  /** No known agent could hold even one member, empty as it may be. */
  | { readonly kind: 'never'; readonly agents: readonly AgentJudgement[] };

/**
 * For the 422 answer. `agentTotals` holds each agent's total resources as if nothing were used. Maintenance does not
 * count: it passes.
 */
export function couldEverFit(spec: ClusterSpec, agentTotals: readonly AgentOffer[]): EverFit {
  if (agentTotals.length === 0) return { kind: 'unknown' };
  const judgements: AgentJudgement[] = [];
  let places = 0;
  let agents = 0;
  for (const total of agentTotals) {
    const { count, stages } = countPlaces(spec, { ...total, isUnavailable: false });
    places += count;
    if (count > 0) agents++;
    judgements.push({ agentId: total.agentId, hostname: total.hostname, stages });
  }
  if (places === 0) return { kind: 'never', agents: judgements };
  return { kind: 'fits', places: Math.min(places, spec.members), agents };
}

/** How many members one empty agent holds, at most as many as are wanted; `stages` are those of the first. */
function countPlaces(spec: ClusterSpec, total: AgentOffer): { count: number; stages: readonly Stage[] } {
  let offer = total;
  let firstStages: readonly Stage[] = [];
  for (let count = 0; count < spec.members; count++) {
    const agentsInUse = count === 0 ? [] : [total.agentId];
    const ids = { data: `data-${count}`, backup: `backup-${count}` };
    const placement = placeMember({ spec, ordinal: count, agentsInUse, offer, newPersistenceIds: ids });
    if (count === 0) firstStages = placement.stages;
    if (placement.kind === 'refused') return { count, stages: firstStages };
    offer = withoutBundle(offer, placement.bundle);
  }
  return { count: spec.members, stages: firstStages };
}

function wastedMb(spec: ClusterSpec, bundle: Bundle): number {
  const data = bundle.data.sizeMb - spec.volumes.data.sizeMb;
  const backup = bundle.backup && spec.volumes.backup ? bundle.backup.sizeMb - spec.volumes.backup.sizeMb : 0;
  return data + backup;
}

function compareRanks(left: readonly (number | string)[], right: readonly (number | string)[]): number {
  for (let index = 0; index < left.length; index++) {
    const [a, b] = [left[index]!, right[index]!];
    if (a !== b) return a < b ? -1 : 1;
  }
  return 0;
}
