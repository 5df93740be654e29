/**
 * Durability audit (guarantee 1 watched from outside): within an epoch with k > 0 no commit may have gone through
 * without its acknowledgements (Rpl_semi_sync_source_no_tx must not grow), and nobody but a voter may acknowledge.
 */
import type { Status } from '../channel/protocol.ts';
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
  look(view: ClusterView): void;
  /** A sentence with the time span; null when all holds. Kept until the epoch ends. */
  finding(clusterId: string): string | null;
}

export function createAudits(context: Context): Audits {
  const baselines = new Map<string, Baseline>();
  const strangersSince = new Map<string, number>();
  const findings = new Map<string, { readonly epoch: number; readonly text: string }>();

  function report(view: ClusterView, text: string): void {
    const { cluster } = view;
    if (findings.get(cluster.id)?.epoch === cluster.epoch) return;
    findings.set(cluster.id, { epoch: cluster.epoch, text });
    void emit(context, 'cluster.durability', cluster, text, { data: { epoch: cluster.epoch } });
  }

  return {
    look(view) {
      const { cluster } = view;
      if ((findings.get(cluster.id)?.epoch ?? cluster.epoch) !== cluster.epoch) findings.delete(cluster.id);
      const primary = primaryOf(view);
      const { status, launch } = primary ?? {};
      if (!status?.isWritable || !launch || status.epoch !== cluster.epoch || !cluster.rule || cluster.rule.k === 0) {
        baselines.delete(cluster.id);
        return;
      }
      const baseline = baselines.get(cluster.id);
      const { noTx } = status.semiSync;
      if (baseline?.epoch !== cluster.epoch || baseline.taskId !== launch.taskId || !status.semiSync.isSource) {
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
    },
    finding: (clusterId) => findings.get(clusterId)?.text ?? null,
  };
}

/** server_uuids that hold a semi-sync dump thread and belong to no voter of the rule. */
function findStrangers({ cluster, members }: ClusterView, { semiSync }: Status): string[] {
  const voters = members.filter(({ ordinal }) => cluster.rule?.voters.some((voter) => voter.ordinal === ordinal));
  const uuids = new Set(voters.map(({ status, member }) => status?.serverUuid ?? member.serverUuid));
  return (semiSync.acknowledgers ?? []).filter((uuid) => !uuids.has(uuid));
}
