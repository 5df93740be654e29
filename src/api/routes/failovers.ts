import { Refusal } from '../../errors.ts';
import { getFailover, listFailovers, openFailover } from '../../store/failovers.ts';
import { listMembers } from '../../store/members.ts';
import type { ClusterRow } from '../../store/rows.ts';
import type { ApiDeps, App } from '../deps.ts';
import { checkOwner, getClusterNamed, getClusterToChange } from '../lookups.ts';
import { BadRequest } from '../problems.ts';
import * as schemas from '../schemas.ts';
import { failoverView } from '../views.ts';

export function addFailoverRoutes(app: App, deps: ApiDeps): void {
  const { store } = deps;
  app.route({
    method: 'POST',
    url: '/v1/clusters/:name/failovers',
    schema: {
      tags: ['failovers'],
      summary:
        'Change the primary: failover (dead or given up) or switchover (it hands over); ?dryRun=true only plans it',
      params: schemas.clusterParams,
      body: schemas.failoverBody,
      querystring: schemas.createQuery,
      response: { 200: schemas.planView, 202: schemas.failoverView },
    },
    handler: async (request, reply) => {
      const cluster = await getClusterToChange(store, request.params.name);
      const { kind, candidate, ifPrimary, ifEpoch, reason, acceptDataLoss, force, maxPauseMs } = request.body;
      await checkCandidate(deps, cluster, candidate);
      const acceptedLoss = acceptDataLoss?.statement;
      if (request.query.dryRun) {
        const plan = deps.live.plan(cluster.id, { kind, candidate, force, acceptedLoss, maxPauseMs });
        if (!plan) throw new Refusal('NOT_CONNECTED', 'The controller has not looked at the cluster yet.');
        return reply.code(200).send({ ...plan, warnings: [...plan.warnings], steps: [...plan.steps] });
      }
      const row = await openFailover(store, {
        id: deps.newId(),
        clusterId: cluster.id,
        kind,
        reason,
        requestedBy: request.requestedBy,
        candidate: candidate ?? null,
        options: { force, acceptedLoss, maxPauseMs },
        ...(ifPrimary === undefined ? {} : { ifPrimary }),
        ...(ifEpoch === undefined ? {} : { ifEpoch }),
      });
      request.log.info(
        { cluster: cluster.name, failover: row.id, kind, by: request.requestedBy },
        'failover asked for',
      );
      deps.wake(cluster.id);
      void reply.header('location', `/v1/clusters/${cluster.name}/failovers/${row.id}`);
      return reply.code(202).send(failoverView(row, cluster.name));
    },
  });

  addFailoverReads(app, deps);
}

function addFailoverReads(app: App, { store }: ApiDeps): void {
  app.route({
    method: 'GET',
    url: '/v1/clusters/:name/failovers',
    schema: {
      tags: ['failovers'],
      summary: 'All changes of the primary, newest first, with each step and its time',
      params: schemas.clusterParams,
      querystring: schemas.noQuery,
      response: { 200: schemas.failoverList },
    },
    handler: async (request) => {
      const cluster = await getClusterNamed(store, request.params.name);
      const rows = await listFailovers(store, cluster.id);
      return { failovers: rows.map((row) => failoverView(row, cluster.name)) };
    },
  });

  app.route({
    method: 'GET',
    url: '/v1/clusters/:name/failovers/:id',
    schema: {
      tags: ['failovers'],
      summary: 'One change of the primary',
      params: schemas.operationParams,
      querystring: schemas.noQuery,
      response: { 200: schemas.failoverView },
    },
    handler: async (request) => {
      const cluster = await getClusterNamed(store, request.params.name);
      const row = await getFailover(store, request.params.id);
      checkOwner(row, cluster);
      return failoverView(row, cluster.name);
    },
  });
}

async function checkCandidate({ store }: ApiDeps, cluster: ClusterRow, candidate: number | undefined): Promise<void> {
  if (cluster.primary === null) throw new Refusal('NO_PRIMARY', `Cluster ${cluster.name} has no primary yet.`);
  if (candidate === undefined) return;
  const fault = (message: string) => new BadRequest([{ path: 'candidate', message }]);
  const members = await listMembers(store, cluster.id);
  if (!members.some((member) => member.ordinal === candidate)) throw fault(`the cluster has no member ${candidate}`);
  if (candidate === cluster.primary) throw fault(`member ${candidate} is the primary already`);
}
