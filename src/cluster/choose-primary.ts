/**
 * Who becomes the primary, or why nobody does. GTID sets decide, preferences come second.
 *
 * - Only voters of the stored rule, of the very incarnation, memory intact, applier running, can be chosen; against the
 *   final set of the old primary any reached member. The old primary cannot: keeping it is another path.
 * - The chosen member must already hold (received or executed) all that the reached voters, the old primary if it was
 *   reached, and the last known set of the old primary hold together. Sets that are not ordered are refused: nothing
 *   is ever merged.
 * - A promotion that is not safe (voters.ts) is refused with a statement of the loss, of any reached member. Only a
 *   person can go on, by quoting that very statement; a different one means that the facts have changed.
 */
import type { GtidSet } from './gtid-set.ts';
import {
  countGtids,
  emptyGtidSet,
  formatGtidSet,
  isGtidSetEmpty,
  isGtidSubset,
  parseGtidSet,
  subtractGtidSets,
  unionGtidSets,
} from './gtid-set.ts';
import type { VoterRule } from './types.ts';
import type { Facts, PromotionFacts, ReachedMember } from './voters.ts';
import {
  countedVoters,
  findReachedPrimary,
  isPromotionSafe,
  isWithin,
  knownOfPrimary,
  readSet,
  replicaVoters,
} from './voters.ts';

export interface ChooseInput extends PromotionFacts {
  readonly rule: VoterRule;
  /** Members with stopped receivers; the old primary too, if it is stopped or demoted and its set is known. */
  readonly reached: readonly ReachedMember[];
  /** Asked for by a person: passes the same guards, and nobody else is taken instead. */
  readonly candidate?: number | undefined;
  /** Ordinals, most liked first; those not named come after them in order. */
  readonly preferences: readonly number[];
  /** `facts.lossStatement` of an earlier refusal, quoted by a person. */
  readonly acceptedLoss?: string | undefined;
}

export type ChoiceRefusal =
  | 'PROMOTION_UNSAFE'
  | 'NO_CANDIDATE'
  | 'CANDIDATE_UNFIT'
  | 'CANDIDATE_BEHIND'
  | 'GTID_DIVERGED'
  | 'LOSS_CHANGED';

export interface ChoiceWarning {
  readonly kind: 'WritesBlocked' | 'DataLossAccepted';
  readonly message: string;
}

export type PrimaryChoice =
  | {
      readonly kind: 'chosen';
      readonly ordinal: number;
      /** What it holds: to be executed before it becomes the primary; the first last known set of the new epoch. */
      readonly catchUpTo: string;
      readonly warnings: readonly ChoiceWarning[];
    }
  | { readonly kind: 'refused'; readonly code: ChoiceRefusal; readonly message: string; readonly facts: Facts };

interface Holder {
  readonly ordinal: number;
  readonly gtids: GtidSet;
  readonly isApplierRunning: boolean;
}

/** Same input, same answer. */
export function choosePrimary(input: ChooseInput): PrimaryChoice {
  const { rule, reached } = input;
  const order = byPreference(input.preferences);
  const counted = countedVoters(rule, reached).map(toHolder).sort(order);
  const primary = findReachedPrimary(rule, reached);
  const safety = isPromotionSafe(rule, reached, input);
  if (!safety.safe) return chooseWithLoss(input, counted, safety);
  // Against the final set of the old primary everybody is measured alike: nobody's memory is relied on.
  const known = knownOfPrimary(rule, input) ?? emptyGtidSet;
  const holders =
    safety.by === 'final-set'
      ? reached
          .filter(({ ordinal, gtid }) => ordinal !== rule.primary && isWithin(known, gtid))
          .map(toHolder)
          .sort(order)
      : counted;
  const fault = findCandidateFault(input, holders);
  if (fault) return fault;

  const held = unionGtidSets(...counted.map((one) => one.gtids));
  const required = unionGtidSets(held, known, primary ? parseGtidSet(primary.gtid) : emptyGtidSet);
  const complete = holders.filter((one) => isGtidSubset(required, one.gtids));
  const fit = preferWhole(complete.filter((one) => one.isApplierRunning));
  const chosen = input.candidate === undefined ? fit[0] : fit.find((one) => one.ordinal === input.candidate);
  if (chosen) return choose(chosen, input, []);
  return refuseIncomplete({ input, holders, complete: fit.length > 0 ? fit : complete, held, required });
}

/**
 * Those who also hold all that the others have, when there is one. Heartbeats are never required, but who has more of
 * them than the new primary could not follow it, nor acknowledge its first commit.
 */
