/** Three members of which two are lost: who may follow, who is asked, and how a person goes on. Guarantee 1. */
import { afterEach, expect, test } from 'vitest';
import { setDurability } from '../../src/store/clusters.ts';
import { openFailover } from '../../src/store/failovers.ts';
import { createScenario, type Scenario } from './scenario.ts';

let scenario: Scenario;
afterEach(() => scenario?.stop());

const forLong = 10 * 60_000;

/** A commit of a team on the primary; resolves when it was acknowledged. */
async function write(count = 1): Promise<void> {
  const { primary, epoch } = await scenario.cluster();
  const { instance } = scenario.member(primary!);
  const outcomes: string[] = [];
  for (let n = 0; n < count; n += 1)
    instance!.write({ kind: 'write', epoch, value: `${n}`, isOurs: false }, (outcome) => void outcomes.push(outcome));
  await scenario.until('acknowledged', () => outcomes.length === count);
  expect(new Set(outcomes)).toEqual(new Set(['ok']));
}

async function begin(durability: 'majority' | 'async' = 'majority') {
  scenario = await createScenario({ durability });
  await write(3);
  const { primary, epoch } = await scenario.cluster();
  const [lost, survivor] = [0, 1, 2].filter((ordinal) => ordinal !== primary) as [number, number];
  return { primary: primary!, epoch, lost, survivor };
}

const ended = async (outcome: string) => {
  await scenario.until(outcome, async () => (await scenario.failovers())[0]?.outcome === outcome);
  return (await scenario.failovers())[0]!;
};

test('the survivor holds all that the dead primary ever logged: promoted by that proof', async () => {
  const { primary, epoch, lost, survivor } = await begin();
  await scenario.strike({ kind: 'isolate', target: lost, ms: forLong });
  await write();

  await scenario.strike({ kind: 'killMysqld', target: primary });

  await scenario.until('the survivor', async () => (await scenario.cluster()).epoch === epoch + 1);
  const [failover] = await scenario.failovers();
  expect(failover).toMatchObject({
    toPrimary: survivor,
    facts: { fence: { layer: 'executor' }, postMortem: { gtid: expect.stringContaining(':1-') } },
  });
  await scenario.until('the old primary trimmed, and acknowledging', () => scenario.isWritable(survivor));
  await write();
});

test('the survivor lacks what the lost one acknowledged: refused with the facts, and the primary goes on', async () => {
  const { primary, epoch, lost, survivor } = await begin();
  await scenario.strike({ kind: 'cutMembers', a: primary, b: survivor, ms: forLong });
  await write(2);
  await scenario.strike({ kind: 'isolate', target: lost, ms: forLong });
  await scenario.strike({ kind: 'killMysqld', target: primary });

  const refused = await ended('refused');

  expect(refused.refusal).toMatchObject({
    code: 'PROMOTION_UNSAFE',
    message: `No reached member has 2 transactions that the binary logs of member ${primary} hold`,
    facts: { isFinal: true, lossStatement: expect.stringContaining('2 transactions that the binary logs') },
  });
  await scenario.until('the same primary', () => scenario.isWritable(primary));
  expect(await scenario.cluster()).toMatchObject({ primary, epoch });
});

test('both hosts are lost: nothing proves it, a person reads the statement, quotes it and lowers the durability', async () => {
  const { primary, epoch, lost, survivor } = await begin();
  await scenario.strike(
    { kind: 'isolate', target: lost, ms: forLong },
    { kind: 'isolate', target: primary, ms: forLong },
  );
  const { simulation, clusterId } = scenario;
  const { refusal } = await ended('refused');
  const statement = String(refusal?.facts?.['lossStatement']);
  expect(statement).toBe(
    `Promoting member ${survivor} after epoch ${epoch}: nothing that the primary was seen to have is lost; ` +
      `what member ${lost} has is not known; writes that member ${primary} acknowledged and no reached member has are lost as well.`,
  );
  const plan = () => simulation.active()!.controller.plan(clusterId, { kind: 'failover' });
  expect(plan()?.refusal?.facts).toMatchObject({ lossStatement: statement, wouldPromote: survivor });

  /** Automation tries again every few seconds: only one may be open. Answers how it ended, or that it is past the commit. */
  const accept = async (acceptedLoss: string) => {
    const id = simulation.world.newId();
    await scenario.until('no open one', async () => (await scenario.failovers())[0]?.outcome !== 'open');
    await openFailover(simulation.world.store, {
      ...{ id, clusterId, kind: 'failover', reason: 'both are lost', requestedBy: 'a person' },
      options: { acceptedLoss },
    });
    scenario.wake();
    const find = async () => (await scenario.failovers()).find((one) => one.id === id)!;
    await scenario.until(
      'an end',
      async () => (await find()).outcome !== 'open' || (await find()).facts.committedAt !== undefined,
    );
    return find();
  };
  expect((await accept(`${statement} And more.`)).refusal?.code).toBe('LOSS_CHANGED');
  expect(await accept(statement)).toMatchObject({ refusal: null, toPrimary: survivor });
  await scenario.until('the commit point', async () => (await scenario.cluster()).epoch === epoch + 1);

  await scenario.run(5000);
  expect(scenario.isWritable(survivor)).toBe(false);
  await setDurability(simulation.world.store, clusterId, { durability: 'async' });
  scenario.wake();
  await scenario.until('writes', () => scenario.isWritable(survivor));
  await write();
  expect((await scenario.cluster()).rule).toMatchObject({ k: 0, primary: survivor });
});

test('without acknowledgements (async) a replica that holds all that the dead primary logged follows', async () => {
  const { primary, epoch } = await begin('async');
  await scenario.run(3000);

  await scenario.strike({ kind: 'killMysqld', target: primary });

  await scenario.until('another primary', async () => (await scenario.cluster()).epoch === epoch + 1);
  expect((await scenario.failovers())[0]?.facts.postMortem).toBeDefined();
  await scenario.untilHealthy();
});
