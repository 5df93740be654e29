/** Is the cluster what was asked for? Looked at in the world, not in what the program believes. */

import { acknowledgements } from '../../src/cluster/voters.ts';
import type { ClusterRow, MemberRow } from '../../src/store/rows.ts';
import type { Simulation } from './types.ts';

export interface Unhealthy {
  readonly why: string;
  /** The program refuses with a reason that the world bears out. */
  readonly isJustified: boolean;
}

/** Null: everybody serves, one primary takes writes, with all voters. */
export function findUnhealthy(simulation: Simulation, clusterId: string): Unhealthy | null {
  const { world } = simulation;
  const { db, statements } = world.store;
  /** Looked at twice a virtual second: prepared once in a world. */
  const prepare = (sql: string) => {
    const statement = statements.get(sql) ?? db.prepare(sql);
    statements.set(sql, statement);
    return statement;
  };
  /** Two members with k = 1: whoever must be filled anew is the only one that could acknowledge (spec warnings). */
  const isPairInNeed = () =>
    simulation.members === 2 &&
    prepare('SELECT 1 FROM cluster WHERE spec LIKE \'%"one"%\'').get() !== undefined &&
    prepare("SELECT 1 FROM rebuild WHERE state = 'open'").get() !== undefined;
  /** CLONE waits for a commit of the primary, and too few are left that could acknowledge it without being filled anew. */
  const areTooFewLeft = () => {
    const { primary } = prepare('SELECT primary_ordinal AS "primary" FROM cluster WHERE id = ?').get(clusterId) as {
      primary: number | null;
    };
    const source = primary === null ? null : world.findMember(clusterId, primary)?.member?.instance;
    if (!source || source.waitingCommits === 0) return false;
    let able = 0;
    for (let ordinal = 0; ordinal < simulation.members; ordinal++) {
      if (ordinal === primary) continue;
      const replica = world.findMember(clusterId, ordinal)?.member?.instance;
      const isUsable = replica?.isAlive && source.data.purged.isSubsetOf(replica.known());
      const select = prepare("SELECT 1 FROM rebuild WHERE state = 'open' AND cluster_id = ? AND ordinal = ?");
      if (isUsable || !select.get(clusterId, ordinal)) able += 1;
    }
    return able < source.k;
  };
  const unhealthy = (why: string): Unhealthy => ({
    why,
    isJustified: isOverBudget() || isPairInNeed() || areTooFewLeft(),
  });
  const isOverBudget = () => {
    const row = prepare(
      "SELECT MAX(n) AS n FROM (SELECT COUNT(*) AS n FROM rebuild WHERE requested_by = 'automation' GROUP BY ordinal)",
    ).get() as { n: number | null };
    return (row.n ?? 0) >= 3;
  };
  if (!simulation.active()) return { why: 'no control plane runs', isJustified: false };
  const cluster = prepare('SELECT * FROM cluster WHERE id = ?').get(clusterId) as unknown as {
    epoch: number;
    primary_ordinal: number | null;
    rule: string | null;
    spec: string;
    activated_at: number | null;
  };
  if (cluster.primary_ordinal === null || cluster.rule === null) return unhealthy('there is no primary');
  const rule = JSON.parse(cluster.rule) as NonNullable<ClusterRow['rule']>;
  const spec = JSON.parse(cluster.spec) as ClusterRow['spec'];
  const open = ['failover', 'rebuild', 'backup'].filter((table) => {
    const column = table === 'failover' ? 'outcome' : 'state';
    return prepare(`SELECT 1 FROM ${table} WHERE ${column} = 'open' LIMIT 1`).get();
  });
  if (open.length > 0) return unhealthy(`open: ${open.join(', ')}`);
  if (cluster.activated_at === null) return unhealthy('the primary was not seen writable');
  const members = prepare('SELECT * FROM member WHERE cluster_id = ?').all(clusterId) as unknown as (MemberRow & {
    cluster_id: string;
  })[];
  const primary = world.findMember(clusterId, cluster.primary_ordinal)?.member?.instance;
  if (!primary?.isAlive) return unhealthy(`the primary, member ${cluster.primary_ordinal}, does not run`);
  if (primary.isReadOnly || primary.epoch !== cluster.epoch) return unhealthy('the primary does not take writes');
  if (primary.data.committed < primary.data.log.length) return unhealthy('commits of the primary wait');
  const k = acknowledgements(spec.members, spec.durability);
  if (rule.k !== k || primary.k !== k) return unhealthy(`k is ${rule.k} stored and ${primary.k} in force, not ${k}`);
  for (const { ordinal, phase, incarnation } of members) {
    if (phase !== 'serving') return unhealthy(`member ${ordinal} is ${phase}`);
    if (!rule.voters.some((voter) => voter.ordinal === ordinal && voter.incarnation === incarnation))
      return unhealthy(`member ${ordinal} is no voter`);
    if (ordinal === cluster.primary_ordinal) continue;
    const replica = world.findMember(clusterId, ordinal)?.member?.instance;
    if (!replica?.isAlive) return unhealthy(`member ${ordinal} does not run`);
    if (!replica.isReadOnly) return unhealthy(`member ${ordinal} takes writes`);
    const { channel } = replica.data;
    if (replica.receiver !== 'on' || channel?.host !== primary.host || channel.port !== primary.port)
      return unhealthy(
        `member ${ordinal} does not follow the primary: receiver ${replica.receiver} ${replica.receiverError}`,
      );
    if (k > 0 && !replica.isAcknowledging) return unhealthy(`member ${ordinal} does not acknowledge`);
    if (
      replica.data.executed.highest(primary.data.serverUuid) + 30 <
      primary.data.executed.highest(primary.data.serverUuid)
    )
      return unhealthy(`member ${ordinal} is far behind`);
    if (!replica.known().isSubsetOf(primary.data.flushed))
      return unhealthy(`member ${ordinal} has errant transactions`);
  }
  return null;
}
