import { z } from 'zod';
import type { Leader } from './rows.ts';
import { findRow, run } from './sql.ts';
import { findSetting, type Store, transaction, transactionAs, writeSetting } from './store.ts';

const tokenRow = z.object({ token: z.number() });

/** Become the leader: every older one is refused from now on. Lead first, then SUBSCRIBE. */
export function lead(store: Store, holder: string): Promise<Leader> {
  return transaction(store, () => {
    run(
      store,
      "UPDATE leadership SET token = token + 1, holder = ?, taken_at = ? WHERE id = 'only'",
      holder,
      store.clock.now(),
    );
    const row = findRow(store, tokenRow, "SELECT token FROM leadership WHERE id = 'only'");
    if (!row) throw new Error('the store has no leadership row');
    return { token: row.token };
  });
}

/** False as soon as a newer leader took over. */
export async function isLeading(store: Store, leader: Leader): Promise<boolean> {
  const row = findRow(store, tokenRow, "SELECT token FROM leadership WHERE id = 'only'");
  return row?.token === leader.token;
}

/** The framework id that Mesos gave us, null before the first subscription. */
export async function getFrameworkId(store: Store): Promise<string | null> {
  return findSetting(store, 'framework_id');
}

export function setFrameworkId(store: Store, leader: Leader, frameworkId: string): Promise<void> {
  return transactionAs(store, leader, () => writeSetting(store, 'framework_id', frameworkId));
}
