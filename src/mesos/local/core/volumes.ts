/** Persistent volumes on an agent's disks and in sandboxes (filesystem/posix). */
import { isVolume, normalise } from '../../resources.ts';
import type { Resource } from '../../types.ts';
import type { AgentCore, ExecutorRecord } from './agent-state.ts';

/** A MOUNT volume is the root of its disk itself. In a role, `/` becomes a blank. */
export function volumePath(workDir: string, volume: Resource): string {
  const { disk } = volume;
  if (disk?.source?.type === 'MOUNT') return disk.source.mount?.root ?? '';
  const role = (normalise(volume).reservations?.at(-1)?.role ?? '*').replaceAll('/', ' ');
  const root = disk?.source?.type === 'PATH' ? (disk.source.path?.root ?? '') : workDir;
  const base = root.startsWith('/') ? root : `${workDir}/${root}`;
  return `${base}/volumes/roles/${role}/${disk?.persistence?.id}`;
}

/** A directory that is there already is used as it is: what a MOUNT disk held before is visible. */
export function createVolume(agent: AgentCore, volume: Resource): void {
  agent.effects.makeDirectory(volumePath(agent.options.workDir, volume));
}

/** The data is gone at once; of a MOUNT disk the root stays. */
export function destroyVolume(agent: AgentCore, volume: Resource): void {
  const path = volumePath(agent.options.workDir, volume);
  if (volume.disk?.source?.type === 'MOUNT') agent.effects.emptyDirectory(path);
  else agent.effects.removeDirectory(path);
}

/** A container_path of several components is not refused: it is not linked, and only a warning says so. */
function links(
  agent: AgentCore,
  executor: ExecutorRecord,
  resources: readonly Resource[],
): { path: string; target: string }[] {
  return resources.filter(isVolume).flatMap((volume) => {
    const name = volume.disk?.volume?.container_path ?? '';
    if (name === '' || name === '.' || name === '..' || name.includes('/')) {
      agent.warn({ container_path: name }, 'Volume is not linked: container_path must be one component');
      return [];
    }
    return [{ path: `${executor.directory}/${name}`, target: volumePath(agent.options.workDir, volume) }];
  });
}

export function linkVolumes(agent: AgentCore, executor: ExecutorRecord, resources: readonly Resource[]): void {
  for (const { path, target } of links(agent, executor, resources)) agent.effects.symlink(target, path);
}

export function unlinkVolumes(agent: AgentCore, executor: ExecutorRecord, resources: readonly Resource[]): void {
  for (const { path } of links(agent, executor, resources)) agent.effects.removeSymlink(path);
}
