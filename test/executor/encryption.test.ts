/** Properties of the container: whatever is done to a sealed file without its key is found. */
import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { keyIdOf } from '../../src/cluster/backup-key.ts';
import { decrypt, encrypt, isMacOf, macOf, parseKey } from '../../src/executor/encryption.ts';

const SEGMENT = 32 * 1024;
const HEADER = 47;
const SEALED = SEGMENT + 16;
const key = randomBytes(32);
const place = 'b1\ndata/shop/orders.ibd';

async function* cutUp(bytes: Buffer, sizes: readonly number[]): AsyncGenerator<Buffer> {
  let turn = 0;
  for (let at = 0; at < bytes.length; turn += 1) {
    const size = sizes[turn % sizes.length]!;
    yield bytes.subarray(at, at + size);
    at += size;
  }
}

async function collect(source: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of source) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}

const seal = (plain: Buffer, context = place, own = key, sizes: readonly number[] = [50_000]) =>
  collect(encrypt(cutUp(plain, sizes), own, context));
const open = (sealed: Buffer, context = place, own = key, sizes: readonly number[] = [50_000]) =>
  collect(decrypt(cutUp(sealed, sizes), own, context));
const expectDamaged = (opening: Promise<Buffer>) =>
  expect(opening).rejects.toMatchObject({ name: 'Refusal', code: 'BACKUP_DAMAGED' });

const lengths = fc.oneof(
  fc.integer({ min: 0, max: 3 * SEGMENT + 5 }),
  fc.constantFrom(0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT, 3 * SEGMENT),
);
const sizes = fc.array(fc.integer({ min: 1, max: 70_000 }), { minLength: 1, maxLength: 4 }).filter(
  // Bytewise through 100 KB is slow and shows no more.
  (all) => all.some((size) => size > 500),
);
const runs = { numRuns: 60 };

test('what was sealed comes out, however it is cut up on the way', async () => {
  await fc.assert(
    fc.asyncProperty(lengths, sizes, sizes, async (length, writes, reads) => {
      const plain = randomBytes(length);
      const sealed = await seal(plain, place, key, writes);

      expect(sealed.length).toBe(HEADER + length + 16 * Math.max(1, Math.ceil(length / SEGMENT)));
      expect((await open(sealed, place, key, reads)).equals(plain)).toBe(true);
    }),
    runs,
  );
});

test('the same file twice has nothing in common', async () => {
  const plain = Buffer.alloc(100_000, 'order ');
  const [one, other] = await Promise.all([seal(plain), seal(plain)]);

  expect(one.subarray(8, 40).equals(other.subarray(8, 40))).toBe(false);
  expect(one.subarray(HEADER, HEADER + 64).equals(other.subarray(HEADER, HEADER + 64))).toBe(false);
  expect(one.includes('order order')).toBe(false);
});

test('a flipped bit is found, anywhere', async () => {
  const property = fc.asyncProperty(lengths, fc.double({ min: 0, max: 1, noNaN: true }), fc.nat(7), async (...args) => {
    const [length, where, bit] = args;
    const sealed = await seal(randomBytes(length));
    const at = Math.min(sealed.length - 1, Math.floor(where * sealed.length));
    sealed[at]! ^= 1 << bit;

    await expectDamaged(open(sealed));
  });
  await fc.assert(property, runs);
  for (let at = 0; at < HEADER; at += 1) {
    const sealed = await seal(Buffer.from('short'));
    sealed[at]! ^= 1;
    await expectDamaged(open(sealed));
  }
});

test('a file that was cut is found, also between segments; one that goes on, too', async () => {
  const sealed = await seal(randomBytes(3 * SEGMENT));
  for (const at of [0, 7, HEADER - 1, HEADER, HEADER + 15, HEADER + SEALED, HEADER + 2 * SEALED, sealed.length - 1]) {
    await expectDamaged(open(sealed.subarray(0, at)));
  }
  await fc.assert(
    fc.asyncProperty(fc.nat(sealed.length - 1), async (at) => {
      await expectDamaged(open(sealed.subarray(0, at)));
    }),
    runs,
  );
  await expectDamaged(open(Buffer.concat([sealed, Buffer.alloc(1)])));
  await expectDamaged(open(Buffer.concat([sealed, sealed.subarray(-SEALED)])));
});

test('segments that were swapped, left out, repeated or taken from another file are found', async () => {
  const [one, other] = await Promise.all([seal(randomBytes(4 * SEGMENT)), seal(randomBytes(4 * SEGMENT))]);
  const part = (sealed: Buffer, index: number) =>
    sealed.subarray(HEADER + index * SEALED, HEADER + (index + 1) * SEALED);
  const build = (parts: readonly Buffer[]) => Buffer.concat([one.subarray(0, HEADER), ...parts]);
  const own = [0, 1, 2, 3].map((index) => part(one, index));
  expect(build(own).equals(one)).toBe(true);

  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 0, max: 7 }), { maxLength: 6 }), async (order) => {
      fc.pre(order.join() !== '0,1,2,3');
      const parts = order.map((index) => (index < 4 ? part(one, index) : part(other, index - 4)));
      await expectDamaged(open(build(parts)));
    }),
    runs,
  );
});

test('it opens in its own place alone, and with its own key alone', async () => {
  const sealed = await seal(randomBytes(1000));

  await expectDamaged(open(sealed, 'b1\ndata/shop/customers.ibd'));
  await expectDamaged(open(sealed, 'b2\ndata/shop/orders.ibd'));
  await expectDamaged(open(sealed, place, randomBytes(32)));
  expect(await open(sealed)).toHaveLength(1000);
});

test('keys have an id that tells nothing of them, and stand behind a text', () => {
  expect(keyIdOf(key)).toMatch(/^[0-9a-f]{16}$/);
  expect(keyIdOf(key)).toBe(keyIdOf(parseKey(key.toString('hex'))));
  expect(keyIdOf(randomBytes(32))).not.toBe(keyIdOf(key));
  expect(() => parseKey('abc')).toThrow(/32 bytes in hex/);
  const mac = macOf(key, 'text');
  expect(isMacOf(key, 'text', mac)).toBe(true);
  for (const wrong of ['', 'text', mac.slice(1), macOf(randomBytes(32), 'text')]) {
    expect(isMacOf(key, 'text', wrong)).toBe(false);
  }
  expect(isMacOf(key, 'text ', mac)).toBe(false);
});
