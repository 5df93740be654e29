import { Refusal } from '../../errors.ts';
import { getMember } from '../../store/members.ts';
import { getRebuild, listRebuilds, openRebuild } from '../../store/rebuilds.ts';
import { openReplacement } from '../../store/replacements.ts';
import type { ApiDeps, App } from '../deps.ts';
import { checkOwner, getClusterNamed, getClusterToChange } from '../lookups.ts';
import * as schemas from '../schemas.ts';
import { rebuildView } from '../views.ts';

export function addMemberRoutes(app: App, deps: ApiDeps): void {
  const { store } = deps;
  app.route({
    method: 'POST',
    url: '/v1/clusters/:name/members/:ordinal/rebuild',
    schema: {
      tags: ['members'],
      summary: "Fill the member's data volume anew, from its own backup volume or from another member",
      params: schemas.memberParams,
      body: schemas.rebuildBody.nullish(),
      querystring: schemas.noQuery,
      response: { 202: schemas.rebuildView },
    },
    handler: async (request, reply) => {
      const cluster = await getClusterToChange(store, request.params.name);
      const { ordinal } = await getMember(store, cluster.id, request.params.ordinal);
      if (cluster.primary === null) throw new Refusal('NO_PRIMARY', `Cluster ${cluster.name} has no primary yet.`);
      // The controller checks again before it touches anything: the primary may be another by then.
      if (cluster.primary === ordinal)
        throw new Refusal('IS_PRIMARY', `Member ${ordinal} is the primary: its data is the cluster's.`);
      const row = await openRebuild(store, {
        id: deps.newId(),
        clusterId: cluster.id,
        ordinal,
        reason: request.body?.reason ?? 'asked for',
        requestedBy: request.requestedBy,
        incarnation: deps.newId(),
        serverUuid: deps.newId(),
        isForced: request.body?.force ?? false,
      });
      deps.wake(cluster.id);
      void reply.header('location', `/v1/clusters/${cluster.name}/rebuilds/${row.id}`);
      return reply.code(202).send(rebuildView(deps, row, cluster.name));
    },
  });

  app.route({
    method: 'POST',
    url: '/v1/clusters/:name/members/:ordinal/restart',
    schema: { tags: ['members'], summary: 'Not supported yet', params: schemas.memberParams },
    handler: async (request) => {
      const cluster = await getClusterToChange(store, request.params.name);
      await getMember(store, cluster.id, request.params.ordinal);
      throw new Refusal('NOT_SUPPORTED', 'A member cannot be restarted by a request yet.');
    },
  });

  addReplacement(app, deps);
  addRebuildReads(app, deps);
}

function addReplacement(app: App, { store, wake }: ApiDeps): void {
  app.route({
    method: 'POST',
    url: '/v1/clusters/:name/members/:ordinal/replace-volume',
    schema: {
      tags: ['members'],
      summary: "Say that a replica's backup volume is gone for good: another one is made on its agent and filled",
      params: schemas.memberParams,
      body: schemas.replacementBody,
      querystring: schemas.noQuery,
      response: { 202: schemas.replacementView },
    },
    handler: async (request, reply) => {
      const cluster = await getClusterToChange(store, request.params.name);
      const { ordinal } = request.params;
      const { volume, reason = 'asked for' } = request.body;
      const about = { clusterId: cluster.id, ordinal, requestedBy: request.requestedBy, reason };
      const { requestedBy, at } = await openReplacement(store, about);
      wake(cluster.id);
      return reply.code(202).send({ cluster: cluster.name, member: ordinal, volume, requestedBy, at });
    },
  });
}

function addRebuildReads(app: App, deps: ApiDeps): void {
  const { store } = deps;
  app.route({
    method: 'GET',
    url: '/v1/clusters/:name/rebuilds',
    schema: {
      tags: ['members'],
      summary: 'All rebuilds, newest first',
      params: schemas.clusterParams,
      querystring: schemas.noQuery,
      response: { 200: schemas.rebuildList },
    },
    handler: async (request) => {
      const cluster = await getClusterNamed(store, request.params.name);
      return { rebuilds: (await listRebuilds(store, cluster.id)).map((row) => rebuildView(deps, row, cluster.name)) };
    },
  });

  app.route({
    method: 'GET',
    url: '/v1/clusters/:name/rebuilds/:id',
    schema: {
      tags: ['members'],
      summary: 'One rebuild',
      params: schemas.operationParams,
      querystring: schemas.noQuery,
      response: { 200: schemas.rebuildView },
    },
    handler: async (request) => {
      const cluster = await getClusterNamed(store, request.params.name);
      const row = await getRebuild(store, request.params.id);
      checkOwner(row, cluster);
      return rebuildView(deps, row, cluster.name);
    },
  });
}
