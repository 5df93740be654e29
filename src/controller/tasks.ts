/**
 * What Mesos says of our tasks and operations: stored first, acknowledged second. Also keeps the control channel to
 * every live launch open, and asks Mesos again about every launch whose state is in doubt.
 */
import { startedFacts } from '../channel/protocol.ts';
import { isTerminalTaskState, type OperationStatus, type TaskStatus } from '../mesos/types.ts';
import { getBundle, setBundleState } from '../store/bundles.ts';
import { getCluster } from '../store/clusters.ts';
import { findLaunch, listLiveLaunches, updateTask } from '../store/launches.ts';
import type { LaunchRow } from '../store/rows.ts';
import { type Context, emit } from './context.ts';
import { releaseKey } from './launching.ts';

/** States that only an executor or its agent reports: the ACCEPT was carried out, the bundle exists. */
const livingStates: ReadonlySet<string> = new Set(['TASK_STARTING', 'TASK_RUNNING', 'TASK_KILLING']);

/** Stores a status update and connects to the executor. The caller acknowledges after this resolved. */
export async function recordTaskStatus(context: Context, status: TaskStatus): Promise<void> {
  const taskId = status.task_id.value;
  const launch = await findLaunch(context.store, taskId);
  if (!launch) {
    context.log.warn({ taskId, state: status.state }, 'Mesos tells of a task that has no row');
    return;
  }
  // "Task has duplicate ID" carries the id of the running task and is not its end (seen on a real master).
  if (status.state === 'TASK_ERROR' && livingStates.has(launch.taskState)) return;
  const isEnd = isTerminalTaskState(status.state);
  const changed = await updateTask(context.store, context.leader, {
    taskId,
    state: status.state,
    reason: status.reason ?? null,
    message: status.message ?? null,
    fingerprint: readFingerprint(status),
    endedAt: isEnd ? context.clock.now() : null,
  });
  if (!changed) return;
  context.log.info({ taskId, state: status.state, reason: status.reason }, status.message || 'task status');
  if (livingStates.has(status.state)) await setBundleState(context.store, context.leader, launch.bundleId, 'reserved');
  if (isEnd) await recordEnd(context, launch, status);
  else await connectExecutor(context, taskId);
  context.wakes.wake(launch.clusterId);
}

async function recordEnd(context: Context, launch: LaunchRow, status: TaskStatus): Promise<void> {
  context.executors.forget(launch.taskId);
  if (status.state === 'TASK_KILLED') return;
  const cluster = await getCluster(context.store, launch.clusterId);
  const text = status.message || status.reason || 'no reason given';
  await emit(context, 'member.lost', cluster, `${status.state}: ${text}`, {
    ordinal: launch.ordinal,
    data: { taskId: launch.taskId, reason: status.reason },
  });
}

/** Opens the control channel as soon as the executor's fingerprint is known. Idempotent. */
export async function connectExecutor(context: Context, taskId: string): Promise<void> {
  const launch = await findLaunch(context.store, taskId);
  if (!launch?.fingerprint || launch.endedAt !== null) return;
  const { ip, bundle } = await getBundle(context.store, launch.bundleId);
  context.executors.connect({
    taskId,
    clusterId: launch.clusterId,
    address: ip,
    port: bundle.ports.control,
    fingerprint: launch.fingerprint,
    token: launch.token,
  });
}

function readFingerprint(status: TaskStatus): string | null {
  if (status.source !== 'SOURCE_EXECUTOR' || !status.data) return null;
  try {
    return startedFacts.parse(JSON.parse(Buffer.from(status.data, 'base64').toString('utf8'))).fingerprint;
  } catch {
    return null;
  }
}

/** The UNRESERVE of a release ended: nothing of the bundle is left. Other feedback only wakes. */
export async function recordOperationStatus(context: Context, status: OperationStatus): Promise<void> {
  const [, bundleId] = /^release\.([^.]+)\.unreserve$/.exec(status.operation_id?.value ?? '') ?? [];
  if (status.state !== 'OPERATION_FINISHED') {
    context.log.info(
      { operation: status.operation_id?.value, state: status.state },
      status.message || 'operation status',
    );
  }
  if (!bundleId || status.state !== 'OPERATION_FINISHED') return;
  await setBundleState(context.store, context.leader, bundleId, 'released');
  context.market.drop(releaseKey(bundleId));
  context.wakes.wake((await getBundle(context.store, bundleId)).clusterId);
}

/** After a start of the control plane: every live launch gets its channel. */
export async function connectAllExecutors(context: Context): Promise<void> {
  for (const launch of await listLiveLaunches(context.store)) await connectExecutor(context, launch.taskId);
}
