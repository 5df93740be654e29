/**
 * One member: reserve → launch → start → join → serve → stop → release. Of a cluster whose volumes are retained: stop →
 * parked, and lending while a copy reads them.
 *
 * Facts live in the store, in Mesos and on the agent. Every way in goes through `resuming`, which reads them and
 * routes; a crash of the control plane is nothing but another way in. Effects look before they act and may run twice.
 */
import { assign, setup } from 'xstate';
import { effect } from './effect.ts';

export interface MemberInput {
  readonly clusterId: string;
  readonly ordinal: number;
}

/** What the routing looks at; read anew each time. */
export interface MemberFacts {
  readonly desired: 'present' | 'gone';
  /** A launch that Mesos has not reported as ended. */
  readonly hasLiveTask: boolean;
  /** Resources are, or may be, reserved for the member. */
  readonly hasBundle: boolean;
  /** Its task has to end, so that it is launched anew with another backup volume. */
  readonly mustEnd: boolean;
  /** The executor says that mysqld runs. */
  readonly isInstanceRunning: boolean;
  /** Its cluster has ended and its volumes are kept: nothing is to run. */
  readonly isParked: boolean;
  /** As parked, but a copy reads its volumes: its executor is to run, mysqld is not. */
  readonly isLending: boolean;
  /** A failed step waits until then. */
  readonly retryAt: number | null;
}

/** How long each state may take before the facts are read again, in milliseconds. */
export const memberDeadlinesMs = {
  reading: 10_000,
  placing: 60_000,
  starting: 180_000,
  joining: 600_000,
  serving: 600_000,
  parked: 600_000,
  lending: 600_000,
  stopping: 180_000,
  releasing: 60_000,
  backingOff: 120_000,
  retry: 1000,
} as const;

