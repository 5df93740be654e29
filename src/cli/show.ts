/** Clusters as people read them. */
import type { z } from 'zod';
import type { progress } from '../api/backup-schemas.ts';
import type { ClusterView, EndpointsView, failoverView, planView } from '../api/schemas.ts';
import { clean, fill, table, time } from './tables.ts';

/** `creating: 1 of 3 members run`, with the first condition's words when there is one. */
export function stateLine({ name, state, conditions, members }: ClusterView): string {
  const running = members.filter((member) => member.instance === 'running').length;
  const copying = members.find(({ message }) => message?.startsWith('copy: '))?.message;
  const why = copying ? `; ${copying}` : conditions[0] ? `; ${conditions[0].message}` : '';
  return `${name}: ${state}, ${running} of ${members.length} members run${why}`;
}

export function clusterText(cluster: ClusterView): string {
  const { spec } = cluster;
  const head = table(
    ['CLUSTER', 'STATE', 'PRIMARY', 'EPOCH', 'DURABILITY', 'PORT', 'CREATED', 'ID'],
    [
      [
        cluster.name,
        cluster.state,
        cluster.primary,
        cluster.epoch,
        spec.ackFlush === 'disk' ? `${spec.durability}, disk` : spec.durability,
        cluster.servicePort,
        time(cluster.createdAt),
        cluster.id,
      ],
    ],
  );
  const conditions = cluster.conditions.map(
    ({ type, reason, message, since }) => `${clean(`${type} since ${time(since)}: ${message} (${reason})`)}\n`,
  );
  const members = table(
    ['MEMBER', 'ROLE', 'INSTANCE', 'PHASE', 'ADDRESS', 'AGENT', 'LAG', 'DATA', 'BACKUP', 'GTIDS'],
    cluster.members.map((member) => [
      member.ordinal,
      member.role,
      member.instance,
      member.phase,
      member.host === null ? null : `${member.host}:${member.port}`,
      member.hostname,
      member.lagMs === null ? null : `${member.lagMs} ms`,
      fill(member.volumes.data),
      fill(member.volumes.backup),
      member.gtidExecuted,
    ]),
  );
  const { rehearsal, retained } = cluster;
  const heir = rehearsal
    ? rehearsal.refusal
      ? `nobody follows: ${rehearsal.refusal.message}`
      : `member ${rehearsal.candidate} follows in about ${rehearsal.predictedMs} ms`
    : null;
  const outlook = heir === null ? '' : `${clean(`If the primary died now: ${heir}.`)}\n`;
  const waits = (cluster.durability?.waitingFor ?? []).map((what) => `The voters wait for ${clean(what)}.\n`);
  const messages = cluster.members
    .filter(({ message }) => message)
    .map(({ ordinal, message }) => `member ${ordinal}: ${clean(message ?? '')}\n`);
  return [
    head,
    ...conditions,
    retained ? retainedText(retained) : '',
    outlook,
    ...waits,
    '\n',
    members,
    ...messages,
  ].join('');
}

function retainedText(retained: NonNullable<ClusterView['retained']>): string {
  const { since, requestedBy, volumes, bytesReserved, newestBackup, recoveryWindow } = retained;
  const window =
    recoveryWindow?.from == null
      ? 'no recovery window'
      : `recovery window ${time(recoveryWindow.from)} to ${time(recoveryWindow.to)}`;
  const backup = newestBackup ? `newest backup ${newestBackup.id} on member ${newestBackup.member}` : 'no backup';
  const held = `${volumes} volumes of ${Math.round(bytesReserved / 1048576)} MB, ${backup}, ${window}`;
  return `${clean(`Volumes retained since ${time(since)} by ${requestedBy}: ${held}.`)}\n`;
}

export function endpointsText({ epoch, primary, replicas }: EndpointsView): string {
  return table(
    ['ROLE', 'MEMBER', 'ADDRESS', 'LAG', 'EPOCH'],
    [
      ['primary', primary?.ordinal, primary ? `${primary.host}:${primary.port}` : null, null, epoch],
      ...replicas.map(({ ordinal, host, port, lagMs }) => [
        'replica',
        ordinal,
        `${host}:${port}`,
        lagMs === null ? null : `${lagMs} ms`,
        epoch,
      ]),
    ],
  );
}

export function failoverText(failover: z.output<typeof failoverView>): string {
  const head = table(
    ['ID', 'KIND', 'OUTCOME', 'FROM', 'TO', 'BY', 'REASON'],
    [
      [
        failover.id,
        failover.kind,
        failover.outcome,
        failover.fromPrimary,
        failover.toPrimary,
        failover.requestedBy,
        failover.reason,
      ],
    ],
  );
  const steps = failover.steps.map(({ name, at, detail }) => [`+${at - failover.startedAt} ms`, name, detail]);
  const refusal = failover.refusal ? `${clean(`${failover.refusal.code}: ${failover.refusal.message}`)}\n` : '';
  return head + (steps.length > 0 ? `\n${table(['TIME', 'STEP', 'DETAIL'], steps)}` : '') + refusal;
}

export function planText(plan: z.output<typeof planView>): string {
  const { refusal } = plan;
  if (refusal) {
    const facts = Object.entries(refusal.facts ?? {}).map(
      ([key, value]) => `${clean(`  ${key}: ${JSON.stringify(value)}`)}\n`,
    );
    return [`${clean(`It would be refused. ${refusal.code}: ${refusal.message}`)}\n`, ...facts].join('');
  }
  const head = `Member ${plan.candidate} would become the primary, in about ${plan.predictedMs} ms.\n`;
  const warnings = plan.warnings.map((warning) => `${clean(`Warning: ${warning}`)}\n`);
  return [
    head,
    ...warnings,
    '\n',
    table(
      ['STEP', 'MEMBER', 'WHAT'],
      plan.steps.map(({ name, member, what }) => [name, member, what]),
    ),
  ].join('');
}

/** `, copying, 40 %, 12 s left`: in steps of 5 %, so that waiting says not too many lines. */
export function progressText(seen: z.output<typeof progress> | null): string {
  if (!seen) return '';
  const percent = seen.percent === null ? '' : `, ${Math.floor(seen.percent / 5) * 5} %`;
  const left = seen.etaMs === null ? '' : `, about ${roundSeconds(seen.etaMs)} s left`;
  return `, ${seen.step}${percent}${left}`;
}

/** Coarser the longer it is: the line is said anew whenever it changes. */
function roundSeconds(ms: number): number {
  const seconds = Math.ceil(ms / 1000);
  const step = seconds > 100 ? 30 : 10;
  return Math.ceil(seconds / step) * step;
}
