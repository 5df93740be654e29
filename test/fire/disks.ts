/** Disks that can be frozen, filled and write-protected: images on loop devices, mounted where the local Mesos has its MOUNT disks. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, statfsSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { ControlPlane } from '../demo/control-plane.ts';

export interface Disks {
  freeze(path: string): void;
  thaw(path: string): void;
  /** Takes what is free. */
  fill(path: string): void;
  empty(path: string): void;
  /** Read-only, as the kernel makes a file system that found an error: files that are open for writing fail, too. */
  protect(path: string): void;
  /** Mounted anew after a check. Throws while somebody uses it: only so does the kernel forget an error. */
  repair(path: string): void;
  /** Thaws and empties whatever is not. */
  calm(): void;
  unmount(): void;
}

/**
 * As the local Mesos lays them out: data volumes take a mount disk, backup volumes the path disk. Megabytes; the images
 * are sparse, and half an hour of binary logs and backups has to fit.
 */
const disksOfAgent = { mount0: 3000, mount1: 3000, path0: 8000 };
const fillerName = 'filler';
const timeoutMs = 20_000;
const run = (program: string, ...args: readonly string[]) =>
  void execFileSync(program, args, { stdio: 'pipe', timeout: timeoutMs });
const mountImage = (image: string, path: string) => run('mount', '-o', 'loop,errors=remount-ro', image, path);

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
  const images = new Map<string, string>();
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
    protect(path) {
      const device = execFileSync('findmnt', ['-no', 'SOURCE', path], { encoding: 'utf8', timeout: timeoutMs }).trim();
      writeFileSync(`/sys/fs/ext4/${basename(device)}/trigger_fs_error`, 'fire');
    },
    repair(path) {
      const image = images.get(path) ?? '';
      if (statSync(path).dev !== statSync(dirname(path)).dev) run('umount', path);
      // 1: errors were corrected.
      const { status } = spawnSync('e2fsck', ['-fy', image], { stdio: 'ignore', timeout: timeoutMs });
      if (status !== 0 && status !== 1) throw new Error(`e2fsck of ${image} answered ${status}`);
      mountImage(image, path);
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
      for (const [name, sizeMb] of Object.entries(disksOfAgent)) {
        const path = join(agentDir, 'disks', name);
        const image = join(dataDir, 'images', `${mounted.length}`);
        mkdirSync(path, { recursive: true });
        mkdirSync(dirname(image), { recursive: true });
        run('truncate', '-s', `${sizeMb}M`, image);
        run('mkfs.ext4', '-q', '-m', '0', image);
        mountImage(image, path);
        mounted.push(path);
        images.set(path, image);
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
