/**
 * Durability audit (guarantee 1 watched from outside): within an epoch with k > 0 no commit may have gone through
 * without its acknowledgements (Rpl_semi_sync_source_no_tx must not grow), and nobody but a voter may acknowledge.
 * The first finding of an epoch is kept in the store until the epoch ends; what MySQL counted before this control plane
 * first looked is not known, so what happens while none runs goes unseen.
 */
import type { Status } from '../channel/protocol.ts';
import { type DurabilityFinding, listFindings, recordFinding } from '../store/durability.ts';
import { type Context, emit } from './context.ts';
import { type ClusterView, primaryOf } from './gather.ts';

/** A status may be older than the rule: a stranger must stand for so long. */
const strangerMs = 3000;

interface Baseline {
  readonly epoch: number;
  readonly taskId: string;
  readonly noTx: number;
  readonly at: number;
}

export interface Audits {
  /** What earlier control planes found. */
  load(): Promise<void>;
  look(view: ClusterView): void;
  /** A sentence with the time span; null when all holds. Kept until the epoch ends. */
  finding(clusterId: string): string | null;
}

/** A finding that the store did not take is tried again at the next look. */
interface Finding extends DurabilityFinding {
  state: 'new' | 'storing' | 'stored';
}

export function createAudits(context: Pick<Context, 'store' | 'leader' | 'clock' | 'log'>): Audits {
  const baselines = new Map<string, Baseline>();
  const strangersSince = new Map<string, number>();
  const findings = new Map<string, Finding>();

  function report({ cluster }: ClusterView, message: string): void {
    if (findings.has(cluster.id)) return;
    findings.set(cluster.id, { clusterId: cluster.id, epoch: cluster.epoch, message, state: 'new' });
  }

  /** The event is told once: by whoever stored the finding. */
  async function keep(finding: Finding, cluster: ClusterView['cluster']): Promise<void> {
    finding.state = 'storing';
    try {
      const { clusterId, epoch, message } = finding;
      const isNews = await recordFinding(context.store, context.leader, { clusterId, epoch, message });
      finding.state = 'stored';
      if (isNews) await emit(context, 'cluster.durability', cluster, message, { data: { epoch } });
    } catch (error) {
      finding.state = 'new';
      context.log.warn({ err: error }, 'a finding of the durability audit was not stored');
    }
  }

  return {
    async load() {
      for (const finding of await listFindings(context.store))
        findings.set(finding.clusterId, { ...finding, state: 'stored' });
    },
    look(view) {
      const { cluster } = view;
      if ((findings.get(cluster.id)?.epoch ?? cluster.epoch) !== cluster.epoch) findings.delete(cluster.id);
      inspect(view);
      const finding = findings.get(cluster.id);
      if (finding?.state === 'new') void keep(finding, cluster);
    },
    finding: (clusterId) => findings.get(clusterId)?.message ?? null,
  };

  function inspect(view: ClusterView): void {
    const { cluster } = view;
    const primary = primaryOf(view);
    const { status, launch } = primary ?? {};
    if (!status?.isWritable || !launch || status.epoch !== cluster.epoch || !cluster.rule || cluster.rule.k === 0) {
      baselines.delete(cluster.id);
      strangersSince.delete(cluster.id);
      return;
    }
    const baseline = baselines.get(cluster.id);
    const { noTx } = status.semiSync;
    if (baseline?.epoch !== cluster.epoch || baseline.taskId !== launch.taskId || !status.semiSync.isSource) {
      // Another primary, or the same one started again: it counts from the beginning.
      strangersSince.delete(cluster.id);
      baselines.set(cluster.id, { epoch: cluster.epoch, taskId: launch.taskId, noTx, at: status.at });
    } else if (noTx > baseline.noTx) {
      const span = `between ${new Date(baseline.at).toISOString()} and ${new Date(status.at).toISOString()}`;
      report(view, `${noTx - baseline.noTx} transactions were committed without acknowledgement ${span}`);
    } else {
      baselines.set(cluster.id, { ...baseline, at: status.at });
    }
    const strangers = findStrangers(view, status);
    if (strangers.length === 0) strangersSince.delete(cluster.id);
    const since = strangers.length > 0 ? (strangersSince.get(cluster.id) ?? status.at) : status.at;
    if (strangers.length > 0) strangersSince.set(cluster.id, since);
    if (status.at - since < strangerMs) return;
    const span = `between ${new Date(since).toISOString()} and ${new Date(status.at).toISOString()}`;
    report(view, `${strangers.join(', ')} acknowledged and are no voters, ${span}`);
  }
}

/** server_uuids that hold a semi-sync dump thread and belong to no voter of the rule. */
function findStrangers({ cluster, members }: ClusterView, { semiSync }: Status): string[] {
  const voters = members.filter(({ ordinal }) => cluster.rule?.voters.some((voter) => voter.ordinal === ordinal));
  const uuids = new Set(voters.map(({ status, member }) => status?.serverUuid ?? member.serverUuid));
  return (semiSync.acknowledgers ?? []).filter((uuid) => !uuids.has(uuid));
}
