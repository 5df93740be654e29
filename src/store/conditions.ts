import { z } from 'zod';
import type { Leader } from './rows.ts';
import { allRows, run } from './sql.ts';
import { type Store, transactionAs } from './store.ts';

export interface ConditionTime {
  readonly type: string;
  /** UTC milliseconds. */
  readonly since: number;
}

const conditionRow = z.object({ clusterId: z.string(), type: z.string(), since: z.number() });

/** Of all clusters, by id. */
export async function readConditionTimes(store: Store): Promise<Map<string, ConditionTime[]>> {
  const times = new Map<string, ConditionTime[]>();
  for (const { clusterId, type, since } of allRows(store, conditionRow, 'SELECT * FROM cluster_condition')) {
    times.set(clusterId, [...(times.get(clusterId) ?? []), { type, since }]);
  }
  return times;
}

/** These hold now, and no others. */
export function setConditionTimes(
  store: Store,
  leader: Leader,
  clusterId: string,
  times: readonly ConditionTime[],
): Promise<void> {
  return transactionAs(store, leader, () => {
    run(store, 'DELETE FROM cluster_condition WHERE cluster_id = ?', clusterId);
    for (const { type, since } of times) {
      run(store, 'INSERT INTO cluster_condition (cluster_id, type, since) VALUES (?, ?, ?)', clusterId, type, since);
    }
  });
}
