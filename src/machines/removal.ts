/** Takes one backup off its volume. The intent is stored; it is tried until it is done, or until nothing is left to do it on. */
import { setup } from 'xstate';
import { effect } from './effect.ts';

export interface RemovalInput {
  readonly clusterId: string;
  readonly backupId: string;
}

export const removalMachine = setup({
  types: { input: {} as RemovalInput, context: {} as RemovalInput },
  actors: { remove: effect<void, RemovalInput>('remove') },
  actions: { logIgnored: () => {} },
  delays: { removing: 60_000, retry: 5000 },
}).createMachine({
  id: 'removal',
  context: ({ input }) => input,
  initial: 'resuming',
  on: { '*': { actions: 'logIgnored' } },
  states: {
    resuming: {
      invoke: { src: 'remove', input: ({ context }) => context, onDone: 'done', onError: 'waiting' },
      after: { removing: 'waiting' },
    },
    waiting: { after: { retry: 'resuming' } },
    done: { type: 'final' },
  },
});
