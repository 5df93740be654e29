/** One verification of one sealed backup. The executor does the work; this chart sees it through. */
import { assign, setup } from 'xstate';
import { effect } from './effect.ts';

export interface VerifyInput {
  readonly clusterId: string;
  readonly verificationId: string;
}

export const verifyMachine = setup({
  types: {
    input: {} as VerifyInput,
    context: {} as VerifyInput & { readonly error: unknown },
  },
  actors: {
    /** Says whether the row is still open. */
    check: effect<{ readonly isOpen: boolean }, VerifyInput>('check'),
    read: effect<void, VerifyInput>('read'),
    fail: effect<void, VerifyInput & { readonly error: unknown }>('fail'),
  },
  actions: { logIgnored: () => {} },
  guards: { isOpen: (_, params: { isOpen: boolean }) => params.isOpen },
  delays: { checking: 30_000, reading: 24 * 3600_000, failing: 10_000, retry: 1000 },
}).createMachine({
  id: 'verify',
  context: ({ input }) => ({ ...input, error: null }),
  initial: 'resuming',
  on: { '*': { actions: 'logIgnored' } },
  states: {
    resuming: {
      invoke: {
        src: 'check',
        input: ({ context }) => context,
        onDone: [
          { guard: { type: 'isOpen', params: ({ event }) => event.output }, target: 'reading' },
          { target: 'done' },
        ],
        onError: { target: 'failing', actions: assign({ error: ({ event }) => event.error }) },
      },
      after: { checking: 'failing' },
    },
    reading: {
      invoke: {
        src: 'read',
        input: ({ context }) => context,
        onDone: 'done',
        onError: { target: 'failing', actions: assign({ error: ({ event }) => event.error }) },
      },
      after: { reading: 'failing' },
    },
    failing: {
      invoke: { src: 'fail', input: ({ context }) => context, onDone: 'done', onError: 'waiting' },
      after: { failing: 'waiting' },
    },
    waiting: { after: { retry: 'resuming' } },
    done: { type: 'final' },
  },
});
