import { expect, test } from 'vitest';
import { parseDuration, parseEnvironment } from '../../src/executor/environment.ts';
import { answerHealth, type HealthFacts, LEASE_MS } from '../../src/executor/health-server.ts';

const semiSync = { isSource: true, k: 1, isReplica: false, clients: 2, waitingSessions: 0, noTx: 0 };
const status = {
  instance: 'running',
  isWritable: true,
  epoch: 2,
  heartbeatAt: 10_000,
  lagMs: 40,
  reason: null,
  replication: null,
  semiSync,
} as unknown as HealthFacts['status'];
const facts: HealthFacts = { status, promotedEpoch: 2, now: 10_100 };
const replication = { applier: 'on' } as NonNullable<HealthFacts['status']['replication']>;
const isHealthy = (url: string, change: Partial<HealthFacts['status']>, more: Partial<HealthFacts> = {}) =>
  answerHealth(url, { ...facts, ...more, status: { ...status, ...change } })?.isHealthy;

test('/primary holds for a writable member of the newest epoch within its lease', () => {
  expect(isHealthy('/primary', {})).toBe(true);
  expect(isHealthy('/primary', { isWritable: false })).toBe(false);
  expect(isHealthy('/primary', { instance: 'held' })).toBe(false);
  expect(isHealthy('/primary', { epoch: 3 })).toBe(false);
  expect(isHealthy('/primary', {}, { promotedEpoch: null })).toBe(false);
});

test('the lease counts only where commits wait for acknowledgements', () => {
  const now = 10_000 + LEASE_MS;

  expect(isHealthy('/primary', {}, { now })).toBe(false);
  expect(isHealthy('/primary', { heartbeatAt: null })).toBe(false);
  expect(isHealthy('/primary', { semiSync: { ...semiSync, k: 0 } }, { now })).toBe(true);
});

test('/replica holds for a read-only member that applies and is near enough', () => {
  const replica = { isWritable: false, replication };

  expect(isHealthy('/replica', replica)).toBe(true);
  expect(isHealthy('/replica?maxLagMs=100', replica)).toBe(true);
  expect(isHealthy('/replica?maxLagMs=10', replica)).toBe(false);
  expect(isHealthy('/replica?maxLagMs=nonsense', replica)).toBe(false);
  expect(isHealthy('/replica?maxLagMs=100', { ...replica, lagMs: null })).toBe(false);
  expect(isHealthy('/replica', { ...replica, replication: { ...replication, applier: 'off' } })).toBe(false);
  expect(isHealthy('/replica', { ...replica, isWritable: true })).toBe(false);
});

test('other and hostile paths are no health answers', () => {
  expect(answerHealth('/', facts)).toBeNull();
  expect(answerHealth('/\\:999999', facts)).toBeNull();
});

test('durations are those of stout', () => {
  expect(parseDuration('15mins')).toBe(900_000);
  expect(parseDuration('250ms')).toBe(250);
  expect(parseDuration('1.5secs')).toBe(1500);
  expect(parseDuration('soon')).toBeNull();
});

test('an environment that is not an agent’s is refused with every fault', () => {
  expect(() => parseEnvironment({})).toThrow(/MESOS_FRAMEWORK_ID.*MESOS_EXECUTOR_ID.*MESOS_AGENT_ENDPOINT/);
});
