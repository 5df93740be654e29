/**
 * How the stored rule and MySQL move together: one step at a time, none of which needs memory of the one before. A
 * control plane that dies between two steps looks again and goes on.
 *
 * The invariant (voters.ts): every transaction that was or can be acknowledged in this epoch is on at least k of R,
 * both as stored. It follows from three facts:
 *   (a) whoever acknowledges is in the stored R,
 *   (b) the primary's own k is at least the stored k,
 *   (c) a barrier transaction that was acknowledged under k by members of R' puts everything before it on k of R':
 *       a replica receives the binary log in order.
 * Adding a voter: store the larger R (asks more of a promotion, never wrong), then let it acknowledge (a).
 * Removing one: stop its acknowledging or prove it ended; barrier, acknowledged by k of the others (c); store.
 * Raising k: MySQL, barrier (c), store. Lowering k: store, then MySQL (b).
 * Flushing acknowledgements: flush what the voter has and all that comes, then store it without its boot id (it counts
 * after a restart of its host as well). No more flushing: store it with its boot id, then stop.
 * Where (a) or (b) is found broken, the stored rule is first made true, then led back the ordinary way.
 * k is never lowered because voters are missing: the primary blocks rather than lies.
 */
import type { AckFlush, Voter, VoterRule } from './types.ts';
import { isSameVoter, replicaVoters } from './voters.ts';

export interface WantedVoters {
  /** Replica voters to end up with. Keep an absent voter here unless it shall leave. */
  readonly replicas: readonly Voter[];
  /** acknowledgements(members asked for, durability). */
  readonly k: number;
  /** 'os' when it is left out. */
  readonly ackFlush?: AckFlush | undefined;
}

export interface ObservedVoters {
  /** k in force on the writable primary, 0 = semi-sync off; null when it is not known or not writable. */
  readonly primaryK: number | null;
  readonly members: readonly {
    readonly ordinal: number;
    readonly incarnation: string;
    readonly bootId?: string | undefined;
    /**
     * 'no' is proof: it said so in this launch, after the last setVoter was answered, or its instance has ended.
     * Doubt is 'unknown': a setVoter without an answer, a status older than the command.
     */
    readonly acknowledges: 'yes' | 'no' | 'unknown';
    /**
     * true: all that it has received is on its disk, and so will be all that it acknowledges. false: it said that this
     * is not so. Left out: nothing is known, or its executor is too old to say.
     */
    readonly flushes?: boolean | undefined;
    /** Its receiver runs and it holds, within the allowed lag, what the primary holds. */
    readonly isCaughtUp: boolean;
    /** It has executed all that the primary's last status says is executed. */
    readonly holdsAll?: boolean | undefined;
  }[];
}

export type VoterStep =
  /** Compare-and-set on epoch and version. */
  | {
      readonly kind: 'storeRule';
      readonly rule: VoterRule;
      /** Only when this member has executed all that the primary has: ask both, now. */
      readonly holder?: number;
      readonly reason: string;
    }
  | {
      readonly kind: 'setVoter';
      readonly ordinal: number;
      readonly isVoter: boolean;
      /** Left out: as it is. */
      readonly ackFlush?: AckFlush;
      readonly reason: string;
    }
  /**
   * Set k on the primary and commit a barrier transaction under it. Only when that was answered done: store
   * `thenRule`, if there is one. May be repeated.
   */
  | {
      readonly kind: 'setAcknowledgements';
      readonly k: number;
      readonly thenRule: VoterRule | null;
      /** And only when this member has executed all that the primary has after the barrier: ask both, now. */
      readonly holder?: number;
      readonly reason: string;
    }
  /** `waitingFor`: what is wanted and cannot be done now; empty when all is as wanted. */
  | { readonly kind: 'none'; readonly waitingFor: readonly string[] };

/** The next single step from the stored rule and what MySQL does now towards what is wanted. */
export function nextVoterStep(rule: VoterRule, wanted: WantedVoters, observed: ObservedVoters): VoterStep {
  const { primaryK } = observed;
  if (primaryK === null) return { kind: 'none', waitingFor: ['a writable primary'] };
  const waitingFor: string[] = [];
  return (
    repair(rule, observed, primaryK) ??
    lower(rule, wanted) ??
    replace(rule, wanted, observed, waitingFor) ??
    flush(rule, wanted, observed, waitingFor) ??
    remove(rule, wanted, observed, waitingFor) ??
    add(rule, wanted, observed, waitingFor) ??
    setK(rule, wanted, observed, primaryK, waitingFor) ?? { kind: 'none', waitingFor }
  );
}

