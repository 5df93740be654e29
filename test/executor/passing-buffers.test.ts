/** Streams' buffers are collected every few megabytes, where V8 may be told so. */
import { afterEach, expect, test, vi } from 'vitest';
import { passBuffer } from '../../src/executor/passing-buffers.ts';

const MIB = 1024 * 1024;
const { gc } = globalThis;
afterEach(() => {
  Object.assign(globalThis, { gc });
});

test('V8 looks at what is new every 2 MB, and at all every 32 MB; without leave nothing happens', () => {
  Object.assign(globalThis, { gc: undefined });
  passBuffer(100 * MIB);
  const collect = vi.fn();
  Object.assign(globalThis, { gc: collect });

  for (let done = 0; done < 64 * MIB; done += 64 * 1024) passBuffer(64 * 1024);

  const types = collect.mock.calls.map(([{ type }]) => type);
  expect(types.filter((type) => type === 'minor')).toHaveLength(30);
  expect(types.filter((type) => type === 'major')).toHaveLength(2);
});