function preferWhole(fit: readonly Holder[]): readonly Holder[] {
  const everything = unionGtidSets(...fit.map((one) => one.gtids));
  const whole = fit.filter((one) => isGtidSubset(everything, one.gtids));
  return whole.length > 0 ? whole : fit;
}

/** All reached members but the old primary whose set can be read, by ordinal: answers come in any order. */
function allHolders({ rule, reached }: ChooseInput): Holder[] {
  const readable = reached.filter(({ ordinal, gtid }) => ordinal !== rule.primary && readSet(gtid) !== null);
  return readable.map(toHolder).sort((a, b) => a.ordinal - b.ordinal);
}

/** A person asked for somebody who cannot be chosen whatever is held. */
function findCandidateFault({ rule, candidate }: ChooseInput, holders: readonly Holder[]): PrimaryChoice | null {
  if (candidate === undefined) return null;
  const holder = holders.find((one) => one.ordinal === candidate);
  if (holder?.isApplierRunning) return null;
  const facts = { candidate, reachedVoters: holders.map((one) => one.ordinal) };
  if (candidate === rule.primary)
    return refuse('CANDIDATE_UNFIT', `Member ${candidate} is the primary of epoch ${rule.epoch} already`, facts);
  if (holder) return refuse('CANDIDATE_UNFIT', `Member ${candidate} does not apply what it received`, facts);
  return refuse('CANDIDATE_UNFIT', `Member ${candidate} is not among the reached voters`, facts);
}

interface Incomplete {
  readonly input: ChooseInput;
  readonly holders: readonly Holder[];
  readonly complete: readonly Holder[];
  readonly held: GtidSet;
  readonly required: GtidSet;
}

/** Safe as a whole, but no single fit member holds all of it. */
function refuseIncomplete({ input, holders, complete, held, required }: Incomplete): PrimaryChoice {
  const lacks = Object.fromEntries(
    holders.map((one) => [one.ordinal, formatGtidSet(subtractGtidSets(required, one.gtids))]),
  );
  const facts = { required: formatGtidSet(required), lacks };
  if (holders.length === 0) return refuse('NO_CANDIDATE', 'No replica voter was reached', facts);
  if (input.candidate !== undefined && complete.length > 0) {
    const names = complete.map((one) => one.ordinal).join(', ');
    const message = `Member ${input.candidate} lacks transactions that member ${names} has`;
    return refuse('CANDIDATE_BEHIND', message, { candidate: input.candidate, ...facts });
  }
  if (complete.length > 0) {
    const names = complete.map((one) => one.ordinal).join(', ');
    return refuse('NO_CANDIDATE', `Member ${names} has everything and does not apply what it received`, facts);
  }
  if (!holders.some((one) => isGtidSubset(held, one.gtids)))
    return refuse('GTID_DIVERGED', 'The reached voters have transactions of each other missing', facts);
  return refuse('CANDIDATE_BEHIND', 'The old primary has transactions that no replica voter has', facts);
}

/**
 * Any reached member will do when a person says so, a voter or not; who lacks least is taken. Sets that are not ordered
 * are not merged: what the others have and it lacks is part of the loss.
 */
function chooseWithLoss(
  input: ChooseInput,
  counted: readonly Holder[],
  safety: { readonly code: 'PROMOTION_UNSAFE'; readonly message: string; readonly facts: Facts },
): PrimaryChoice {
  const all = allHolders(input);
  const fault = findCandidateFault(input, all);
  if (fault) return fault;
  const best = findLeastLoss(input, all, counted);
  if (!best) return refuse(safety.code, safety.message, safety.facts);
  const lossStatement = stateLoss(input, best, all);
  const facts = { ...safety.facts, wouldPromote: best.ordinal, lossStatement };
  if (input.acceptedLoss === undefined) return refuse(safety.code, safety.message, facts);
  if (input.acceptedLoss !== lossStatement)
    return refuse('LOSS_CHANGED', 'What would be lost is not what was accepted', facts);
  return choose(best, input, [{ kind: 'DataLossAccepted', message: lossStatement }]);
}

