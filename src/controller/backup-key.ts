/** The cluster's key of backups, for commands that may need it: an executor keeps it in memory alone. */
import { readClusterSecrets } from '../store/clusters.ts';
import type { Context } from './context.ts';

/** To be spread into a command; empty while the cluster never wanted encryption. */
export async function backupKeyOf(
  { store }: Pick<Context, 'store'>,
  clusterId: string,
): Promise<{ readonly backupKey?: string }> {
  const { backupKey } = await readClusterSecrets(store, clusterId);
  return backupKey === undefined ? {} : { backupKey };
}
