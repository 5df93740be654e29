import type { Golden } from './golden.ts';
import { type Answer, call } from './http.ts';
import { asList, asText, Bag, dig, type Json, type JsonObject, toText } from './resources.ts';
import type { Target } from './target.ts';

/** A real master at recorded speed. Its agents must be on this machine: executors speak with the test over loopback. */
export function realTarget(master: URL, executorCommand: string): Target {
  return {
    master: () => master,
    speed: 1,
    patienceMs: 10_000,
    slackSeconds: 3.5,
    executorCommand,
    secret: process.env['MESOS_SECRET'] ?? '',
    close: () => giveBack(master),
  };
}

/** Why a scenario cannot be played against this master; undefined when it can. */
export async function reasonNotToRun(golden: Golden, master: URL): Promise<string | undefined> {
  if (golden.timeline.some((item) => 'fault' in item)) return 'it kills agents or masters, which we cannot do there';
  const needsLogin = golden.timeline.some((item) => 'login' in item);
  const answer = await operate(master, { type: 'GET_AGENTS' });
  if (needsLogin !== (answer.status === 401))
    return needsLogin ? 'it needs authentication' : 'the master wants a login';
  if (needsLogin) return process.env['MESOS_SECRET'] ? undefined : 'MESOS_SECRET is not set';
  const bags = agentsOf(answer).map((agent) => Bag.of(asList(dig(agent, 'total_resources')).map(toText)));
  for (const [name, { resources }] of Object.entries(golden.agents))
    if (!bags.some((bag) => bag.equals(Bag.of(resources)))) return `no agent like ${name}: ${resources.join('; ')}`;
  if (bags.length !== Object.keys(golden.agents).length) return `it has ${bags.length} agents`;
  return undefined;
}

const agentsOf = (answer: Answer): readonly Json[] => asList(dig(JSON.parse(answer.body) as Json, 'get_agents.agents'));

function operate(master: URL, body: JsonObject): Promise<Answer> {
  const headers = { 'content-type': 'application/json', accept: 'application/json' };
  return call(new URL('/api/v1', master), { method: 'POST', headers, body: JSON.stringify(body) });
}

/** Scenarios leave reservations and volumes behind. The next one must find the agents as they were recorded. */
async function giveBack(master: URL): Promise<void> {
  const answer = await operate(master, { type: 'GET_AGENTS' });
  if (answer.status !== 200) return;
  for (const agent of agentsOf(answer)) {
    const agent_id = dig(agent, 'agent_info.id') ?? null;
    const resources = asList(dig(agent, 'total_resources'))
      .filter((resource) => isOurs(resource))
      .map(newForm);
    const volumes = resources.filter((resource) => dig(resource, 'disk.persistence') !== undefined);
    const plain = resources.map((resource) => (volumes.includes(resource) ? withoutVolume(resource) : resource));
    const destroy = { type: 'DESTROY_VOLUMES', destroy_volumes: { agent_id, volumes } };
    const unreserve = { type: 'UNRESERVE_RESOURCES', unreserve_resources: { agent_id, resources: plain } };
    if (volumes.length > 0) await expectTaken(master, destroy);
    if (plain.length > 0) await expectTaken(master, unreserve);
  }
}

async function expectTaken(master: URL, body: JsonObject): Promise<void> {
  const answer = await operate(master, body);
  if (answer.status >= 300) throw new Error(`give back: ${answer.status} ${answer.body}`);
}

const isOurs = (resource: Json): boolean => asText(dig(asList(dig(resource, 'reservations'))[0], 'role')) === 'mysql';

/** Answers show both forms of a reservation, calls must have one. */
function newForm(resource: Json): JsonObject {
  const { role: _role, reservation: _reservation, ...rest } = resource as JsonObject;
  return rest;
}

function withoutVolume(resource: JsonObject): JsonObject {
  const { disk, ...rest } = resource;
  const source = dig(disk, 'source');
  return source === undefined ? rest : { ...rest, disk: { source } };
}
