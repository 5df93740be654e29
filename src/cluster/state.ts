/**
 * The state of a cluster and why, derived from facts; never stored to decide. docs/states.md explains each.
 * The first that applies, from top to bottom:
 *
 *   deleted       nothing is left
 *   deleting      a person asked for it
 *   retaining     a person asked for it, and to keep the volumes
 *   retained      only its volumes and reservations are left
 *   failing-over  a failover or switchover is open
 *   creating      no primary took writes yet, or a member never had data
 *   blocked       the primary is not writable, or its commits do not complete
 *   degraded      fewer members serve than were asked for
 *   ready         all serve
 *
 * Conditions stand beside the state, at most one of a type; that it is there means that it holds.
 */
import type { ArchiveTrouble } from './archive-troubles.ts';
import type { BackupTrouble } from './backup-troubles.ts';
import type { ClusterSpec, ClusterState, Condition, MemberRole, VoterRule } from './types.ts';
import { acknowledgements } from './voters.ts';

export interface MemberFacts {
  readonly ordinal: number;
  readonly role: MemberRole;
  /** Task runs, executor answers. */
  readonly isLive: boolean;
  /** A writable primary, or a replica that follows and has caught up. */
  readonly isServing: boolean;
  /** Its data volume was filled once. */
  readonly isInitialised: boolean;
  /** Why no offer fits, when it waits for one. */
  readonly waitingForResources: string | null;
  /** It cannot start or join, and only a person or a rebuild helps. */
  readonly refusal: { readonly code: string; readonly message: string } | null;
  /** It runs, and something is wrong that people should know: a broken or stuck replication, a volume that fills. */
  readonly troubles: readonly Trouble[];
}

export interface Trouble {
  readonly code:
    | 'VolumeLost'
    | 'WillBeRebuilt'
    | 'ReceiverError'
    | 'ApplierError'
    | 'ApplierStuck'
    | 'VolumeFilling'
    | 'NotAnswering'
    | 'DataDamaged'
    | 'NotReached';
  readonly message: string;
}

export interface StateFacts {
  readonly spec: ClusterSpec;
  readonly desired: 'present' | 'retained' | 'deleted';
  /** Of a cluster whose volumes are retained: whether no task is left, and where it is, for people. */
  readonly retained?: { readonly isDown: boolean; readonly isWhole: boolean; readonly message: string } | null;
  readonly deletedAt: number | null;
  readonly epoch: number;
  readonly primary: number | null;
  /** The primary of this epoch was seen writable once. */
  readonly isActivated: boolean;
  readonly isPrimaryWritable: boolean;
  /** Its last heartbeat commit is younger than the lease. */
  readonly isPrimaryCommitting: boolean;
  readonly rule: VoterRule | null;
  readonly members: readonly MemberFacts[];
  readonly openFailover: { readonly kind: 'first' | 'failover' | 'switchover'; readonly startedAt: number } | null;
  /** Of the newest failover, when it was refused. */
  readonly failoverRefusal: { readonly code: string; readonly message: string } | null;
  /** For how long the primary's heartbeat commit waits, and how many replicas may acknowledge now; null when it does not wait. */
  readonly commitWaits: { readonly forMs: number; readonly connectedVoters: number } | null;
  /** mysqld of the primary hangs, by proof; null or absent: it does not. */
  readonly hang?: string | null;
  /** If the primary died now nobody would follow: why. */
  readonly rehearsalRefusal: { readonly code: string; readonly message: string } | null;
  /** The primary is in doubt, and what is missing for a proof. */
  readonly suspicion: string | null;
  readonly isAutomationOff: boolean;
  readonly cooldownUntil: number | null;
  /** The audit found commits that nobody acknowledged, or acknowledgements of strangers. */
  readonly durabilityBroken: string | null;
  /** At most one of a type. */
  readonly backupTroubles?: readonly BackupTrouble[];
  /** Conditions that held before: their `since` is kept. */
  readonly previous: readonly Pick<Condition, 'type' | 'since'>[];
  /** UTC milliseconds. */
  readonly now: number;
  /** Where an open restore is, and what to do when it does not go on. */
  readonly restoring?: string | null;
  /** At most one of a type. */
  readonly archiveTroubles?: readonly ArchiveTrouble[];
}

