import { Refusal } from '../../errors.ts';
import { purgeCluster } from '../../store/retained.ts';
import type { ApiDeps, App } from '../deps.ts';
import { getClusterNamed } from '../lookups.ts';
import * as schemas from '../schemas.ts';
import { clusterView } from '../views.ts';

export function addRetainedRoutes(app: App, deps: ApiDeps): void {
  app.route({
    method: 'POST',
    url: '/v1/clusters/:name/purge',
    config: { role: 'team' },
    schema: {
      tags: ['clusters'],
      summary: 'Destroy the retained volumes of a deleted cluster and give back what is reserved; may be repeated',
      params: schemas.clusterParams,
      querystring: schemas.noQuery,
      body: schemas.purgeBody,
      response: { 202: schemas.clusterView },
    },
    handler: async (request, reply) => {
      const row = await getClusterNamed(deps.store, request.params.name);
      if (request.body.confirm !== row.name) {
        const message = `All data and backups of ${row.name} will be gone. To go on, send confirm: "${row.name}".`;
        throw new Refusal('CONFIRM_NEEDED', message, { confirm: row.name });
      }
      const marked = await purgeCluster(deps.store, row.id, request.requestedBy);
      request.log.info({ cluster: row.name, clusterId: row.id, by: request.requestedBy }, 'purge cluster');
      deps.wake(row.id);
      return reply.code(202).send(await clusterView(deps, marked));
    },
  });
}