export const memberMachine = setup({
  types: {
    input: {} as MemberInput,
    context: {} as MemberInput & { readonly facts: MemberFacts | null },
    events: {} as { type: 'intent.changed' },
  },
  actors: {
    readFacts: effect<MemberFacts, MemberInput>('readFacts'),
    place: effect<void, MemberInput>('place'),
    startInstance: effect<void, MemberInput>('startInstance'),
    join: effect<void, MemberInput>('join'),
    serve: effect<void, MemberInput>('serve'),
    park: effect<void, MemberInput>('park'),
    lend: effect<void, MemberInput>('lend'),
    stopTask: effect<void, MemberInput>('stopTask'),
    release: effect<void, MemberInput>('release'),
    backOff: effect<void, MemberInput>('backOff'),
  },
  actions: {
    recordPhase: (_, _params: { phase: string }) => {},
    recordFailure: (_, _params: { error: unknown }) => {},
    logIgnored: () => {},
  },
  guards: {
    isWaiting: ({ context }) => context.facts?.desired === 'present' && context.facts.retryAt !== null,
    mustStop: ({ context: { facts } }) =>
      facts?.hasLiveTask === true && (facts.desired === 'gone' || facts.isParked || facts.mustEnd),
    mustRelease: ({ context }) => context.facts?.desired === 'gone' && context.facts.hasBundle,
    isGone: ({ context }) => context.facts?.desired === 'gone',
    isParked: ({ context }) => context.facts?.isParked === true,
    isLending: ({ context }) => context.facts?.isLending === true,
    needsTask: ({ context }) => context.facts?.hasLiveTask === false,
    needsInstance: ({ context }) => context.facts?.isInstanceRunning === false,
  },
  delays: memberDeadlinesMs,
}).createMachine({
  id: 'member',
  context: ({ input }) => ({ ...input, facts: null }),
  initial: 'resuming',
  on: {
    'intent.changed': '.resuming',
    '*': { actions: 'logIgnored' },
  },
  states: {
    resuming: {
      invoke: {
        src: 'readFacts',
        input: ({ context }) => context,
        onDone: { target: 'routing', actions: assign({ facts: ({ event }) => event.output }) },
        onError: { target: 'backingOff', actions: { type: 'recordFailure', params: ({ event }) => event } },
      },
      after: { reading: 'backingOff' },
    },
    routing: {
      always: [
        { guard: 'mustStop', target: 'stopping' },
        { guard: 'mustRelease', target: 'releasing' },
        { guard: 'isGone', target: 'gone' },
        { guard: 'isParked', target: 'parked' },
        { guard: 'isWaiting', target: 'backingOff' },
        { guard: 'needsTask', target: 'placing' },
        { guard: 'isLending', target: 'lending' },
        { guard: 'needsInstance', target: 'starting' },
        { target: 'joining' },
      ],
    },
    placing: {
      entry: { type: 'recordPhase', params: { phase: 'placing' } },
      invoke: {
        src: 'place',
        input: ({ context }) => context,
        onDone: 'resuming',
        onError: { target: 'backingOff', actions: { type: 'recordFailure', params: ({ event }) => event } },
      },
      after: { placing: 'resuming' },
    },
    starting: {
      entry: { type: 'recordPhase', params: { phase: 'starting' } },
      invoke: {
        src: 'startInstance',
        input: ({ context }) => context,
        onDone: 'resuming',
        onError: { target: 'backingOff', actions: { type: 'recordFailure', params: ({ event }) => event } },
      },
      after: { starting: 'resuming' },
    },
    joining: {
      entry: { type: 'recordPhase', params: { phase: 'joining' } },
      invoke: {
        src: 'join',
        input: ({ context }) => context,
        onDone: 'serving',
        onError: { target: 'backingOff', actions: { type: 'recordFailure', params: ({ event }) => event } },
      },
      after: { joining: 'resuming' },
    },
    serving: {
      entry: { type: 'recordPhase', params: { phase: 'serving' } },
      invoke: {
        src: 'serve',
        input: ({ context }) => context,
        onDone: 'resuming',
        onError: { target: 'backingOff', actions: { type: 'recordFailure', params: ({ event }) => event } },
      },
      after: { serving: 'resuming' },
    },
    parked: {
      entry: { type: 'recordPhase', params: { phase: 'parked' } },
      invoke: {
        src: 'park',
        input: ({ context }) => context,
        onDone: 'resuming',
        onError: { target: 'backingOff', actions: { type: 'recordFailure', params: ({ event }) => event } },
      },
      after: { parked: 'resuming' },
    },
    lending: {
      entry: { type: 'recordPhase', params: { phase: 'lending' } },
      invoke: {
        src: 'lend',
        input: ({ context }) => context,
        onDone: 'resuming',
        onError: { target: 'backingOff', actions: { type: 'recordFailure', params: ({ event }) => event } },
      },
      after: { lending: 'resuming' },
    },
    stopping: {
      entry: { type: 'recordPhase', params: { phase: 'stopping' } },
      invoke: {
        src: 'stopTask',
        input: ({ context }) => context,
        onDone: 'resuming',
        onError: { target: 'backingOff', actions: { type: 'recordFailure', params: ({ event }) => event } },
      },
      after: { stopping: 'resuming' },
    },
    releasing: {
      entry: { type: 'recordPhase', params: { phase: 'releasing' } },
      invoke: {
        src: 'release',
        input: ({ context }) => context,
        onDone: 'resuming',
        onError: { target: 'backingOff', actions: { type: 'recordFailure', params: ({ event }) => event } },
      },
      after: { releasing: 'resuming' },
    },
    backingOff: {
      invoke: {
        src: 'backOff',
        input: ({ context }) => context,
        onDone: 'resuming',
        onError: 'waiting',
      },
      after: { backingOff: 'resuming' },
    },
    // Even the pause could not be noted (the store is away, or a newer leader took over): never at once again.
    waiting: { after: { retry: 'resuming' } },
    gone: { entry: { type: 'recordPhase', params: { phase: 'gone' } }, type: 'final' },
  },
});
