/** Our GTID algebra against MySQL's own functions, on random pairs. */
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  formatGtidSet,
  type GtidSet,
  hasCommonGtids,
  isGtidSubset,
  parseGtidSet,
  subtractGtidSets,
  unionGtidSets,
} from '../../src/cluster/gtid-set.ts';
import { destroyInstances, type Instance, startInstance } from '../mysql/instance.ts';
import { gtidText } from './gtid-arbitraries.ts';

const pairCount = 400;
const batchSize = 50;
let instance: Instance;

beforeAll(async () => {
  instance = await startInstance();
});
afterAll(destroyInstances);

/** One row an input row, in order: `columns` may use x and y, bound as one JSON array a batch. */
async function ask(pairs: readonly (readonly [string, string])[], columns: string): Promise<Record<string, unknown>[]> {
  const rows: Record<string, unknown>[] = [];
  for (let index = 0; index < pairs.length; index += batchSize) {
    const json = JSON.stringify(pairs.slice(index, index + batchSize));
    const table = `JSON_TABLE(?, '$[*]' COLUMNS (n FOR ORDINALITY, x TEXT PATH '$[0]', y TEXT PATH '$[1]')) AS pairs`;
    rows.push(...(await instance.root.query(`SELECT ${columns} FROM ${table} ORDER BY n`, [json])));
  }
  return rows;
}

test('normal form, union, subtraction, subset and intersection are those of MySQL', async () => {
  const pairs = fc.sample(fc.tuple(gtidText, gtidText), pairCount);

  const answers = await ask(
    pairs,
    `GTID_SUBTRACT(x, '') AS normal, GTID_SUBTRACT(CONCAT(x, ',', y), '') AS both_of, GTID_SUBTRACT(x, y) AS rest,
     GTID_SUBSET(x, y) AS is_subset, GTID_SUBTRACT(x, GTID_SUBTRACT(x, y)) AS common`,
  );

  expect(answers).toHaveLength(pairCount);
  pairs.forEach(([left, right], index) => {
    const [x, y]: [GtidSet, GtidSet] = [parseGtidSet(left), parseGtidSet(right)];
    const ours = {
      normal: formatGtidSet(x),
      both_of: formatGtidSet(unionGtidSets(x, y)),
      rest: formatGtidSet(subtractGtidSets(x, y)),
      is_subset: isGtidSubset(x, y),
      hasCommon: hasCommonGtids(x, y),
    };
    const { common, is_subset, ...texts } = answers[index]!;
    expect(ours, `${left} and ${right}`).toEqual({
      ...texts,
      is_subset: Number(is_subset) === 1,
      hasCommon: common !== '',
    });
  });
});

test('what we read MySQL reads too, and the same', async () => {
  const uuid = '3E11FA47-71CA-11E1-9E33-C80AA9429562';
  const texts = [
    '',
    ' , ,\n',
    `,${uuid}:1,`,
    `\n${uuid} : CTL : 0001 - 03 , , ${uuid}:9\t`,
    `${uuid}:7:_a:1:a_9:2:a:3:a:4, ${uuid}:a:1-9`,
    `${uuid}:${'t'.repeat(32)}:1`,
    `${uuid}:1-9223372036854775806`,
    `${uuid}:000000000000000000000000005`,
  ];

  const answers = await ask(
    texts.map((text) => [text, '']),
    `GTID_SUBTRACT(x, '') AS normal`,
  );

  expect(answers.map((row) => row['normal'])).toEqual(texts.map((text) => formatGtidSet(parseGtidSet(text))));
});

test('what MySQL refuses we refuse', async () => {
  const uuid = '3e11fa47-71ca-11e1-9e33-c80aa9429562';
  const texts = ['NULL', `${uuid}:0`, `${uuid}:-5`, `${uuid}:1x`, `${uuid}:9223372036854775807`, `${uuid}0:1`];
  texts.push(`${uuid}:${'t'.repeat(33)}:1`, `${uuid}:1;`, `${uuid}:1 ${uuid}:1`);

  for (const text of texts) {
    await expect(instance.root.query(`SELECT GTID_SUBTRACT(?, '') AS normal`, [text]), text).rejects.toThrow(/GTID/i);
    expect(() => parseGtidSet(text), text).toThrow(/^GTID/);
  }
});
