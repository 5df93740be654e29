/**
 * Faults of the program, planted on purpose, each with a world that finds it. `patches` change lines of src/, `mutants`
 * the model of the executor. `heldBy`: another layer holds when only one of the two is planted; both together are found.
 */
import type { Fault } from './faults.ts';
import type { Mutant } from './member.ts';
import type { Patch } from './plant.ts';

interface Change {
  readonly mutants?: readonly Mutant[];
  readonly patches?: readonly Patch[];
}

export interface Planted extends Change {
  readonly name: string;
  /** How the violation begins. */
  readonly breaks: string;
  readonly heldBy?: Change & { readonly layer: string };
  readonly seed: number;
  readonly faults: readonly Fault[];
}

const launchLater = `insertLaunch(context.store, context.leader, input)`;

const comparedBeforeItFollows: Planted['heldBy'] = {
  layer: 'a member is compared with the primary before it follows',
  patches: [
    { file: 'controller/joining.ts', find: 'if (!isGtidSetEmpty(errant)) return', replace: 'if (false) return' },
  ],
};

/** A switchover of which everything is late after the commit point, by far more than the pause may last. */
const lateSwitchover: readonly Fault[] = [
  { at: 14_999, kind: 'lateCommands', ms: 30_000, count: 30, epoch: 2 },
  { at: 15_000, kind: 'switchover', candidate: 1 },
  { at: 55_000, kind: 'cutStreams' },
];

const unsealed: Patch = {
  file: 'controller/failover-choice.ts',
  find: 'if (row.facts.hasLease) await seal(',
  replace: 'if (false) await seal(',
};

