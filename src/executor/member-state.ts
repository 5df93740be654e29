/**
 * What an executor must remember over its own death, on the data volume: the highest leader and epoch that it obeyed,
 * and whether the instance was writable or is held. Written before the act that it speaks of.
 */
import { join } from 'node:path';
import { z } from 'zod';
import type { Command } from '../channel/protocol.ts';
import { Refusal } from '../errors.ts';
import { readIfThere, writeDurable } from './durable.ts';
import type { Volume } from './volumes.ts';

const STATE = 'state.json';

const stateSchema = z.object({
  version: z.literal(1),
  leaderToken: z.number().int(),
  epoch: z.number().int(),
  /** Made writable, and not cleanly ended or demoted since. */
  wasWritable: z.boolean(),
  /** mysqld stays down until a `start` says otherwise. */
  held: z.object({ code: z.string(), message: z.string() }).nullable(),
  /** mysqld ended on damaged data of this incarnation: it is not started on them again. */
  damaged: z.object({ incarnation: z.string(), message: z.string() }).nullish(),
});
export type MemberState = z.infer<typeof stateSchema>;

const initial: MemberState = { version: 1, leaderToken: 0, epoch: 0, wasWritable: false, held: null };

export interface MemberStateFile {
  get(): MemberState;
  /** Merges, writes durable, then returns. Calls are serialised. Nothing is written when nothing changes. */
  update(change: Partial<Omit<MemberState, 'version'>>): Promise<void>;
}

/** Throws STALE_LEADER, STALE_EPOCH: a newer leader has commanded this member, or it knows a newer epoch. */
export function requireNewest(
  { leaderToken, epoch }: MemberState,
  command: Pick<Command, 'leaderToken' | 'epoch'>,
): void {
  if (command.leaderToken < leaderToken) {
    throw new Refusal('STALE_LEADER', `leader ${leaderToken} commands this member`, { leaderToken });
  }
  if (command.epoch < epoch) throw new Refusal('STALE_EPOCH', `this member knows epoch ${epoch}`, { epoch });
}

/** Reads the state of a data volume; a volume without one starts at zero. Throws when the file is damaged: doubt means stop. */
export async function openMemberState(volume: Volume): Promise<MemberStateFile> {
  const path = join(volume.path, STATE);
  const text = await readIfThere(path);
  let state = text === null ? initial : stateSchema.parse(JSON.parse(text));
  let last: Promise<void> = Promise.resolve();
  return {
    get: () => state,
    update(change) {
      const run = async () => {
        const next = { ...state, ...change };
        if (JSON.stringify(next) === JSON.stringify(state)) return;
        await writeDurable(path, `${JSON.stringify(next)}\n`);
        state = next;
      };
      const result = last.then(run);
      last = result.catch(() => {});
      return result;
    },
  };
}

/** A state that is never stored, for volumes that are not ours: nothing may be written there. */
export function createTransientState(): MemberStateFile {
  return { get: () => initial, update: () => Promise.reject(new Error('the data volume is not ours')) };
}