export const conditionTypes = [
  'Ready',
  'Degraded',
  'WritesBlocked',
  'FailingOver',
  'FailoverRefused',
  'Restoring',
  'WaitingForResources',
  'MemberRefused',
  'MemberTrouble',
  'DurabilityReduced',
  'DurabilityBroken',
  'FailoverUnsafe',
  'PrimarySuspected',
  'BackupBad',
  'BackupNoSpace',
  'BackupUnverified',
  'ArchiveBehind',
  'ArchiveGap',
  'AutomationOff',
  'FailoverCooldown',
  'Retained',
  'Deleting',
] as const;
export type ConditionType = (typeof conditionTypes)[number];

/** Total: any facts give exactly one state. */
export function deriveState(facts: StateFacts): { state: ClusterState; conditions: Condition[] } {
  const state = pickState(facts);
  const conditions: Condition[] = [];
  const add = (type: ConditionType, reason: string, message: string) => {
    const since = facts.previous.find((one) => one.type === type)?.since ?? facts.now;
    conditions.push({ type, since, reason, message });
  };
  if (state === 'deleted') return { state, conditions };
  if (state === 'deleting') {
    add('Deleting', 'AskedFor', `${facts.members.length} members are being released`);
    return { state, conditions };
  }
  if (state === 'retaining' || state === 'retained') {
    const { isWhole = true, message = '' } = facts.retained ?? {};
    add('Retained', isWhole ? 'AskedFor' : 'NotWhole', message);
    return { state, conditions };
  }
  if (facts.restoring) add('Restoring', 'AskedFor', facts.restoring);
  addPrimaryConditions(facts, state, add);
  addMemberConditions(facts, state, add);
  for (const { type, reason, message } of facts.archiveTroubles ?? []) add(type, reason, message);
  for (const { type, reason, message } of facts.backupTroubles ?? []) add(type, reason, message);
  return { state, conditions };
}

function pickState(facts: StateFacts): ClusterState {
  if (facts.deletedAt !== null) return 'deleted';
  if (facts.desired === 'deleted') return 'deleting';
  if (facts.desired === 'retained') return facts.retained?.isDown ? 'retained' : 'retaining';
  if (facts.openFailover && facts.openFailover.kind !== 'first') return 'failing-over';
  // After the first epoch an epoch that is not activated is a broken failover, not a creation.
  if (facts.epoch === 0 || (facts.epoch === 1 && !facts.isActivated)) return 'creating';
  if (!canWrite(facts)) return 'blocked';
  if (facts.epoch === 1 && facts.members.some((member) => !member.isInitialised)) return 'creating';
  return countServing(facts) < facts.spec.members ? 'degraded' : 'ready';
}

type Add = (type: ConditionType, reason: string, message: string) => void;

function addPrimaryConditions(facts: StateFacts, state: ClusterState, add: Add): void {
  const { primary, openFailover, failoverRefusal, rule, spec } = facts;
  if (state === 'ready') add('Ready', 'AllServe', `All ${spec.members} members serve, member ${primary} takes writes`);
  if (state === 'failing-over' && openFailover)
    add('FailingOver', openFailover.kind === 'failover' ? 'Failover' : 'Switchover', 'The primary is being changed');
  if (state === 'blocked') {
    const [reason, message] = whyBlocked(facts);
    add('WritesBlocked', reason, message);
    if (failoverRefusal) add('FailoverRefused', failoverRefusal.code, failoverRefusal.message);
  }
  const k = acknowledgements(spec.members, spec.durability);
  if (state !== 'creating' && rule && rule.k < k)
    add('DurabilityReduced', 'TooFewVoters', `Commits wait for ${rule.k} acknowledgements, ${k} are asked for`);
  addFailoverConditions(facts, state, add);
}

/** What people should know before the next incident. */
function addFailoverConditions(facts: StateFacts, state: ClusterState, add: Add): void {
  const { rehearsalRefusal, suspicion, cooldownUntil, durabilityBroken } = facts;
  if (durabilityBroken !== null) add('DurabilityBroken', 'Audit', durabilityBroken);
  if (suspicion !== null) add('PrimarySuspected', 'NoProof', suspicion);
  if (rehearsalRefusal && (state === 'ready' || state === 'degraded')) {
    add(
      'FailoverUnsafe',
      rehearsalRefusal.code,
      `If the primary died now, nobody would follow: ${rehearsalRefusal.message}`,
    );
  }
  if (facts.isAutomationOff)
    add('AutomationOff', 'AskedFor', 'A dead primary is started again; no other one is chosen by itself');
  if (cooldownUntil !== null && cooldownUntil > facts.now) {
    const seconds = Math.ceil((cooldownUntil - facts.now) / 1000);
    add(
      'FailoverCooldown',
      'LatelyFailedOver',
      `No automatic failover for ${seconds} s, or until a person releases it`,
    );
  }
}

