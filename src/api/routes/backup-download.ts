import { Readable } from 'node:stream';
import { Refusal } from '../../errors.ts';
import { getBackup } from '../../store/backups.ts';
import { downloadQuery } from '../backup-schemas.ts';
import type { ApiDeps, App } from '../deps.ts';
import { tarOf } from '../download.ts';
import { checkOwner, getClusterNamed, requireNotRetained } from '../lookups.ts';
import { boundReaders } from '../readers.ts';
import * as schemas from '../schemas.ts';

/** Each holds two connections and a stream. */
const DOWNLOADS_MAX = 8;

export function addDownloadRoute(app: App, deps: ApiDeps): void {
  const begin = boundReaders(app, DOWNLOADS_MAX, 'downloads run');
  app.route({
    method: 'GET',
    url: '/v1/clusters/:name/backups/:id/download',
    // It holds all data and the hashes of passwords: not for those who may only look.
    config: { role: 'team' },
    schema: {
      tags: ['backups'],
      summary:
        'The backup as a tar archive: manifest.json, SHA256SUMS and the data directory below data/, or, as it is stored, below packed/',
      params: schemas.operationParams,
      querystring: downloadQuery,
    },
    handler: async (request, reply) => {
      const cluster = await getClusterNamed(deps.store, request.params.name);
      requireNotRetained(cluster);
      const backup = await getBackup(deps.store, request.params.id);
      checkOwner(backup, cluster);
      if (backup.state !== 'complete') throw new Refusal('NOT_FOUND', `Backup ${backup.id} is not there.`);
      if (backup.badReason !== null) throw new Refusal('BACKUP_DAMAGED', `Backup ${backup.id}: ${backup.badReason}`);
      const { signal, end } = begin();
      reply.raw.once('close', end);
      try {
        const { maxBytesPerSec } = cluster.backupPolicy;
        const { clusterId, ordinal, id } = backup;
        const isPacked = request.query.packed === 'true';
        const reader = await deps.readBackup({ clusterId, ordinal, id, maxBytesPerSec, isPacked }, signal);
        reply.raw.once('close', () => reader.close());
        const tar = tarOf(reader, backup.endedAt ?? backup.startedAt);
        request.log.info({ cluster: cluster.name, backup: id, by: request.requestedBy }, 'download of a backup');
        void reply
          .type('application/x-tar')
          .header('content-length', tar.bytes)
          .header('content-disposition', `attachment; filename="${cluster.name}-${id}.tar"`);
        return reply.send(Readable.from(tar.read(signal), { objectMode: false }));
      } catch (error) {
        end();
        throw error;
      }
    },
  });
}