function repair(rule: VoterRule, observed: ObservedVoters, primaryK: number): VoterStep | null {
  for (const { ordinal, incarnation, acknowledges } of observed.members) {
    const voter = { ordinal, incarnation };
    if (ordinal === rule.primary || acknowledges !== 'yes' || hasVoter(rule.voters, voter)) continue;
    return store(rule, { voters: [...rule.voters, voter] }, `member ${ordinal} acknowledges and was no voter`);
  }
  for (const voter of replicaVoters(rule)) {
    const member = find(observed, voter);
    if (!isFlushed(voter) || member?.flushes !== false || member.bootId === undefined) continue;
    return storeVoter(
      rule,
      { ...voter, bootId: member.bootId },
      `member ${voter.ordinal} does not flush what it acknowledges`,
    );
  }
  if (primaryK < rule.k) return store(rule, { k: primaryK }, `the primary waits for ${primaryK} only, not ${rule.k}`);
  return null;
}

function lower(rule: VoterRule, wanted: WantedVoters): VoterStep | null {
  if (wanted.k >= rule.k) return null;
  return store(rule, { k: wanted.k }, `${wanted.k} acknowledgements are wanted, ${rule.k} are in force`);
}

/**
 * A voter that lost its memory (its host restarted, or it was filled anew) is another voter in the same place. Its old
 * self acknowledges nothing more. It takes the place, not acknowledging yet, after a barrier that k of the others
 * acknowledge: then nothing counts on the old self. Where too few of them do (all hosts restarted), once it has executed
 * all that the primary has, asked after it came back: a status of the primary may be older than what was forgotten.
 * One that was told to acknowledge again in a change of the primary (it was reached, and lacked nothing) takes its place
 * once it holds all up to a barrier: what its old self may have acknowledged stands before that, the rest it has itself.
 */
function replace(
  rule: VoterRule,
  wanted: WantedVoters,
  observed: ObservedVoters,
  waitingFor: string[],
): VoterStep | null {
  for (const voter of wanted.replicas) {
    if (!isToBeReplaced(rule, voter)) continue;
    const name = `member ${voter.ordinal}`;
    const member = find(observed, voter);
    const voters = rule.voters.map((one) => (one.ordinal === voter.ordinal ? voter : one));
    const thenRule = change(rule, { voters });
    if (member?.acknowledges === 'yes' && member.isCaughtUp) {
      const reason = `${name} lost its memory, and acknowledges again`;
      return { kind: 'setAcknowledgements', k: rule.k, thenRule, holder: voter.ordinal, reason };
    }
    if (member?.acknowledges === 'no') {
      // One that is far behind, or whose receiver stands, would keep the barrier waiting for ever.
      const others = replicaVoters(rule).filter((one) => {
        const other = find(observed, one);
        return other?.acknowledges === 'yes' && other.isCaughtUp;
      });
      if (rule.k > 0 && others.length >= rule.k) {
        const reason = `${name} lost its memory, and nothing counts on what it had`;
        return { kind: 'setAcknowledgements', k: rule.k, thenRule, reason };
      }
      const reason = `${name} lost its memory and holds everything again`;
      if (member.holdsAll) return { kind: 'storeRule', rule: thenRule, holder: voter.ordinal, reason };
    }
    waitingFor.push(`${name} to hold everything again`);
  }
  return null;
}

const isToBeReplaced = (rule: VoterRule, voter: Voter): boolean =>
  voter.ordinal !== rule.primary &&
  rule.voters.some((one) => one.ordinal === voter.ordinal && !isSameVoter(one, voter));

/** The rule counts on it after a restart of its host, too. */
const isFlushed = (voter: Voter): boolean => voter.bootId === undefined;

/** One voter at a time, towards what is wanted; see the head of this file. */
function flush(
  rule: VoterRule,
  wanted: WantedVoters,
  observed: ObservedVoters,
  waitingFor: string[],
): VoterStep | null {
  const ackFlush = wanted.ackFlush ?? 'os';
  const wantsDisk = ackFlush === 'disk';
  for (const voter of replicaVoters(rule)) {
    const { ordinal } = voter;
    const { bootId, flushes, acknowledges = 'unknown' } = find(observed, voter) ?? {};
    if (bootId === undefined || flushes === undefined || acknowledges === 'unknown') {
      if (wantsDisk && !isFlushed(voter)) waitingFor.push(`word of member ${ordinal} that it flushes`);
      continue;
    }
    if (!wantsDisk && isFlushed(voter))
      return storeVoter(rule, { ...voter, bootId }, `member ${ordinal} is to flush no more`);
    if (flushes !== wantsDisk) {
      const reason = `member ${ordinal} is to acknowledge by ${ackFlush}`;
      return { kind: 'setVoter', ordinal, isVoter: acknowledges === 'yes', ackFlush, reason };
    }
    if (wantsDisk && !isFlushed(voter)) {
      const { bootId: _, ...flushed } = voter;
      return storeVoter(rule, flushed, `member ${ordinal} flushes what it acknowledges`);
    }
  }
  return null;
}

