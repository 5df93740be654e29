/** Views of a cluster as a tick gathers them: three members, one primary, all well, until a test says otherwise. */
import { PROTOCOL_VERSION, type Status } from '../../src/channel/protocol.ts';
import type { ClusterView, MemberView } from '../../src/controller/gather.ts';
import type { ClusterRow, MemberRow } from '../../src/store/rows.ts';

const uuid = (ordinal: number) => `0000000${ordinal}-0000-4000-8000-000000000000`;
export const gtids = (until: number, ordinal = 0) => `${uuid(ordinal)}:1-${until}`;

export function aStatus(ordinal: number, change: Partial<Status> = {}): Status {
  const isPrimary = ordinal === 0;
  return {
    version: PROTOCOL_VERSION,
    taskId: `task-${ordinal}`,
    sequence: 1,
    at: 1000,
    bootId: 'boot',
    incarnation: `incarnation-${ordinal}`,
    serverUuid: uuid(ordinal),
    epoch: 1,
    leaderToken: 1,
    instance: 'running',
    reason: null,
    isInitialised: true,
    isWritable: isPrimary,
    gtidExecuted: gtids(10),
    gtidReceived: '',
    gtidPurged: '',
    replication: isPrimary
      ? null
      : {
          sourceHost: '10.0.0.10',
          sourcePort: 3000,
          receiver: 'on',
          applier: 'on',
          receiverError: '',
          applierError: '',
        },
    lagMs: 100,
    semiSync: {
      isSource: isPrimary,
      k: isPrimary ? 1 : 0,
      isReplica: !isPrimary,
      clients: 2,
      waitingSessions: 0,
      noTx: 0,
    },
    heartbeatAt: isPrimary ? 900 : null,
    volumes: { data: { totalMb: 1000, usedMb: 100 }, backup: null },
    backups: [],
    work: null,
    ...change,
  };
}

export function aMember(ordinal: number, change: Partial<Status> = {}, more: Partial<MemberView> = {}): MemberView {
  const member = { ordinal, desired: 'present', incarnation: `incarnation-${ordinal}`, phase: 'serving' } as MemberRow;
  const bundle = {
    ip: `10.0.0.1${ordinal}`,
    bundle: { ports: { mysql: 3000, control: 3001, health: 3002 } },
  } as MemberView['bundle'];
  const launch = { taskId: `task-${ordinal}`, taskState: 'TASK_RUNNING', endedAt: null } as MemberView['launch'];
  return {
    ordinal,
    member,
    bundle,
    launch,
    isLive: true,
    status: aStatus(ordinal, change),
    isConnected: true,
    ...more,
  };
}

export function aView(
  members: readonly MemberView[] = [0, 1, 2].map((ordinal) => aMember(ordinal)),
  change: Partial<ClusterRow> = {},
): ClusterView {
  const voters = members.map(({ ordinal }) => ({ ordinal, incarnation: `incarnation-${ordinal}` }));
  const cluster = {
    id: 'cluster',
    name: 'orders',
    desired: 'present',
    epoch: 1,
    primary: 0,
    rule: { epoch: 1, version: 1, primary: 0, voters, k: 1 },
    activatedAt: 1,
    automation: 'on',
    automationUntil: null,
    cooldownUntil: null,
    preferences: {},
    ...change,
  } as ClusterRow;
  return {
    cluster,
    members,
    failover: null,
    backups: [],
    kept: [],
    newestBackups: [],
    copies: [],
    verifications: [],
    rebuilds: [],
    restore: null,
    lastRefusal: null,
  };
}
