/** Who shall become the primary, among those who may: a person's preferences, applied after the guards of safety. */
import { countGtids, isGtidSubset, parseGtidSet, subtractGtidSets } from './gtid-set.ts';
import type { Preferences } from './types.ts';

/** Ordinals that are preferred, lowest first: what choosePrimary takes as its order. */
export function preferred(preferences: Preferences): number[] {
  return Object.entries(preferences)
    .filter(([, preference]) => preference === 'prefer')
    .map(([ordinal]) => Number(ordinal))
    .sort((a, b) => a - b);
}

export const isNever = (preferences: Preferences, ordinal: number): boolean => preferences[String(ordinal)] === 'never';

export interface Heir {
  readonly ordinal: number;
  /** Received union executed. */
  readonly gtid: string;
  readonly isApplierRunning: boolean;
}

/**
 * The guards chose a member that shall never be the primary: somebody else takes its place after catching up from it.
 * Who lacks least, preferred ones first; null when nobody may. A member with transactions that the best informed one
 * lacks is no heir: they are errant.
 */
export function findHeir(candidates: readonly Heir[], best: Heir, preferences: Preferences): number | null {
  const all = parseGtidSet(best.gtid);
  const order = preferred(preferences);
  const rank = (ordinal: number) => (order.includes(ordinal) ? order.indexOf(ordinal) : order.length + ordinal);
  const heirs = candidates.filter(
    ({ ordinal, gtid, isApplierRunning }) =>
      ordinal !== best.ordinal &&
      isApplierRunning &&
      !isNever(preferences, ordinal) &&
      isGtidSubset(parseGtidSet(gtid), all),
  );
  const lacks = ({ gtid }: Heir) => countGtids(subtractGtidSets(all, parseGtidSet(gtid)));
  const isPreferred = ({ ordinal }: Heir) => order.includes(ordinal);
  const [first] = [...heirs].sort((a, b) => {
    if (isPreferred(a) !== isPreferred(b)) return isPreferred(a) ? -1 : 1;
    const [left, right] = [lacks(a), lacks(b)];
    if (left !== right) return left < right ? -1 : 1;
    return rank(a.ordinal) - rank(b.ordinal);
  });
  return first?.ordinal ?? null;
}
