import fc from 'fast-check';

export const uuids = [
  '00000000-0000-4000-8000-00000000000a',
  '3e11fa47-71ca-11e1-9e33-c80aa9429562',
  'ffffffff-ffff-4fff-bfff-ffffffffffff',
];
const tags = ['', 'ctl', 'ctl2', '_a', 'a_9', 'z'];

const interval = fc
  .tuple(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 0, max: 12 }))
  .map(([first, more]) => (more === 0 ? `${first}` : `${first}-${first + more}`));

const line = fc
  .tuple(fc.constantFrom(...uuids), fc.constantFrom(...tags), fc.array(interval, { minLength: 1, maxLength: 4 }))
  .map(([uuid, tag, intervals]) => `${uuid}${tag === '' ? '' : `:${tag}`}:${intervals.join(':')}`);

/** Texts with overlapping, unordered and repeated parts: what a person could write, not only what MySQL prints. */
export const gtidText = fc
  .tuple(fc.array(line, { maxLength: 5 }), fc.constantFrom(',', ',\n', ' ,\n\t', ' , ,'), fc.boolean())
  .map(([lines, separator, isUpper]) => {
    const text = lines.join(separator);
    return isUpper ? text.toUpperCase() : text;
  });