/** Of those who apply, or the one that was asked for; among equals one that counts, then preferences. */
function findLeastLoss(input: ChooseInput, all: readonly Holder[], counted: readonly Holder[]): Holder | undefined {
  const { candidate, rule, preferences } = input;
  const known = knownOfPrimary(rule, input) ?? emptyGtidSet;
  const required = unionGtidSets(known, ...all.map(({ gtids }) => gtids));
  const lacks = new Map(all.map(({ ordinal, gtids }) => [ordinal, countGtids(subtractGtidSets(required, gtids))]));
  const isCounted = ({ ordinal }: Holder) => counted.some((one) => one.ordinal === ordinal);
  const order = byPreference(preferences);
  return all
    .filter((one) => one.isApplierRunning && (candidate === undefined || candidate === one.ordinal))
    .sort((a, b) => {
      const [left, right] = [lacks.get(a.ordinal)!, lacks.get(b.ordinal)!];
      if (left !== right) return left < right ? -1 : 1;
      return Number(isCounted(b)) - Number(isCounted(a)) || order(a, b);
    })[0];
}

/** What is known to be lost, and what is not known. The same facts give the same sentence: it is quoted and compared. */
function stateLoss(input: ChooseInput, best: Holder, all: readonly Holder[]): string {
  const { rule, reached } = input;
  const lastKnown = knownOfPrimary(rule, input);
  const missing = subtractGtidSets(lastKnown ?? emptyGtidSet, best.gtids);
  const where = input.isLastKnownFinal
    ? 'that the binary logs of the primary hold'
    : 'that the primary was seen to have';
  const known = !lastKnown
    ? 'what the primary had is not known'
    : isGtidSetEmpty(missing)
      ? `nothing ${where} is lost`
      : `${countGtids(missing)} transactions ${where} are lost: ${formatGtidSet(missing)}`;
  const others = all.flatMap(({ ordinal, gtids }) => {
    const more = subtractGtidSets(gtids, unionGtidSets(best.gtids, missing));
    return isGtidSetEmpty(more)
      ? []
      : [`${countGtids(more)} more that member ${ordinal} has are lost: ${formatGtidSet(more)}`];
  });
  const doubt = whyNotCounted(rule, reached, best.ordinal);
  const away = replicaVoters(rule)
    .map(({ ordinal }) => ordinal)
    .filter((ordinal) => !all.some((one) => one.ordinal === ordinal))
    .sort((a, b) => a - b);
  const parts = [
    known,
    ...others,
    ...(doubt === null ? [] : [`member ${best.ordinal} may lack what it once had: ${doubt}`]),
    ...(away.length === 0 ? [] : [`what member ${away.join(', ')} has is not known`]),
    input.isLastKnownFinal
      ? 'nothing else is lost'
      : `writes that member ${rule.primary} acknowledged and no reached member has are lost as well.`,
  ];
  return `Promoting member ${best.ordinal} after epoch ${rule.epoch}: ${parts.join('; ')}`;
}

/** Null when it counts. */
function whyNotCounted(rule: VoterRule, reached: readonly ReachedMember[], ordinal: number): string | null {
  if (countedVoters(rule, reached).some((one) => one.ordinal === ordinal)) return null;
  const voter = rule.voters.find((one) => one.ordinal === ordinal);
  const member = reached.find((one) => one.ordinal === ordinal);
  if (!voter) return 'it was no voter';
  if (voter.incarnation !== member?.incarnation) return 'it was filled anew since it became a voter';
  return 'its host was restarted since it became a voter';
}

function choose(chosen: Holder, input: ChooseInput, warnings: readonly ChoiceWarning[]): PrimaryChoice {
  const { rule, reached } = input;
  const left = countedVoters(rule, reached).filter((one) => one.ordinal !== chosen.ordinal).length;
  const acknowledgers = left + (findReachedPrimary(rule, reached) ? 1 : 0);
  const message = `Member ${chosen.ordinal} waits for ${rule.k} acknowledgements and ${acknowledgers} reached members can give one: writes block until more are back`;
  const blocked: ChoiceWarning[] = acknowledgers < rule.k ? [{ kind: 'WritesBlocked', message }] : [];
  return {
    kind: 'chosen',
    ordinal: chosen.ordinal,
    catchUpTo: formatGtidSet(chosen.gtids),
    warnings: [...warnings, ...blocked],
  };
}

function refuse(code: ChoiceRefusal, message: string, facts: Facts): PrimaryChoice {
  return { kind: 'refused', code, message, facts };
}

function toHolder({ ordinal, gtid, isApplierRunning }: ReachedMember): Holder {
  return { ordinal, gtids: parseGtidSet(gtid), isApplierRunning };
}

function byPreference(preferences: readonly number[]) {
  const rank = (ordinal: number) => (preferences.includes(ordinal) ? preferences.indexOf(ordinal) : preferences.length);
  return (a: Holder, b: Holder) => rank(a.ordinal) - rank(b.ordinal) || a.ordinal - b.ordinal;
}
