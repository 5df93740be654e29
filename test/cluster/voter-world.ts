/**
 * A small world of one cluster for the property test of the voters: what each member holds is a prefix of its
 * primary's log, as MySQL delivers it. The world is as unkind as it may be: acknowledgements are remembered for ever,
 * an old primary goes on with everybody who is not frozen, commands end half way, observations are doubtful, a host
 * that is restarted forgets all that was not flushed.
 */
import { choosePrimary } from '../../src/cluster/choose-primary.ts';
import type { VoterRule } from '../../src/cluster/types.ts';
import type { VoterStep, WantedVoters } from '../../src/cluster/voter-steps.ts';
import { ackFlushOf, nextVoterStep } from '../../src/cluster/voter-steps.ts';
import { firstRule, isPromotionSafe, ruleAfterPromotion } from '../../src/cluster/voters.ts';
import { gtidsOf } from './rules.ts';

export interface WorldMember {
  incarnation: number;
  held: number[];
  isAcknowledging: boolean;
  acknowledgedTo: number;
  /** Of its host. */
  boot: number;
  /** mysqld flushes what it receives. */
  isFlushing: boolean;
  /** So many of `held` are on its disk. */
  flushed: number;
}

export class VoterWorld {
  readonly members: WorldMember[];
  rule: VoterRule;
  wanted: WantedVoters = { replicas: [], k: 0 };
  primaryK = 0;
  log: number[] = [];
  readonly acknowledged = new Set<number>();
  promotions = 0;
  private lastId = 0;

  constructor(count: number) {
    this.members = Array.from({ length: count }, () => ({
      incarnation: 0,
      held: [],
      isAcknowledging: false,
      acknowledgedTo: 0,
      boot: 0,
      isFlushing: false,
      flushed: 0,
    }));
    this.rule = firstRule({ epoch: 1, primary: this.voter(0), replicas: [], members: count, durability: 'majority' });
  }

  voter(ordinal: number) {
    const { incarnation, boot } = this.members[ordinal]!;
    return { ordinal, incarnation: `${ordinal}/${incarnation}`, bootId: `boot ${boot}` };
  }

  replicas(): number[] {
    return this.members.map((_, ordinal) => ordinal).filter((ordinal) => ordinal !== this.rule.primary);
  }

  want(bits: number, k: number, ackFlush: WantedVoters['ackFlush'] = 'os'): void {
    const replicas = this.replicas().filter((ordinal) => bits & (1 << ordinal));
    this.wanted = { replicas: replicas.map((ordinal) => this.voter(ordinal)), k, ackFlush };
  }

  commit(): number {
    this.log.push(++this.lastId);
    this.settle();
    return this.lastId;
  }

  deliver(ordinal: number, count: number): void {
    const member = this.members[ordinal]!;
    if (ordinal === this.rule.primary) return;
    member.held = this.log.slice(0, member.held.length + count);
    if (member.isFlushing) member.flushed = member.held.length;
    if (member.isAcknowledging) member.acknowledgedTo = member.held.length;
    this.settle();
  }

  private settle(): void {
    this.log.forEach((id, index) => {
      const count = this.members.filter((member) => member.acknowledgedTo > index).length;
      if (count >= this.primaryK) this.acknowledged.add(id);
    });
  }

  /** mysqld of a replica starts again: acknowledging is off in my.cnf, and it flushes as it is told at every start. */
  restart(ordinal: number): void {
    const member = this.members[ordinal]!;
    member.isAcknowledging = false;
    member.isFlushing = ackFlushOf(this.rule, this.wanted.ackFlush, ordinal) === 'disk';
    if (member.isFlushing) member.flushed = member.held.length;
  }

  /** Its host loses power. What it forgets it was not the only one to know: the primary has all that it logged. */
  reboot(ordinal: number): void {
    if (ordinal === this.rule.primary) return;
    const member = this.members[ordinal]!;
    member.held = member.held.slice(0, member.flushed);
    member.boot += 1;
    this.restart(ordinal);
    this.wanted = { ...this.wanted, replicas: this.wanted.replicas.map((one) => this.voter(one.ordinal)) };
  }

  /** It was reached in a change of the primary: whoever has a voter's place is told to acknowledge, memory or not. */
  tell(ordinal: number): void {
    const { incarnation } = this.voter(ordinal);
    const isPlace = this.rule.voters.some((one) => one.ordinal === ordinal && one.incarnation === incarnation);
    if (ordinal !== this.rule.primary && isPlace) this.members[ordinal]!.isAcknowledging = true;
  }

  /** All data of a replica is lost, also of a voter. */
  rebuild(ordinal: number): void {
    if (ordinal === this.rule.primary) return;
    this.renew(ordinal);
    this.settle();
  }

  private renew(ordinal: number): void {
    const { incarnation, boot, isFlushing } = this.members[ordinal]!;
    const empty = { held: [], isAcknowledging: false, acknowledgedTo: 0, flushed: 0 };
    this.members[ordinal] = { ...empty, incarnation: incarnation + 1, boot, isFlushing };
  }

