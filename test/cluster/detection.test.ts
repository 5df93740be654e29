import { expect, test } from 'vitest';
import { type ExecutorWitness, judgePrimary, type PrimaryObservations } from '../../src/cluster/detection.ts';

const healthy: ExecutorWitness = {
  instance: 'running',
  reason: null,
  isWritable: true,
  heartbeatPending: null,
  probeFailing: null,
};
const seen = (
  change: Partial<PrimaryObservations> = {},
  executor: Partial<ExecutorWitness> | null = {},
): PrimaryObservations => ({
  containerEnded: null,
  executor: executor && { ...healthy, ...executor },
  executorSilentForMs: 0,
  replicas: [
    { ordinal: 1, receiver: 'on', heardMsAgo: 500 },
    { ordinal: 2, receiver: 'on', heardMsAgo: 700 },
  ],
  replicaCount: 2,
  ...change,
});
const hearingNothing = [
  { ordinal: 1, receiver: 'connecting' as const, heardMsAgo: 12_000 },
  { ordinal: 2, receiver: 'connecting' as const, heardMsAgo: 12_000 },
];

/** What the witnesses say, and what follows from it. */
const table: readonly [string, PrimaryObservations, string][] = [
  ['all is well', seen(), 'alive'],
  ['Mesos reports the container ended', seen({ containerEnded: 'TASK_FAILED' }, null), 'dead(container)'],
  ['the executor reaped the process', seen({}, { instance: 'held', reason: 'SIGKILL' }), 'dead(reaped)'],
  ['the executor cannot start it', seen({}, { instance: 'failed', reason: 'disk' }), 'dead(reaped)'],
  ['it starts again', seen({}, { instance: 'starting' }), 'alive'],
  [
    'a short stall of the disk',
    seen({}, { heartbeatPending: { forMs: 4000, waitsForAcknowledgement: false } }),
    'alive',
  ],
  [
    'a frozen data disk',
    seen({}, { heartbeatPending: { forMs: 9000, waitsForAcknowledgement: false } }),
    'dead(no-commit)',
  ],
  [
    'the acknowledgers are lost',
    seen({}, { heartbeatPending: { forMs: 60_000, waitsForAcknowledgement: true } }),
    'alive',
  ],
  [
    'a stopped process',
    seen(
      {},
      {
        heartbeatPending: { forMs: 9000, waitsForAcknowledgement: null },
        probeFailing: { forMs: 9000, message: 'timeout' },
      },
    ),
    'dead(unresponsive)',
  ],
  [
    'too many connections: the probe fails, commits go on',
    seen({}, { probeFailing: { forMs: 60_000, message: 'Too many connections' } }),
    'alive',
  ],
  [
    'the commit hangs and the probe has just begun to fail',
    seen(
      {},
      {
        heartbeatPending: { forMs: 9000, waitsForAcknowledgement: null },
        probeFailing: { forMs: 900, message: 'timeout' },
      },
    ),
    'alive',
  ],
  [
    'read-only in a switchover',
    seen({}, { isWritable: false, heartbeatPending: { forMs: 9000, waitsForAcknowledgement: false } }),
    'alive',
  ],
  ['the executor is silent, replicas still hear', seen({ executorSilentForMs: 600_000 }, null), 'alive'],
  ['everybody is silent for a moment', seen({ executorSilentForMs: 5000, replicas: hearingNothing }, null), 'alive'],
  [
    'everybody is silent: a lost host',
    seen({ executorSilentForMs: 11_000, replicas: hearingNothing }, null),
    'suspected(agreed)',
  ],
  ['nobody else is reached either', seen({ executorSilentForMs: 60_000, replicas: [] }, null), 'suspected'],
  [
    'one receiver stands on and heard nothing for less than the silence',
    seen({ executorSilentForMs: 11_000, replicas: [{ ordinal: 1, receiver: 'on', heardMsAgo: 5000 }] }, null),
    'suspected',
  ],
  [
    'one replica hears nothing, the other does',
    seen(
      { executorSilentForMs: 60_000, replicas: [hearingNothing[0]!, { ordinal: 2, receiver: 'on', heardMsAgo: 200 }] },
      null,
    ),
    'alive',
  ],
];

for (const [name, observations, expected] of table) {
  test(`${name}: ${expected}`, () => {
    const verdict = judgePrimary(observations);

    const text = {
      alive: () => 'alive',
      dead: () => `dead(${verdict.kind === 'dead' ? verdict.proof : ''})`,
      suspected: () => (verdict.kind === 'suspected' && verdict.isAgreed ? 'suspected(agreed)' : 'suspected'),
    }[verdict.kind]();
    expect(text).toBe(expected);
  });
}
