/** The service port of a cluster: chosen once, unique among living clusters, given again only after all others. */
import { z } from 'zod';
import type { PortRange } from '../cluster/types.ts';
import { Refusal } from '../errors.ts';
import { takeNumbers } from './sequence.ts';
import { allRows, run } from './sql.ts';
import type { Store } from './store.ts';

/** Above MySQL's own port, below the ports that Linux gives to outgoing connections (32768 and up). */
export const servicePortsDefault: PortRange = { begin: 13_306, end: 23_305 };

/** For use inside a transaction. Refusal: NO_SERVICE_PORT. */
export function takeServicePort(store: Store): number {
  const { begin, end } = store.servicePorts;
  const size = end - begin + 1;
  const sql = 'SELECT service_port FROM cluster WHERE service_port IS NOT NULL';
  const taken = new Set(allRows(store, z.object({ servicePort: z.number() }), sql).map((row) => row.servicePort));
  for (let tries = 0; tries < size; tries++) {
    const port = begin + (takeNumbers(store, 'service_port', 1) % size);
    if (!taken.has(port)) return port;
  }
  throw new Refusal('NO_SERVICE_PORT', `all ports from ${begin} to ${end} belong to clusters`, { begin, end });
}

/** Clusters that were made before there were service ports get theirs. For use inside a transaction. */
export function ensureServicePorts(store: Store): void {
  const sql = 'SELECT id FROM cluster WHERE service_port IS NULL AND deleted_at IS NULL ORDER BY created_at, id';
  for (const { id } of allRows(store, z.object({ id: z.string() }), sql))
    run(store, 'UPDATE cluster SET service_port = ? WHERE id = ?', takeServicePort(store), id);
}
