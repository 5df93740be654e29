import { expect, test } from 'vitest';
import { type Golden, type Item, readGolden } from './golden.ts';
import { RecordedMaster } from './recorded-master.ts';
import { replay } from './replay.ts';

/** Without what the playback cannot do: answers of the operator API, and a process to kill. */
function playable(golden: Golden): Golden {
  const timeline = golden.timeline
    .filter((item) => !('signal' in item))
    .map((item) => {
      if (!('answer' in item)) return item;
      const { answer, ...rest } = item;
      return rest as Item;
    });
  return { ...golden, timeline };
}

async function play(golden: Golden, played: Golden): Promise<readonly string[]> {
  const target = await RecordedMaster.start(playable(played));
  try {
    return await replay(playable(golden), target);
  } finally {
    await target.close();
  }
}

test.concurrent.each(['s0', 's1', 's2', 's3', 's5', 's5-gone', 's7', 's9', 's10', 's11'])(
  'a recording has no difference to itself: %s',
  async (scenario) => {
    const golden = readGolden(scenario);

    const differences = await play(golden, golden);

    expect(differences).toEqual([]);
  },
);

test.concurrent.each([
  ['another state', 'TASK_STARTING', 'TASK_STAGING', /state: recorded "TASK_STARTING", live "TASK_STAGING"/],
  ['another reason', 'REASON_TASK_INVALID', 'REASON_TASK_UNKNOWN', /reason: recorded/],
  ['another text', 'is not unique', 'is taken', /text lacks/],
  ['a missing uuid', '"executor_id","uuid"]', '"executor_id"]', /fields: recorded/],
  ['less on offer', '"cpus:3","disk:9728"', '"cpus:2","disk:9728"', /on offer from A1/],
])('a planted change is found: %s', async (_name, from, to, expected) => {
  const golden = readGolden(from === 'is not unique' || from.startsWith('REASON') ? 's2' : 's1');
  const changed = JSON.parse(JSON.stringify(golden).replaceAll(from, to)) as Golden;

  const differences = await play(golden, changed);

  expect(differences.join('\n')).toMatch(expected);
});
