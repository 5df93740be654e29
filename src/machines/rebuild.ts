/**
 * Filling a member's data volume anew, on its own agent. The member leaves the voters, and the others have caught up,
 * before its data is touched; the way (own backup, clone) is chosen and stored before the executor is told.
 */
import { assign, setup } from 'xstate';
import { effect } from './effect.ts';

export interface RebuildInput {
  readonly clusterId: string;
  readonly rebuildId: string;
}

export const rebuildMachine = setup({
  types: {
    input: {} as RebuildInput,
    context: {} as RebuildInput & { readonly error: unknown },
  },
  actors: {
    check: effect<{ readonly isOpen: boolean }, RebuildInput>('check'),
    leaveVoters: effect<void, RebuildInput>('leaveVoters'),
    chooseWay: effect<void, RebuildInput>('chooseWay'),
    fill: effect<void, RebuildInput>('fill'),
    /** Counts the failed try: another way or another try while the budget lasts, else the row is closed as failed. */
    fail: effect<void, RebuildInput & { readonly error: unknown }>('fail'),
  },
  // A deadline passed: what went wrong in an earlier try is not the reason.
  actions: { logIgnored: () => {}, forgetError: assign({ error: null }) },
  guards: { isOpen: (_, params: { isOpen: boolean }) => params.isOpen },
  delays: {
    checking: 30_000,
    leaving: 120_000,
    choosing: 60_000,
    filling: 24 * 3600_000,
    failing: 10_000,
    retry: 2000,
  },
}).createMachine({
  id: 'rebuild',
  context: ({ input }) => ({ ...input, error: null }),
  initial: 'resuming',
  on: { '*': { actions: 'logIgnored' } },
  states: {
    resuming: {
      invoke: {
        src: 'check',
        input: ({ context }) => context,
        onDone: [
          { guard: { type: 'isOpen', params: ({ event }) => event.output }, target: 'leavingVoters' },
          { target: 'done' },
        ],
        onError: { target: 'failing', actions: assign({ error: ({ event }) => event.error }) },
      },
      after: { checking: { target: 'failing', actions: 'forgetError' } },
    },
    leavingVoters: {
      invoke: {
        src: 'leaveVoters',
        input: ({ context }) => context,
        onDone: 'choosingWay',
        onError: { target: 'failing', actions: assign({ error: ({ event }) => event.error }) },
      },
      after: { leaving: { target: 'failing', actions: 'forgetError' } },
    },
    choosingWay: {
      invoke: {
        src: 'chooseWay',
        input: ({ context }) => context,
        onDone: 'filling',
        onError: { target: 'failing', actions: assign({ error: ({ event }) => event.error }) },
      },
      after: { choosing: { target: 'failing', actions: 'forgetError' } },
    },
    filling: {
      invoke: {
        src: 'fill',
        input: ({ context }) => context,
        onDone: 'done',
        onError: { target: 'failing', actions: assign({ error: ({ event }) => event.error }) },
      },
      after: { filling: { target: 'failing', actions: 'forgetError' } },
    },
    failing: {
      invoke: { src: 'fail', input: ({ context }) => context, onDone: 'waiting', onError: 'waiting' },
      after: { failing: 'waiting' },
    },
    waiting: { after: { retry: 'resuming' } },
    done: { type: 'final' },
  },
});
