/** `selvedge up`: local Mesos, scheduler and API in one process. What it launched runs on when it ends. */

import { userInfo } from 'node:os';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import type { ExecutorCommand } from '../controller/context.ts';
import { executorRuntime } from '../executor/runtime.ts';
import { createLogger } from '../log.ts';
import { untilSignal } from './lifetime.ts';
import { localSchema, localSpecs, startLocal } from './local.ts';
import { type OptionSpec, portOption, portRangeOption, readOptions, untestedOption, usage } from './options.ts';
import { startScheduler } from './scheduler.ts';

const specs: Record<string, OptionSpec> = {
  ...localSpecs,
  port: { type: 'string', value: 'PORT', help: 'port of the REST API on 127.0.0.1, 0 for a free one (default 7070)' },
  'service-ports': { type: 'string', value: 'FROM-TO', help: 'ports of new clusters (default 13306-23305)' },
  'proxy-host': { type: 'string', value: 'HOST', help: 'where teams reach `selvedge proxy` (default 127.0.0.1)' },
  'stop-members': { type: 'boolean', help: 'at the end also stop what was launched; volumes stay' },
  json: { type: 'boolean', help: 'one line of JSON on stdout when it is up' },
  'allow-untested-version': untestedOption,
  help: { type: 'boolean', help: 'this text' },
};

const schema = z.strictObject({
  ...localSchema,
  port: portOption(7070),
  'service-ports': portRangeOption.optional(),
  'proxy-host': z.string().min(1).max(255).default('127.0.0.1'),
  'stop-members': z.boolean().default(false),
  json: z.boolean().default(false),
  'allow-untested-version': z.boolean().default(false),
});

const twoWeeksSeconds = 14 * 24 * 3600;

export async function runUp(argv: readonly string[]): Promise<number> {
  if (argv.includes('--help')) {
    process.stdout.write(usage('up', 'everything on this machine', specs));
    return 0;
  }
  const options = readOptions(argv, specs, schema);
  const dataDir = resolve(options['data-dir']);
  const log = createLogger(options['log-level']);
  const lifetime = untilSignal();
  const { agents, subnet, faults } = options;
  const local = await startLocal({ agents, subnet, faults, dataDir, masterPort: options['master-port'] }, log);
  const scheduler = await startScheduler(
    {
      dataDir,
      masters: [local.masterUrl],
      framework: {
        name: 'selvedge',
        user: userInfo().username,
        role: 'mysql',
        principal: 'selvedge',
        secret: null,
        failoverTimeoutSeconds: twoWeeksSeconds,
      },
      executorCommand: localExecutorCommand(options['allow-untested-version']),
      // Loopback and this machine's own users: the local mode asks for no token.
      ...(options['service-ports'] ? { servicePorts: options['service-ports'] } : {}),
      proxyHost: options['proxy-host'],
      api: { address: '127.0.0.1', port: options.port, auth: { kind: 'none' } },
    },
    log,
    lifetime.end,
  );
  if (options.json)
    process.stdout.write(`${JSON.stringify({ api: scheduler.apiUrl, master: local.masterUrl, pid: process.pid })}\n`);
  process.stderr.write(`selvedge is up: API ${scheduler.apiUrl}, Mesos master ${local.masterUrl}, ${agents} agents\n`);
  const reason = await lifetime.ended;
  await scheduler.stop();
  await local.stop({ keepExecutors: !options['stop-members'] });
  if (reason === null) return 0;
  log.error({ err: reason }, 'the scheduler ends');
  return 1;
}

/** The agent gives nothing but the documented environment: the command names this very Node and this very program. */
function localExecutorCommand(allowsUntested: boolean): ExecutorCommand {
  const root = resolve(import.meta.dirname, '..', '..');
  const cacheDir = join(root, '.cache', 'mysql');
  const home = process.env['SELVEDGE_MYSQL_HOME'];
  return {
    value: `exec ${quote(process.execPath)} ${quote(join(root, 'src', 'main.ts'))} executor`,
    uris: [],
    user: null,
    environment: {
      SELVEDGE_CACHE_DIR: cacheDir,
      ...(home ? { SELVEDGE_MYSQL_HOME: home } : {}),
      ...(allowsUntested ? { SELVEDGE_ALLOW_UNTESTED_VERSION: '1' } : {}),
      ...executorRuntime(join(root, '.cache', 'node')),
    },
  };
}

const quote = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;
