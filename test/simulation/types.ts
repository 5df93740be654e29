/** What the parts of one run share. */
import type { Command } from '../../src/channel/protocol.ts';
import type { ControlPlane } from './controller-process.ts';
import type { Process } from './time.ts';
import type { World } from './world.ts';

export interface Simulation {
  readonly world: World;
  readonly clusterIds: readonly string[];
  readonly members: number;
  planes: ControlPlane[];
  /** Armed faults of the control plane. */
  readonly armed: {
    commit: { count: number; when: 'before' | 'after' } | null;
    command: { count: number; when: 'before' | 'after' } | null;
    call: { count: number; when: 'before' | 'after' } | null;
    lostAnswers: number;
    late: { count: number; ms: number; command?: Command['kind'] | undefined; epoch?: number | undefined };
  };
  /** The control plane that acts. */
  active(): ControlPlane | null;
  startPlane(): void;
  onCommit(process: Process, when: 'before' | 'after'): void;
  kill(plane: Process, why: string): void;
}
