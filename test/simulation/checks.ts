/** The guarantees of docs/failover-safety.md, looked at after every step that could break one. */
import type { AgentCheckpoint } from '../../src/mesos/local/core/agent-state.ts';
import type { Store } from '../../src/store/store.ts';
import type { Disks, Volume } from './disks.ts';
import { holdsAll, type Instance, type Transaction } from './mysql.ts';
import type { Story } from './story.ts';
import type { Time } from './time.ts';

export class Violation extends Error {
  readonly guarantee: string;
  constructor(guarantee: string, message: string) {
    super(`${guarantee}: ${message}`);
    this.guarantee = guarantee;
  }
}

export interface Checks {
  readonly violations: readonly Violation[];
  /** A client got OK. */
  onAcknowledged(clusterId: string, transaction: Transaction): void;
  onCommitted(instance: Instance, transaction: Transaction): void;
  onWritable(instance: Instance): void;
  onStored(): void;
  onPersist(agentKey: string, checkpoint: AgentCheckpoint): void;
  onDestroyed(volume: Volume): void;
  /** Just before an empty data directory is made. */
  onInitialise(volume: Volume): void;
  fail(guarantee: string, message: string): void;
  /** Everything acknowledged is on the primary. */
  checkPrimaries(): void;
}

interface Epoch {
  epoch: number;
  primary: number | null;
  isDeleted: boolean;
}

