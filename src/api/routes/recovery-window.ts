import { Refusal } from '../../errors.ts';
import type { ApiDeps, App } from '../deps.ts';
import { getClusterNamed } from '../lookups.ts';
import { recoveryWindowView } from '../recovery-window.ts';
import * as schemas from '../schemas.ts';

export function addRecoveryWindowRoutes(app: App, { store, live }: ApiDeps): void {
  app.route({
    method: 'GET',
    url: '/v1/clusters/:name/recovery-window',
    schema: {
      tags: ['backups'],
      summary: 'To which moments the cluster can be restored, and what would be lost with all data volumes now',
      params: schemas.clusterParams,
      querystring: schemas.noQuery,
      response: { 200: recoveryWindowView },
    },
    handler: async (request) => {
      const cluster = await getClusterNamed(store, request.params.name);
      if (!cluster.spec.volumes.backup)
        throw new Refusal('NO_BACKUP_VOLUME', `Cluster ${cluster.name} was created without a backup volume.`);
      const window = live.recoveryWindow(cluster.id);
      if (!window) throw new Refusal('MEMBER_NOT_READY', `Nothing is known of the archives of ${cluster.name} yet.`);
      const { from, backupId, to, rpoMs, missing, gap } = window;
      const members = window.members.map(({ ordinal, archive, isWrittenOff }) => ({
        member: ordinal,
        isWrittenOff,
        archive: archive && { ...archive, spans: [...archive.spans] },
      }));
      return { cluster: cluster.name, from, backupId, to, rpoMs, missing, gap, members };
    },
  });
}
