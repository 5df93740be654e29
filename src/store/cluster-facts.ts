/**
 * All rows of one cluster that its loop and its machines decide by. They look many times between two changes, each
 * machine on its own, so what was read is remembered until the database changes.
 */
import { listKeptBackups, listNewestBackups } from './backups.ts';
import { findBundle } from './bundles.ts';
import { getCluster } from './clusters.ts';
import { findNewestFailover, findOpenFailover } from './failovers.ts';
import { findLaunch } from './launches.ts';
import { listMembers } from './members.ts';
import { listOpenRebuilds } from './rebuilds.ts';
import { findOpenRestore } from './restores.ts';
import { listOpenCopies, type OpenCopy } from './retained.ts';
import type {
  BackupRow,
  BundleRow,
  ClusterRow,
  FailoverRow,
  LaunchRow,
  MemberRow,
  RebuildRow,
  RestoreRow,
  VerificationRow,
} from './rows.ts';
import { readVersion } from './sql.ts';
import type { Store } from './store.ts';
import { listNewestVerifications } from './verifications.ts';

export interface ClusterFacts {
  readonly cluster: ClusterRow;
  readonly members: readonly MemberRecord[];
  readonly openFailover: FailoverRow | null;
  readonly newestFailover: FailoverRow | null;
  /** That are there, or are being made or removed, and all of the newest run of the schedule; newest first. */
  readonly keptBackups: readonly BackupRow[];
  /** The newest of each member, whatever became of it. */
  readonly newestBackups: readonly BackupRow[];
  /** Newest first. */
  readonly verifications: readonly VerificationRow[];
  readonly openRebuilds: readonly RebuildRow[];
  readonly openRestore: RestoreRow | null;
  /** New clusters that are filled from this one, while its volumes are retained. */
  readonly copies: readonly OpenCopy[];
}

export interface MemberRecord {
  readonly member: MemberRow;
  readonly bundle: BundleRow | null;
  /** The current launch, null before the first. */
  readonly launch: LaunchRow | null;
}

interface Remembered {
  readonly version: string;
  readonly facts: Promise<ClusterFacts>;
}

/** Clusters remembered per store; beyond them everything is read anew. */
const REMEMBERED_MAX = 1000;
const memory = new WeakMap<Store, Map<string, Remembered>>();

/**
 * The rows as they are now. Shared by all who ask until something is written: never change them. Refusal: NOT_FOUND.
 */
export function readClusterFacts(store: Store, clusterId: string): Promise<ClusterFacts> {
  // What a transaction sees may be rolled back: nobody else may ever see it.
  if (store.db.isTransaction) return readRows(store, clusterId);
  const version = readVersion(store);
  const known = memory.get(store) ?? new Map<string, Remembered>();
  const remembered = known.get(clusterId);
  if (remembered?.version === version) return remembered.facts;
  const facts = readRows(store, clusterId);
  if (known.size >= REMEMBERED_MAX) known.clear();
  memory.set(store, known.set(clusterId, { version, facts }));
  facts.catch(() => {
    if (known.get(clusterId)?.facts === facts) known.delete(clusterId);
  });
  return facts;
}

async function readRows(store: Store, clusterId: string): Promise<ClusterFacts> {
  const [cluster, members, openFailover, newestFailover, openRebuilds, openRestore] = await Promise.all([
    getCluster(store, clusterId),
    listMembers(store, clusterId),
    findOpenFailover(store, clusterId),
    findNewestFailover(store, clusterId),
    listOpenRebuilds(store, clusterId),
    findOpenRestore(store, clusterId),
  ]);
  const [keptBackups, newestBackups, verifications] = await Promise.all([
    listKeptBackups(store, clusterId),
    listNewestBackups(store, clusterId),
    listNewestVerifications(store, clusterId),
  ]);
  const records = await Promise.all(members.map((member) => readMember(store, member)));
  const copies = cluster.desired === 'retained' ? await listOpenCopies(store, clusterId) : [];
  const ofBackups = { keptBackups, newestBackups, verifications };
  return { cluster, members: records, openFailover, newestFailover, openRebuilds, openRestore, copies, ...ofBackups };
}

async function readMember(store: Store, member: MemberRow): Promise<MemberRecord> {
  const [bundle, launch] = await Promise.all([
    member.bundleId === null ? null : findBundle(store, member.bundleId),
    member.taskId === null ? null : findLaunch(store, member.taskId),
  ]);
  return { member, bundle, launch };
}
