/** Members whose executor, or an mysqld of theirs, is ended at an exact point of long work (strike.ts). */
import { randomUUID } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, vi } from 'vitest';
import type { CommandBody, LaunchPlan, Status } from '../../src/channel/protocol.ts';
import { executorRuntime } from '../../src/executor/runtime.ts';
import { cacheDir } from '../mysql/instance.ts';
import { createWorld, type TestMember, type World } from './world.ts';

const WAIT_MS = 60_000;

export interface Striker {
  readonly world: World;
  /** Sends long work that is struck at `order`, sees to it that it was, and waits for the end of a struck executor. */
  strike(member: TestMember, order: string, body: CommandBody): Promise<void>;
  /** Sends long work and waits until it has ended. */
  run(member: TestMember, body: CommandBody): Promise<Status>;
  relaunch(member: TestMember, changes?: Partial<LaunchPlan>): Promise<Status>;
  destroy(): Promise<void>;
}

/** As createWorld; commands carry `epoch`. */
export async function createStriker(count: number, net: number, epoch: number): Promise<Striker> {
  const orders = mkdtempSync(join(tmpdir(), 'svo-'));
  const orderPath = join(orders, 'order');
  const options = `${executorRuntime(cacheDir)['NODE_OPTIONS']} --import=${join(import.meta.dirname, 'strike.ts')}`;
  const world = await createWorld(count, net, { NODE_OPTIONS: options, SELVEDGE_TEST_STRIKE: orderPath });
  return {
    world,
    async strike(member, order, body) {
      writeFileSync(orderPath, order);
      // The executor may end before its answer is on the way.
      await member.command(body, epoch).catch(() => {});
      await vi.waitFor(() => expect(existsSync(orderPath), `${order}\n${member.launch.logs()}`).toBe(false), {
        timeout: WAIT_MS,
        interval: 10,
      });
      if (!order.includes(' > ')) await member.launch.exited;
    },
    async run(member, body) {
      const id = randomUUID();
      const result = await member.launch.send(body, { epoch, leaderToken: 9, id });
      expect(result, member.launch.logs()).toMatchObject({ outcome: 'accepted' });
      return member.until(({ work }) => work?.commandId === id && work.outcome !== 'running', WAIT_MS);
    },
    async relaunch(member, changes = {}) {
      await member.launch.destroy();
      await member.relaunch(changes);
      return member.until(({ areBackupsKnown }) => areBackupsKnown === true, WAIT_MS);
    },
    async destroy() {
      await world.destroy();
      rmSync(orders, { recursive: true, force: true });
    },
  };
}
