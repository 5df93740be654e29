import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createDirect } from '../../src/executor/direct-io.ts';
import { hashFile } from '../../src/executor/manifest.ts';
import { readThrough } from '../../src/executor/read-through.ts';

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'svread-'));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const never = new AbortController().signal;
const chunkBytes = 1024 * 1024;

test.each([0, 1, chunkBytes - 1, chunkBytes, chunkBytes + 1, 3 * chunkBytes + 7])(
  '%d bytes are read as they are',
  async (size) => {
    const path = join(dir, `f${size}`);
    const content = randomBytes(size);
    writeFileSync(path, content);
    const chunks: Buffer[] = [];

    const bytes = await readThrough(path, never, (chunk) => void chunks.push(Buffer.from(chunk)));

    expect(bytes).toBe(size);
    expect(Buffer.concat(chunks).equals(content)).toBe(true);
    const sha256 = createHash('sha256').update(content).digest('hex');
    expect(await hashFile(path, never)).toEqual({ bytes: size, sha256 });
  },
);

test('a file system that cannot be read past its cache is read through it', async () => {
  const chunks: Buffer[] = [];

  await readThrough('/proc/version', never, (chunk) => void chunks.push(Buffer.from(chunk)));

  expect(Buffer.concat(chunks).toString()).toBe(readFileSync('/proc/version', 'utf8'));
});

test.each([0, 1, 4096, chunkBytes - 1, chunkBytes, 2 * chunkBytes + 4096, 2 * chunkBytes + 4097])(
  '%d bytes are written as they are',
  async (size) => {
    const [from, to] = [join(dir, `from${size}`), join(dir, `to${size}`)];
    const content = randomBytes(size);
    writeFileSync(from, content);

    await using file = await createDirect(to, 0o640);
    await readThrough(from, never, (chunk) => file.write(chunk));
    await file.sync();

    expect(readFileSync(to).equals(content)).toBe(true);
    expect(statSync(to).mode & 0o777).toBe(0o640);
    await expect(createDirect(to, 0o640)).rejects.toMatchObject({ code: 'EEXIST' });
  },
);

test('an abort and a fault of the reader end it', async () => {
  const path = join(dir, 'large');
  writeFileSync(path, randomBytes(4 * chunkBytes));
  const abort = new AbortController();
  const reason = new Error('enough');

  await expect(readThrough(path, abort.signal, () => abort.abort(reason))).rejects.toBe(reason);
  await expect(readThrough(path, never, () => Promise.reject(reason))).rejects.toBe(reason);
  await expect(readThrough(join(dir, 'missing'), never, () => {})).rejects.toMatchObject({ code: 'ENOENT' });
});
