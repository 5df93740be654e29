/** A person's word that a member's backup volume is gone for good: kept with its bundle until a new one is in use. */
import { z } from 'zod';
import type { Bundle } from '../cluster/types.ts';
import { Refusal } from '../errors.ts';
import { bundleOf, setBundle } from './bundles.ts';
import { getById } from './clusters.ts';
import { writeEvent } from './events.ts';
import { requireNoRestore } from './guards.ts';
import type { Leader } from './rows.ts';
import { allRows, run } from './sql.ts';
import { type Store, transaction, transactionAs } from './store.ts';

type Replacing = NonNullable<NonNullable<Bundle['backup']>['replacing']>;

export interface NewReplacement {
  readonly clusterId: string;
  readonly ordinal: number;
  readonly requestedBy: string;
  readonly reason: string;
}

/**
 * Stores the intent, told as `backup.replacing`; again: answers what is open. Refusals: NOT_FOUND, CLUSTER_DELETING,
 * CLUSTER_RETAINED, IS_PRIMARY, NO_BACKUP_VOLUME, OPERATION_OPEN (another member's, or a restore).
 */
export function openReplacement(store: Store, input: NewReplacement): Promise<Replacing> {
  const { clusterId, ordinal, requestedBy, reason } = input;
  return transaction(store, () => {
    const cluster = getById(store, clusterId);
    if (cluster.desired === 'deleted')
      throw new Refusal('CLUSTER_DELETING', `cluster ${cluster.name} is being deleted`);
    if (cluster.desired === 'retained')
      throw new Refusal('CLUSTER_RETAINED', `cluster ${cluster.name} was deleted with its volumes retained`);
    if (cluster.primary === ordinal)
      throw new Refusal('IS_PRIMARY', 'the primary is not stopped for that: hand over first with a switchover');
    requireNoRestore(store, clusterId);
    const sql = 'SELECT ordinal, bundle_id FROM member WHERE cluster_id = ?';
    const members = allRows(store, z.object({ ordinal: z.number(), bundleId: z.string().nullable() }), sql, clusterId);
    if (!members.some((member) => member.ordinal === ordinal))
      throw new Refusal('NOT_FOUND', `cluster ${cluster.name} has no member ${ordinal}`);
    const bundles = members.flatMap(({ ordinal: of, bundleId }) =>
      bundleId === null ? [] : [{ of, bundleId, bundle: bundleOf(store, bundleId) }],
    );
    const own = bundles.find(({ of }) => of === ordinal);
    if (!own?.bundle.backup) throw new Refusal('NO_BACKUP_VOLUME', `member ${ordinal} has no backup volume`);
    if (own.bundle.backup.replacing) return own.bundle.backup.replacing;
    const other = bundles.find(({ bundle }) => bundle.backup?.replacing);
    if (other) throw new Refusal('OPERATION_OPEN', `the backup volume of member ${other.of} is being replaced`);
    const replacing = { at: store.clock.now(), requestedBy };
    setBundle(store, own.bundleId, { ...own.bundle, backup: { ...own.bundle.backup, replacing } });
    const message = `${requestedBy}: its backup volume is gone for good: ${reason}`;
    const about = { clusterId, cluster: cluster.name, ordinal, message };
    writeEvent(store, { kind: 'backup.replacing', ...about, data: { by: requestedBy } });
    return replacing;
  });
}

/** Intent to make another backup volume, before the ACCEPT. Refusal: NOT_FOUND. */
export function replaceBackupVolume(
  store: Store,
  leader: Leader,
  id: string,
  change: { readonly backup: NonNullable<Bundle['backup']>; readonly resources: readonly unknown[] },
): Promise<void> {
  return transactionAs(store, leader, () => {
    setBundle(store, id, { ...bundleOf(store, id), backup: change.backup });
    run(store, 'UPDATE bundle SET resources = ? WHERE id = ?', JSON.stringify(change.resources), id);
  });
}
