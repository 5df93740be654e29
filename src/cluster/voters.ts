/**
 * Who must have a transaction before its commit is acknowledged, and what a promotion needs to lose none
 * (guarantee 1 of docs/failover-safety.md).
 *
 * Let R be the replica voters of the stored rule. The invariant that voter-steps.ts keeps at every instant:
 *   every transaction that was or can be acknowledged in this epoch is on the primary and on at least k of R.
 * With |R| - k + 1 of R reached and frozen, at most k - 1 of R are left out. So every acknowledged transaction is on a
 * reached member, and the left out are too few to acknowledge another one.
 * Transactions of earlier epochs: the primary held them all when it was chosen. That set is the rule's `base` and must
 * be covered as well; without it a replica that was repointed and had not caught up would count as if it held the past.
 * With k = 0, or too few of R reached, the invariant says nothing: only the old primary's final set will do, its own or
 * one read after it could take no more writes (from its binary logs, when its mysqld has ended). Who holds all of that
 * holds every acknowledged transaction, voter or not, whatever it forgot before.
 */
import type { GtidSet } from './gtid-set.ts';
import {
  countGtids,
  emptyGtidSet,
  formatGtidSet,
  isGtidSetEmpty,
  isGtidSubset,
  ownGtidTag,
  parseGtidSet,
  subtractGtidSets,
  unionGtidSets,
  withoutGtidTag,
} from './gtid-set.ts';
import type { Durability, Voter, VoterRule } from './types.ts';

/** A member whose receiver is stopped, so that it acknowledges nothing more to the old primary. */
export interface ReachedMember {
  readonly ordinal: number;
  readonly incarnation: string;
  readonly bootId?: string | undefined;
  /** Received union executed. For the old primary: executed, read when it could take no more writes. */
  readonly gtid: string;
  readonly isApplierRunning: boolean;
  /**
   * Its host or relay log was restarted since it last caught up: with ackFlush "os" it may have forgotten what it
   * acknowledged. It does not count and cannot be chosen.
   */
  readonly hasLostMemory?: boolean | undefined;
}

export interface PromotionFacts {
  /** Newest executed set seen on the primary of the rule's epoch; '' when none was. The rule's base is added to it. */
  readonly lastKnownPrimaryGtid: string;
  /** It was read when the primary could provably take no more writes (demoted, or its mysqld has ended since). */
  readonly isLastKnownFinal: boolean;
}

export type Facts = Readonly<Record<string, unknown>>;

export type PromotionSafety =
  | { readonly safe: true; readonly by: 'voters' | 'primary' | 'final-set' }
  | { readonly safe: false; readonly code: 'PROMOTION_UNSAFE'; readonly message: string; readonly facts: Facts };

/** How many acknowledgements a commit waits for in a cluster of so many members; 0 = semi-sync off. */
export function acknowledgements(members: number, durability: Durability): number {
  if (members <= 1 || durability === 'async') return 0;
  if (durability === 'one') return 1;
  return Math.floor(members / 2);
}

export function isSameVoter(left: Voter, right: Voter): boolean {
  const isSameBoot = left.bootId === undefined || right.bootId === undefined || left.bootId === right.bootId;
  return left.ordinal === right.ordinal && left.incarnation === right.incarnation && isSameBoot;
}

/** R: the voters but the primary. */
export function replicaVoters(rule: VoterRule): readonly Voter[] {
  return rule.voters.filter((voter) => voter.ordinal !== rule.primary);
}

export type PromotionNeeds =
  /** `count` of `of` must be reached and frozen. 0: fewer voters than k, so nothing was ever acknowledged. */
  | { readonly kind: 'voters'; readonly count: number; readonly of: readonly Voter[] }
  /** k = 0: no number of replicas is enough. */
  | { readonly kind: 'primary' };

/** What would satisfy a promotion, apart from the old primary itself, which always does. */
export function promotionNeeds(rule: VoterRule): PromotionNeeds {
  if (rule.k === 0) return { kind: 'primary' };
  const of = replicaVoters(rule);
  return { kind: 'voters', count: Math.max(0, of.length - rule.k + 1), of };
}

/** The reached members that count: voters of this very incarnation, memory intact, the primary not among them. */
export function countedVoters<Member extends ReachedMember>(rule: VoterRule, reached: readonly Member[]): Member[] {
  const found: Member[] = [];
  for (const voter of replicaVoters(rule)) {
    const member = reached.find((one) => isSameVoter(one, voter));
    if (member && !member.hasLostMemory && readSet(member.gtid)) found.push(member);
  }
  return found;
}

/**
 * The old primary, if it was reached with what it holds. A restart of its host took nothing from it: its binary log is
 * flushed before anybody else gets a transaction.
 */
export function findReachedPrimary(rule: VoterRule, reached: readonly ReachedMember[]): ReachedMember | undefined {
  const voter = rule.voters.find((one) => one.ordinal === rule.primary);
  const member = voter && reached.find((one) => one.ordinal === voter.ordinal && one.incarnation === voter.incarnation);
  return member && !member.hasLostMemory && readSet(member.gtid) ? member : undefined;
}

/**
 * Does what the reached members hold together contain every acknowledged transaction? Doubt is unsafe. A GTID set
 * that cannot be read counts as not reached.
 */
