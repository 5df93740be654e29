/** One file system under a volume, and what ails it. */
import type { Instance } from './mysql.ts';

export class Disk {
  #condition: 'well' | 'hung' | 'full' = 'well';
  /** The mysqld that holds the volume's lock: one that waits for a hung disk outlives its SIGKILL. */
  holder: Instance | null = null;
  readonly #listeners = new Set<() => void>();

  /** hung: who writes waits, and cannot be ended. full: who writes waits or fails. */
  get condition(): 'well' | 'hung' | 'full' {
    return this.#condition;
  }

  set(condition: 'well' | 'hung' | 'full'): void {
    this.#condition = condition;
    if (condition === 'well') for (const listener of [...this.#listeners]) listener();
  }

  /** Each time that the disk is well again, until the returned function is called. */
  onWell(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  assertSpace(): void {
    if (this.#condition === 'full') throw new Error('ENOSPC: no space left on device');
  }
}
