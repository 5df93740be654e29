/** `selvedge local`: a Mesos master and agents on this machine, nothing else. `selvedge up` starts the same. */
import { join } from 'node:path';
import { z } from 'zod';
import { realClock } from '../clock.ts';
import { createLogger, type Logger } from '../log.ts';
import { type LocalAgent, type LocalMesos, startLocalMesos } from '../mesos/local/start.ts';
import { untilSignal } from './lifetime.ts';
import { type OptionSpec, portOption, readOptions, usage } from './options.ts';
import { newId } from './random.ts';

/** One agent's worth of a laptop: enough for several small members, three kinds of disk. Sizes are accounts, not quotas. */
const agentSize = {
  cpus: 8,
  memMb: 8192,
  ports: '31000-31099',
  rootMb: 20_000,
  pathMb: 20_000,
  mountMb: 4096,
} as const;

export const localSpecs: Record<string, OptionSpec> = {
  agents: { type: 'string', value: 'N', help: 'number of agents (default 3)' },
  'data-dir': { type: 'string', value: 'DIR', help: 'where everything is kept (default ./selvedge-data)' },
  subnet: { type: 'string', value: '127.X.Y', help: 'agents listen on .11, .12, … of it (default 127.0.0)' },
  'master-port': { type: 'string', value: 'PORT', help: 'port of the master, 0 for a free one (default 5050)' },
  faults: { type: 'boolean', help: 'serve POST /faults on the master, for tests' },
  'log-level': { type: 'string', value: 'LEVEL', help: 'debug, info, warn, error (default warn)' },
};

export const localSchema = {
  agents: z.coerce.number().int().min(1).max(50).default(3),
  'data-dir': z.string().min(1).default('selvedge-data'),
  subnet: z
    .string()
    .regex(/^127\.\d{1,3}\.\d{1,3}$/, 'must be the first three parts of a loopback address, as 127.0.0')
    .default('127.0.0'),
  'master-port': portOption(5050),
  faults: z.boolean().default(false),
  'log-level': z.enum(['debug', 'info', 'warn', 'error']).default('warn'),
};

export interface LocalSettings {
  readonly agents: number;
  readonly dataDir: string;
  readonly subnet: string;
  readonly masterPort: number;
  readonly faults: boolean;
}

/** Mixed disks: every agent has root, PATH and two MOUNT disks, every fourth one no MOUNT disk. */
function localAgent(index: number): LocalAgent {
  const { cpus, memMb, ports, rootMb, pathMb, mountMb } = agentSize;
  const mounts = [0, 1].map((at) => ({ type: 'mount' as const, root: `disks/mount${at}`, sizeMb: mountMb }));
  return {
    cpus,
    memMb,
    ports,
    disks: [
      { type: 'root', sizeMb: rootMb },
      { type: 'path', root: 'disks/path0', sizeMb: pathMb },
      ...(index % 4 === 3 ? [] : mounts),
    ],
    attributes: { rack: `rack${index % 2}` },
  };
}

export function startLocal(settings: LocalSettings, log: Logger): Promise<LocalMesos> {
  return startLocalMesos({
    workDir: join(settings.dataDir, 'mesos'),
    masterPort: settings.masterPort,
    subnet: settings.subnet,
    agents: Array.from({ length: settings.agents }, (_, index) => localAgent(index)),
    allowFaultsOverHttp: settings.faults,
    clock: realClock,
    log,
    newId,
  });
}

export async function runLocal(argv: readonly string[]): Promise<number> {
  const specs = { ...localSpecs, help: { type: 'boolean', help: 'this text' } as const };
  if (argv.includes('--help')) {
    process.stdout.write(usage('local', 'a Mesos master and agents on this machine', specs));
    return 0;
  }
  const {
    'data-dir': dataDir,
    'master-port': masterPort,
    'log-level': level,
    ...rest
  } = readOptions(argv, specs, z.strictObject(localSchema));
  const lifetime = untilSignal();
  const local = await startLocal({ ...rest, dataDir, masterPort }, createLogger(level));
  process.stderr.write(
    `Mesos master at ${local.masterUrl}, ${local.agents.length} agents. Executors run on when this ends.\n`,
  );
  await lifetime.ended;
  await local.stop({ keepExecutors: true });
  return 0;
}
