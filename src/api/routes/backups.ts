import { Refusal } from '../../errors.ts';
import { getBackup, listBackups, openBackup } from '../../store/backups.ts';
import { listMembers } from '../../store/members.ts';
import type { ClusterRow } from '../../store/rows.ts';
import type { ApiDeps, App } from '../deps.ts';
import { checkOwner, getClusterNamed, getClusterToChange } from '../lookups.ts';
import { BadRequest } from '../problems.ts';
import * as schemas from '../schemas.ts';
import { backupView } from '../views.ts';

export function addBackupRoutes(app: App, deps: ApiDeps): void {
  const { store } = deps;
  app.route({
    method: 'POST',
    url: '/v1/clusters/:name/backups',
    config: { role: 'team' },
    schema: {
      tags: ['backups'],
      summary: 'Back one member up onto its own backup volume, a replica when none is named',
      params: schemas.clusterParams,
      body: schemas.backupBody.nullish(),
      querystring: schemas.noQuery,
      response: { 202: schemas.backupView },
    },
    handler: async (request, reply) => {
      const cluster = await getClusterToChange(store, request.params.name);
      if (!cluster.spec.volumes.backup)
        throw new Refusal('NO_BACKUP_VOLUME', `Cluster ${cluster.name} was created without a backup volume.`);
      if (cluster.primary === null) throw new Refusal('NO_PRIMARY', `Cluster ${cluster.name} holds no data yet.`);
      const ordinal = await chooseMember(deps, cluster, request.body?.member);
      const row = await openBackup(store, {
        id: deps.newId(),
        clusterId: cluster.id,
        ordinal,
        requestedBy: request.requestedBy,
      });
      deps.wake(cluster.id);
      void reply.header('location', `/v1/clusters/${cluster.name}/backups/${row.id}`);
      return reply.code(202).send(backupView(deps, row, cluster.name));
    },
  });

  app.route({
    method: 'GET',
    url: '/v1/clusters/:name/backups',
    schema: {
      tags: ['backups'],
      summary: 'All backups, newest first',
      params: schemas.clusterParams,
      querystring: schemas.noQuery,
      response: { 200: schemas.backupList },
    },
    handler: async (request) => {
      const cluster = await getClusterNamed(store, request.params.name);
      return { backups: (await listBackups(store, cluster.id)).map((row) => backupView(deps, row, cluster.name)) };
    },
  });

  app.route({
    method: 'GET',
    url: '/v1/clusters/:name/backups/:id',
    schema: {
      tags: ['backups'],
      summary: 'One backup',
      params: schemas.operationParams,
      querystring: schemas.noQuery,
      response: { 200: schemas.backupView },
    },
    handler: async (request) => {
      const cluster = await getClusterNamed(store, request.params.name);
      const row = await getBackup(store, request.params.id);
      checkOwner(row, cluster);
      return backupView(deps, row, cluster.name);
    },
  });
}

/** A running replica with the least lag; else the primary; a backup costs I/O, which the primary's clients would feel. */
async function chooseMember(deps: ApiDeps, cluster: ClusterRow, asked: number | undefined): Promise<number> {
  const ordinals = (await listMembers(deps.store, cluster.id)).map((member) => member.ordinal);
  if (asked !== undefined) {
    if (ordinals.includes(asked)) return asked;
    throw new BadRequest([{ path: 'member', message: `the cluster has no member ${asked}` }]);
  }
  const replicas = ordinals
    .filter((ordinal) => ordinal !== cluster.primary)
    .map((ordinal) => ({ ordinal, live: deps.live.member(cluster.id, ordinal) }))
    .filter(({ live }) => live?.instance === 'running')
    .sort((one, other) => lagOf(one.live) - lagOf(other.live));
  return replicas[0]?.ordinal ?? cluster.primary ?? 0;
}

function lagOf(live: { readonly lagMs: number | null } | null): number {
  return live?.lagMs ?? Number.MAX_SAFE_INTEGER;
}
