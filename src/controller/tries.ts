/** The command ids of one try of a long work that an executor does. */
import type { Status } from '../channel/protocol.ts';

/**
 * The executor carries a command id out once: a restarted control plane finds the work of its try again. One that is
 * found to have failed was told before and did not count: it is tried under another name.
 */
export function nameTry(name: string, work: Status['work']): string {
  const known = work?.commandId ?? '';
  if (known !== name && !known.startsWith(`${name}.`)) return name;
  return work?.outcome === 'failed' ? `${name}.${Number(known.slice(name.length + 1)) + 1}` : known;
}
