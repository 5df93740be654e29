/**
 * What a member wants from offers: a first placement (one ACCEPT with RESERVE, CREATE, CREATE, LAUNCH), a relaunch on
 * its own bundle, or the release of a bundle. Each stores its intent before the market sends the ACCEPT; whether the
 * ACCEPT was carried out is learnt from the task or from the next offer, never from the 202.
 */
import { createHash } from 'node:crypto';
import { type LaunchPlan, PROTOCOL_VERSION } from '../channel/protocol.ts';
import { chooseAgent } from '../cluster/choose-agent.ts';
import { findReserved } from '../mesos/offers.ts';
import {
  acceptForNewMember,
  bundleResources,
  coversBundle,
  coversReservation,
  launchOperation,
  releaseOperations,
  taskInfo,
} from '../mesos/operations.ts';
import type { Resource } from '../mesos/types.ts';
import { insertBundle, listBundles, setBundleAgent, setBundleState } from '../store/bundles.ts';
import { getCluster } from '../store/clusters.ts';
import { findLaunch, insertLaunch } from '../store/launches.ts';
import { getMember } from '../store/members.ts';
import type { BundleRow, ClusterRow, MemberRow } from '../store/rows.ts';
import { type Context, emit } from './context.ts';
import type { AgentOffers, Use, Want } from './market.ts';

export const memberKey = (clusterId: string, ordinal: number) => `${clusterId}.${ordinal}`;

/** Where a member is put for the first time: reserve, create, launch, all in one ACCEPT. */
export function newPlacementWant(context: Context, clusterId: string, ordinal: number): Want {
  return {
    key: `place ${memberKey(clusterId, ordinal)}`,
    agentId: null,
    async consider(agents, report) {
      const [cluster, member] = await Promise.all([
        getCluster(context.store, clusterId),
        getMember(context.store, clusterId, ordinal),
      ]);
      if (member.bundleId !== null || cluster.desired !== 'present') return null;
      const bundles = await listBundles(context.store, { states: ['intended', 'reserved'] });
      const choice = chooseAgent({
        spec: cluster.spec,
        ordinal,
        offers: agents.flatMap(({ free }) => (free ? [free] : [])),
        agentsInUse: bundles.filter((row) => row.clusterId === clusterId).map((row) => row.agentId),
        membersByAgent: countBy(bundles.map((row) => row.agentId)),
        newPersistenceIds: { data: context.newId(), backup: context.newId() },
      });
      const trial = { clusterId, cluster: cluster.name, ordinal };
      for (const { agentId, stages } of choice.refused) report({ ...trial, agentId, outcome: 'refused', stages });
      if (choice.kind === 'refused') return null;
      report({ ...trial, agentId: choice.offer.agentId, outcome: 'placed', stages: choice.stages });
      return placeOn(context, { cluster, member, choice, agents });
    },
  };
}

async function placeOn(
  context: Context,
  input: {
    cluster: ClusterRow;
    member: MemberRow;
    choice: Extract<ReturnType<typeof chooseAgent>, { kind: 'placed' }>;
    agents: readonly AgentOffers[];
  },
): Promise<Use> {
  const { cluster, member, choice } = input;
  const { offer, bundle } = choice;
  const bundleId = context.newId();
  const resources = bundleResources(bundle, reservationOf(context, cluster.id, member.ordinal, bundleId));
  const row = await insertBundle(context.store, context.leader, {
    id: bundleId,
    clusterId: cluster.id,
    ordinal: member.ordinal,
    agentId: offer.agentId,
    hostname: offer.hostname,
    ip: offer.ip,
    bundle,
    resources: resources.all,
  });
  const launch = await prepareLaunch(context, { cluster, member, bundle: row, resources: resources.all });
  await emit(context, 'member.placed', cluster, `placed on ${offer.hostname}`, {
    ordinal: member.ordinal,
    data: { agentId: offer.agentId, reservation: bundleId, taskId: launch.taskId },
  });
  return {
    offerIds: input.agents.find((agent) => agent.agentId === offer.agentId)!.offers.map(({ id }) => id.value),
    operations: acceptForNewMember(resources, launch.task),
  };
}

