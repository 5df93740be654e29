import { z } from 'zod';
import type { Bundle } from '../cluster/types.ts';
import { Refusal } from '../errors.ts';
import { bundleColumn } from './columns.ts';
import type { BundleRow, Leader } from './rows.ts';
import { allRows, findRow, json, placeholders, run } from './sql.ts';
import { type Store, transactionAs } from './store.ts';

/** An observation is written only when the last one is older: seeing every offer must not wear the disk. */
const SEEN_EVERY_MS = 60_000;

const bundleStates = ['intended', 'reserved', 'releasing', 'released'] as const;

const bundleRow: z.ZodType<BundleRow> = z.object({
  id: z.string(),
  clusterId: z.string(),
  ordinal: z.number(),
  state: z.enum(bundleStates),
  agentId: z.string(),
  hostname: z.string(),
  ip: z.string(),
  bundle: json(bundleColumn),
  resources: json(z.array(z.unknown())),
  createdAt: z.number(),
  lastSeenAt: z.number().nullable(),
  releaseReason: z.string().nullable(),
  releasedAt: z.number().nullable(),
});

export interface NewBundle {
  readonly id: string;
  readonly clusterId: string;
  readonly ordinal: number;
  readonly agentId: string;
  readonly hostname: string;
  readonly ip: string;
  readonly bundle: Bundle;
  readonly resources: readonly unknown[];
}

/**
 * Intent to reserve, stored before the ACCEPT; also becomes the member's current bundle. The same id again changes
 * nothing. Throws while the member has another attempt that is not given up (releasing): two would be reserved.
 */
export function insertBundle(store: Store, leader: Leader, input: NewBundle): Promise<BundleRow> {
  const { id, clusterId, ordinal } = input;
  return transactionAs(store, leader, () => {
    const known = find(store, id);
    if (known) return known;
    const others = "SELECT * FROM bundle WHERE cluster_id = ? AND ordinal = ? AND state IN ('intended', 'reserved')";
    const other = findRow(store, bundleRow, others, clusterId, ordinal);
    if (other) throw new Error(`member ${ordinal} of cluster ${clusterId} has reservation ${other.id}`);
    run(
      store,
      `INSERT INTO bundle (id, cluster_id, ordinal, state, agent_id, hostname, ip, bundle, resources, created_at)
       VALUES (?, ?, ?, 'intended', ?, ?, ?, ?, ?, ?)`,
      id,
      clusterId,
      ordinal,
      input.agentId,
      input.hostname,
      input.ip,
      JSON.stringify(input.bundle),
      JSON.stringify(input.resources),
      store.clock.now(),
    );
    run(store, 'UPDATE member SET bundle_id = ? WHERE cluster_id = ? AND ordinal = ?', id, clusterId, ordinal);
    return get(store, id);
  });
}

export async function findBundle(store: Store, id: string): Promise<BundleRow | null> {
  return find(store, id);
}

/** Refusal: NOT_FOUND. */
export async function getBundle(store: Store, id: string): Promise<BundleRow> {
  return get(store, id);
}

/** Oldest first; all states and clusters when not given. */
export async function listBundles(
  store: Store,
  filter: { readonly clusterId?: string; readonly states?: readonly BundleRow['state'][] } = {},
): Promise<BundleRow[]> {
  const states = filter.states ?? bundleStates;
  const ofCluster = filter.clusterId === undefined ? '' : 'AND cluster_id = ?';
  const sql = `SELECT * FROM bundle WHERE state IN (${placeholders(states.length)}) ${ofCluster} ORDER BY created_at, id`;
  return allRows(store, bundleRow, sql, ...states, ...(filter.clusterId === undefined ? [] : [filter.clusterId]));
}

/**
 * States only go forward: intended, reserved, releasing, released. False when the bundle is as far or further.
 * Released takes it from its member.
 */
export function setBundleState(
  store: Store,
  leader: Leader,
  id: string,
  state: BundleRow['state'],
  reason?: string,
): Promise<boolean> {
  return transactionAs(store, leader, () => {
    const row = get(store, id);
    if (bundleStates.indexOf(state) <= bundleStates.indexOf(row.state)) return false;
    const isReleased = state === 'released';
    run(
      store,
      'UPDATE bundle SET state = ?, release_reason = ?, released_at = ? WHERE id = ?',
      state,
      reason ?? row.releaseReason,
      isReleased ? store.clock.now() : null,
      id,
    );
    if (isReleased) run(store, 'UPDATE member SET bundle_id = NULL WHERE bundle_id = ?', id);
    return true;
  });
}