export function isPromotionSafe(
  rule: VoterRule,
  reached: readonly ReachedMember[],
  facts: PromotionFacts,
): PromotionSafety {
  const lastKnown = knownOfPrimary(rule, facts);
  const counted = countedVoters(rule, reached);
  const primary = findReachedPrimary(rule, reached);
  const needs = promotionNeeds(rule);
  const common = {
    epoch: rule.epoch,
    primary: rule.primary,
    k: rule.k,
    voters: replicaVoters(rule).map((voter) => voter.ordinal),
    reached: counted.map((member) => member.ordinal),
    isPrimaryReached: primary !== undefined,
  };
  const refuse = (reason: string, message: string, more: Facts = {}): PromotionSafety => {
    return { safe: false, code: 'PROMOTION_UNSAFE', message, facts: { reason, ...common, ...more } };
  };

  if (!lastKnown) return refuse('unreadable', 'The last known GTID set of the primary cannot be read');
  const { isLastKnownFinal } = facts;
  const holders = isLastKnownFinal
    ? reached.filter(({ gtid }) => isWithin(lastKnown, gtid))
    : [...counted, ...(primary ? [primary] : [])];
  const missing = subtractGtidSets(
    lastKnown,
    unionGtidSets(...holders.map(({ gtid }) => readSet(gtid) ?? emptyGtidSet)),
  );
  if (!isGtidSetEmpty(missing)) {
    const where = isLastKnownFinal ? `the binary logs of member ${rule.primary} hold` : 'the primary was seen to have';
    const message = `No reached member has ${countGtids(missing)} transactions that ${where}`;
    return refuse('last-known-missing', message, { missing: formatGtidSet(missing), isFinal: isLastKnownFinal });
  }
  if (primary) return { safe: true, by: 'primary' };
  if (facts.isLastKnownFinal) return { safe: true, by: 'final-set' };
  if (needs.kind === 'primary')
    return refuse(
      'no-acknowledgements',
      `Commits waited for no acknowledgement (k = 0): only member ${rule.primary} knows what was committed last`,
    );
  if (counted.length < needs.count) {
    const message = `${counted.length} of ${needs.of.length} replica voters reached, ${needs.count} needed to have every acknowledged transaction`;
    return refuse('too-few-voters', message, { needed: needs.count });
  }
  return { safe: true, by: 'voters' };
}

export interface FirstRuleInput {
  readonly epoch: number;
  readonly primary: Voter;
  /** Replicas that hold exactly what the primary holds now, before its first transaction. */
  readonly replicas: readonly Voter[];
  /** As asked for, not as present. */
  readonly members: number;
  readonly durability: Durability;
}

/**
 * Rule of a cluster before its first transaction. Replicas that come later are added by voter-steps.ts; k starts as
 * high as those present allow, so that creation does not wait for the last member.
 */
export function firstRule(input: FirstRuleInput): VoterRule {
  const k = Math.min(acknowledgements(input.members, input.durability), input.replicas.length);
  const voters = [input.primary, ...input.replicas];
  return { epoch: input.epoch, version: 1, primary: input.primary.ordinal, voters, k };
}

/**
 * Rule to store at the commit point of a failover. All other replica voters stay, the unreached among them: one may
 * come back with acknowledging still switched on. The old primary stays only when it was demoted (it holds everything
 * and follows); after a crash it leaves, and comes back as a new voter when it has caught up. k never falls because
 * members are missing: with too few left the new primary blocks rather than lies. `held` is what the chosen member holds (`catchUpTo`): it becomes the base.
 * Without it the old base stays, and a second failover relies on `lastKnownPrimaryGtid` alone for what came after.
 */
export function ruleAfterPromotion(
  rule: VoterRule,
  change: {
    readonly chosen: number;
    readonly isPrimaryDemoted: boolean;
    readonly held?: string | undefined;
    /** Who the chosen member is now, when it is not the voter that the rule names in its place. */
    readonly as?: Voter | undefined;
    /** Wanted in the new epoch: fewer acknowledgements may be asked for at its begin, more only step by step. */
    readonly kMax?: number | undefined;
  },
): VoterRule {
  const stay = rule.voters.filter((voter) => voter.ordinal !== rule.primary || change.isPrimaryDemoted);
  const voters = change.as ? [...stay.filter(({ ordinal }) => ordinal !== change.chosen), change.as] : stay;
  if (!voters.some((voter) => voter.ordinal === change.chosen))
    throw new Error(`Member ${change.chosen} is no voter of epoch ${rule.epoch}`);
  const base = change.held ?? rule.base;
  const k = Math.min(rule.k, change.kMax ?? rule.k);
  const next = { epoch: rule.epoch + 1, version: 1, primary: change.chosen, voters, k };
  return base === undefined ? next : { ...next, base };
}

/** All that the primary is known to have had; null when it cannot be read. */
export function knownOfPrimary(rule: VoterRule, facts: PromotionFacts): GtidSet | null {
  const base = readSet(rule.base ?? '');
  const lastKnown = readSet(facts.lastKnownPrimaryGtid);
  return base && lastKnown && unionGtidSets(base, lastKnown);
}

/**
 * Everything but our own heartbeats is in the final set of the old primary. What is not was never acknowledged: a member
 * with it is to be filled anew, not to be followed. False when the set cannot be read.
 */
export function isWithin(final: GtidSet, gtid: string): boolean {
  const set = readSet(gtid);
  return set !== null && isGtidSubset(withoutGtidTag(set, ownGtidTag), final);
}

/** null when the text is no GTID set: what a member says is input from outside. */
export function readSet(text: string): GtidSet | null {
  try {
    return parseGtidSet(text);
  } catch {
    return null;
  }
}