/** Launches again on the member's own bundle, once the offers of the agent that holds it cover it whole. */
export function relaunchWant(context: Context, bundle: BundleRow): Want {
  return {
    key: `relaunch ${memberKey(bundle.clusterId, bundle.ordinal)}`,
    agentId: bundle.agentId,
    async consider(agents, report) {
      const found = agents.find(({ offers }) => findReserved(offers, bundle.id).length > 0);
      const [cluster, member] = await Promise.all([
        getCluster(context.store, bundle.clusterId),
        getMember(context.store, bundle.clusterId, bundle.ordinal),
      ]);
      if (!found || member.bundleId !== bundle.id || member.desired === 'gone') return null;
      // Until its member machine has looked again the want stands, and Mesos may tell an offer twice.
      const last = member.taskId === null ? null : await findLaunch(context.store, member.taskId);
      if (last !== null && last.endedAt === null) return null;
      if (!coversBundle(found.offers, bundle.resources as Resource[])) {
        report({
          agentId: found.agentId,
          clusterId: cluster.id,
          cluster: cluster.name,
          ordinal: bundle.ordinal,
          outcome: 'refused',
          stages: [{ name: 'data', isPassed: false, reason: "The agent's offers do not cover the whole bundle yet" }],
        });
        return null;
      }
      // An agent may come back with a new id, name or address and the old volumes: the volumes decide.
      if (!found.free) return null;
      const { hostname, ip } = found.free;
      const row = { ...bundle, agentId: found.agentId, hostname, ip };
      if (row.agentId !== bundle.agentId || row.ip !== bundle.ip)
        await setBundleAgent(context.store, context.leader, row);
      await setBundleState(context.store, context.leader, bundle.id, 'reserved');
      const resources = bundle.resources as Resource[];
      const launch = await prepareLaunch(context, { cluster, member, bundle: row, resources });
      await emit(context, 'member.launched', cluster, `launched again on ${row.hostname}`, {
        ordinal: member.ordinal,
        data: { agentId: row.agentId, reservation: bundle.id, taskId: launch.taskId },
      });
      return { offerIds: offersHolding(found, bundle.id), operations: [launchOperation(launch.task)] };
    },
  };
}

/** Release reason of an attempt that was carried out in part: it will never be seen whole. */
export const partOnly = 'only a part of it was reserved';

/**
 * Gives a bundle back whole: DESTROY its volumes, UNRESERVE the rest. Its row already says `releasing` and why. After a
 * task's end Mesos offers the task's token at once and the rest only when the executor has ended: until then nothing is
 * given back, or the token alone would count as the whole.
 */
export function releaseWant(context: Context, bundle: BundleRow): Want {
  return {
    key: releaseKey(bundle.id),
    agentId: bundle.agentId,
    async consider(agents) {
      for (const agent of agents) {
        const resources = findReserved(agent.offers, bundle.id);
        if (resources.length === 0) continue;
        const isPartEnough = bundle.state === 'released' || bundle.releaseReason === partOnly;
        if (!isPartEnough && !coversReservation(resources, expectedOf(bundle))) continue;
        context.log.info({ reservation: bundle.id, agentId: agent.agentId }, 'gives a bundle back');
        return {
          offerIds: offersHolding(agent, bundle.id),
          operations: releaseOperations(resources, `release.${bundle.id}`),
        };
      }
      return null;
    },
  };
}

/** A backup volume that is being replaced is gone for good, or may not have been made yet. */
function expectedOf({ bundle, resources }: BundleRow): Resource[] {
  const { replacing, persistenceId } = bundle.backup ?? {};
  const all = resources as Resource[];
  return replacing ? all.filter(({ disk }) => disk?.persistence?.id !== persistenceId) : all;
}

export const releaseKey = (bundleId: string) => `release ${bundleId}`;

export async function prepareLaunch(
  context: Context,
  input: { cluster: ClusterRow; member: MemberRow; bundle: BundleRow; resources: readonly Resource[] },
) {
  const { cluster, member, bundle, resources } = input;
  const taskId = `${cluster.id}.${member.ordinal}.${context.newId()}`;
  const token = context.newToken();
  const plan: LaunchPlan = {
    version: PROTOCOL_VERSION,
    installation: context.identity.installation,
    cluster: cluster.id,
    clusterName: cluster.name,
    ordinal: member.ordinal,
    taskId,
    incarnation: member.incarnation,
    serverUuid: member.serverUuid,
    serverId: member.serverId,
    address: bundle.ip,
    ports: bundle.bundle.ports,
    memMb: bundle.bundle.memMb,
    data: volumePlan('data', bundle.bundle.data),
    backup: bundle.bundle.backup && volumePlan('backup', bundle.bundle.backup),
    tokenSha256: createHash('sha256').update(token).digest('hex'),
  };
  await insertLaunch(context.store, context.leader, {
    taskId,
    clusterId: cluster.id,
    ordinal: member.ordinal,
    bundleId: bundle.id,
    agentId: bundle.agentId,
    token,
  });
  const task = taskInfo({
    taskId,
    agentId: bundle.agentId,
    name: `${cluster.name}-${member.ordinal}`,
    resources,
    command: context.executorCommand,
    data: JSON.stringify(plan),
    ports: bundle.bundle.ports,
  });
  return { taskId, task };
}

function volumePlan(containerPath: string, volume: BundleRow['bundle']['data']): LaunchPlan['data'] {
  return { containerPath, persistenceId: volume.persistenceId, diskType: volume.type, sizeMb: volume.sizeMb };
}

export function reservationOf({ identity }: Context, cluster: string, ordinal: number, reservation: string) {
  return {
    role: identity.role,
    principal: identity.principal,
    labels: { installation: identity.installation, cluster, member: String(ordinal), reservation },
  };
}

function offersHolding(agent: AgentOffers, bundleId: string): string[] {
  return agent.offers.filter((offer) => findReserved([offer], bundleId).length > 0).map(({ id }) => id.value);
}

function countBy(values: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return counts;
}