/** The volumes showed up on an agent with a new id, name or address: they decide where the member is. */
export function setBundleAgent(
  store: Store,
  leader: Leader,
  change: Pick<BundleRow, 'id' | 'agentId' | 'hostname' | 'ip'>,
): Promise<void> {
  return transactionAs(store, leader, () => {
    const sql = 'UPDATE bundle SET agent_id = ?, hostname = ?, ip = ? WHERE id = ?';
    run(store, sql, change.agentId, change.hostname, change.ip, change.id);
  });
}

/**
 * Which directory the data volume is, as an executor first told it; the first word counts. Answers the stored place.
 * `backup` is that beside it, which is filled with it: of a later word as long as the data's is the same.
 * Refusal: NOT_FOUND.
 */
export function setBundlePlace(
  store: Store,
  leader: Leader,
  id: string,
  { place, backup }: { readonly place: string; readonly backup: VolumePlace | null },
): Promise<string> {
  return transactionAs(store, leader, () => {
    const { bundle } = get(store, id);
    const known = bundle.data.place ?? place;
    if (known !== place) return known;
    const next = { ...bundle, data: { ...bundle.data, place } };
    const beside = backup && bundle.backup ? { backup: { ...bundle.backup, ...backup } } : {};
    setBundle(store, id, { ...next, ...beside });
    return known;
  });
}

export interface VolumePlace {
  readonly place: string;
  readonly isOwnDevice: boolean;
}

/** Which directory has the volume's marker now. Refusal: NOT_FOUND. */
export function noteVolume(
  store: Store,
  leader: Leader,
  id: string,
  name: 'data' | 'backup',
  { place, isOwnDevice }: VolumePlace,
): Promise<void> {
  return transactionAs(store, leader, () => {
    const { bundle } = get(store, id);
    if (!bundle[name]) return;
    if (name === 'data') return setBundle(store, id, { ...bundle, data: { ...bundle.data, place, isOwnDevice } });
    // A new one that has its marker is in use: nothing is being replaced any more.
    const { isNew, replacing, ...volume } = bundle.backup!;
    const open = replacing && !isNew ? { replacing } : {};
    setBundle(store, id, { ...bundle, backup: { ...volume, ...open, place, isOwnDevice } });
  });
}

/**
 * Intent to take an empty directory as the backup volume, in place of the one that was lost. False: this very directory
 * was to be taken, and no backup was begun since. Refusal: NOT_FOUND.
 */
export function openBackupVolume(
  store: Store,
  leader: Leader,
  id: string,
  { place, isOwnDevice }: VolumePlace,
): Promise<boolean> {
  return transactionAs(store, leader, () => {
    const { bundle, clusterId, ordinal } = get(store, id);
    if (!bundle.backup) return false;
    const { takenAt, place: known } = bundle.backup;
    const since = 'SELECT id FROM backup WHERE cluster_id = ? AND ordinal = ? AND started_at >= ?';
    const isOpen = known === place && takenAt !== undefined;
    if (isOpen && !findRow(store, z.object({ id: z.string() }), since, clusterId, ordinal, takenAt)) return false;
    const backup = { ...bundle.backup, place, isOwnDevice, takenAt: store.clock.now() };
    setBundle(store, id, { ...bundle, backup });
    return true;
  });
}

/** For use inside a transaction. Refusal: NOT_FOUND. */
export const bundleOf = (store: Store, id: string): Bundle => get(store, id).bundle;

/** For use inside a transaction. */
export function setBundle(store: Store, id: string, bundle: Bundle): void {
  run(store, 'UPDATE bundle SET bundle = ? WHERE id = ?', JSON.stringify(bundle), id);
}

/** The bundle was seen whole at `at` (UTC ms), in an offer or under a running task. True when it was written. */
export function touchBundle(store: Store, leader: Leader, id: string, at: number): Promise<boolean> {
  return transactionAs(store, leader, () => {
    const sql = 'UPDATE bundle SET last_seen_at = ? WHERE id = ? AND (last_seen_at IS NULL OR last_seen_at < ?)';
    return run(store, sql, at, id, at - SEEN_EVERY_MS) > 0;
  });
}

function find(store: Store, id: string): BundleRow | null {
  return findRow(store, bundleRow, 'SELECT * FROM bundle WHERE id = ?', id);
}

function get(store: Store, id: string): BundleRow {
  const row = find(store, id);
  if (!row) throw new Refusal('NOT_FOUND', `there is no reservation ${id}`);
  return row;
}
