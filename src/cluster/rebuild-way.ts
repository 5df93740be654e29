/** Which way fills a member's data volume soonest: its own backup, or a CLONE from another member. */
import { countGtids, type GtidSet, isGtidSetEmpty, isGtidSubset, parseGtidSet, subtractGtidSets } from './gtid-set.ts';

/** What was measured lately; bytes and transactions per second. */
export interface RebuildRates {
  /** Copying from the backup volume to the data volume, with checksums. */
  readonly diskBytes: number;
  /** CLONE over the network. */
  readonly networkBytes: number;
  /** Transactions that an applier executes. */
  readonly applied: number;
}

/** Before anything was measured: a plain disk, a network of 1 Gbit/s, small transactions. */
export const defaultRates: RebuildRates = { diskBytes: 200e6, networkBytes: 100e6, applied: 1500 };

/** Stopping, starting, joining; CLONE starts one instance more, and drops the data first. */
const fixedMs = { backup: 4000, clone: 6000 } as const;

export interface RebuildFacts {
  /** GTID sets of the primary. */
  readonly executed: string;
  readonly purged: string;
  /** Of the donor's data volume, about. */
  readonly dataBytes: number;
  /** Complete backups of this member. */
  readonly backups: readonly { readonly id: string; readonly gtidSet: string; readonly bytes: number }[];
  /** Who may give a CLONE, the best first; the last resort is the primary. */
  readonly donors: readonly number[];
  readonly rates: RebuildRates;
}

export interface WayEstimate {
  /** As stored with the rebuild: `backup:<id>` or `clone:<ordinal>`. */
  readonly way: string;
  readonly copyBytes: number;
  /** Transactions to apply after the copy. */
  readonly toApply: number;
  readonly estimateMs: number;
}

/**
 * All ways that lead to the primary's data, the soonest first. A backup serves only when the primary has all that it
 * holds, and still has the logs that follow it.
 */
export function estimateWays(facts: RebuildFacts): WayEstimate[] {
  const executed = parseGtidSet(facts.executed);
  const purged = parseGtidSet(facts.purged);
  const serves = (held: GtidSet) => isGtidSubset(held, executed) && isGtidSetEmpty(subtractGtidSets(purged, held));
  const backups = facts.backups
    .map(({ id, gtidSet, bytes }) => ({ id, bytes, held: parseGtidSet(gtidSet) }))
    .filter(({ held }) => serves(held))
    .map(({ id, bytes, held }) => {
      const toApply = Number(countGtids(subtractGtidSets(executed, held)));
      const { diskBytes, applied } = facts.rates;
      const estimateMs = Math.round(fixedMs.backup + (1000 * bytes) / diskBytes + (1000 * toApply) / applied);
      return { way: `backup:${id}`, copyBytes: bytes, toApply, estimateMs };
    });
  const [donor] = facts.donors;
  const clone = Math.round(fixedMs.clone + (1000 * facts.dataBytes) / facts.rates.networkBytes);
  const clones =
    donor === undefined ? [] : [{ way: `clone:${donor}`, copyBytes: facts.dataBytes, toApply: 0, estimateMs: clone }];
  return [...backups, ...clones].sort((one, other) => one.estimateMs - other.estimateMs);
}
