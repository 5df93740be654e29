import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { errors } from '../src/errors.ts';

/** A row of the table in docs/errors.md; on a failure the expected rows can be copied from the message. */
const catalogue = Object.entries(errors).map(
  ([code, { status, title, todo }]) => `| ${code} | ${status} | ${title} | ${todo} |`,
);
const rows = readFileSync(join(import.meta.dirname, '..', 'docs', 'errors.md'), 'utf8')
  .split('\n')
  .filter((line) => /^\| [A-Z][A-Z_]+ \|/.test(line));

test('every error of the catalogue is in the document, in the same words', () => {
  expect(catalogue.filter((row) => !rows.includes(row))).toEqual([]);
});

test('every error of the document is in the catalogue', () => {
  expect(rows.filter((row) => !catalogue.includes(row))).toEqual([]);
});

test('the document is in order of the codes, each once', () => {
  const codes = rows.map((row) => row.split(' | ')[0]!.slice(2));

  expect(codes).toEqual([...new Set(codes)].sort());
});

test('statuses are those of refusals and faults, texts are sentences for people', () => {
  for (const [code, { status, title, todo }] of Object.entries(errors)) {
    expect(status, code).toBeGreaterThanOrEqual(400);
    expect(status, code).toBeLessThan(600);
    expect(title, code).toMatch(/[^.]$/);
    expect(todo, code).toMatch(/^[A-Z].*\.$/);
    expect(title + todo, code).not.toContain('|');
  }
});
