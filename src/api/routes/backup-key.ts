import { keyIdOf } from '../../cluster/backup-key.ts';
import { Refusal } from '../../errors.ts';
import { readClusterSecrets } from '../../store/clusters.ts';
import { addEvent } from '../../store/events.ts';
import { backupKeyView } from '../backup-schemas.ts';
import type { ApiDeps, App } from '../deps.ts';
import { getClusterNamed } from '../lookups.ts';
import * as schemas from '../schemas.ts';

/** The only answer that holds it. Told as an event before it is given. */
export function addBackupKeyRoute(app: App, { store }: ApiDeps): void {
  app.route({
    method: 'POST',
    url: '/v1/clusters/:name/backup-key',
    config: { role: 'operator' },
    schema: {
      tags: ['backups'],
      summary: 'The key of the encrypted backups, to keep it elsewhere or to unpack one by hand',
      params: schemas.clusterParams,
      querystring: schemas.noQuery,
      response: { 200: backupKeyView },
    },
    handler: async (request) => {
      const { id, name } = await getClusterNamed(store, request.params.name);
      const { backupKey } = await readClusterSecrets(store, id);
      if (backupKey === undefined) {
        throw new Refusal('NOT_FOUND', `Cluster ${name} has no key: its policy never asked for encryption.`);
      }
      const keyId = keyIdOf(Buffer.from(backupKey, 'hex'));
      const data = { keyId, by: request.requestedBy };
      await addEvent(store, { kind: 'backup.key', clusterId: id, cluster: name, message: `key ${keyId}`, data });
      return { cluster: name, keyId, key: backupKey };
    },
  });
}
