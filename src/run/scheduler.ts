/** `selvedge scheduler`: the control plane as one process — store, leadership, controller, API. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { createApi } from '../api/api.ts';
import type { Auth } from '../api/auth.ts';
import { createExecutorClient } from '../channel/client.ts';
import { type Clock, realClock } from '../clock.ts';
import type { PortRange } from '../cluster/types.ts';
import type { ExecutorCommand } from '../controller/context.ts';
import { type Controller, createController } from '../controller/controller.ts';
import type { Logger } from '../log.ts';
import { createSchedulerClient } from '../mesos/scheduler-client.ts';
import type { FrameworkInfo } from '../mesos/types.ts';
import { readConditionTimes, setConditionTimes } from '../store/conditions.ts';
import { getFrameworkId, lead } from '../store/leadership.ts';
import { openStore, type Store } from '../store/store.ts';
import { openBackupReader } from './backup-reader.ts';
import { createConditionTimes } from './condition-times.ts';
import { createLiveView } from './live-view.ts';
import { newId, newToken, random } from './random.ts';
import { createClusterSecrets, createMemberSecrets } from './secrets.ts';
import { readTail } from './tail-reader.ts';

const root = join(import.meta.dirname, '..', '..');
export const sqlDir = join(root, 'sql');

export interface SchedulerSettings {
  /** Holds the store and its key. */
  readonly dataDir: string;
  readonly masters: readonly string[];
  readonly framework: {
    readonly name: string;
    readonly user: string;
    readonly role: string;
    readonly principal: string | null;
    readonly secret: string | null;
    readonly failoverTimeoutSeconds: number;
  };
  readonly executorCommand: ExecutorCommand;
  readonly api: { readonly address: string; readonly port: number; readonly auth: Auth };
  /** Where new clusters get their service ports from, and where teams reach the proxy that listens there. */
  readonly servicePorts?: PortRange;
  readonly proxyHost?: string;
}

export interface RunningScheduler {
  readonly apiUrl: string;
  readonly controller: Controller;
  readonly store: Store;
  stop(): Promise<void>;
}

/** Leads first, then subscribes. `onEnd` is told when it cannot go on; the caller ends the process. */
export async function startScheduler(
  settings: SchedulerSettings,
  log: Logger,
  onEnd: (reason: Error) => void,
  clock: Clock = realClock,
): Promise<RunningScheduler> {
  mkdirSync(settings.dataDir, { recursive: true, mode: 0o700 });
  const store = await openStore({
    path: join(settings.dataDir, 'selvedge.db'),
    keyFile: join(settings.dataDir, 'selvedge.key'),
    clock,
    newId,
    sqlDir,
    ...(settings.servicePorts ? { servicePorts: settings.servicePorts } : {}),
  });
  const leader = await lead(store, `pid ${process.pid}`);
  const frameworkId = await getFrameworkId(store);
  const { role, principal, secret } = settings.framework;
  const controller = createController({
    store,
    leader,
    clock,
    newId,
    newToken,
    random,
    log,
    identity: { role, principal, installation: store.installationId },
    executorCommand: settings.executorCommand,
    openExecutor: (executor) => createExecutorClient({ ...executor, clock, log }),
    openScheduler: (handlers) =>
      createSchedulerClient({
        masters: settings.masters,
        frameworkInfo: frameworkInfo(settings),
        frameworkId,
        ...(principal !== null && secret !== null ? { credentials: { principal, secret } } : {}),
        clock,
        random,
        log,
        handlers,
      }),
    memberSecrets: (secrets, member) => createMemberSecrets(secrets, member, clock.now()),
    onEnd,
  });
  const times = createConditionTimes({
    known: await readConditionTimes(store),
    store: (clusterId, next) => setConditionTimes(store, leader, clusterId, next),
    clock,
    log,
  });
  const api = createApi({
    store,
    wake: (clusterId) => controller.wake(clusterId),
    live: createLiveView({ controller, now: () => clock.now(), times }),
    clock,
    newId,
    log,
    createSecrets: (cluster) => createClusterSecrets(cluster, clock.now()),
    auth: settings.api.auth,
    readBackup: (backup, signal) => openBackupReader(controller, clock, backup, signal),
    readTail: (tail, signal) => readTail(controller, clock, tail, signal),
    proxyHost: settings.proxyHost ?? '127.0.0.1',
  });
  const apiUrl = await api.listen({ host: settings.api.address, port: settings.api.port });
  await controller.start();
  return {
    apiUrl,
    controller,
    store,
    async stop() {
      await api.close();
      controller.stop();
      store.close();
    },
  };
}

/** failover_timeout below two weeks would let Mesos kill every task of a control plane that was away over a holiday. */
function frameworkInfo({ framework }: SchedulerSettings): FrameworkInfo {
  return {
    user: framework.user,
    name: framework.name,
    roles: [framework.role],
    ...(framework.principal === null ? {} : { principal: framework.principal }),
    failover_timeout: framework.failoverTimeoutSeconds,
    checkpoint: true,
    capabilities: ['MULTI_ROLE', 'RESERVATION_REFINEMENT', 'PARTITION_AWARE', 'TASK_KILLING_STATE'].map((type) => ({
      type,
    })),
    // A volume on a fully packed agent is offered too: by default Mesos hides offers with only a disk.
    offer_filters: { [framework.role]: { min_allocatable_resources: { quantities: [] } } },
  };
}