export const planted: readonly Planted[] = [
  {
    name: 'promote before the relay log is applied',
    mutants: ['promote-before-applied'],
    breaks: 'G1',
    seed: 1,
    faults: [
      { at: 9000, kind: 'slowApplier', target: 1, ms: 20_000 },
      { at: 9000, kind: 'slowApplier', target: 2, ms: 20_000 },
      { at: 12_000, kind: 'killMysqld', target: 'primary' },
    ],
  },
  {
    name: 'same-boot-id',
    mutants: ['same-boot-id'],
    breaks: 'G1',
    // Of those whose replicas do not flush.
    seed: 5,
    faults: [
      { at: 8900, kind: 'cutControl', target: 0, ms: 60_000 },
      { at: 9000, kind: 'slowApplier', target: 1, ms: 20_000 },
      { at: 9000, kind: 'slowApplier', target: 2, ms: 20_000 },
      { at: 12_000, kind: 'isolate', target: 0, ms: 40_000 },
      { at: 12_100, kind: 'rebootHost', target: 1, keepsId: true },
      { at: 12_100, kind: 'rebootHost', target: 2, keepsId: true },
      { at: 25_000, kind: 'failover', candidate: null, force: true },
    ],
  },
  {
    name: 'a freeze that does not stop the receiver',
    mutants: ['freeze-without-stop'],
    breaks: 'G2',
    seed: 1,
    faults: [
      { at: 9000, kind: 'cutControl', target: 'primary', ms: 30_000 },
      { at: 9500, kind: 'failover', candidate: null, force: true },
      { at: 9700, kind: 'lateCommands', ms: 1500, count: 3 },
    ],
  },
  {
    name: 'trust an empty volume',
    mutants: ['trust-empty-volume'],
    breaks: 'G4',
    seed: 1,
    faults: [{ at: 9000, kind: 'diskAway', target: 1, ms: 20_000 }],
  },
  {
    // Its disk goes away when it was filled and that is not remembered.
    name: 'initialise whatever directory is there',
    patches: [{ file: 'controller/member-actors.ts', find: ')) === place;', replace: ")) !== '';" }],
    breaks: 'G4',
    seed: 3751,
    faults: [
      { at: 1610, kind: 'diskAway', target: 1, ms: 20_000 },
      { at: 1611, kind: 'killController' },
    ],
  },
  {
    name: 'start a member whose volume was emptied as if it had never been filled',
    patches: [
      {
        file: 'controller/member-actors.ts',
        find: 'if (member.initialisedAt !== null || !bundle || !status) return false;',
        replace: 'if (!bundle || !status) return false;',
      },
      {
        file: 'controller/member-actors.ts',
        find: "if (judgeData(self)?.kind === 'take') return",
        replace: 'if (false) return',
      },
    ],
    breaks: 'G4',
    seed: 1,
    faults: [{ at: 15_000, kind: 'emptyVolume', target: 1, volume: 'data' }],
  },
  {
    name: 'keep the server_uuid after a trim',
    mutants: ['keep-server-uuid'],
    breaks: 'G1',
    seed: 1,
    faults: [
      { at: 9000, kind: 'cutMembers', a: 0, b: 1, ms: 8000 },
      { at: 9000, kind: 'cutMembers', a: 0, b: 2, ms: 8000 },
      { at: 12_000, kind: 'killMysqld', target: 0 },
      { at: 30_000, kind: 'switchover', candidate: 0 },
      { at: 33_000, kind: 'backup', target: 0 },
    ],
  },
  {
    // A refused switchover makes the old primary writable again, in its epoch; here that command comes 22 s late.
    name: 'skip the epoch check in the executor',
    mutants: ['skip-epoch-check'],
    heldBy: { layer: 'the order of the commands of one leader', mutants: ['skip-order'] },
    breaks: 'G2',
    seed: 1,
    faults: [
      { at: 14_900, kind: 'killMysqld', target: 1 },
      { at: 14_901, kind: 'lateCommands', ms: 22_000, count: 1, command: 'promote' },
      { at: 14_910, kind: 'switchover', candidate: 1 },
      { at: 36_000, kind: 'switchover', candidate: 2 },
      { at: 36_008, kind: 'cutMembers', a: 0, b: 2, ms: 25_000 },
    ],
  },
  {
    // The same command of a leader that is dead by then, in the middle of its successor's switchover.
    name: 'skip the leader token',
    mutants: ['skip-leader-token'],
    heldBy: { layer: 'the paused primary is sealed before the commit point', patches: [unsealed] },
    breaks: 'G1',
    seed: 1,
    faults: [
      { at: 14_900, kind: 'killMysqld', target: 1 },
      { at: 14_901, kind: 'lateCommands', ms: 7190, count: 1, command: 'promote' },
      { at: 14_910, kind: 'switchover', candidate: 1 },
      { at: 15_200, kind: 'killController' },
      { at: 21_970, kind: 'slowApplier', target: 1, ms: 10_000 },
      { at: 22_000, kind: 'switchover', candidate: 1 },
      { at: 22_050, kind: 'cutMembers', a: 0, b: 1, ms: 3000 },
    ],
  },
  {
    name: 'commit without sealing the paused primary',
    patches: [unsealed],
    breaks: 'G2',
    seed: 1,
    faults: lateSwitchover,
  },
  {
    name: 'end a pause that was sealed',
    mutants: ['resume-although-sealed'],
    breaks: 'G2',
    seed: 1,
    faults: lateSwitchover,
  },
  {
    name: 'intent after the ACCEPT',
    patches: [
      {
        file: 'controller/launching.ts',
        find: 'const row = await insertBundle(context.store, context.leader, {',
        replace: 'const row = await bundleLater(context, {',
      },
      {
        file: 'controller/launching.ts',
        find: 'await insertLaunch(context.store, context.leader, {',
        replace: 'await launchLater(context, {',
      },
      {
        file: 'controller/launching.ts',
        find: 'function countBy(',
        replace: `async function bundleLater(context, input) {
          const store = () => void insertBundle(context.store, context.leader, input).catch(() => {});
          context.clock.setTimeout(store, 50);
          return { ...input, state: 'intended', createdAt: 0, lastSeenAt: null, releaseReason: null, releasedAt: null };
        }
        async function launchLater(context, input) {
          context.clock.setTimeout(() => void ${launchLater}.catch(() => {}), 50);
        }
        function countBy(`,
      },
    ],
    breaks: 'G5',
    seed: 1,
    faults: [],
  },
  {
    name: 'forget the tail',
    mutants: ['forget-tail'],
    heldBy: comparedBeforeItFollows,
    breaks: 'G6',
    seed: 1,
    faults: [{ at: 15_000, kind: 'leaveTail', ms: 3000, killAt: null }],
  },
  {
    // Its tail is committed by crash recovery instead of trimmed.
    name: 'forget that an instance was writable when its executor died',
    mutants: ['forget-was-writable'],
    heldBy: comparedBeforeItFollows,
    breaks: 'G6',
    seed: 1,
    faults: [
      { at: 15_000, kind: 'cutMembers', a: 0, b: 1, ms: 8000 },
      { at: 15_000, kind: 'cutMembers', a: 0, b: 2, ms: 8000 },
      { at: 17_000, kind: 'killExecutor', target: 0 },
    ],
  },
  {
    name: 'answer a commit before it is acknowledged',
    mutants: ['answer-before-acknowledged'],
    breaks: 'G1',
    seed: 1,
    faults: [
      { at: 15_000, kind: 'cutMembers', a: 0, b: 1, ms: 8000 },
      { at: 15_000, kind: 'cutMembers', a: 0, b: 2, ms: 8000 },
      { at: 15_000, kind: 'cutControl', target: 0, ms: 8000 },
      { at: 18_000, kind: 'killMysqld', target: 0 },
      { at: 18_000, kind: 'killExecutor', target: 0 },
    ],
  },
  {
    name: 'count a cloning member as voter',
    patches: [
      {
        file: 'controller/rebuild-actors.ts',
        find: 'return view.cluster.rule?.voters.some((voter) => voter.ordinal === rebuild.ordinal) ? undefined : true;',
        replace: 'return true;',
      },
      {
        file: 'controller/voter-actor.ts',
        find: 'exceptRebuilt(view, wanted, k).map(',
        replace: 'wanted.map(',
      },
    ],
    heldBy: {
      layer: 'a voter is one incarnation',
      patches: [
        {
          file: 'cluster/voters.ts',
          find: 'left.ordinal === right.ordinal && left.incarnation === right.incarnation && isSameBoot',
          replace: 'left.ordinal === right.ordinal',
        },
      ],
    },
    breaks: 'G1',
    seed: 1,
    faults: [
      { at: 15_000, kind: 'cutMembers', a: 0, b: 2, ms: 15_000 },
      { at: 15_000, kind: 'cutControl', target: 0, ms: 15_000 },
      { at: 15_300, kind: 'rebuild', target: 1 },
      { at: 15_340, kind: 'cutMembers', a: 0, b: 1, ms: 15_000 },
      { at: 23_000, kind: 'killExecutor', target: 0 },
    ],
  },
  {
    name: 'drop a voter without its transition',
    patches: [
      { file: 'cluster/voter-steps.ts', find: 'if (acknowledging < rule.k) {', replace: 'if (false) {' },
      {
        file: 'cluster/voter-steps.ts',
        find: 'if (rule.k === 0) return store(rule, { voters }, reason);',
        replace: 'return store(rule, { voters }, reason);',
      },
    ],
    breaks: 'G1',
    seed: 1,
    faults: [
      { at: 15_000, kind: 'cutMembers', a: 0, b: 2, ms: 3000 },
      { at: 15_000, kind: 'cutControl', target: 0, ms: 3000 },
      { at: 15_300, kind: 'rebuild', target: 1 },
      { at: 15_500, kind: 'killExecutor', target: 0 },
    ],
  },
  {
    name: 'commit point after writable',
    patches: [
      {
        file: 'controller/failover-commit.ts',
        find: 'const isCommitted = await commitPrimary(',
        replace: `await sendTo(context, view, chosen, { kind: 'promote', k: rule.k, member: chosen, timeoutMs: 3000 },
            { epoch: row.fromEpoch + 1, timeoutMs: 4000, signal: args.signal }).catch(() => {});
          const isCommitted = await commitPrimary(`,
      },
    ],
    breaks: 'G2',
    seed: 6,
    faults: [],
  },
];
