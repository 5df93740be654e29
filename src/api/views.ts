/** Rows and the controller's memory as the API shows them. */
import { specWarnings } from '../cluster/spec.ts';
import { replicaVoters } from '../cluster/voters.ts';
import { findBundle } from '../store/bundles.ts';
import { readClusterSecrets } from '../store/clusters.ts';
import { listMembers } from '../store/members.ts';
import type {
  BackupRow,
  BundleRow,
  ClusterRow,
  FailoverRow,
  MemberRow,
  RebuildRow,
  VerificationRow,
} from '../store/rows.ts';
import type { ApiDeps } from './deps.ts';
import type { LiveMember, LiveState, LiveWork } from './live.ts';
import { retainedView } from './retained.ts';
import type { ClusterView, EndpointsView, MemberView } from './schemas.ts';

export async function clusterSummary(deps: ApiDeps, row: ClusterRow) {
  const { state, conditions } = stateOf(deps, row);
  const { id, name, epoch, primary, createdAt, deletedAt, spec } = row;
  const warnings = specWarnings(spec);
  const { rule, cooldownUntil, servicePort } = row;
  return {
    id,
    origin: originView(row),
    name,
    state,
    conditions: [...conditions],
    epoch,
    primary,
    createdAt,
    deletedAt,
    retained: await retainedView(deps, row),
    spec,
    warnings,
    automation: { mode: row.automation, until: row.automationUntil },
    cooldownUntil,
    preferences: row.preferences,
    servicePort,
    durability: rule && {
      acknowledgements: rule.k,
      voters: rule.voters.map(({ ordinal }) => ordinal),
      flushing: replicaVoters(rule).flatMap(({ ordinal, bootId }) => (bootId === undefined ? [ordinal] : [])),
      version: rule.version,
      waitingFor: [...deps.live.voterWaits(row.id)],
    },
    rehearsal: row.desired === 'present' ? deps.live.rehearsal(row.id) : null,
  };
}

function originView({ origin }: ClusterRow) {
  if (!origin) return null;
  const { clusterId, cluster, backup, until } = origin;
  return { cluster, clusterId, backup: backup.id, member: backup.ordinal, until };
}

/** Before the controller has looked at a cluster its row says as much as is known. */
function stateOf({ live }: ApiDeps, row: ClusterRow): LiveState {
  if (row.deletedAt !== null) return { state: 'deleted', conditions: [] };
  const known = live.state(row.id);
  if (known) return known;
  const states = {
    present: 'creating',
    retained: row.retained?.downAt === undefined ? 'retaining' : 'retained',
  } as const;
  return { state: row.desired === 'deleted' ? 'deleting' : states[row.desired], conditions: [] };
}

export async function clusterView(deps: ApiDeps, row: ClusterRow): Promise<ClusterView> {
  const members: MemberView[] = [];
  for (const member of await listMembers(deps.store, row.id)) {
    const bundle = member.bundleId === null ? null : await findBundle(deps.store, member.bundleId);
    members.push(memberView({ row, member, bundle, live: deps.live.member(row.id, member.ordinal) }));
  }
  return { ...(await clusterSummary(deps, row)), members };
}

interface MemberParts {
  readonly row: ClusterRow;
  readonly member: MemberRow;
  readonly bundle: BundleRow | null;
  readonly live: LiveMember | null;
}

function memberView({ row, member, bundle, live }: MemberParts): MemberView {
  return {
    ordinal: member.ordinal,
    role: roleOf(row, member, live),
    phase: member.phase,
    instance: live?.instance ?? 'unknown',
    taskState: live?.taskState ?? null,
    isWritable: live?.isWritable ?? false,
    agentId: bundle?.agentId ?? null,
    hostname: bundle?.hostname ?? null,
    host: bundle?.ip ?? null,
    port: bundle?.bundle.ports.mysql ?? null,
    healthPort: bundle?.bundle.ports.health ?? null,
    gtidExecuted: live?.gtidExecuted ?? null,
    lagMs: live?.lagMs ?? null,
    volumes: { data: live?.volumes.data ?? null, backup: live?.volumes.backup ?? null },
    failures: member.failures,
    retryAt: member.retryAt,
    message: live?.message ?? null,
    copy: live?.work?.isRunning && live.work.commandId.startsWith('copy.') ? toProgress(live.work) : null,
  };
}

