/** A cluster of members for the executor tests: plans, secrets, launches, and SQL as the team's account. */
import { randomUUID } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, vi } from 'vitest';
import { createAuthority, issueMemberCertificate } from '../../src/channel/certificates.ts';
import type { CommandBody, CommandResult, LaunchPlan, MemberSecrets, Status } from '../../src/channel/protocol.ts';
import { realClock } from '../../src/clock.ts';
import { connect, type Session } from '../../src/mysql/connection.ts';
import { type AgentOptions, destroyLaunches, freePorts, type Launch, launchExecutor } from './agent.ts';

export interface TestMember {
  readonly ordinal: number;
  readonly root: string;
  readonly secrets: MemberSecrets;
  readonly source: { readonly host: string; readonly port: number };
  launch: Launch;
  /** What a relaunch must name after a rebuild. */
  rebuilt?: Pick<LaunchPlan, 'incarnation' | 'serverUuid' | 'serverId'>;
  /** Starts a new executor on the volumes. */
  relaunch(changes?: Partial<LaunchPlan>): Promise<Launch>;
  start(initialise?: boolean, epoch?: number): Promise<CommandResult>;
  /** Sends a command in `epoch` and expects it to be done or accepted. */
  command(body: CommandBody, epoch?: number): Promise<Extract<CommandResult, { outcome: 'done' }>>;
  status(): Promise<Status>;
  until(what: (status: Status) => boolean, timeoutMs?: number): Promise<Status>;
  /** A session of the team over TLS. */
  team(): Promise<Session>;
}

export interface World {
  readonly members: readonly TestMember[];
  destroy(): Promise<void>;
}

const accounts = {
  replication: { user: 'repl', password: 'repl-secret-1' },
  clone: { user: 'cloner', password: 'clone-secret-1' },
  team: { user: 'team', password: 'team-secret-1' },
};

/** Launches `count` executors on 127.`net`.0.1, .2, …, with more in their environment; none is started yet. */
export async function createWorld(
  count: number,
  net: number,
  env: Readonly<Record<string, string>> = {},
): Promise<World> {
  const root = mkdtempSync(join(tmpdir(), 'svx-'));
  const cluster = randomUUID();
  const authority = await createAuthority({ commonName: 'test', serial: '01', now: Date.now() });
  const members: TestMember[] = [];
  for (let ordinal = 0; ordinal < count; ordinal += 1) {
    members.push(await createMember({ root: join(root, `m${ordinal}`), ordinal, net, cluster, authority, env }));
  }
  return {
    members,
    async destroy() {
      await destroyLaunches();
      rmSync(root, { recursive: true, force: true });
    },
  };
}

interface MemberOptions {
  readonly root: string;
  readonly ordinal: number;
  readonly net: number;
  readonly cluster: string;
  readonly authority: { readonly certPem: string; readonly keyPem: string };
  readonly env: Readonly<Record<string, string>>;
}

async function createMember({ root, ordinal, net, cluster, authority, env }: MemberOptions): Promise<TestMember> {
  const address = `127.${net}.0.${ordinal + 1}`;
  const [mysql = 0, control = 0, health = 0] = await freePorts(address, 3);
  const runRoot = join(root, 'run');
  mkdirSync(runRoot, { recursive: true });
  const certificate = await issueMemberCertificate(authority, {
    commonName: `m${ordinal}`,
    serial: `0${ordinal + 2}`,
    now: Date.now(),
    ip: address,
    hostname: 'localhost',
  });
  const options: AgentOptions = {
    root,
    env: { SELVEDGE_RUN_DIR: runRoot, SELVEDGE_LOG_LEVEL: 'info', ...env },
    plan: {
      installation: 'test-installation',
      cluster,
      clusterName: 'orders',
      ordinal,
      incarnation: randomUUID(),
      serverUuid: randomUUID(),
      serverId: 1000 + ordinal,
      address,
      ports: { mysql, control, health },
      memMb: 400,
      data: { containerPath: 'data', persistenceId: `data-${ordinal}`, diskType: 'root', sizeMb: 2048 },
      backup: { containerPath: 'backup', persistenceId: `backup-${ordinal}`, diskType: 'path', sizeMb: 2048 },
    },
  };
  const secrets = {
    caCertPem: authority.certPem,
    certPem: certificate.certPem,
    keyPem: certificate.keyPem,
    ...accounts,
  };
  const launched = async (changes: Partial<LaunchPlan> = {}) => {
    const launch = await launchExecutor({ ...options, plan: { ...options.plan, ...changes } });
    await vi.waitFor(() => expect(launch.updates[0]?.state, launch.stderr()).toBe('TASK_STARTING'), {
      timeout: 20_000,
      interval: 10,
    });
    return launch;
  };
  const member: TestMember = {
    ordinal,
    root,
    secrets,
    source: { host: address, port: mysql },
    launch: await launched(),
    async relaunch(changes) {
      member.launch = await launched(changes);
      return member.launch;
    },
    start: (initialise = false, epoch = 1) =>
      member.launch.send({ kind: 'start', initialise, secrets }, { leaderToken: 9, epoch }),
    async command(body, epoch = 1) {
      const result = await member.launch.send(body, { epoch, leaderToken: 9 });
      if (result.outcome === 'refused') throw new Error(`${body.kind} was refused: ${result.code} ${result.message}`);
      return result as Extract<CommandResult, { outcome: 'done' }>;
    },
    status: () => member.launch.status(),
    until: (what, timeoutMs = 30_000) =>
      vi.waitFor(
        async () => {
          const status = await member.launch.status();
          if (!what(status)) throw new Error(`not yet: ${JSON.stringify(status)}\n${member.launch.logs()}`);
          return status;
        },
        { timeout: timeoutMs, interval: 20 },
      ),
    team: () => connect({ host: address, port: mysql, caPem: authority.certPem }, accounts.team, { clock: realClock }),
  };
  return member;
}

export async function getHealth(member: TestMember, path: string): Promise<number> {
  const { address, ports } = member.launch.plan;
  return (await fetch(`http://${address}:${ports.health}${path}`)).status;
}
