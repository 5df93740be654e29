import { describe, expect, test } from 'vitest';
import type { SpecInput } from '../../src/cluster/spec.ts';
import { fillSpec, NAME_LENGTH_MAX, specWarnings } from '../../src/cluster/spec.ts';
import type { ClusterSpec } from '../../src/cluster/types.ts';
import { sampleSpec } from './samples.ts';

const input: SpecInput = {
  name: 'orders',
  resources: { cpus: 0.5, memMb: 512 },
  volumes: { data: { type: 'root', sizeMb: 1024 } },
};
const faultsOf = (change: object) => {
  const filled = fillSpec({ ...input, ...change });
  return filled.kind === 'faulty' ? filled.faults.map((fault) => fault.path) : [];
};
const durabilityOf = (members: number) => {
  const filled = fillSpec({ ...input, members });
  return filled.kind === 'valid' ? filled.spec.durability : null;
};

test('defaults are three members, majority, one member an agent, no backup volume', () => {
  const filled = fillSpec(input);

  const expected: ClusterSpec = {
    name: 'orders',
    members: 3,
    resources: { cpus: 0.5, memMb: 512 },
    volumes: { data: { type: 'root', sizeMb: 1024 }, backup: null },
    durability: 'majority',
    ackFlush: 'os',
    placement: { spread: 'agent', attributes: {} },
  };
  expect(filled).toEqual({ kind: 'valid', spec: expected });
});

test('one and two members default to async, three and more to majority', () => {
  expect([1, 2, 3, 4, 9].map(durabilityOf)).toEqual(['async', 'async', 'majority', 'majority', 'majority']);
});

describe('faults', () => {
  test('all are listed, each with its path', () => {
    const faults = faultsOf({
      name: 'Orders',
      members: 10,
      resources: { cpus: 0.0001, memMb: 1.5 },
      volumes: { data: { type: 'tape', sizeMb: -1 }, backup: { type: 'path', sizeMb: Number.NaN } },
      durability: 'all',
      placement: { spread: 'rack', attributes: { rack: '' } },
    });

    expect(faults).toEqual([
      'name',
      'members',
      'resources.cpus',
      'resources.memMb',
      'volumes.data.type',
      'volumes.data.sizeMb',
      'volumes.backup.sizeMb',
      'durability',
      'placement.spread',
      'placement.attributes',
    ]);
  });

  test.each(['a', 'a1', 'orders-eu-1', 'a'.repeat(NAME_LENGTH_MAX)])('the name %s is fine', (name) => {
    expect(faultsOf({ name })).toEqual([]);
  });

  test.each(['', '-a', 'a-', '1a', 'a.b', 'ä', 'a\n', 'a'.repeat(NAME_LENGTH_MAX + 1)])(
    'the name %j is not',
    (name) => {
      expect(faultsOf({ name })).toEqual(['name']);
    },
  );

  test('cpus have at most three decimals', () => {
    expect(faultsOf({ resources: { cpus: 0.375, memMb: 512 } })).toEqual([]);
    expect(faultsOf({ resources: { cpus: 0.3001, memMb: 512 } })).toEqual(['resources.cpus']);
  });

  test('one member cannot wait for acknowledgements', () => {
    expect(faultsOf({ members: 1, durability: 'one' })).toEqual(['durability']);
  });
});

describe('warnings', () => {
  const warn = (change: Partial<ClusterSpec>) => specWarnings(sampleSpec(change)).join(' ');

  test('three members with a large enough backup volume need none', () => {
    expect(warn({})).toBe('');
  });

  test('an even number tolerates no more than the odd one below', () => {
    expect(warn({ members: 4 })).toContain('4 members tolerate no more losses than 3');
  });

  test('two members with acknowledgements block while either is away', () => {
    expect(warn({ members: 2, durability: 'majority' })).toContain('writes block while either is away');
  });

  test('async, one member, no backup, small backup and shared agents are said', () => {
    expect(warn({ durability: 'async' })).toContain('may lose acknowledged writes');
    expect(warn({ members: 1, durability: 'async' })).toContain('no failover');
    expect(warn({ volumes: { data: { type: 'root', sizeMb: 900 }, backup: null } })).toContain('No backup volume');
    const volumes = { data: { type: 'root', sizeMb: 900 }, backup: { type: 'root', sizeMb: 899 } } as const;
    expect(warn({ volumes })).toContain('smaller than the data volume');
    expect(warn({ placement: { spread: 'none', attributes: {} } })).toContain('take them down together');
    expect(warn({ members: 5, durability: 'one' })).toContain('needs all 4 replicas');
    expect(warn({ ackFlush: 'disk' })).toContain('commits take 2 to 5 times as long');
    expect(warn({ ackFlush: 'disk', durability: 'async' })).toContain('ackFlush disk does nothing');
    expect(faultsOf({ ackFlush: 'tape' })).toEqual(['ackFlush']);
  });
});