function roleOf(row: ClusterRow, member: MemberRow, live: LiveMember | null): MemberView['role'] {
  if (row.primary === member.ordinal) return 'primary';
  return row.primary !== null && live?.instance === 'running' ? 'replica' : 'none';
}

/** The primary is announced once it was seen writable in its epoch; replicas while they run. */
export async function endpointsView(deps: ApiDeps, row: ClusterRow): Promise<EndpointsView> {
  let primary: EndpointsView['primary'] = null;
  const replicas: EndpointsView['replicas'] = [];
  // Nobody is led to one that has ended, or is about to.
  const members = row.desired === 'retained' ? [] : await listMembers(deps.store, row.id);
  for (const member of members) {
    const bundle = member.bundleId === null ? null : await findBundle(deps.store, member.bundleId);
    if (!bundle) continue;
    const { ordinal } = member;
    const live = deps.live.member(row.id, ordinal);
    const { mysql: port, health: healthPort } = bundle.bundle.ports;
    const endpoint = { ordinal, host: bundle.ip, port, healthPort };
    const role = roleOf(row, member, live);
    if (role === 'primary' && row.activatedAt !== null) primary = endpoint;
    if (role === 'replica') replicas.push({ ...endpoint, lagMs: live?.lagMs ?? null });
  }
  const { caCertPem } = await readClusterSecrets(deps.store, row.id);
  return { cluster: row.name, epoch: row.epoch, primary, replicas, caCertPem };
}

export function failoverView(row: FailoverRow, cluster: string) {
  const { clusterId: _, facts, steps, ...rest } = row;
  return { ...rest, cluster, fence: facts.fence ?? null, steps: [...steps] };
}

export function backupView(deps: Pick<ApiDeps, 'live'>, { clusterId, ordinal, ...rest }: BackupRow, cluster: string) {
  const progress = progressOf(deps, clusterId, ordinal, `backup.${rest.id}`);
  return { ...rest, cluster, member: ordinal, isBad: rest.badReason !== null, progress };
}

export function verificationView(
  deps: Pick<ApiDeps, 'live'>,
  { clusterId, ordinal, backupId, ...rest }: VerificationRow,
  cluster: string,
) {
  const progress = progressOf(deps, clusterId, ordinal, `verify.${rest.id}`);
  return { ...rest, cluster, member: ordinal, backup: backupId, progress };
}

/** While its executor works on it. Tries are counted behind the name: `rebuild.ID.2`. */
export function progressOf({ live }: Pick<ApiDeps, 'live'>, clusterId: string, ordinal: number, name: string) {
  const work = live.member(clusterId, ordinal)?.work;
  const isIts = work?.commandId === name || work?.commandId.startsWith(`${name}.`);
  return work?.isRunning && isIts ? toProgress(work) : null;
}

function toProgress({ step, doneBytes, totalBytes, percent, etaMs }: LiveWork) {
  return { step, doneBytes, totalBytes, percent, etaMs };
}

export function rebuildView(deps: Pick<ApiDeps, 'live'>, { clusterId, ordinal, ...rest }: RebuildRow, cluster: string) {
  return { ...rest, cluster, member: ordinal, progress: progressOf(deps, clusterId, ordinal, `rebuild.${rest.id}`) };
}

export function reservationView(row: BundleRow, cluster: string) {
  const { ip, ordinal, bundle, resources: _, ...rest } = row;
  const volumes = [
    { kind: 'data' as const, ...bundle.data },
    ...(bundle.backup ? [{ kind: 'backup' as const, ...bundle.backup }] : []),
  ];
  return {
    ...rest,
    cluster,
    member: ordinal,
    host: ip,
    cpus: bundle.cpus,
    memMb: bundle.memMb,
    ports: bundle.ports,
    volumes,
  };
}
