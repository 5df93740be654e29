/** Ours, measured: `selvedge up` as a process of its own, one cluster, asked through REST as anybody would. */
import { realClock } from '../../src/clock.ts';
import { connect, type Login } from '../../src/mysql/connection.ts';
import { type Api, createApiClient, type FailoverAnswer, watchEndpoints } from '../demo/api-client.ts';
import { createControlPlane } from '../demo/control-plane.ts';
import { diagnose } from '../demo/diagnosis.ts';
import type { Endpoints } from '../demo/endpoints.ts';
import { removeRunDirectories } from '../demo/homes.ts';
import { findMember, killProcess, type Process, readRssMb, signalProcess } from '../demo/processes.ts';
import { clusterBody, clusterName, waitGone, waitReady } from '../demo/steps.ts';
import { now, waitFor } from '../demo/wait.ts';
import {
  type Change,
  type Load,
  measureBreak,
  measureChange,
  measureRate,
  pacedLoad,
  saturatedLoad,
  underLoad,
} from './contender.ts';
import type { Name, Sample } from './figures.ts';
import { type Service, startService } from './service.ts';

export interface Ours {
  readonly rounds: Record<Name, () => Promise<Sample>>;
  /** Commits per second of writers at full speed. */
  measureRate(seconds: number): Promise<number>;
  /** Megabytes of the process of each kind that takes most. */
  measureMemory(): Promise<{ readonly executorMb: number; readonly controlPlaneMb: number; readonly mysqldMb: number }>;
  /** Tells what there is to know when a round failed. */
  diagnose(say: (text: string) => void): Promise<void>;
  destroy(): Promise<void>;
}

/** The heartbeat, by which lag is measured, comes each second. */
const lagMaxMs = 1500;

interface Cluster {
  readonly id: string;
  readonly login: Login;
  readonly caPem: string;
  readonly endpoints: Endpoints;
  readonly servicePort: number;
  stopWatching(): void;
}

export async function startOurs(signal: AbortSignal): Promise<Ours> {
  const plane = await createControlPlane({ agents: 3, signal });
  const api = createApiClient(plane.apiUrl);
  let cluster: Cluster | null = null;
  let service: Service | null = null;
  const getCluster = async () => {
    cluster ??= (await createCluster(api)).cluster;
    await waitReady(api, signal);
    return cluster;
  };
  const getTargetOfService = async (made: Cluster) => {
    service ??= await startService(plane.apiUrl);
    return { ...made, endpoints: service.endpoints(made.servicePort) };
  };
  const breakPrimary = async (name: 'SIGKILL' | 'SIGSTOP', made: Cluster): Promise<Change> => {
    await api.releaseCooldown(clusterName);
    const { primary, epoch } = await api.cluster(clusterName);
    return async () => {
      const mysqld = getMysqld(made.id, primary);
      const at = now();
      signalProcess(mysqld, name);
      return { at, ended: describeChange(api, epoch, at) };
    };
  };
  const failOver = async (name: 'SIGKILL' | 'SIGSTOP', load: Load) => {
    const made = await getCluster();
    return measureChange(made, await breakPrimary(name, made), load);
  };
  const handOver = async (): Promise<Change> => {
    const { epoch } = await api.cluster(clusterName);
    return async () => {
      const at = now();
      const asked = api.changePrimary(clusterName, { kind: 'switchover', reason: 'bench' });
      return { at, ended: asked.then(() => describeChange(api, epoch, at)) };
    };
  };
  const destroy = async () => {
    await service?.destroy();
    cluster?.stopWatching();
    await plane.destroy(removeRunDirectories);
  };
  try {
    await plane.start();
  } catch (error) {
    await destroy();
    throw error;
  }
  return {
    rounds: {
      async provision() {
        const { cluster: made, totalMs } = await createCluster(api);
        const startedAt = now() - totalMs;
        await waitReady(api, signal);
        const detail = `all three serve after ${Math.round(now() - startedAt)} ms`;
        made.stopWatching();
        await api.remove(clusterName);
        await waitGone(api, signal);
        return { totalMs, workMs: null, detail };
      },
      failover: () => failOver('SIGKILL', pacedLoad),
      'failover-saturated': () => failOver('SIGKILL', saturatedLoad),
      'failover-stop': () => failOver('SIGSTOP', pacedLoad),
      async rejoin() {
        const { id, ...target } = await getCluster();
        await api.releaseCooldown(clusterName);
        const known = new Set((await api.rebuilds(clusterName)).map((each) => each.id));
        const { primary } = await api.cluster(clusterName);
        return underLoad(target, pacedLoad, async () => {
          const mysqld = getMysqld(id, primary);
          const at = now();
          killProcess(mysqld);
          return waitRejoined({ api, ordinal: primary ?? -1, at, known });
        });
      },
      switchover: async () => measureChange(await getCluster(), await handOver()),
      async 'failover-service'() {
        const made = await getCluster();
        return measureBreak(await getTargetOfService(made), await breakPrimary('SIGKILL', made));
      },
      'switchover-service': async () => measureBreak(await getTargetOfService(await getCluster()), await handOver()),
    },
    async measureRate(seconds) {
      const rate = await measureRate(await getCluster(), seconds);
      await waitFor({ what: 'replicas without lag', timeoutMs: 60_000, signal }, async () =>
        (await api.cluster(clusterName)).members.every(({ lagMs }) => (lagMs ?? 0) < lagMaxMs),
      );
      return rate;
    },
    async measureMemory() {
      const { id } = await getCluster();
      const members = [0, 1, 2].map((ordinal) => findMember(id, ordinal));
      const largest = (pids: readonly (number | undefined)[]) =>
        Math.max(...pids.map((pid) => (pid === undefined ? 0 : (readRssMb({ pid }) ?? 0))));
      return {
        executorMb: largest(members.map((each) => each?.executor.pid)),
        controlPlaneMb: largest([plane.pid()]),
        mysqldMb: largest(members.map((each) => each?.mysqld?.pid)),
      };
    },
    diagnose: (say) => diagnose(plane, api, say),
    destroy,
  };
}

