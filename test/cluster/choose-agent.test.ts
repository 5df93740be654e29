import { describe, expect, test } from 'vitest';
import { chooseAgent, couldEverFit } from '../../src/cluster/choose-agent.ts';
import type { AgentOffer } from '../../src/cluster/types.ts';
import { mount, path, root, sampleOffer, sampleSpec } from './samples.ts';

const agent = (number: number, change: Partial<AgentOffer> = {}) =>
  sampleOffer({ agentId: `agent-${number}`, hostname: `host-${number}`, ...change });
const choose = (offers: AgentOffer[], agentsInUse: string[] = [], members: [string, number][] = [], spread?: 'none') =>
  chooseAgent({
    spec: spread ? sampleSpec({ placement: { spread, attributes: {} } }) : sampleSpec(),
    ordinal: 0,
    offers,
    agentsInUse,
    membersByAgent: new Map(members),
    newPersistenceIds: { data: 'd', backup: 'b' },
  });
const chosen = (choice: ReturnType<typeof choose>) => (choice.kind === 'placed' ? choice.offer.agentId : null);

describe('chooseAgent', () => {
  test('takes the agent with the fewest members of any cluster', () => {
    const choice = choose(
      [agent(1), agent(2), agent(3)],
      [],
      [
        ['agent-1', 2],
        ['agent-2', 1],
        ['agent-3', 1],
      ],
    );

    expect(chosen(choice)).toBe('agent-2');
  });

  test('does not depend on the order of the offers', () => {
    expect(chosen(choose([agent(3), agent(1), agent(2)]))).toBe('agent-1');
  });

  test('among equals the agent that wastes least of a mount disk is taken', () => {
    const tight = agent(2, { disks: [mount('/m1', 1000), path('/p1', 4000)] });

    expect(chosen(choose([agent(1), tight]))).toBe('agent-2');
  });

  test('prefers agents without a member of this cluster also when sharing is allowed', () => {
    const choice = choose([agent(1), agent(2)], ['agent-1'], [['agent-2', 7]], 'none');

    expect(chosen(choice)).toBe('agent-2');
  });

  test('tells for every agent why it was not taken', () => {
    const choice = choose([agent(1), agent(2, { cpus: 0 })], ['agent-1']);

    expect(choice.kind).toBe('refused');
    expect(choice.refused.map((one) => [one.hostname, one.stages.find((stage) => !stage.isPassed)?.name])).toEqual([
      ['host-1', 'spread'],
      ['host-2', 'cpus'],
    ]);
  });
});

describe('couldEverFit', () => {
  test('nothing can be said without agents', () => {
    expect(couldEverFit(sampleSpec(), [])).toEqual({ kind: 'unknown' });
  });

  test('a member that is bigger than any agent never fits, with the reasons of each', () => {
    const result = couldEverFit(sampleSpec({ resources: { cpus: 64, memMb: 512 } }), [agent(1), agent(2)]);

    expect(result.kind === 'never' && result.agents.map((one) => one.hostname)).toEqual(['host-1', 'host-2']);
  });

  test('counts one place an agent with spread, and does not mind maintenance', () => {
    const result = couldEverFit(sampleSpec(), [agent(1, { isUnavailable: true }), agent(2), agent(3, { cpus: 0 })]);

    expect(result).toEqual({ kind: 'fits', places: 2, agents: 2 });
  });

  test('without spread several members share an agent as far as its disks and ports go', () => {
    const spec = sampleSpec({
      volumes: { data: { type: 'root', sizeMb: 2000 }, backup: null },
      placement: { spread: 'none', attributes: {} },
    });

    expect(couldEverFit(spec, [agent(1, { disks: [root(5000)] })])).toEqual({ kind: 'fits', places: 2, agents: 1 });
  });
});
