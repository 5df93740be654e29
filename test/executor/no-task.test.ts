import { once } from 'node:events';
import { createServer } from 'node:http';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import { runExecutor } from '../../src/executor/executor.ts';
import { createFakeClock } from '../mesos/fake-clock.ts';
import { newId } from '../store/helper.ts';

test('an executor that its agent does not know of ends when no task came', async () => {
  const agent = createServer((_request, response) => {
    response.writeHead(400).end('Executor cannot be found');
  }).listen(0, '127.0.0.1');
  await once(agent, 'listening');
  try {
    const clock = createFakeClock();
    const env = {
      MESOS_FRAMEWORK_ID: 'framework',
      MESOS_EXECUTOR_ID: 'executor',
      MESOS_AGENT_ENDPOINT: `127.0.0.1:${(agent.address() as { port: number }).port}`,
      MESOS_DIRECTORY: '/nowhere',
    };
    const executor = runExecutor(env, { clock, log: pino({ level: 'silent' }), newId, random: () => 0 });
    let exitCode: number | null = null;
    void executor.ended.then((code) => {
      exitCode = code;
    });
    clock.advance(110_000);
    await new Promise((resolve) => setImmediate(resolve));
    expect(exitCode).toBeNull();

    clock.advance(20_000);

    expect(await executor.ended).toBe(1);
  } finally {
    agent.closeAllConnections();
    agent.close();
  }
});