export function createChecks(parts: {
  readonly time: Time;
  readonly story: Story;
  readonly store: Store;
  readonly disks: Disks;
}): Checks {
  const { story, store, disks } = parts;
  const violations: Violation[] = [];
  const acknowledged = new Map<string, Map<number, Transaction>>();
  const epochs = new Map<string, Epoch>();
  const writers = new Map<string, string>();
  const initialised = new Map<string, Set<Volume>>();
  const rows = new Set<string>();
  const select = store.db.prepare('SELECT id, epoch, primary_ordinal, desired FROM cluster');
  const selectBundle = store.db.prepare('SELECT state, cluster_id FROM bundle WHERE id = ?');
  const selectVolume = store.db.prepare('SELECT state, cluster_id, release_reason FROM bundle WHERE bundle LIKE ?');

  function fail(guarantee: string, message: string): void {
    story.tell('VIOLATION', `${guarantee}: ${message}`);
    violations.push(new Violation(guarantee, message));
  }

  /** What is mounted comes before the disk that it hides. */
  const volumesOf = (clusterId: string, ordinal: number) =>
    disks
      .volumes()
      .flatMap((volume) => (volume.hiddenBehind ? [volume.hiddenBehind, volume] : [volume]))
      .filter(({ marker, data }) => data && marker?.cluster === clusterId && marker.ordinal === ordinal);

  function findLost(clusterId: string, ordinal: number): string | null {
    const wanted = acknowledged.get(clusterId);
    if (!wanted || wanted.size === 0) return null;
    const data = volumesOf(clusterId, ordinal)[0]?.data;
    if (!data) return `member ${ordinal} has no data at all, ${wanted.size} writes were acknowledged`;
    const lost = holdsAll(data, wanted.keys());
    if (lost === null) return null;
    const { key, n, value, epoch } = wanted.get(lost)!;
    return `member ${ordinal} lacks ${key}:${n} (write ${value} of epoch ${epoch})`;
  }

  function readClusters(): void {
    for (const row of select.all() as {
      id: string;
      epoch: number;
      primary_ordinal: number | null;
      desired: string;
    }[]) {
      const known = epochs.get(row.id);
      const isNew = !known || known.epoch !== row.epoch;
      epochs.set(row.id, { epoch: row.epoch, primary: row.primary_ordinal, isDeleted: row.desired === 'deleted' });
      if (!isNew || row.primary_ordinal === null) continue;
      story.tell('store', `epoch ${row.epoch}: member ${row.primary_ordinal} is the primary`);
      const lost = findLost(row.id, row.primary_ordinal);
      if (lost) fail('G1', `an acknowledged write is lost at the commit point of epoch ${row.epoch}: ${lost}`);
    }
  }

  return {
    violations,
    fail,
    onAcknowledged(clusterId, transaction) {
      const known = acknowledged.get(clusterId) ?? new Map<number, Transaction>();
      acknowledged.set(clusterId, known.set(transaction.id, transaction));
      const current = epochs.get(clusterId);
      if (current?.primary == null) return;
      const data = volumesOf(clusterId, current.primary)[0]?.data;
      // A slow answer may come when the volume was destroyed with its cluster.
      if (!data && current.isDeleted) return;
      if (!data || holdsAll(data, [transaction.id]) !== null)
        fail('G1', `write ${transaction.value} was acknowledged and the primary, member ${current.primary}, lacks it`);
    },
    onCommitted(instance, transaction) {
      const { clusterId, ordinal, incarnation } = instance.owner;
      const current = epochs.get(clusterId)?.epoch ?? 0;
      const what = `${transaction.kind} ${transaction.value} of epoch ${transaction.epoch} by member ${ordinal}`;
      if (transaction.epoch < current) fail('G2', `${what} was acknowledged when epoch ${current} was chosen`);
      if (transaction.epoch > current) fail('G2', `${what} was acknowledged before its epoch was chosen`);
      const key = `${clusterId}/${transaction.epoch}`;
      const writer = `${ordinal}/${incarnation}`;
      const known = writers.get(key) ?? writer;
      writers.set(key, known);
      if (known !== writer) fail('G2', `${what}: member ${known} wrote in that epoch already`);
    },
    onWritable(instance) {
      const { clusterId, ordinal } = instance.owner;
      const wanted = acknowledged.get(clusterId);
      const known = volumesOf(clusterId, ordinal)[0]?.state.epoch ?? 0;
      if (known > instance.epoch)
        fail('G2', `member ${ordinal} takes writes in epoch ${instance.epoch} although it knows of epoch ${known}`);
      for (const [id, { value }] of wanted ?? [])
        if (!instance.data.held.has(id)) {
          fail('G1', `member ${ordinal} takes writes in epoch ${instance.epoch} without having write ${value}`);
          return;
        }
    },
    onStored: readClusters,
    onPersist(_agentKey, checkpoint) {
      for (const { reservations } of checkpoint.total) {
        const id = reservations?.at(-1)?.labels?.labels.find(({ key }) => key === 'selvedge.reservation')?.value;
        if (id === undefined || rows.has(id)) continue;
        if (selectBundle.get(id)) rows.add(id);
        else fail('G5', `reservation ${id} has no row`);
      }
    },
    onDestroyed(volume) {
      if (!volume.data || volume.marker?.fill !== 'filled') return;
      const row = selectVolume.get(`%${volume.marker.persistenceId}%`) as
        | { state: string; cluster_id: string; release_reason: string | null }
        | undefined;
      const cluster = (select.all() as { id: string; desired: string }[]).find(({ id }) => id === row?.cluster_id);
      if (row?.state === 'releasing' && cluster?.desired === 'deleted') return;
      fail(
        'G4',
        `a volume with data of member ${volume.marker.ordinal} was destroyed: ${row?.release_reason ?? 'no row'}`,
      );
    },
    // A volume that was emptied before there was a primary may be filled again: nothing is there, nobody has written.
    onInitialise(volume) {
      const { cluster, ordinal } = volume.marker!;
      const key = `${cluster}.${ordinal}`;
      const known = initialised.get(key) ?? new Set();
      const epoch = epochs.get(cluster)?.epoch ?? 0;
      if (volume.data) fail('G4', `the data of member ${ordinal} were initialised over what was there`);
      else if ([...known].some((other) => other !== volume && other.data))
        fail('G4', `the data of member ${ordinal} were initialised beside what is there`);
      else if (epoch > 0) fail('G4', `the data of member ${ordinal} were initialised empty in epoch ${epoch}`);
      initialised.set(key, known.add(volume));
    },
    checkPrimaries() {
      for (const [clusterId, { primary, epoch }] of epochs) {
        if (primary === null) continue;
        const lost = findLost(clusterId, primary);
        if (lost) fail('G1', `an acknowledged write is lost in epoch ${epoch}: ${lost}`);
      }
    },
  };
}
