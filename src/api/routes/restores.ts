/** Leading a cluster back in place to a state of its past. */
import type { z } from 'zod';
import type { Until } from '../../cluster/recovery.ts';
import { lostOf, type RestorePlan } from '../../cluster/restore-plan.ts';
import { Refusal } from '../../errors.ts';
import { getRestore, listRestores, openRestore } from '../../store/restores.ts';
import type { ClusterRow, RestoreRow } from '../../store/rows.ts';
import { readUntil } from '../copy-origin.ts';
import type { ApiDeps, App } from '../deps.ts';
import { checkOwner, getClusterNamed, getClusterToChange } from '../lookups.ts';
import { restoreBody, restoreList, restorePlanView, restoreView } from '../restore-schemas.ts';
import * as schemas from '../schemas.ts';
import { progressOf } from '../views.ts';

type Planned = Extract<RestorePlan, { kind: 'planned' }>;

export function addRestoreRoutes(app: App, deps: ApiDeps): void {
  const { store } = deps;
  app.route({
    method: 'POST',
    url: '/v1/clusters/:name/restore',
    schema: {
      tags: ['backups'],
      summary: 'Lead the cluster back, in place, to a state of its past; ?dryRun=true only plans it',
      params: schemas.clusterParams,
      body: restoreBody,
      querystring: schemas.createQuery,
      response: { 200: restorePlanView, 202: restoreView },
    },
    handler: async (request, reply) => {
      const cluster = await getClusterToChange(store, request.params.name);
      const { plan, until } = await planFor(deps, cluster, request.body);
      if (request.query.dryRun) return reply.code(200).send(planView(cluster, plan, until));
      requireConfirm(cluster, request.body.confirm);
      const { id, ordinal, bytes, gtidSet, endedAt } = plan.backup;
      const row = await openRestore(store, {
        id: deps.newId(),
        clusterId: cluster.id,
        requestedBy: request.requestedBy,
        origin: {
          clusterId: cluster.id,
          cluster: cluster.name,
          backup: { id, ordinal, bytes, gtidSet, endedAt },
          until,
          within: plan.within,
          maxBytesPerSec: request.body.maxBytesPerSec ?? null,
        },
        ordinal: plan.ordinal,
        incarnation: deps.newId(),
        serverUuid: deps.newId(),
        safetyBackupId: deps.newId(),
        isForced: request.body.withoutSafetyBackup ?? false,
      });
      request.log.info({ cluster: cluster.name, restore: row.id, by: request.requestedBy }, 'restore asked for');
      deps.wake(cluster.id);
      void reply.header('location', `/v1/clusters/${cluster.name}/restores/${row.id}`);
      return reply.code(202).send(viewOf(deps, row, cluster.name));
    },
  });
  addRestoreReads(app, deps);
}

function addRestoreReads(app: App, deps: ApiDeps): void {
  const { store } = deps;
  app.route({
    method: 'GET',
    url: '/v1/clusters/:name/restores',
    schema: {
      tags: ['backups'],
      summary: 'All restores in place, newest first, with each step and its time',
      params: schemas.clusterParams,
      querystring: schemas.noQuery,
      response: { 200: restoreList },
    },
    handler: async (request) => {
      const cluster = await getClusterNamed(store, request.params.name);
      return { restores: (await listRestores(store, cluster.id)).map((row) => viewOf(deps, row, cluster.name)) };
    },
  });
  app.route({
    method: 'GET',
    url: '/v1/clusters/:name/restores/:id',
    schema: {
      tags: ['backups'],
      summary: 'One restore in place',
      params: schemas.operationParams,
      querystring: schemas.noQuery,
      response: { 200: restoreView },
    },
    handler: async (request) => {
      const cluster = await getClusterNamed(store, request.params.name);
      const row = await getRestore(store, request.params.id);
      checkOwner(row, cluster);
      return viewOf(deps, row, cluster.name);
    },
  });
}

async function planFor(
  deps: ApiDeps,
  cluster: ClusterRow,
  body: z.output<typeof restoreBody>,
): Promise<{ readonly plan: Planned; readonly until: Until }> {
  const until = readUntil(body, deps.clock.now(), '');
  const left = (await listRestores(deps.store, cluster.id))
    .filter(({ state }) => state === 'done')
    .flatMap(({ facts }) => (facts.held ? [facts.held] : []));
  const plan = deps.live.planRestore(cluster.id, { until, backupId: body.backup, left });
  if (!plan) throw new Refusal('NO_PRIMARY', `What ${cluster.name} has acknowledged is not known now.`);
  if (plan.kind === 'refused') {
    throw new Refusal(plan.code, `${cluster.name}: ${plan.message}.`, plan.missing ? { missing: plan.missing } : {});
  }
  return { plan, until };
}

function requireConfirm({ name }: ClusterRow, confirm: string | undefined): void {
  if (confirm === name) return;
  const message = `What was committed later is left behind. To go on, send confirm: ${JSON.stringify(name)}.`;
  throw new Refusal('CONFIRM_NEEDED', message, { confirm: name });
}

function planView({ name }: ClusterRow, plan: Planned, until: Until): z.output<typeof restorePlanView> {
  const { backup, ordinal, spans, lost, isLostExact, estimateMs } = plan;
  const archives = spans.map(({ ordinal: member, serverUuid, gtidSet, lastAt }) => ({
    member,
    serverUuid,
    gtidSet,
    lastAt,
  }));
  return {
    cluster: name,
    backup: backup.id,
    holder: backup.ordinal,
    member: ordinal,
    until,
    archives,
    lost,
    isLostExact,
    estimateMs,
  };
}

function viewOf(deps: ApiDeps, row: RestoreRow, cluster: string): z.output<typeof restoreView> {
  const { origin, facts, ordinal, id, clusterId } = row;
  const { state, requestedBy, fromEpoch, steps, attempts, code, message, startedAt, endedAt } = row;
  // Each try has a name of its own.
  return {
    ...{ id, cluster, state, requestedBy, fromEpoch, attempts, code, message, startedAt, endedAt },
    ...{ backup: origin.backup.id, holder: origin.backup.ordinal, member: ordinal, until: origin.until },
    safetyBackup: facts.safety?.backup ?? null,
    lost: facts.held === undefined || facts.gtidSet === undefined ? null : lostOf(facts.held, facts.gtidSet),
    steps: [...steps],
    progress: state === 'open' ? progressOf(deps, clusterId, ordinal, `restore.${id}`) : null,
  };
}
