import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  areGtidSetsEqual,
  countGtids,
  emptyGtidSet,
  formatGtidSet,
  GTID_INTERVALS_MAX,
  GTID_TEXT_LENGTH_MAX,
  hasCommonGtids,
  isGtidSetEmpty,
  isGtidSubset,
  parseGtidSet,
  subtractGtidSets,
  unionGtidSets,
} from '../../src/cluster/gtid-set.ts';
import { gtidText } from './gtid-arbitraries.ts';

const a = '3e11fa47-71ca-11e1-9e33-c80aa9429562';
const b = '4e11fa47-71ca-11e1-9e33-c80aa9429562';
const tidy = (text: string) => formatGtidSet(parseGtidSet(text));

/** The same set, spelled out one by one: slow and plainly right. */
function spell(text: string): Set<string> {
  const all = new Set<string>();
  for (const part of text.toLowerCase().split(/[\s,]+/)) {
    const [uuid, ...tokens] = part.split(':');
    let tag = '';
    for (const token of tokens) {
      if (!/^[0-9]/.test(token)) tag = token;
      else {
        const [first, last] = token.split('-').map(Number);
        for (let number = first!; number <= (last ?? first!); number++) all.add(`${uuid}:${tag}:${number}`);
      }
    }
  }
  return all;
}

describe('reading and printing', () => {
  test('prints uuids and tags in order, the untagged line first, ranges merged', () => {
    const text = `${b}:5, ${a}:ctl:3:1-2:7:abc:9,\n${a}:4-6:1-3:8`;

    expect(tidy(text)).toBe(`${a}:1-6:8:abc:9:ctl:1-3:7,\n${b}:5`);
  });

  test('takes white space, capitals, leading zeros and empty parts as MySQL does', () => {
    const text = `\n ,, ${a.toUpperCase()} : CTL : 0001 - 03 , , ${b}:7 ,\n`;

    expect(tidy(text)).toBe(`${a}:ctl:1-3,\n${b}:7`);
  });

  test('reads nothing as the empty set', () => {
    for (const text of ['', ' \n', ',', ' , ,']) expect(isGtidSetEmpty(parseGtidSet(text))).toBe(true);
    expect(formatGtidSet(emptyGtidSet)).toBe('');
  });

  test('keeps numbers beyond the safe integers exact', () => {
    expect(tidy(`${a}:9223372036854775805-9223372036854775806`)).toBe(`${a}:9223372036854775805-9223372036854775806`);
    expect(countGtids(parseGtidSet(`${a}:1-9223372036854775806`))).toBe(2n ** 63n - 2n);
  });

  test.each([
    ['a uuid alone', a],
    ['a uuid with a colon and nothing', `${a}:`],
    ['a tag without numbers', `${a}:ctl`],
    ['two tags in a row', `${a}:ctl:abc:1`],
    ['a tag of 33 letters', `${a}:${'t'.repeat(33)}:1`],
    ['a short uuid', '3e11fa47-71ca-11e1-9e33:1'],
    ['a long uuid', `${a}0:1`],
    ['zero', `${a}:0`],
    ['zero to something', `${a}:0-3`],
    ['a number that is too large', `${a}:9223372036854775807`],
    ['a number with 20 digits', `${a}:92233720368547758060`],
    ['a range that runs backwards', `${a}:5-3`],
    ['a range without end', `${a}:5-`],
    ['a negative number', `${a}:-5`],
    ['words', 'NULL'],
    ['two sets without a comma', `${a}:1 ${b}:1`],
    ['something behind the end', `${a}:1;`],
    ['a double colon', `${a}::1`],
    ['number and letters', `${a}:1x`],
  ])('refuses %s', (_what, text) => {
    expect(() => parseGtidSet(text)).toThrow(/^GTID/);
  });

  test('refuses more text and more intervals than the limits', () => {
    const odd = Array.from({ length: GTID_INTERVALS_MAX + 1 }, (_, index) => index * 2 + 1).join(':');

    expect(() => parseGtidSet(' '.repeat(GTID_TEXT_LENGTH_MAX + 1))).toThrow('too long');
    expect(() => parseGtidSet(`${a}:${odd}`)).toThrow('more than');
  });

  test('reads any text whatever without harm: a set or an Error', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        try {
          parseGtidSet(text);
        } catch (error) {
          expect(error).toBeInstanceOf(Error);
        }
      }),
    );
  });

  test('printing and reading again changes nothing', () => {
    fc.assert(
      fc.property(gtidText, (text) => {
        expect(tidy(tidy(text))).toBe(tidy(text));
        expect(spell(tidy(text))).toEqual(spell(text));
      }),
    );
  });
});

describe('algebra', () => {
  const set = gtidText.map((text) => ({ text, gtids: parseGtidSet(text), all: spell(text) }));
  const spelled = (gtids: ReturnType<typeof parseGtidSet>) => spell(formatGtidSet(gtids));

  test('union, subtraction, subset, intersection, count and equality agree with sets spelled out one by one', () => {
    fc.assert(
      fc.property(set, set, (x, y) => {
        const onlyX = [...x.all].filter((gtid) => !y.all.has(gtid));
        const onlyY = [...y.all].filter((gtid) => !x.all.has(gtid));

        expect(spelled(unionGtidSets(x.gtids, y.gtids))).toEqual(new Set([...x.all, ...y.all]));
        expect(spelled(subtractGtidSets(x.gtids, y.gtids))).toEqual(new Set(onlyX));
        expect(isGtidSubset(x.gtids, y.gtids)).toBe(onlyX.length === 0);
        expect(hasCommonGtids(x.gtids, y.gtids)).toBe(onlyX.length < x.all.size);
        expect(countGtids(x.gtids)).toBe(BigInt(x.all.size));
        expect(areGtidSetsEqual(x.gtids, y.gtids)).toBe(onlyX.length === 0 && onlyY.length === 0);
      }),
      { numRuns: 500 },
    );
  });

  test('results are as normal as parsed sets', () => {
    fc.assert(
      fc.property(set, set, (x, y) => {
        for (const result of [unionGtidSets(x.gtids, y.gtids), subtractGtidSets(x.gtids, y.gtids)])
          expect(tidy(formatGtidSet(result))).toBe(formatGtidSet(result));
      }),
    );
  });

  test('arguments are not changed', () => {
    fc.assert(
      fc.property(set, set, (x, y) => {
        unionGtidSets(x.gtids, y.gtids);
        subtractGtidSets(x.gtids, y.gtids);

        expect(formatGtidSet(x.gtids)).toBe(tidy(x.text));
        expect(formatGtidSet(y.gtids)).toBe(tidy(y.text));
      }),
    );
  });

  test('the union of nothing is empty', () => {
    expect(isGtidSetEmpty(unionGtidSets())).toBe(true);
  });
});
