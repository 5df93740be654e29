import { z } from 'zod';
import { findRow, run } from './sql.ts';
import type { Store } from './store.ts';

const sequenceRow = z.object({ nextValue: z.number() });

/** Takes `count` numbers of a sequence, for use inside a transaction; answers the first. None is ever given twice. */
export function takeNumbers(store: Store, name: 'server_id' | 'event' | 'service_port', count: number): number {
  run(store, 'UPDATE sequence SET next_value = next_value + ? WHERE name = ?', count, name);
  const row = findRow(store, sequenceRow, 'SELECT next_value FROM sequence WHERE name = ?', name);
  if (!row) throw new Error(`there is no sequence ${name}`);
  return row.nextValue - count;
}
