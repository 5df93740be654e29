/**
 * The order of commands. Rules:
 * - A command of an older leader or epoch is refused; a newer one is remembered, durable, before it is obeyed.
 * - The same id is carried out once: repeats share the running promise or the remembered answer. Refusals are not
 *   remembered: nothing was changed, and the next try may find the world ready. Nor is long work that other work followed:
 *   nobody can see any more how it ended.
 * - One changing command at a time, in order of arrival. Beside them: `catchUp` only waits, `keepLogs` only remembers,
 *   `refillArchive` only begins what goes on in the background.
 * - `fence` waits for nothing: it aborts the running command and every waiting one.
 */
import type { Command, CommandResult } from '../channel/protocol.ts';
import { Refusal } from '../errors.ts';
import type { Logger } from '../log.ts';

/** These run beside the others, in no order. */
export const besideKinds: ReadonlySet<Command['kind']> = new Set(['catchUp', 'keepLogs', 'refillArchive']);

const MAX_REMEMBERED = 200;
const MAX_WAITING = 32;

export interface CommandQueue {
  submit(command: Command): Promise<CommandResult>;
  /** Runs something of the executor's own in the same order as commands. */
  runExclusive<T>(run: (signal: AbortSignal) => Promise<T>): Promise<T>;
  /** Aborts the running command and refuses the waiting ones. */
  abortAll(reason: Refusal): void;
}

export interface CommandQueueDeps {
  /** Refuses stale commands; remembers newer ones. Called right before a command is carried out. */
  admit(command: Command): Promise<void>;
  /** Carries a command out. `signal` aborts when a fence overtakes it. */
  execute(command: Command, signal: AbortSignal): Promise<CommandResult>;
  /** The long work that was begun by the command of this id is the last one, and is told in the status. */
  isWorkTold(id: string): boolean;
  /** True: as it stands, this command has nothing to wait for. Asked when it arrives. */
  isBeside?(command: Command): boolean;
  readonly log: Logger;
}

export function createCommandQueue(deps: CommandQueueDeps): CommandQueue {
  const answers = new Map<string, { kind: string; answer: Promise<CommandResult>; isAccepted: boolean }>();
  let current = new AbortController();
  let last: Promise<unknown> = Promise.resolve();
  let waiting = 0;

  const abortAll = (reason: Refusal) => {
    current.abort(reason);
    current = new AbortController();
  };

  const runExclusive = <T>(run: (signal: AbortSignal) => Promise<T>): Promise<T> => {
    if (waiting >= MAX_WAITING) return Promise.reject(new Refusal('BUSY', `${waiting} commands wait already`));
    waiting += 1;
    const { signal } = current;
    const result = last.then(() => {
      waiting -= 1;
      signal.throwIfAborted();
      return run(signal);
    });
    last = result.catch(() => {});
    return result;
  };

  const carryOut = async (command: Command): Promise<CommandResult> => {
    const run = async (signal: AbortSignal) => {
      await deps.admit(command);
      signal.throwIfAborted();
      return deps.execute(command, signal);
    };
    if (command.kind === 'fence') {
      await deps.admit(command);
      abortAll(new Refusal('SUPERSEDED', 'a fence overtook this command'));
      return deps.execute(command, current.signal);
    }
    const isBeside = besideKinds.has(command.kind) || deps.isBeside?.(command) === true;
    return isBeside ? run(current.signal) : runExclusive(run);
  };

  return {
    runExclusive,
    abortAll,
    submit(command) {
      const known = answers.get(command.id);
      if (known && !(known.isAccepted && !deps.isWorkTold(command.id))) {
        if (known.kind === command.kind) return known.answer;
        return Promise.resolve(refuse(new Refusal('BAD_REQUEST', `command id was used for ${known.kind}`)));
      }
      const answer = carryOut(command).catch((error: unknown) => {
        if (!(error instanceof Refusal)) {
          deps.log.error({ err: error, command: command.kind, id: command.id }, 'a command failed');
        }
        return refuse(error);
      });
      const entry = { kind: command.kind, answer, isAccepted: false };
      answers.set(command.id, entry);
      void answer.then((result) => {
        entry.isAccepted = result.outcome === 'accepted';
        if (result.outcome === 'refused') answers.delete(command.id);
        else forgetOldest(answers);
      });
      return answer;
    },
  };
}

/** Open commands are few (bounded by the queue), so the oldest entry is an ended one but for a long wait: keep those. */
function forgetOldest(answers: Map<string, unknown>): void {
  while (answers.size > MAX_REMEMBERED + MAX_WAITING) {
    const oldest = answers.keys().next();
    if (oldest.done) return;
    answers.delete(oldest.value);
  }
}

/** An error as an answer: refusals keep their code, faults become COMMAND_FAILED, which may have done a part. */
export function refuse(error: unknown): CommandResult {
  if (error instanceof Refusal) {
    return { outcome: 'refused', code: error.code, message: error.message, facts: { ...error.facts } };
  }
  return { outcome: 'refused', code: 'COMMAND_FAILED', message: describe(error) };
}

/** Message and causes of an error in one line; never a stack. */
export function describe(error: unknown): string {
  const parts: string[] = [];
  for (let at = error; at instanceof Error && parts.length < 4; at = at.cause) parts.push(at.message);
  return parts.join(': ').slice(0, 1000) || 'unknown error';
}
