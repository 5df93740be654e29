import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { type Clock, realClock } from '../../src/clock.ts';
import { type LocalAgent, type LocalDisk, type LocalMesos, startLocalMesos } from '../../src/mesos/local/start.ts';
import type { Golden, GoldenAgent } from './golden.ts';
import { call } from './http.ts';
import { asList, asText, dig, type Json } from './resources.ts';
import type { Faults, Target } from './target.ts';

/** Ten seconds of the recording pass in one: an allocation interval is 100 ms, a default filter 500 ms. */
const speed = 10;
const secret = 'not-so-secret';
/** Three allocation intervals and a half: less than a default filter (5 s), more than a busy machine is late. */
const slackSeconds = 3.5;
/** The recorded agents needed some seconds to find a new master. */
const findMasterMs = 8000;

const fastClock: Clock = {
  now: () => realClock.now() * speed,
  setTimeout: (fn, timeoutMs) => realClock.setTimeout(fn, timeoutMs / speed),
  clearTimeout: (timer) => realClock.clearTimeout(timer),
};

/** The recorded agent as a configuration of the local Mesos. */
function agentFrom(golden: GoldenAgent): LocalAgent {
  const value = (kind: string) =>
    golden.resources.find((text) => text.startsWith(`${kind}:`))?.slice(kind.length + 1) ?? '0';
  const disk = (kind: string, more: Pick<LocalDisk, 'type'> & { root?: string }) =>
    value(kind) === '0' ? [] : [{ ...more, sizeMb: Number(value(kind)) } as LocalDisk];
  return {
    cpus: Number(value('cpus')),
    memMb: Number(value('mem')),
    ports: value('ports'),
    disks: [
      ...disk('disk', { type: 'root' }),
      ...disk('disk[path0]', { type: 'path', root: 'disks/path0' }),
      ...disk('disk[mount0]', { type: 'mount', root: 'disks/mount0' }),
    ],
    ...(golden.attributes ? { attributes: golden.attributes } : {}),
  };
}

/** A local Mesos like the one that was recorded. `subnet` (127.x.y) must be the caller's own. */
export async function startLocalTarget(golden: Golden, subnet: string, executorCommand: string): Promise<Target> {
  const workDir = mkdtempSync(join(tmpdir(), `contract-${golden.scenario}-`));
  const mesos = await startLocalMesos({
    workDir,
    masterAddress: `${subnet}.1`,
    subnet,
    agents: Object.values(golden.agents).map(agentFrom),
    clock: fastClock,
    log: pino({ level: process.env['CONTRACT_LOG'] ?? 'silent' }),
    newId: randomUUID,
    agentPingTimeoutMs: 5000,
    maxAgentPingTimeouts: 3,
    executorRegistrationTimeoutMs: 20_000,
    // Recorded with 2 s; processes do not run faster with the clock, so they get more of it to come back.
    executorReregistrationTimeoutMs: 8000,
    ...(golden.scenario === 's9' ? { credentials: { dbsvc: secret } } : {}),
  }).catch((error: unknown) => {
    rmSync(workDir, { recursive: true, force: true });
    throw error;
  });
  const master = () => new URL(mesos.masterUrl);
  return {
    master,
    speed,
    patienceMs: 4000,
    slackSeconds,
    executorCommand,
    secret,
    faults: faultsOf(mesos, master),
    close: async () => {
      await mesos.stop();
      rmSync(workDir, { recursive: true, force: true });
    },
  };
}

function faultsOf(mesos: LocalMesos, master: () => URL): Faults {
  const keys = new Map<string, string>();
  const keyOf = async (agentId: string): Promise<string> => {
    const body = JSON.stringify({ type: 'GET_AGENTS' });
    const headers = { 'content-type': 'application/json', accept: 'application/json' };
    const answer = await call(new URL('/api/v1', master()), { method: 'POST', headers, body });
    for (const agent of asList(dig(JSON.parse(answer.body) as Json, 'get_agents.agents'))) {
      const hostname = asText(dig(agent, 'agent_info.hostname'));
      const found = mesos.agents.find((each) => each.hostname === hostname);
      if (found) keys.set(asText(dig(agent, 'agent_info.id.value')), found.key);
    }
    const key = keys.get(agentId);
    if (!key) throw new Error(`the master does not know agent ${agentId}`);
    return key;
  };
  return {
    killAgent: async (agentId) => mesos.faults.killAgent(await keyOf(agentId)),
    startAgent: async (agentId) => mesos.faults.startAgent(await keyOf(agentId)),
    killMaster: async () => mesos.faults.failOverMaster({ agents: [] }),
    startMaster: async () => {
      const find = () => {
        for (const { key } of mesos.agents) mesos.faults.agentFindsMaster(key);
      };
      fastClock.setTimeout(find, findMasterMs);
    },
  };
}
