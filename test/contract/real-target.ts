import type { Golden } from './golden.ts';
import { call } from './http.ts';
import { asList, Bag, dig, type Json, toText } from './resources.ts';
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
    close: async () => {},
  };
}

/** Why a scenario cannot be played against this master; undefined when it can. */
export async function reasonNotToRun(golden: Golden, master: URL): Promise<string | undefined> {
  if (golden.timeline.some((item) => 'fault' in item)) return 'it kills agents or masters, which we cannot do there';
  const needsLogin = golden.timeline.some((item) => 'login' in item);
  const answer = await call(new URL('/api/v1', master), {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: 'application/json' },
    body: JSON.stringify({ type: 'GET_AGENTS' }),
  });
  if (needsLogin !== (answer.status === 401))
    return needsLogin ? 'it needs authentication' : 'the master wants a login';
  if (needsLogin) return process.env['MESOS_SECRET'] ? undefined : 'MESOS_SECRET is not set';
  const agents = asList(dig(JSON.parse(answer.body) as Json, 'get_agents.agents'));
  const bags = agents.map((agent) => Bag.of(asList(dig(agent, 'total_resources')).map(toText)));
  for (const [name, { resources }] of Object.entries(golden.agents))
    if (!bags.some((bag) => bag.equals(Bag.of(resources)))) return `no agent like ${name}: ${resources.join('; ')}`;
  if (bags.length !== Object.keys(golden.agents).length) return `it has ${bags.length} agents`;
  return undefined;
}
