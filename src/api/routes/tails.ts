import { listMembers } from '../../store/members.ts';
import type { ApiDeps, App } from '../deps.ts';
import { getClusterNamed } from '../lookups.ts';
import * as schemas from '../schemas.ts';

/** What was cut off at rejoins: the files stay on the members' volumes, this says where. */
export function addTailRoutes(app: App, { store, live }: ApiDeps): void {
  app.route({
    method: 'GET',
    url: '/v1/clusters/:name/tails',
    schema: {
      tags: ['members'],
      summary:
        'Writes of former primaries that nobody acknowledged and that were cut off, newest first; of members that are reached',
      params: schemas.clusterParams,
      querystring: schemas.noQuery,
      response: { 200: schemas.tailList },
    },
    handler: async (request) => {
      const cluster = await getClusterNamed(store, request.params.name);
      const members = await listMembers(store, cluster.id);
      const tails = members.flatMap(({ ordinal }) =>
        (live.member(cluster.id, ordinal)?.tails ?? []).map((tail) => ({ member: ordinal, ...tail })),
      );
      return { tails: tails.sort((one, other) => other.at - one.at) };
    },
  });
}
