/** When a cluster is backed up and what is kept; verifying and removing one backup. */
import { findNextRun, findScheduleFault } from '../../cluster/schedule.ts';
import { Refusal } from '../../errors.ts';
import { getBackup, openRemoval } from '../../store/backups.ts';
import { setBackupPolicy } from '../../store/clusters.ts';
import { addEvent } from '../../store/events.ts';
import type { ClusterRow } from '../../store/rows.ts';
import { getVerification, listNewestVerifications, openVerification } from '../../store/verifications.ts';
import {
  type PolicyView,
  policyBody,
  policyView,
  removalQuery,
  verificationList,
  verificationView,
} from '../backup-schemas.ts';
import type { ApiDeps, App } from '../deps.ts';
import { checkOwner, getClusterNamed, getClusterToChange } from '../lookups.ts';
import { BadRequest } from '../problems.ts';
import * as schemas from '../schemas.ts';
import { backupView, verificationView as viewOf } from '../views.ts';

export function addBackupPolicyRoutes(app: App, deps: ApiDeps): void {
  const { store } = deps;
  const url = '/v1/clusters/:name/backup-policy';
  app.route({
    method: 'GET',
    url,
    schema: {
      tags: ['backups'],
      summary: 'When the cluster is backed up, what is kept, and when the next run is due',
      params: schemas.clusterParams,
      querystring: schemas.noQuery,
      response: { 200: policyView },
    },
    handler: async (request) => showPolicy(deps, await getClusterNamed(store, request.params.name)),
  });

  app.route({
    method: 'PUT',
    url,
    config: { role: 'team' },
    schema: {
      tags: ['backups'],
      summary: 'Change it; what is left out stays as it is',
      params: schemas.clusterParams,
      querystring: schemas.noQuery,
      body: policyBody,
      response: { 200: policyView },
    },
    handler: async (request) => {
      const cluster = await getClusterToChange(store, request.params.name);
      const { archive, ...body } = request.body;
      const given = Object.fromEntries(Object.entries(body).filter(([, value]) => value !== undefined));
      const known = cluster.backupPolicy;
      const policy = { ...known, ...given, archive: { ...known.archive, ...archive } } as typeof known;
      const fault = findScheduleFault(policy, deps.clock.now());
      if (fault !== null) throw new BadRequest([{ path: 'schedule', message: fault }]);
      const changed = await setBackupPolicy(store, cluster.id, policy);
      await addEvent(store, {
        kind: 'cluster.changed',
        clusterId: cluster.id,
        cluster: cluster.name,
        message: `backup policy ${JSON.stringify(request.body)}`,
        data: { by: request.requestedBy, change: { backupPolicy: request.body } },
      });
      deps.wake(cluster.id);
      return showPolicy(deps, changed);
    },
  });
}

function showPolicy({ clock }: ApiDeps, { id, name, backupPolicy, backupPolicyAt }: ClusterRow): PolicyView {
  const nextAt = findNextRun(backupPolicy, id, clock.now());
  return { cluster: name, ...backupPolicy, isDefault: backupPolicyAt === null, nextAt };
}

export function addVerificationRoutes(app: App, deps: ApiDeps): void {
  const { store } = deps;
  app.route({
    method: 'POST',
    url: '/v1/clusters/:name/backups/:id/verify',
    config: { role: 'team' },
    schema: {
      tags: ['backups'],
      summary: 'Compare, start and read a backup; one at a time a cluster',
      params: schemas.operationParams,
      querystring: schemas.noQuery,
      response: { 202: verificationView },
    },
    handler: async (request, reply) => {
      const cluster = await getClusterToChange(store, request.params.name);
      const backup = await getBackup(store, request.params.id);
      checkOwner(backup, cluster);
      const { requestedBy } = request;
      const row = await openVerification(store, { id: deps.newId(), backupId: backup.id, requestedBy });
      deps.wake(cluster.id);
      void reply.header('location', `/v1/clusters/${cluster.name}/verifications/${row.id}`);
      return reply.code(202).send(viewOf(deps, row, cluster.name));
    },
  });

  app.route({
    method: 'GET',
    url: '/v1/clusters/:name/verifications',
    schema: {
      tags: ['backups'],
      summary: 'The newest verifications, newest first',
      params: schemas.clusterParams,
      querystring: schemas.noQuery,
      response: { 200: verificationList },
    },
    handler: async (request) => {
      const cluster = await getClusterNamed(store, request.params.name);
      const rows = await listNewestVerifications(store, cluster.id);
      return { verifications: rows.map((row) => viewOf(deps, row, cluster.name)) };
    },
  });

  app.route({
    method: 'GET',
    url: '/v1/clusters/:name/verifications/:id',
    schema: {
      tags: ['backups'],
      summary: 'One verification',
      params: schemas.operationParams,
      querystring: schemas.noQuery,
      response: { 200: verificationView },
    },
    handler: async (request) => {
      const cluster = await getClusterNamed(store, request.params.name);
      const row = await getVerification(store, request.params.id);
      checkOwner(row, cluster);
      return viewOf(deps, row, cluster.name);
    },
  });

  app.route({
    method: 'DELETE',
    url: '/v1/clusters/:name/backups/:id',
    config: { role: 'team' },
    schema: {
      tags: ['backups'],
      summary: 'Remove a backup from its volume; may be repeated',
      params: schemas.operationParams,
      querystring: removalQuery,
      response: { 202: schemas.backupView },
    },
    handler: async (request, reply) => {
      const cluster = await getClusterToChange(store, request.params.name);
      const backup = await getBackup(store, request.params.id);
      checkOwner(backup, cluster);
      if (backup.state === 'failed') throw new Refusal('NOT_FOUND', `Backup ${backup.id} was never made.`);
      const reason = `asked for by ${request.requestedBy}`;
      const row = await openRemoval(store, { id: backup.id, reason, isForced: request.query.force === 'true' });
      if (backup.state === 'complete') {
        await addEvent(store, {
          kind: 'backup.removing',
          clusterId: cluster.id,
          cluster: cluster.name,
          ordinal: backup.ordinal,
          message: reason,
          data: { backup: backup.id, by: request.requestedBy },
        });
      }
      deps.wake(cluster.id);
      return reply.code(202).send(backupView(deps, row, cluster.name));
    },
  });
}
