import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createRecordDecoder, encodeRecord, RecordError } from '../../src/mesos/recordio.ts';

const cutAt = (bytes: Buffer, cuts: readonly number[]): Buffer[] => {
  const ends = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  return [...ends, bytes.length].map((end, index) => bytes.subarray(index === 0 ? 0 : ends[index - 1], end));
};

test('records come out whole and in order however the stream is cut', () => {
  fc.assert(
    fc.property(
      fc.array(fc.string({ unit: 'binary' }), { maxLength: 8 }),
      fc.array(fc.nat(), { maxLength: 20 }),
      (texts, cuts) => {
        const stream = Buffer.concat(texts.map(encodeRecord));
        const decoder = createRecordDecoder();

        const records = cutAt(stream, cuts).flatMap((chunk) => decoder.push(chunk));

        expect(records.map(String)).toEqual(texts.map((text) => Buffer.from(text).toString()));
        expect(decoder.isMidRecord).toBe(false);
      },
    ),
  );
});

test('a byte at a time, cut inside UTF-8', () => {
  const decoder = createRecordDecoder();
  const stream = Buffer.concat([encodeRecord('{"a":"ä€😀"}'), encodeRecord(''), encodeRecord('x')]);

  const records = [...stream].flatMap((byte) => decoder.push(Buffer.of(byte)));

  expect(records.map(String)).toEqual(['{"a":"ä€😀"}', '', 'x']);
});

test.each([
  ['not a number', 'abc\n{}'],
  ['a negative number', '-1\n'],
  ['empty', '\n{}'],
  ['endless digits', '9'.repeat(100)],
  ['an answer in HTML', '<html>'],
])('a header that is %s is fatal', (_, text) => {
  const decoder = createRecordDecoder();

  expect(() => decoder.push(Buffer.from(text))).toThrow(RecordError);
  expect(() => decoder.push(Buffer.from('2\n{}'))).toThrow(RecordError);
});

test('a record over the limit is fatal before it is kept', () => {
  expect(() => createRecordDecoder(10).push(Buffer.from('11\n'))).toThrow(/limit/);
});

test('a stream that ends inside a record is known', () => {
  const decoder = createRecordDecoder();

  decoder.push(Buffer.from('5\nab'));

  expect(decoder.isMidRecord).toBe(true);
});
