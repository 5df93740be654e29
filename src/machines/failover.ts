/**
 * A change of the primary: the first one, a failover, a switchover. One order for all three
 * (docs/failover-safety.md): fence → choose → catch up → COMMIT POINT → activate. Nothing before the commit point
 * destroys a channel or a relay log, and an attempt that stops there is undone; after it there is no way back.
 */
import { assign, setup } from 'xstate';
import { effect } from './effect.ts';

export interface FailoverInput {
  readonly clusterId: string;
  readonly failoverId: string;
}

/** The stored facts of the failover that decide where to go on. */
export interface FailoverProgress {
  readonly isOpen: boolean;
  readonly isFenced: boolean;
  readonly isChosen: boolean;
  readonly isCaughtUp: boolean;
  readonly isCommitted: boolean;
  readonly isActivated: boolean;
  /** Its undoing was begun: what it found out before is not true any more. */
  readonly isTakenBack: boolean;
}

export const failoverDeadlinesMs = {
  reading: 10_000,
  /** A switchover pauses writes for as long as it was asked to, at most a minute. */
  fencing: 75_000,
  choosing: 10_000,
  catchingUp: 60_000,
  committing: 10_000,
  activating: 60_000,
  undoing: 30_000,
} as const;

export const failoverMachine = setup({
  types: {
    input: {} as FailoverInput,
    context: {} as FailoverInput & { readonly progress: FailoverProgress | null; readonly error: unknown },
  },
  actors: {
    readProgress: effect<FailoverProgress, FailoverInput>('readProgress'),
    fence: effect<void, FailoverInput>('fence'),
    choose: effect<void, FailoverInput>('choose'),
    catchUp: effect<void, FailoverInput>('catchUp'),
    commit: effect<void, FailoverInput>('commit'),
    activate: effect<void, FailoverInput>('activate'),
    undo: effect<void, FailoverInput & { readonly error: unknown }>('undo'),
    close: effect<void, FailoverInput>('close'),
  },
  actions: { logIgnored: () => {}, logRetry: (_, _params: { error: unknown }) => {} },
  guards: {
    isClosed: ({ context }) => context.progress?.isOpen === false,
    isActivated: ({ context }) => context.progress?.isActivated === true,
    isCommitted: ({ context }) => context.progress?.isCommitted === true,
    isTakenBack: ({ context }) => context.progress?.isTakenBack === true,
    isCaughtUp: ({ context }) => context.progress?.isCaughtUp === true,
    isChosen: ({ context }) => context.progress?.isChosen === true,
    isFenced: ({ context }) => context.progress?.isFenced === true,
  },
  delays: { ...failoverDeadlinesMs, retry: 250 },
}).createMachine({
  id: 'failover',
  context: ({ input }) => ({ ...input, progress: null, error: null }),
  initial: 'resuming',
  on: { '*': { actions: 'logIgnored' } },
  states: {
    resuming: {
      invoke: {
        src: 'readProgress',
        input: ({ context }) => context,
        onDone: { target: 'routing', actions: assign({ progress: ({ event }) => event.output }) },
        onError: { target: 'waiting', actions: { type: 'logRetry', params: ({ event }) => event } },
      },
      after: { reading: 'waiting' },
    },
    routing: {
      always: [
        { guard: 'isClosed', target: 'done' },
        { guard: 'isActivated', target: 'closing' },
        { guard: 'isCommitted', target: 'activating' },
        { guard: 'isTakenBack', target: 'undoing' },
        { guard: 'isCaughtUp', target: 'committing' },
        { guard: 'isChosen', target: 'catchingUp' },
        { guard: 'isFenced', target: 'choosing' },
        { target: 'fencing' },
      ],
    },
    fencing: {
      invoke: {
        src: 'fence',
        input: ({ context }) => context,
        onDone: 'choosing',
        onError: { target: 'undoing', actions: assign({ error: ({ event }) => event.error }) },
      },
      after: { fencing: 'undoing' },
    },
    choosing: {
      invoke: {
        src: 'choose',
        input: ({ context }) => context,
        onDone: 'catchingUp',
        onError: { target: 'undoing', actions: assign({ error: ({ event }) => event.error }) },
      },
      after: { choosing: 'undoing' },
    },
    catchingUp: {
      invoke: {
        src: 'catchUp',
        input: ({ context }) => context,
        onDone: 'committing',
        onError: { target: 'undoing', actions: assign({ error: ({ event }) => event.error }) },
      },
      after: { catchingUp: 'undoing' },
    },
    // The compare-and-set may have been carried out although its answer was lost: the facts say where we are.
    committing: {
      invoke: {
        src: 'commit',
        input: ({ context }) => context,
        onDone: 'activating',
        onError: { target: 'waiting', actions: { type: 'logRetry', params: ({ event }) => event } },
      },
      after: { committing: 'waiting' },
    },
    activating: {
      invoke: {
        src: 'activate',
        input: ({ context }) => context,
        onDone: 'closing',
        onError: { target: 'waiting', actions: { type: 'logRetry', params: ({ event }) => event } },
      },
      after: { activating: 'waiting' },
    },
    closing: {
      invoke: {
        src: 'close',
        input: ({ context }) => context,
        onDone: 'done',
        onError: { target: 'waiting', actions: { type: 'logRetry', params: ({ event }) => event } },
      },
      after: { reading: 'waiting' },
    },
    undoing: {
      invoke: {
        src: 'undo',
        input: ({ context }) => context,
        onDone: 'done',
        onError: { target: 'waiting', actions: { type: 'logRetry', params: ({ event }) => event } },
      },
      after: { undoing: 'waiting' },
    },
    waiting: { after: { retry: 'resuming' } },
    done: { type: 'final' },
  },
});