function remove(
  rule: VoterRule,
  wanted: WantedVoters,
  observed: ObservedVoters,
  waitingFor: string[],
): VoterStep | null {
  const replicas = replicaVoters(rule);
  for (const voter of replicas) {
    if (wanted.replicas.some(({ ordinal }) => ordinal === voter.ordinal)) continue; // the same, or replaced
    const others = replicas.filter((one) => !isSameVoter(one, voter));
    const acknowledging = others.filter((one) => find(observed, one)?.acknowledges === 'yes').length;
    // Another self in its place (its host restarted, or it was filled anew): the old one has ended.
    const self = find(observed, voter) ?? observed.members.find(({ ordinal }) => ordinal === voter.ordinal);
    const acknowledges = self?.acknowledges ?? 'unknown';
    const name = `member ${voter.ordinal}`;
    if (acknowledging < rule.k) {
      waitingFor.push(`${rule.k} acknowledging voters beside ${name} (are ${acknowledging}), so that it can leave`);
    } else if (acknowledges === 'unknown') {
      waitingFor.push(`proof that ${name} acknowledges no more, so that it can leave`);
    } else if (acknowledges === 'yes') {
      return { kind: 'setVoter', ordinal: voter.ordinal, isVoter: false, reason: `${name} leaves the voters` };
    } else {
      const voters = rule.voters.filter((one) => !isSameVoter(one, voter));
      const reason = `${name} has left the voters`;
      if (rule.k === 0) return store(rule, { voters }, reason);
      return { kind: 'setAcknowledgements', k: rule.k, thenRule: change(rule, { voters }), reason };
    }
  }
  return null;
}

function add(rule: VoterRule, wanted: WantedVoters, observed: ObservedVoters, waitingFor: string[]): VoterStep | null {
  for (const voter of wanted.replicas) {
    const { ordinal } = voter;
    const member = find(observed, voter);
    if (ordinal === rule.primary || member?.acknowledges === 'yes' || isToBeReplaced(rule, voter)) continue;
    if (!member?.isCaughtUp || member.acknowledges === 'unknown') {
      waitingFor.push(`member ${ordinal} to catch up`);
    } else if (!hasVoter(rule.voters, voter)) {
      return store(rule, { voters: [...rule.voters, voter] }, `member ${ordinal} has caught up and becomes a voter`);
    } else {
      const reason = `member ${ordinal} is a voter and has caught up`;
      return { kind: 'setVoter', ordinal, isVoter: true, ackFlush: ackFlushOf(rule, wanted.ackFlush, ordinal), reason };
    }
  }
  return null;
}

/** Raises k as far as enough voters acknowledge; or brings the primary's k down to the stored one. */
function setK(
  rule: VoterRule,
  wanted: WantedVoters,
  observed: ObservedVoters,
  primaryK: number,
  waitingFor: string[],
): VoterStep | null {
  const acknowledging = replicaVoters(rule).filter((voter) => find(observed, voter)?.acknowledges === 'yes').length;
  const k = Math.max(rule.k, Math.min(wanted.k, acknowledging));
  if (k < wanted.k) waitingFor.push(`${wanted.k} acknowledging voters (are ${acknowledging})`);
  if (k > rule.k) {
    const reason = `${k} acknowledgements are wanted and ${acknowledging} voters can give them`;
    return { kind: 'setAcknowledgements', k, thenRule: change(rule, { k }), reason };
  }
  if (primaryK === rule.k) return null;
  const reason = `the primary waits for ${primaryK}, the rule says ${rule.k}`;
  return { kind: 'setAcknowledgements', k: rule.k, thenRule: null, reason };
}

/** How this member must acknowledge: as is wanted, and never less than the rule counts on. */
export function ackFlushOf(rule: VoterRule | null, wanted: AckFlush | undefined, ordinal: number): AckFlush {
  const voter = rule?.voters.find((one) => one.ordinal === ordinal);
  return wanted === 'disk' || (voter && isFlushed(voter)) ? 'disk' : 'os';
}

function storeVoter(rule: VoterRule, voter: Voter, reason: string): VoterStep {
  return store(rule, { voters: rule.voters.map((one) => (one.ordinal === voter.ordinal ? voter : one)) }, reason);
}

function store(rule: VoterRule, parts: Partial<Pick<VoterRule, 'voters' | 'k'>>, reason: string): VoterStep {
  return { kind: 'storeRule', rule: change(rule, parts), reason };
}

function change(rule: VoterRule, parts: Partial<Pick<VoterRule, 'voters' | 'k'>>): VoterRule {
  return { ...rule, ...parts, version: rule.version + 1 };
}

function hasVoter(voters: readonly Voter[], voter: Voter): boolean {
  return voters.some((one) => isSameVoter(one, voter));
}

function find(observed: ObservedVoters, voter: Voter) {
  return observed.members.find((member) => isSameVoter(member, voter));
}
