import type { PlacedVolume } from '../../cluster/types.ts';
import { findBundle } from '../../store/bundles.ts';
import { listMembers } from '../../store/members.ts';
import type { BundleRow, MemberRow } from '../../store/rows.ts';
import type { ApiDeps, App } from '../deps.ts';
import type { LiveTail } from '../live.ts';
import { getClusterNamed } from '../lookups.ts';
import * as schemas from '../schemas.ts';

/** What only a member had when it was cut off or filled anew: the files stay on its volumes, this says where. */
export function addTailRoutes(app: App, { store, live }: ApiDeps): void {
  app.route({
    method: 'GET',
    url: '/v1/clusters/:name/tails',
    schema: {
      tags: ['members'],
      summary:
        'Writes that only one member had when they were cut off or it was filled anew, newest first; of members that are reached',
      params: schemas.clusterParams,
      querystring: schemas.noQuery,
      response: { 200: schemas.tailList },
    },
    handler: async (request) => {
      const cluster = await getClusterNamed(store, request.params.name);
      const members = await listMembers(store, cluster.id);
      const tails = await Promise.all(
        members.map(async (member) => {
          const found = live.member(cluster.id, member.ordinal)?.tails ?? [];
          const bundle = found.length > 0 && member.bundleId ? await findBundle(store, member.bundleId) : null;
          return found.map((tail) => tailView(member, bundle, tail));
        }),
      );
      return { tails: tails.flat().sort((one, other) => other.at - one.at) };
    },
  });
}

function tailView({ ordinal }: MemberRow, bundle: BundleRow | null, tail: LiveTail) {
  const { id, gtidSet, bytes, at, transactions = null, reason = 'cut', place = null, files = [] } = tail;
  const volume = place === null ? null : (bundle?.bundle[place] ?? null);
  return {
    ...{ member: ordinal, id, gtidSet, bytes, at, transactions, reason, volume: place },
    hostname: bundle?.hostname ?? null,
    directory: volume && `${rootOf(volume)}/tails/${id}`,
    files: files.map(({ name, bytes: size }) => ({ name, bytes: size })),
  };
}

/** Where Mesos puts a persistent volume. A mount disk is one as a whole; the role is left to the shell. */
function rootOf({ type, path, persistenceId }: PlacedVolume): string {
  if (type === 'mount' && path !== null) return path;
  return `${path === null ? '' : `${path}/`}volumes/roles/*/${persistenceId}`;
}
