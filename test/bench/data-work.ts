/** Verifying a backup, and leading the cluster back to one. */
import { clusterName } from '../demo/steps.ts';
import { now, waitFor } from '../demo/wait.ts';
import { copyFiles, createSteps, type DataRound, waitVerified, workTimeoutMs } from './data-rounds.ts';
import { type DataWorld, refresh } from './data-world.ts';

/** A full backup, and how long that took, from the request. */
async function backUp(world: DataWorld): Promise<{ id: string; totalMs: number }> {
  const startedAt = now();
  const { id } = await world.api.backUp(clusterName, world.replica);
  const look = async () => (await world.api.backup(clusterName, id)).state !== 'open';
  await waitFor({ what: 'the backup', timeoutMs: workTimeoutMs, everyMs: 20 }, look);
  const totalMs = now() - startedAt;
  const { state, message } = await world.api.backup(clusterName, id);
  if (state !== 'complete') throw new Error(`the backup failed: ${message}`);
  await waitVerified(world, id);
  return { id, totalMs };
}

/** A verification beside the backup that it verifies. */
export async function verifyRound(world: DataWorld): Promise<DataRound> {
  const { api, replica } = world;
  const { id, totalMs } = await backUp(world);
  let executorMb = 0;
  const steps = createSteps();
  const { id: verificationId } = await api.verify(clusterName, id);
  const verification = await waitFor({ what: 'the verification', timeoutMs: workTimeoutMs, everyMs: 20 }, async () => {
    executorMb = Math.max(executorMb, world.readExecutorMb(replica));
    const found = await api.verification(clusterName, verificationId);
    steps.see(found.progress?.step);
    return found.state === 'open' ? null : found;
  });
  if (verification.state !== 'done') throw new Error(`the verification failed: ${verification.message}`);
  return { ours: steps.end(), floor: { totalMs, workMs: null }, more: { executorMb } };
}

/**
 * The cluster in place, with its safety backup, until all members serve; beside `cp -a` and `sync` of the data. Told
 * apart: how long nobody took writes.
 */
export async function restoreRound(world: DataWorld): Promise<DataRound> {
  const { api } = world;
  const { id: backup } = await backUp(world);
  const floor = await copyFiles(world);
  const holder = world.replica;
  let executorMb = 0;
  const steps = createSteps();
  const { id } = await api.restore(clusterName, { backup, confirm: clusterName });
  const done = await waitFor({ what: 'the restore', timeoutMs: workTimeoutMs, everyMs: 50 }, async () => {
    executorMb = Math.max(executorMb, world.readExecutorMb(holder));
    const found = await api.restoreOf(clusterName, id);
    steps.see(found.progress?.step);
    return found.state === 'open' ? null : found;
  });
  if (done.state !== 'done') throw new Error(`the restore was refused: ${done.message}`);
  const ours = steps.end();
  const at = (name: string) => done.steps.find((step) => step.name === name)?.at ?? Number.NaN;
  const more = {
    executorMb,
    safetyBackupMs: at('safety backup is complete') - done.startedAt,
    withoutWritesMs: at('committed') - at('safety backup is complete'),
    fillMs: at('filled') - at('filling'),
    othersMs: (done.endedAt ?? Number.NaN) - at('committed'),
  };
  await refresh(world);
  return { ours, floor, more };
}
