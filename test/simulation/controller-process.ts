/** One life of the control plane: its own clock, its own view of the store, and ways to die in the middle of anything. */
import type { StatementSync } from 'node:sqlite';
import { type Controller, createController } from '../../src/controller/controller.ts';
import type { ExecutorAddress, ExecutorClient } from '../../src/controller/executors.ts';
import type { Logger } from '../../src/log.ts';
import type { SchedulerClient, SchedulerHandlers } from '../../src/mesos/scheduler-client.ts';
import { lead } from '../../src/store/leadership.ts';
import type { Store } from '../../src/store/store.ts';
import type { Process } from './time.ts';

export class ProcessDied extends Error {}

/** The one database, seen by one process: a dead one reads and writes nothing any more. */
export function openStoreView(store: Store, process: Process, onCommit: (when: 'before' | 'after') => void): Store {
  const { db } = store;
  const assertAlive = () => {
    if (!process.isAlive()) throw new ProcessDied(`${process.name} is dead`);
  };
  const statements = new Map<string, StatementSync>(store.statements);
  const guarded = {
    prepare(sql: string) {
      assertAlive();
      const known = store.statements.get(sql) ?? db.prepare(sql);
      store.statements.set(sql, known);
      return known;
    },
    get isTransaction() {
      return db.isTransaction;
    },
    exec(sql: string) {
      if (sql === 'ROLLBACK') return db.exec(sql);
      assertAlive();
      if (sql !== 'COMMIT') return db.exec(sql);
      onCommit('before');
      assertAlive(); // the caller rolls back: it never happened
      db.exec('COMMIT');
      onCommit('after');
      assertAlive(); // it happened, and nobody is left to know
    },
  };
  return { ...store, db: guarded as unknown as Store['db'], clock: process.clock, statements, close: () => {} };
}

export interface ControlPlane {
  readonly process: Process;
  readonly controller: Controller;
  readonly token: number;
}

export async function startControlPlane(options: {
  readonly process: Process;
  readonly store: Store;
  readonly newId: () => string;
  readonly random: () => number;
  readonly log: Logger;
  openExecutor(executor: ExecutorAddress): ExecutorClient;
  openScheduler(handlers: SchedulerHandlers): SchedulerClient;
  onEnd(reason: Error): void;
}): Promise<ControlPlane> {
  const { process, store, newId, random, log } = options;
  const leader = await lead(store, process.name);
  const secret = { user: 'u', password: 'p' };
  const controller = createController({
    store,
    leader,
    clock: process.clock,
    newId,
    newToken: newId,
    random,
    log,
    identity: { role: 'selvedge', principal: null, installation: store.installationId },
    executorCommand: { value: 'run the executor', uris: [], user: null, environment: {} },
    openExecutor: options.openExecutor,
    openScheduler: options.openScheduler,
    memberSecrets: async () => ({
      caCertPem: '',
      certPem: '',
      keyPem: '',
      replication: secret,
      clone: secret,
      team: secret,
    }),
    onEnd: options.onEnd,
  });
  await controller.start();
  return { process, controller, token: leader.token };
}
