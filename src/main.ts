#!/usr/bin/env node
/** `selvedge`: finds the command and loads only what it needs, so that an executor stays small. */
import { UsageError } from './run/options.ts';

const head = `selvedge: MySQL replication clusters on Apache Mesos

Run it
  up            everything on this machine: a local Mesos, the scheduler and the API
  local         only the local Mesos: a master and agents
  scheduler     the control plane on a Mesos cluster
  proxy         a port for each cluster, which gives its primary through HAProxy
  executor      one member on its agent; Mesos starts it
  unpack        a packed or encrypted backup as a plain one, by hand

Use it (clients of the API; --api URL, --token TOKEN, --json)
`;

const tail = `
\`selvedge COMMAND --help\` says more. Exit codes: 0 done, 1 refused or failed, 2 wrong use, 3 API not reachable,
4 timed out waiting.
`;

async function run([command, ...argv]: readonly string[]): Promise<number> {
  switch (command) {
    case undefined:
    case 'help':
    case '--help':
    case '-h':
      process.stdout.write(`${head}${(await import('./cli/client.ts')).clientHelp()}${tail}`);
      return command === undefined ? 2 : 0;
    case 'up':
      return (await import('./run/up.ts')).runUp(argv);
    case 'local':
      return (await import('./run/local.ts')).runLocal(argv);
    case 'scheduler':
      return (await import('./run/scheduler-command.ts')).runScheduler(argv);
    case 'proxy':
      return (await import('./run/proxy-command.ts')).runProxy(argv);
    case 'unpack':
      return (await import('./run/unpack-command.ts')).runUnpack(argv);
    case 'executor':
      // Runs until its task has ended, then ends the process itself.
      await import('./executor/main.ts');
      return 0;
    default:
      return (await import('./cli/client.ts')).runClientVerb([command, ...argv]);
  }
}

try {
  process.exitCode = await run(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof UsageError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 2;
}
