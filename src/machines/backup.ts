/** One full backup of one member onto its backup volume. The executor does the work; this chart sees it through. */
import { assign, setup } from 'xstate';
import { effect } from './effect.ts';

export interface BackupInput {
  readonly clusterId: string;
  readonly backupId: string;
}

export const backupMachine = setup({
  types: {
    input: {} as BackupInput,
    context: {} as BackupInput & { readonly error: unknown },
  },
  actors: {
    /** Says whether the row is still open, and that the member may be backed up at all. */
    check: effect<{ readonly isOpen: boolean }, BackupInput>('check'),
    copy: effect<void, BackupInput>('copy'),
    fail: effect<void, BackupInput & { readonly error: unknown }>('fail'),
  },
  actions: { logIgnored: () => {} },
  guards: { isOpen: (_, params: { isOpen: boolean }) => params.isOpen },
  delays: { checking: 30_000, copying: 24 * 3600_000, failing: 10_000, retry: 1000 },
}).createMachine({
  id: 'backup',
  context: ({ input }) => ({ ...input, error: null }),
  initial: 'resuming',
  on: { '*': { actions: 'logIgnored' } },
  states: {
    resuming: {
      invoke: {
        src: 'check',
        input: ({ context }) => context,
        onDone: [
          { guard: { type: 'isOpen', params: ({ event }) => event.output }, target: 'copying' },
          { target: 'done' },
        ],
        onError: { target: 'failing', actions: assign({ error: ({ event }) => event.error }) },
      },
      after: { checking: 'failing' },
    },
    copying: {
      invoke: {
        src: 'copy',
        input: ({ context }) => context,
        onDone: 'done',
        onError: { target: 'failing', actions: assign({ error: ({ event }) => event.error }) },
      },
      after: { copying: 'failing' },
    },
    failing: {
      invoke: { src: 'fail', input: ({ context }) => context, onDone: 'done', onError: 'waiting' },
      after: { failing: 'waiting' },
    },
    waiting: { after: { retry: 'resuming' } },
    done: { type: 'final' },
  },
});
