/**
 * Leading a cluster back, in place, to a state of its past: safety backup → fence → fill one member → COMMIT POINT →
 * the others are filled from it. Everything before a data volume is touched can be taken back; after that it goes on
 * until it is done, however often it fails: nobody may go on with the history that is left.
 */
import { assign, setup } from 'xstate';
import { effect } from './effect.ts';

export interface RestoreInput {
  readonly clusterId: string;
  readonly restoreId: string;
}

/** The stored facts of the restore that decide where to go on. */
export interface RestoreProgress {
  readonly isOpen: boolean;
  readonly isSafe: boolean;
  readonly isFenced: boolean;
  readonly isFilled: boolean;
  readonly isCommitted: boolean;
  readonly isUndoing: boolean;
}

export const restoreMachine = setup({
  types: {
    input: {} as RestoreInput,
    context: {} as RestoreInput & { readonly progress: RestoreProgress | null; readonly error: unknown },
  },
  actors: {
    readProgress: effect<RestoreProgress, RestoreInput>('readProgress'),
    backUp: effect<void, RestoreInput>('backUp'),
    fence: effect<void, RestoreInput>('fence'),
    fill: effect<void, RestoreInput>('fill'),
    commit: effect<void, RestoreInput>('commit'),
    /** Until all members serve on the new history, then the row is closed. */
    join: effect<void, RestoreInput>('join'),
    /** Decides from the facts whether it is tried again or taken back, and stores that. */
    fail: effect<void, RestoreInput & { readonly error: unknown }>('fail'),
    undo: effect<void, RestoreInput>('undo'),
  },
  actions: {
    logIgnored: () => {},
    logRetry: (_, _params: { error: unknown }) => {},
    // A deadline passed: what went wrong in an earlier try is not the reason.
    forgetError: assign({ error: null }),
  },
  guards: {
    isClosed: ({ context }) => context.progress?.isOpen === false,
    isCommitted: ({ context }) => context.progress?.isCommitted === true,
    isUndoing: ({ context }) => context.progress?.isUndoing === true,
    isFilled: ({ context }) => context.progress?.isFilled === true,
    isFenced: ({ context }) => context.progress?.isFenced === true,
    isSafe: ({ context }) => context.progress?.isSafe === true,
  },
  delays: {
    reading: 10_000,
    backingUp: 24 * 3600_000,
    /** What runs is waited for, the archive too. */
    fencing: 180_000,
    filling: 24 * 3600_000,
    committing: 300_000,
    joining: 24 * 3600_000,
    failing: 10_000,
    undoing: 180_000,
    retry: 2000,
  },
}).createMachine({
  id: 'restore',
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
        { guard: 'isCommitted', target: 'joining' },
        { guard: 'isUndoing', target: 'undoing' },
        { guard: 'isFilled', target: 'committing' },
        { guard: 'isFenced', target: 'filling' },
        { guard: 'isSafe', target: 'fencing' },
        { target: 'backingUp' },
      ],
    },
    backingUp: {
      invoke: {
        src: 'backUp',
        input: ({ context }) => context,
        onDone: 'fencing',
        onError: { target: 'failing', actions: assign({ error: ({ event }) => event.error }) },
      },
      after: { backingUp: { target: 'failing', actions: 'forgetError' } },
    },
    fencing: {
      invoke: {
        src: 'fence',
        input: ({ context }) => context,
        onDone: 'filling',
        onError: { target: 'failing', actions: assign({ error: ({ event }) => event.error }) },
      },
      after: { fencing: { target: 'failing', actions: 'forgetError' } },
    },
    filling: {
      invoke: {
        src: 'fill',
        input: ({ context }) => context,
        onDone: 'committing',
        onError: { target: 'failing', actions: assign({ error: ({ event }) => event.error }) },
      },
      after: { filling: { target: 'failing', actions: 'forgetError' } },
    },
    // The compare-and-set may have been carried out although its answer was lost: the facts say where we are.
    committing: {
      invoke: {
        src: 'commit',
        input: ({ context }) => context,
        onDone: 'joining',
        onError: { target: 'waiting', actions: { type: 'logRetry', params: ({ event }) => event } },
      },
      after: { committing: 'waiting' },
    },
    joining: {
      invoke: {
        src: 'join',
        input: ({ context }) => context,
        onDone: 'done',
        onError: { target: 'waiting', actions: { type: 'logRetry', params: ({ event }) => event } },
      },
      after: { joining: 'waiting' },
    },
    failing: {
      invoke: { src: 'fail', input: ({ context }) => context, onDone: 'waiting', onError: 'waiting' },
      after: { failing: 'waiting' },
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
