/** `GET /metrics` in Prometheus' text format, from the controller's memory. */
import { conditionTypes } from '../cluster/state.ts';
import type { Condition } from '../cluster/types.ts';
import type { Controller } from '../controller/controller.ts';
import { isRunning } from '../controller/gather.ts';
import { type Rehearsal, rehearse } from '../controller/plan.ts';

type Sample = readonly [labels: Record<string, string>, value: number];

export function createMetrics(options: {
  readonly controller: Controller;
  readonly now: () => number;
  readonly conditions: (clusterId: string) => readonly Condition[];
}): () => string {
  const { controller, now } = options;
  const startedAt = now();
  return () => {
    const views = controller.views().filter(({ cluster }) => cluster.deletedAt === null);
    const members = views.flatMap(({ cluster, members }) =>
      members.map((member) => ({ member, labels: { cluster: cluster.name, member: String(member.ordinal) } })),
    );
    const each = (value: (member: (typeof members)[number]['member']) => number | null): Sample[] =>
      members.flatMap(({ member, labels }) => {
        const found = value(member);
        return found === null ? [] : [[labels, found] as const];
      });
    const outlook = (value: (rehearsal: Rehearsal) => number | null): Sample[] =>
      views.flatMap((view) => {
        const rehearsal = rehearse(view);
        const found = rehearsal && value(rehearsal);
        return found === null ? [] : [[{ cluster: view.cluster.name }, found] as const];
      });
    return [
      metric('selvedge_up_seconds', 'gauge', 'Seconds since this process leads.', [[{}, (now() - startedAt) / 1000]]),
      metric('selvedge_mesos_connected', 'gauge', '1 while subscribed to a Mesos master.', [
        [{}, controller.isConnected() ? 1 : 0],
      ]),
      metric(
        'selvedge_cluster_epoch',
        'gauge',
        'Rises by one with every new primary.',
        views.map(({ cluster }) => [{ cluster: cluster.name }, cluster.epoch]),
      ),
      metric(
        'selvedge_cluster_condition',
        'gauge',
        '1 while the condition holds.',
        views.flatMap(({ cluster }) => conditionSamples(cluster, options.conditions(cluster.id))),
      ),
      metric(
        'selvedge_member_running',
        'gauge',
        '1 while mysqld of the member runs.',
        each((member) => (isRunning(member) ? 1 : 0)),
      ),
      metric(
        'selvedge_member_writable',
        'gauge',
        '1 on the member that takes writes.',
        each((member) => (member.status?.isWritable ? 1 : 0)),
      ),
      metric(
        'selvedge_member_lag_seconds',
        'gauge',
        'Age of the newest heartbeat applied.',
        each((member) => (member.status?.lagMs == null ? null : member.status.lagMs / 1000)),
      ),
      metric(
        'selvedge_member_data_used_megabytes',
        'gauge',
        'Used on the data volume.',
        each((member) => member.status?.volumes.data.usedMb ?? null),
      ),
      metric(
        'selvedge_member_backup_used_megabytes',
        'gauge',
        'Used on the backup volume.',
        each((member) => member.status?.volumes.backup?.usedMb ?? null),
      ),
      metric(
        'selvedge_archive_rpo_seconds',
        'gauge',
        'Age of the oldest acknowledged transaction that is in no archive.',
        views.flatMap(({ cluster }) => {
          const window = controller.archives.window(cluster.id);
          return window ? [[{ cluster: cluster.name }, window.rpoMs / 1000] as const] : [];
        }),
      ),
      metric(
        'selvedge_archive_pending_bytes',
        'gauge',
        "Of the member's binary logs, not durable in its archive yet.",
        each((member) => member.status?.archive?.pendingBytes ?? null),
      ),
      metric(
        'selvedge_archive_bytes',
        'gauge',
        'Of archived binary logs on the backup volume.',
        each((member) => member.status?.archive?.bytes ?? null),
      ),
      metric(
        'selvedge_failover_ready',
        'gauge',
        '1 while somebody would follow if the primary died now.',
        outlook((rehearsal) => (rehearsal.refusal ? 0 : 1)),
      ),
      metric(
        'selvedge_failover_predicted_seconds',
        'gauge',
        'Estimate of a failover that began now.',
        outlook((rehearsal) => (rehearsal.predictedMs === null ? null : rehearsal.predictedMs / 1000)),
      ),
      metric(
        'selvedge_failover_could_lose',
        'gauge',
        'Transactions that a failover could lose now.',
        outlook((rehearsal) => rehearsal.couldLose),
      ),
      metric('selvedge_orphans', 'gauge', 'Reservations with our label and no row.', [
        [{}, controller.orphans().length],
      ]),
    ].join('');
  };
}

/** All of them, also those that do not hold: an alert can then tell 0 from nothing known. */
function conditionSamples({ name }: { readonly name: string }, conditions: readonly Condition[]): Sample[] {
  const holds = new Set(conditions.map(({ type }) => type));
  return conditionTypes.map((condition) => [{ cluster: name, condition }, holds.has(condition) ? 1 : 0]);
}

function metric(name: string, type: string, help: string, samples: readonly Sample[]): string {
  const lines = samples.map(([labels, value]) => {
    const text = Object.entries(labels).map(([key, text]) => `${key}=${JSON.stringify(text)}`);
    return `${name}${text.length > 0 ? `{${text.join(',')}}` : ''} ${value}\n`;
  });
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join('')}`;
}