  /** One loop of the controller. `doubt`: bits of members about whom nothing is known; `ends`: it dies before storing. */
  step(doubt: number, ends: boolean): string {
    const step = nextVoterStep(this.rule, this.wanted, {
      primaryK: this.primaryK,
      members: this.replicas().map((ordinal) => ({
        ...this.voter(ordinal),
        acknowledges: doubt & (1 << ordinal) ? 'unknown' : this.members[ordinal]!.isAcknowledging ? 'yes' : 'no',
        flushes: doubt & (1 << ordinal) ? undefined : this.members[ordinal]!.isFlushing,
        // By a status of the primary that may be old.
        holdsAll: (doubt & (1 << (ordinal + 10))) !== 0 || this.executesAll(ordinal),
        isCaughtUp: (doubt & (1 << (ordinal + 5))) === 0,
      })),
    });
    if (step.kind === 'storeRule' && (step.holder === undefined || this.executesAll(step.holder)))
      this.store(step.rule);
    if (step.kind === 'setVoter') this.setVoter(step);
    if (step.kind === 'setAcknowledgements') {
      this.primaryK = step.k;
      this.settle();
      const barrier = this.commit();
      for (const ordinal of this.replicas())
        if (!(doubt & (1 << (ordinal + 10))) && !this.acknowledged.has(barrier)) this.deliver(ordinal, this.log.length);
      const { holder = -1 } = step;
      if (holder >= 0 && !(doubt & (1 << (holder + 5)))) this.deliver(holder, this.log.length);
      const isHeld = step.holder === undefined || this.executesAll(step.holder);
      if (this.acknowledged.has(barrier) && isHeld && !ends && step.thenRule) this.store(step.thenRule);
    }
    return step.kind;
  }

  private setVoter({ ordinal, isVoter, ackFlush }: Extract<VoterStep, { kind: 'setVoter' }>): void {
    const member = this.members[ordinal]!;
    if (ackFlush === 'disk') member.flushed = member.held.length;
    member.isFlushing = ackFlush === undefined ? member.isFlushing : ackFlush === 'disk';
    member.isAcknowledging = isVoter;
  }

  /** What is executed is on disk, however it was received. */
  private executesAll(ordinal: number): boolean {
    const member = this.members[ordinal]!;
    if (member.held.length < this.log.length) return false;
    member.flushed = member.held.length;
    return true;
  }

  private store(rule: VoterRule): void {
    if (rule.version !== this.rule.version + 1 || rule.epoch !== this.rule.epoch) throw new Error('lost the race');
    this.rule = rule;
  }

  private reached(bits: number) {
    const ordinals = this.replicas().filter((ordinal) => bits & (1 << ordinal));
    return ordinals.map((ordinal) => this.reach(ordinal, this.members[ordinal]!.held));
  }

  private reach(ordinal: number, held: readonly number[]) {
    return { ...this.voter(ordinal), gtid: gtidsOf(held), isApplierRunning: true };
  }

  private facts() {
    return { lastKnownPrimaryGtid: '', isLastKnownFinal: false };
  }

  /** Acknowledged transactions that a promotion called safe would lose. */
  findLoss(): string | null {
    for (let bits = 0; bits < 1 << this.members.length; bits++) {
      if (!isPromotionSafe(this.rule, this.reached(bits), this.facts()).safe) continue;
      const held = new Set(this.replicas().flatMap((one) => (bits & (1 << one) ? this.members[one]!.held : [])));
      const lost = [...this.acknowledged].filter((id) => !held.has(id));
      if (lost.length > 0) return `reached ${bits.toString(2)} lacks ${lost} under ${JSON.stringify(this.rule)}`;
    }
    return null;
  }

  isSafeWithAll(): boolean {
    return isPromotionSafe(this.rule, this.reached(31), this.facts()).safe;
  }

  /** The primary hands over: its writes end, the candidate catches up, all others stay as far as they are. */
  switchover(candidate: number): void {
    const old = this.rule.primary;
    if (candidate === old) return;
    this.deliver(candidate, this.log.length);
    const reached = [this.reach(old, this.log), this.reach(candidate, this.log)];
    const choice = choosePrimary({ ...this.facts(), rule: this.rule, reached, candidate, preferences: [] });
    if (choice.kind === 'refused') return;
    const all = { held: [...this.log], flushed: this.log.length };
    this.members[old] = { ...this.members[old]!, ...all, isAcknowledging: false };
    this.promote(candidate, choice.catchUpTo, true);
  }

  /** The primary is given up; it lives on for a while with those who were not frozen. */
  failover(bits: number): void {
    const choice = choosePrimary({ ...this.facts(), rule: this.rule, reached: this.reached(bits), preferences: [] });
    if (choice.kind === 'refused') return;
    this.commit();
    for (const ordinal of this.replicas()) if (!(bits & (1 << ordinal))) this.deliver(ordinal, this.log.length);
    const log = this.members[choice.ordinal]!.held;
    const lost = [...this.acknowledged].filter((id) => !log.includes(id));
    if (lost.length > 0) throw new Error(`promoted ${choice.ordinal} without ${lost}`);

    this.renew(this.rule.primary);
    this.promote(choice.ordinal, choice.catchUpTo, false);
  }

  private promote(chosen: number, held: string, isPrimaryDemoted: boolean): void {
    const log = [...this.members[chosen]!.held];
    this.rule = ruleAfterPromotion(this.rule, { chosen, isPrimaryDemoted, held });
    this.promotions++;
    this.log = log;
    this.primaryK = this.rule.k;
    this.members.forEach((member, ordinal) => {
      const isPrefix = member.held.every((id, index) => id === log[index]);
      if (ordinal !== chosen && !isPrefix) this.renew(ordinal);
      this.members[ordinal]!.acknowledgedTo = 0;
    });
    this.members[chosen]!.isAcknowledging = false;
    for (const id of log) this.acknowledged.add(id);
  }
}
