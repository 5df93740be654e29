import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Refusal } from '../../src/errors.ts';
import { type BinlogTransaction, createBinlogWalker, walkBinaryLog } from '../../src/mysql/binlog-events.ts';
import { destroyInstances, testDistribution } from './instance.ts';
import { follow, type Member, makeWritable, startMember } from './member.ts';

const signal = new AbortController().signal;
let primary: Member;
let replica: Member;
/** Closed logs of both, of several kinds of transactions; `binlog.000002` and later. */
let logs: string[];

beforeAll(async () => {
  [primary, replica] = await Promise.all([startMember(), startMember()]);
  await follow(replica, primary);
  await replica.session.query('START REPLICA SQL_THREAD');
  await makeWritable(primary, 0);
  const { session } = primary;
  await session.query('CREATE DATABASE shop');
  await session.query('CREATE TABLE shop.orders (id INT PRIMARY KEY AUTO_INCREMENT, what LONGTEXT)');
  const fill = async (tag: string) => {
    if (tag !== '') await session.query(`SET gtid_next = 'AUTOMATIC:${tag}'`);
    for (let nth = 0; nth < 5; nth++) await session.query("INSERT INTO shop.orders (what) VALUES ('plain')");
    await session.query("INSERT INTO shop.orders (what) VALUES (REPEAT('x', 300000))");
    await session.query("SET gtid_next = 'AUTOMATIC'");
  };
  await fill('');
  await session.query('FLUSH BINARY LOGS');
  await fill('ctl');
  await fill(`a${'z_9'.repeat(10)}a`);
  await session.query('SET SESSION binlog_transaction_compression = ON');
  await fill('');
  await session.query('SET SESSION binlog_transaction_compression = OFF');
  await session.query('FLUSH BINARY LOGS');
  await session.query("SET gtid_next = '00000000-0000-ffff-80ff-7f0102030405:tagged:9223372036854775806'");
  await session.query("INSERT INTO shop.orders (what) VALUES ('far')");
  await session.query("SET gtid_next = 'AUTOMATIC'");
  await session.query('CREATE TABLE shop.more (id INT PRIMARY KEY)');
  await session.query('FLUSH BINARY LOGS');
  const [row] = await session.query<{ gtids: string }>('SELECT @@GLOBAL.gtid_executed AS gtids');
  await replica.session.query('SELECT WAIT_FOR_EXECUTED_GTID_SET(?, 30)', [row!.gtids]);
  await replica.session.query('FLUSH BINARY LOGS');
  logs = [...(await closedLogs(primary, ['000001', '000002', '000003'])), ...(await closedLogs(replica, ['000001']))];
});
afterAll(destroyInstances);

async function closedLogs({ instance, session }: Member, numbers: readonly string[]) {
  await session.query('SELECT 1');
  return numbers.map((number) => join(instance.dataDir, `binlog.${number}`));
}

interface Printed {
  readonly previous: string;
  readonly transactions: { gtid: string; position: number; immediate: number; original: number; length: number }[];
}

