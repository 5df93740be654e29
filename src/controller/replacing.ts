/**
 * Another backup volume in place of one that is gone for good, as a person has said: made on the same agent and launched
 * with the same data volume. The intent is stored before the ACCEPT, and the same reservation holds the new disk, so
 * that everything is given back together. The old volume is destroyed when it is on offer; if it comes later it stays
 * as it is until the cluster goes.
 */
import { placeBackup } from '../cluster/placement.ts';
import { findReserved } from '../mesos/offers.ts';
import {
  bundleResources,
  coversBundle,
  createOperation,
  launchOperation,
  releaseOperations,
  reserveOperation,
} from '../mesos/operations.ts';
import type { Resource } from '../mesos/types.ts';
import { getBundle, setBundleAgent, setBundleState } from '../store/bundles.ts';
import { getCluster } from '../store/clusters.ts';
import { findLaunch } from '../store/launches.ts';
import { getMember } from '../store/members.ts';
import { replaceBackupVolume } from '../store/replacements.ts';
import type { BundleRow } from '../store/rows.ts';
import { type Context, emit } from './context.ts';
import { memberKey, prepareLaunch, reservationOf } from './launching.ts';
import type { AgentOffers, Trial, Want } from './market.ts';

const isVolume = ({ disk }: Resource, persistenceId: string) => disk?.persistence?.id === persistenceId;

/** Launches the member with a new backup volume, or again with the one that was made for it. */
export function replaceWant(context: Context, { id, agentId, clusterId, ordinal }: BundleRow): Want {
  return {
    key: `replace ${memberKey(clusterId, ordinal)}`,
    agentId,
    async consider(agents, report) {
      const found = agents.find(({ offers }) => findReserved(offers, id).length > 0);
      const [cluster, member, bundle] = await Promise.all([
        getCluster(context.store, clusterId),
        getMember(context.store, clusterId, ordinal),
        getBundle(context.store, id),
      ]);
      if (!found?.free || member.bundleId !== id || member.desired === 'gone') return null;
      const last = member.taskId === null ? null : await findLaunch(context.store, member.taskId);
      if (last !== null && last.endedAt === null) return null;
      const tell = (stages: Trial['stages'], outcome: Trial['outcome']) =>
        report({ agentId: found.agentId, clusterId, cluster: cluster.name, ordinal, outcome, stages });
      const { hostname, ip } = found.free;
      const row = { ...bundle, agentId: found.agentId, hostname, ip };
      const cut = await cutVolume(context, row, { found, wanted: cluster.spec.volumes.backup, tell });
      if (!cut) return null;
      if (row.agentId !== bundle.agentId || row.ip !== bundle.ip)
        await setBundleAgent(context.store, context.leader, row);
      await setBundleState(context.store, context.leader, id, 'reserved');
      const { resources, operations } = cut;
      const launch = await prepareLaunch(context, { cluster, member, bundle: cut.bundle, resources });
      await emit(context, 'member.launched', cluster, `launched on ${hostname} with another backup volume`, {
        ordinal,
        data: { agentId: row.agentId, reservation: id, taskId: launch.taskId },
      });
      const offerIds = found.offers.map((offer) => offer.id.value);
      return { offerIds, operations: [...operations, launchOperation(launch.task)] };
    },
  };
}

interface Cutting {
  readonly found: AgentOffers;
  readonly wanted: Parameters<typeof placeBackup>[0]['wanted'] | null;
  tell(stages: Trial['stages'], outcome: Trial['outcome']): void;
}

/** What has to be done before the launch, stored; null: not on these offers. */
async function cutVolume(context: Context, row: BundleRow, { found, wanted, tell }: Cutting) {
  const { data, backup: old } = row.bundle;
  const known = row.resources as Resource[];
  if (!old?.replacing || !wanted || !found.free) return null;
  if (old.isNew && coversBundle(found.offers, known)) return { bundle: row, resources: known, operations: [] };
  const kept = known.filter((resource) => !isVolume(resource, old.persistenceId));
  if (!coversBundle(found.offers, kept)) {
    const reason = "The agent's offers do not cover what the member keeps yet";
    tell([{ name: 'data', isPassed: false, reason }], 'refused');
    return null;
  }
  // The volume before, and what an attempt left that was carried out in part.
  const stale = findReserved(found.offers, row.id).filter(
    (resource) => resource.name === 'disk' && !isVolume(resource, data.persistenceId),
  );
  const isOldOffered = stale.some((resource) => isVolume(resource, old.persistenceId));
  const { disks } = found.free;
  const choice = placeBackup({ wanted, data, old, isOldOffered, disks, persistenceId: context.newId() });
  tell([choice.stage], choice.volume ? 'placed' : 'refused');
  if (!choice.volume) return null;
  const backup = { ...choice.volume, isNew: true, replacing: old.replacing };
  const bundle = { ...row, bundle: { ...row.bundle, backup } };
  const reserved = bundleResources(bundle.bundle, reservationOf(context, row.clusterId, row.ordinal, row.id));
  const volume = reserved.volumes.filter((resource) => isVolume(resource, backup.persistenceId));
  const resources = [...kept, ...volume];
  await replaceBackupVolume(context.store, context.leader, row.id, { backup, resources });
  const plain = reserved.plain.slice(-1);
  const operations = [...releaseOperations(stale), reserveOperation(plain), createOperation(volume)];
  return { bundle, resources, operations };
}
