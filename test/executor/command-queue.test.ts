import { expect, test, vi } from 'vitest';
import { type Command, type CommandResult, PROTOCOL_VERSION } from '../../src/channel/protocol.ts';
import { Refusal } from '../../src/errors.ts';
import { createCommandQueue } from '../../src/executor/command-queue.ts';
import { createLogger } from '../../src/log.ts';

const done: CommandResult = { outcome: 'done' };
const head = { version: PROTOCOL_VERSION, epoch: 1, leaderToken: 1, sequence: 1 } as const;
const command = (id: string, kind: 'freeze' | 'thaw' | 'fence' = 'freeze'): Command => ({ ...head, id, kind });

function createQueue(
  execute: (command: Command, signal: AbortSignal) => Promise<CommandResult>,
  isWorkTold = (_: string) => true,
) {
  return createCommandQueue({ admit: async () => {}, execute, isWorkTold, log: createLogger('silent') });
}

test('the same id is carried out once and answered alike, also while it runs', async () => {
  const execute = vi.fn(async () => done);
  const queue = createQueue(execute);

  const answers = await Promise.all([queue.submit(command('a')), queue.submit(command('a'))]);
  answers.push(await queue.submit(command('a')));

  expect(answers).toEqual([done, done, done]);
  expect(execute).toHaveBeenCalledOnce();
});

test('an id that was used for another kind is refused', async () => {
  const queue = createQueue(async () => done);
  await queue.submit(command('a'));

  expect(await queue.submit(command('a', 'thaw'))).toMatchObject({ outcome: 'refused', code: 'BAD_REQUEST' });
});

test('a refusal is not remembered: the next try may succeed', async () => {
  const execute = vi.fn<() => Promise<CommandResult>>();
  execute.mockRejectedValueOnce(new Refusal('NOT_RUNNING', 'down')).mockResolvedValueOnce(done);
  const queue = createQueue(execute);

  expect(await queue.submit(command('a'))).toMatchObject({ outcome: 'refused', code: 'NOT_RUNNING' });
  expect(await queue.submit(command('a'))).toEqual(done);
});

test('long work is begun once while it is told, and anew when other work hides how it ended', async () => {
  const execute = vi.fn(async (): Promise<CommandResult> => ({ outcome: 'accepted' }));
  let told = 'a';
  const queue = createQueue(execute, (id) => id === told);

  await queue.submit(command('a'));
  await queue.submit(command('a'));
  expect(execute).toHaveBeenCalledOnce();
  told = 'b';
  await queue.submit(command('a'));
  expect(execute).toHaveBeenCalledTimes(2);
});

test('a fault is answered without a stack', async () => {
  const queue = createQueue(async () => {
    throw new Error('stop the receiver', { cause: new Error('gone') });
  });

  expect(await queue.submit(command('a'))).toEqual({
    outcome: 'refused',
    code: 'COMMAND_FAILED',
    message: 'stop the receiver: gone',
  });
});

test('changing commands run one at a time, in order', async () => {
  const log: string[] = [];
  const queue = createQueue(async ({ id }) => {
    log.push(`begin ${id}`);
    await Promise.resolve();
    log.push(`end ${id}`);
    return done;
  });

  await Promise.all([queue.submit(command('a')), queue.submit(command('b'))]);

  expect(log).toEqual(['begin a', 'end a', 'begin b', 'end b']);
});

test('a fence overtakes the running command and every waiting one', async () => {
  const begun: string[] = [];
  const queue = createQueue(({ kind, id }, signal) => {
    if (kind === 'fence') return Promise.resolve(done);
    begun.push(id);
    return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
  });
  const running = queue.submit(command('a'));
  const waiting = queue.submit(command('b'));
  await vi.waitFor(() => expect(begun).toEqual(['a']));

  expect(await queue.submit(command('f', 'fence'))).toEqual(done);

  expect(await running).toMatchObject({ code: 'SUPERSEDED' });
  expect(await waiting).toMatchObject({ code: 'SUPERSEDED' });
});

test('more waiting commands than the limit are refused with BUSY', async () => {
  const queue = createQueue(() => new Promise(() => {}));
  for (let index = 0; index < 40; index += 1) void queue.submit(command(`w${index}`));

  expect(await queue.submit(command('last'))).toMatchObject({ code: 'BUSY' });
});
