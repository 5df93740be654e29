/**
 * The end of a cluster whose volumes are retained: nobody takes writes any more (and what was acknowledged is known) →
 * mysqld of all members has ended, their archives are as whole as they get → no task is left. Each fact is stored before
 * the next step; the tasks are ended by the member machines. There is no way back, but a person may purge it at any time.
 */
import { assign, setup } from 'xstate';
import { effect } from './effect.ts';

export interface RetirementInput {
  readonly clusterId: string;
}

/** The stored facts that decide where to go on. */
export interface RetirementProgress {
  /** No task is left, or a person has purged it. */
  readonly isOver: boolean;
  readonly isQuiet: boolean;
  readonly isEnded: boolean;
}

export const retirementMachine = setup({
  types: {
    input: {} as RetirementInput,
    context: {} as RetirementInput & { readonly progress: RetirementProgress | null },
  },
  actors: {
    readProgress: effect<RetirementProgress, RetirementInput>('readProgress'),
    quieten: effect<void, RetirementInput>('quieten'),
    endInstances: effect<void, RetirementInput>('endInstances'),
    /** Until no task is left. */
    settle: effect<void, RetirementInput>('settle'),
  },
  actions: {
    logIgnored: () => {},
    logRetry: (_, _params: { error: unknown }) => {},
  },
  guards: {
    isOver: ({ context }) => context.progress?.isOver === true,
    isEnded: ({ context }) => context.progress?.isEnded === true,
    isQuiet: ({ context }) => context.progress?.isQuiet === true,
  },
  delays: { reading: 10_000, quietening: 120_000, ending: 600_000, settling: 3600_000, retry: 2000 },
}).createMachine({
  id: 'retirement',
  context: ({ input }) => ({ ...input, progress: null }),
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
        { guard: 'isOver', target: 'done' },
        { guard: 'isEnded', target: 'settling' },
        { guard: 'isQuiet', target: 'ending' },
        { target: 'quietening' },
      ],
    },
    quietening: {
      invoke: {
        src: 'quieten',
        input: ({ context }) => context,
        onDone: 'resuming',
        onError: { target: 'waiting', actions: { type: 'logRetry', params: ({ event }) => event } },
      },
      after: { quietening: 'waiting' },
    },
    ending: {
      invoke: {
        src: 'endInstances',
        input: ({ context }) => context,
        onDone: 'resuming',
        onError: { target: 'waiting', actions: { type: 'logRetry', params: ({ event }) => event } },
      },
      after: { ending: 'waiting' },
    },
    settling: {
      invoke: {
        src: 'settle',
        input: ({ context }) => context,
        onDone: 'resuming',
        onError: { target: 'waiting', actions: { type: 'logRetry', params: ({ event }) => event } },
      },
      after: { settling: 'waiting' },
    },
    waiting: { after: { retry: 'resuming' } },
    done: { type: 'final' },
  },
});