/** What mysqlbinlog, the judge, says of a log. */
async function print(path: string): Promise<Printed> {
  const [program = '', ...prefix] = (await testDistribution()).program('mysqlbinlog');
  const args = [...prefix, '--no-defaults', '--base64-output=decode-rows', path];
  const { stdout } = await promisify(execFile)(program, args, { maxBuffer: 1 << 28, env: { TZ: 'UTC' } });
  const transactions: Printed['transactions'] = [];
  const previous = /\tPrevious-GTIDs\n((?:# .*\n)*?)# at /.exec(stdout)?.[1] ?? '';
  let position = 0;
  let times = { immediate: 0, original: 0, length: 0 };
  for (const line of stdout.split('\n')) {
    position = Number(/^# at (\d+)$/.exec(line)?.[1] ?? position);
    const found = /original_committed_timestamp=(\d+)\timmediate_commit_timestamp=(\d+)\ttransaction_length=(\d+)/.exec(
      line,
    );
    if (found) times = { original: Number(found[1]), immediate: Number(found[2]), length: Number(found[3]) };
    const gtid = /^SET @@SESSION\.GTID_NEXT= '([^']+)'/.exec(line)?.[1];
    if (gtid && gtid !== 'AUTOMATIC') transactions.push({ gtid, position, ...times });
  }
  return { previous: previous.replaceAll(/^# |\n|\[empty\]/gm, '').replaceAll(/\s/g, ''), transactions };
}

test('each transaction, its place and its times are those that mysqlbinlog prints', async () => {
  for (const path of logs) {
    const judged = await print(path);
    const found: BinlogTransaction[] = [];

    const walked = await walkBinaryLog(path, { signal, onTransaction: (transaction) => found.push(transaction) });

    expect(judged.transactions.length).toBeGreaterThan(0);
    expect(found).toEqual(
      judged.transactions.map(({ gtid, position, immediate, original, length }) => ({
        gtid,
        position,
        endPosition: position + length,
        committedAtMicros: immediate,
        originalCommittedAtMicros: original,
      })),
    );
    expect(walked.head.previousGtids).toBe(judged.previous);
    expect(walked).toMatchObject({ isClosed: true, wholeEnd: walked.fileBytes, head: { isInUse: false } });
  }
});

test('the sets of the logs follow each other and add up to what the server executed', async () => {
  const walked = [];
  for (const path of logs.slice(0, 3)) walked.push(await walkBinaryLog(path, { signal }));

  const [row] = await primary.session.query<{ same: number }>(
    'SELECT GTID_SUBTRACT(?, @@GLOBAL.gtid_executed) = "" AS same',
    [walked.map(({ gtidSet }) => gtidSet).join(',')],
  );
  expect(Number(row!.same)).toBe(1);
  const [next] = await primary.session.query<{ same: number }>("SELECT GTID_SUBTRACT(?, ?) = '' AS same", [
    walked[2]!.head.previousGtids,
    `${walked[0]!.gtidSet},${walked[1]!.gtidSet}`,
  ]);
  expect(Number(next!.same)).toBe(1);
});

test('pieces of any size give the same, and a torn end is no fault', async () => {
  const bytes = await readFile(logs[1]!);
  const whole = await walkBinaryLog(logs[1]!, { signal });
  const ends = new Set<number>();
  const walker = createBinlogWalker({ name: 'pieces' });

  for (let at = 0, size = 1; at < bytes.length; at += size, size = (size * 7) % 4099) {
    walker.push(bytes.subarray(at, at + size));
    ends.add(walker.transactionsEnd);
    expect(walker.wholeEnd).toBeLessThanOrEqual(walker.position);
    expect(walker.nextEnd).toBeGreaterThanOrEqual(walker.wholeEnd);
  }

  expect(walker.position).toBe(bytes.length);
  expect(walker.gtidSet()).toBe(whole.gtidSet);
  expect(walker.head).toEqual(whole.head);
  expect(ends.size).toBeGreaterThan(5);
});

test('a flipped bit anywhere but in the magic is found, or leaves the log torn', async () => {
  const bytes = await readFile(logs[2]!);
  const whole = createBinlogWalker({ name: 'whole' });
  whole.push(bytes);

  for (let bit = 32; bit < bytes.length * 8; bit += 5) {
    // The flag `in use` is no part of the checksum.
    if (bit === (4 + 17) * 8) continue;
    const broken = Buffer.from(bytes);
    broken[bit >> 3]! ^= 1 << (bit & 7);
    const walker = createBinlogWalker({ name: 'broken' });
    let code = '';
    try {
      walker.push(broken);
    } catch (error) {
      code = (error as Refusal).code;
    }
    const isTorn = walker.wholeEnd < bytes.length;
    expect(code === 'BINLOG_UNREADABLE' || isTorn, `bit ${bit}: ${code} ${walker.wholeEnd}`).toBe(true);
  }
});

test('hostile bytes give a coded error or a torn log, never another throw', async () => {
  const head = (await readFile(logs[1]!)).subarray(0, 4 + 122);
  const event = fc.record({
    type: fc.constantFrom(33, 34, 35, 42, 15, 2, 16),
    body: fc.uint8Array({ maxLength: 200 }),
    lie: fc.constantFrom(0, 0, 0, 1, -5, 4_000_000_000),
  });

  fc.assert(
    fc.property(fc.array(event, { maxLength: 5 }), fc.boolean(), (events, hasHead) => {
      const parts: Uint8Array[] = hasHead ? [head] : [Buffer.from([0xfe, 0x62, 0x69, 0x6e])];
      for (const { type, body, lie } of events) {
        const header = Buffer.alloc(19);
        header[4] = type;
        header.writeUInt32LE((19 + body.length + lie) >>> 0, 9);
        parts.push(header, body);
      }
      const walker = createBinlogWalker({ name: 'hostile', isVerified: false });
      try {
        walker.push(Buffer.concat(parts));
      } catch (error) {
        expect(error).toBeInstanceOf(Refusal);
        expect((error as Refusal).code).toBe('BINLOG_UNREADABLE');
      }
    }),
    { numRuns: 2000 },
  );
});

test('what is no binary log, is encrypted or ends too early is refused', async () => {
  const path = join(primary.instance.dir, 'not-a-log');
  const contents = [
    Buffer.alloc(0),
    Buffer.from('hello'),
    Buffer.from([0xfd, 0x62, 0x69, 0x6e, 1, 2, 3]),
    (await readFile(logs[0]!)).subarray(0, 130),
  ];

  for (const content of contents) {
    await writeFile(path, content);
    await expect(walkBinaryLog(path, { signal })).rejects.toMatchObject({ code: 'BINLOG_UNREADABLE' });
  }
});
