/**
 * Is the primary alive? Three witnesses: its executor, the scheduler's connections, the replicas.
 *
 * Proof of death (guarantee 3) is one of:
 *   container    Mesos reports that the container ended
 *   reaped       the executor reaped the process
 *   no-commit    the heartbeat commit hangs past its deadline, and not for want of an acknowledgement: a frozen or
 *                broken data disk. Everything else looks healthy then, new logins and replicas too (measured).
 *   unresponsive mysqld answers neither the heartbeat nor the executor's own probe past the deadline: a stopped process
 *   damaged      the executor found its data damaged, though mysqld runs on
 * In the last three the executor stands beside the process and ends it before anybody is promoted.
 *
 * Everything else is suspicion. An executor that nobody reaches proves nothing; it counts only if the replicas that are
 * reached agree that they hear nothing either, and then only a quorum of stopped receivers fences. One replica that still
 * hears its source contradicts. A commit that waits for acknowledgements is a loss of acknowledgers, never a death.
 * Trouble of the control plane (master away, agent away, a slow store, a paused scheduler) is no observation at all.
 */
export interface DetectionLimits {
  /** A heartbeat commit, or a probe, may hang for so long. Above the longest stall of a healthy disk. */
  readonly commitDeadlineMs: number;
  /** Silence of executor and replicas before suspicion becomes agreement. */
  readonly silenceMs: number;
  /** A replica that heard its source within this contradicts. */
  readonly heardMs: number;
}

export const defaultLimits: DetectionLimits = { commitDeadlineMs: 8000, silenceMs: 10_000, heardMs: 3000 };

export interface ExecutorWitness {
  readonly instance: 'none' | 'starting' | 'running' | 'held' | 'stopped' | 'rebuilding' | 'failed';
  readonly reason: string | null;
  readonly isWritable: boolean;
  readonly heartbeatPending: { readonly forMs: number; readonly waitsForAcknowledgement: boolean | null } | null;
  readonly probeFailing: { readonly forMs: number; readonly message: string } | null;
  /** What is damaged of the data of the mysqld that runs. Given only when another member could take over now. */
  readonly damage?: string | null;
}

export interface ReplicaWitness {
  readonly ordinal: number;
  readonly receiver: 'on' | 'connecting' | 'off';
  readonly heardMsAgo: number | null;
}

export interface PrimaryObservations {
  /** Mesos' terminal state with its reason; null while the container may live. */
  readonly containerEnded: string | null;
  /** The executor's newest word; null when it is not reached now. */
  readonly executor: ExecutorWitness | null;
  /** For how long the executor has not been reached; 0 when it is. */
  readonly executorSilentForMs: number;
  /** Reached replicas that follow this primary, and how many replicas follow it in all. */
  readonly replicas: readonly ReplicaWitness[];
  readonly replicaCount: number;
}

export type Proof = 'container' | 'reaped' | 'no-commit' | 'unresponsive' | 'damaged';

export type Verdict =
  | { readonly kind: 'alive'; readonly note: string | null }
  | { readonly kind: 'dead'; readonly proof: Proof; readonly detail: string }
  /** `isAgreed`: scheduler and all reached replicas agree; a failover may be tried, with a quorum as its only fence. */
  | { readonly kind: 'suspected'; readonly isAgreed: boolean; readonly missing: string };

const endedInstances: ReadonlySet<string> = new Set(['none', 'held', 'stopped', 'failed']);
const alive = (note: string | null = null): Verdict => ({ kind: 'alive', note });

export function judgePrimary(seen: PrimaryObservations, limits: DetectionLimits = defaultLimits): Verdict {
  if (seen.containerEnded !== null) return { kind: 'dead', proof: 'container', detail: seen.containerEnded };
  if (seen.executor) return judgeByExecutor(seen.executor, limits);
  return judgeSilence(seen, limits);
}

function judgeByExecutor(executor: ExecutorWitness, limits: DetectionLimits): Verdict {
  const { instance, reason, heartbeatPending, probeFailing } = executor;
  if (endedInstances.has(instance))
    return { kind: 'dead', proof: 'reaped', detail: `${instance}: ${reason ?? 'not started'}` };
  if (instance !== 'running' || !executor.isWritable) return alive();
  if (executor.damage != null) return { kind: 'dead', proof: 'damaged', detail: executor.damage };
  const deadline = limits.commitDeadlineMs;
  if (!heartbeatPending || heartbeatPending.forMs < deadline) return alive();
  const hangs = `its heartbeat commit hangs for ${heartbeatPending.forMs} ms`;
  if (heartbeatPending.waitsForAcknowledgement === true) return alive(`${hangs}, waiting for an acknowledgement`);
  if (heartbeatPending.waitsForAcknowledgement === false) {
    return { kind: 'dead', proof: 'no-commit', detail: `${hangs}, and not for an acknowledgement` };
  }
  if (!probeFailing || probeFailing.forMs < deadline) return alive(hangs);
  return { kind: 'dead', proof: 'unresponsive', detail: `${hangs}, and it does not answer: ${probeFailing.message}` };
}

function judgeSilence(seen: PrimaryObservations, limits: DetectionLimits): Verdict {
  const { executorSilentForMs: silentMs, replicas, replicaCount } = seen;
  const hearing = replicas.filter(
    ({ receiver, heardMsAgo }) => receiver === 'on' && heardMsAgo !== null && heardMsAgo < limits.heardMs,
  );
  if (hearing.length > 0) {
    return alive(`its executor is silent for ${silentMs} ms, but member ${hearing[0]!.ordinal} still hears it`);
  }
  const silent = `its executor is silent for ${silentMs} ms`;
  if (silentMs < limits.silenceMs) return alive(silent);
  if (replicas.length === 0) {
    return { kind: 'suspected', isAgreed: false, missing: `${silent}, and no replica is reached that could agree` };
  }
  const unsure = replicas.filter(
    ({ receiver, heardMsAgo }) => receiver === 'on' && (heardMsAgo === null || heardMsAgo < limits.silenceMs),
  );
  if (unsure.length > 0) {
    return { kind: 'suspected', isAgreed: false, missing: `${silent}; member ${unsure[0]!.ordinal} may still hear it` };
  }
  const agreeing = `${replicas.length} of ${replicaCount} replicas hear nothing either`;
  return { kind: 'suspected', isAgreed: true, missing: `${silent}, and ${agreeing}` };
}
