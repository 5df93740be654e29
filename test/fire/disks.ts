/** Data disks that can be frozen and filled: images on loop devices, mounted where the local Mesos has its MOUNT disks. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, statfsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { ControlPlane } from '../demo/control-plane.ts';

export interface Disks {
  freeze(path: string): void;
  thaw(path: string): void;
  /** Takes what is free. */
  fill(path: string): void;
  empty(path: string): void;
  /** Thaws and empties whatever is not. */
  calm(): void;
  unmount(): void;
}

const imageMb = 1200;
const disksOfAgent = 2;
const fillerName = 'filler';
const run = (program: string, ...args: readonly string[]) =>
  void execFileSync(program, args, { stdio: 'pipe', timeout: 20_000 });

const attempt = (work: () => void): void => {
  try {
    work();
  } catch {
    // it was not so
  }
};

/** For the agents that have MOUNT disks, before they start. Throws where that is not allowed; nothing is left then. */
export function mountDisks({ dataDir, agentDirs }: ControlPlane, agents: number): Disks {
  const mounted: string[] = [];
  const frozen = new Set<string>();
  const filled = new Set<string>();
  const disks: Disks = {
    freeze(path) {
      frozen.add(path);
      run('fsfreeze', '-f', path);
    },
    thaw(path) {
      attempt(() => run('fsfreeze', '-u', path));
      frozen.delete(path);
    },
    fill(path) {
      filled.add(path);
      const { bavail, bsize } = statfsSync(path);
      let offset = 0;
      // The file's own blocks take room too: less and less is asked for, down to one block.
      for (let size = bavail * bsize; size >= bsize; size = Math.floor(size / 2))
        attempt(() => {
          run('fallocate', '-o', String(offset), '-l', String(size), join(path, fillerName));
          offset += size;
        });
    },
    empty(path) {
      rmSync(join(path, fillerName), { force: true });
      filled.delete(path);
    },
    calm() {
      for (const path of [...frozen]) disks.thaw(path);
      for (const path of [...filled]) disks.empty(path);
    },
    unmount() {
      disks.calm();
      for (const path of mounted.splice(0)) attempt(() => run('umount', '-l', path));
    },
  };
  try {
    for (const agentDir of agentDirs.slice(0, agents))
      for (let index = 0; index < disksOfAgent; index += 1) {
        const path = join(agentDir, 'disks', `mount${index}`);
        const image = join(dataDir, 'images', `${mounted.length}`);
        mkdirSync(path, { recursive: true });
        mkdirSync(dirname(image), { recursive: true });
        run('truncate', '-s', `${imageMb}M`, image);
        run('mkfs.ext4', '-q', '-m', '0', image);
        run('mount', '-o', 'loop', image, path);
        mounted.push(path);
        rmSync(join(path, 'lost+found'), { recursive: true, force: true });
      }
    const [first = ''] = mounted;
    disks.freeze(first);
    disks.thaw(first);
    return disks;
  } catch (error) {
    disks.unmount();
    throw error;
  }
}