/** From the request to the first commit through the endpoint that the API tells. */
async function createCluster(api: Api): Promise<{ cluster: Cluster; totalMs: number }> {
  const startedAt = now();
  const { id, servicePort, credentials: login } = await api.create(clusterBody);
  if (servicePort === null) throw new Error('the cluster was given no service port');
  const { endpoints, stop } = watchEndpoints(api, clusterName);
  const primary = await waitFor({ what: 'an endpoint', timeoutMs: 60_000, everyMs: 2 }, () => endpoints.primary());
  const { host, port } = primary;
  const session = await connect({ host, port, caPem: login.caCertPem }, login, { clock: realClock });
  await session.query('CREATE DATABASE first');
  const totalMs = now() - startedAt;
  await session.close();
  return { cluster: { id, login, caPem: login.caCertPem, endpoints, servicePort, stopWatching: stop }, totalMs };
}

function getMysqld(clusterId: string, ordinal: number | null): Process {
  const { mysqld } = findMember(clusterId, ordinal ?? -1) ?? {};
  if (!mysqld) throw new Error(`no mysqld of member ${ordinal} runs`);
  return mysqld;
}

interface Rejoin {
  readonly api: Api;
  readonly ordinal: number;
  /** When it was killed. */
  readonly at: number;
  /** Rebuilds of before. */
  readonly known: ReadonlySet<string>;
}

/** Until the member has caught up and serves, by the event that says so; tells the way. */
async function waitRejoined({ api, ordinal, at, known }: Rejoin): Promise<Sample> {
  const joined = await waitFor({ what: `member ${ordinal} to be back`, timeoutMs: 60_000 }, async () =>
    (await api.events(100)).find((each) => each.kind === 'member.joined' && each.ordinal === ordinal && each.at > at),
  );
  const rebuild = (await api.rebuilds(clusterName)).find((each) => each.member === ordinal && !known.has(each.id));
  const detail = rebuild ? `${rebuild.way}: ${rebuild.message ?? rebuild.state}` : 'as it was';
  return { totalMs: joined.at - at, workMs: null, detail };
}

/** The steps as the API tells them, as milliseconds since `at`. */
async function describeChange(api: Api, epoch: number, at: number): Promise<string> {
  const change = await waitFor({ what: 'the end of the change', timeoutMs: 30_000 }, async () => {
    const found = (await api.failovers(clusterName)).find(({ fromEpoch }) => fromEpoch === epoch);
    return found && found.outcome !== 'open' ? found : null;
  });
  if (change.outcome !== 'done') throw new Error(`the change was ${change.outcome}: ${change.refusal?.message}`);
  return stepsOf(change, at);
}

const stepsOf = ({ startedAt, steps }: FailoverAnswer, at: number): string =>
  [{ name: 'begun', at: startedAt }, ...steps].map((step) => `${step.name} ${Math.round(step.at - at)}`).join(', ');