function whyBlocked(facts: StateFacts): [reason: string, message: string] {
  const { primary, isPrimaryWritable, rule } = facts;
  if (primary === null) return ['NoPrimary', 'There is no primary'];
  if (!isPrimaryWritable)
    return ['PrimaryNotWritable', `The primary, member ${primary}, does not take writes: ${whatFreesPrimary(facts)}`];
  if (facts.hang != null)
    return ['PrimaryHangs', `Member ${primary}, the primary, hangs: ${facts.hang}; ${whatFollowsHang(facts)}`];
  if (rule && rule.k > 0) return ['CommitsWait', describeWait(facts)];
  return ['CommitsWait', `Commits on member ${primary} do not complete`];
}

/** A hanging primary is not ended while automation may not: nobody but a person changes that. */
function whatFollowsHang({ isAutomationOff, cooldownUntil, now }: StateFacts): string {
  if (isAutomationOff) return 'automation is off: writes wait until a person asks for a failover, or switches it on';
  if (cooldownUntil !== null && cooldownUntil > now)
    return 'a cooldown runs: writes wait for its end, or until a person releases it or asks for a failover';
  return 'another member takes over when it is safe';
}

function whatFreesPrimary({ primary, rule, members, failoverRefusal }: StateFacts): string {
  const isLive = members.find(({ ordinal }) => ordinal === primary)?.isLive ?? false;
  if (!isLive) {
    const next = failoverRefusal
      ? `nobody else may follow (${failoverRefusal.code})`
      : 'another one follows when it is safe';
    return `its task does not run; it goes on when its host is back, else ${next}`;
  }
  const k = rule?.k ?? 0;
  if (k === 0) return 'it is not reached, or starts';
  return `it is not reached, starts, or waits for ${k} acknowledgements; voters that come back free it, or a person who lowers the durability`;
}

/** Since when, and what would free them. */
function describeWait({ primary, rule, members, commitWaits }: StateFacts): string {
  const k = rule?.k ?? 0;
  const wait = `Commits on member ${primary} do not complete; each waits for ${k} acknowledgements`;
  if (!commitWaits) return wait;
  const { forMs, connectedVoters } = commitWaits;
  const missing = k - connectedVoters;
  const away = members.filter(
    ({ ordinal, isServing }) => !isServing && rule?.voters.some((one) => one.ordinal === ordinal),
  );
  const names = away.map(({ ordinal }) => ordinal).filter((ordinal) => ordinal !== primary);
  const who = names.length > 0 ? ` (not serving: ${names.join(', ')})` : '';
  const cure =
    missing > 0
      ? `${missing} more of the voters must come back${who}, or a person lowers the durability`
      : 'the voters are connected: look at their disks and errors';
  return `${wait}, for ${Math.round(forMs / 1000)} s now; ${cure}`;
}

function addMemberConditions(facts: StateFacts, state: ClusterState, add: Add): void {
  const { members, spec } = facts;
  const away = members.filter((member) => !member.isServing);
  if (countServing(facts) < spec.members && state !== 'creating') {
    const words = away.map((member) => `${member.ordinal} (${member.isLive ? 'joins' : 'away'})`);
    const who = words.length > 0 ? `: not ${words.join(', ')}` : '';
    add('Degraded', 'FewerMembers', `${countServing(facts)} of ${spec.members} members serve${who}`);
  }
  const waiting = members.filter((member) => member.waitingForResources !== null);
  if (waiting.length > 0) {
    const words = waiting.map((member) => `member ${member.ordinal}: ${member.waitingForResources}`);
    add('WaitingForResources', 'NoOfferFits', words.join('; '));
  }
  const refused = members.flatMap(({ ordinal, refusal }) => (refusal ? [{ ordinal, ...refusal }] : []));
  const first = refused[0];
  if (first) {
    const words = refused.map((one) => `member ${one.ordinal}: ${one.message} (${one.code})`);
    add('MemberRefused', first.code, words.join('; '));
  }
  const troubles = members.flatMap(({ ordinal, troubles: own }) => own.map((trouble) => ({ ordinal, ...trouble })));
  const heaviest = troubles[0];
  if (heaviest) {
    const words = troubles.map((one) => `member ${one.ordinal}: ${one.message} (${one.code})`);
    add('MemberTrouble', heaviest.code, words.join('; '));
  }
}

function canWrite({ primary, isPrimaryWritable, isPrimaryCommitting }: StateFacts): boolean {
  return primary !== null && isPrimaryWritable && isPrimaryCommitting;
}

function countServing({ members }: StateFacts): number {
  return members.filter((member) => member.isServing).length;
}
