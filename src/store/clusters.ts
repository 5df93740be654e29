import { z } from 'zod';
import { type BackupPolicy, backupPolicyDefault } from '../cluster/backup-policy.ts';
import type { Origin } from '../cluster/recovery.ts';
import type { ClusterSpec, Preferences, VoterRule } from '../cluster/types.ts';
import { Refusal } from '../errors.ts';
import {
  backupPolicyColumn,
  originColumn,
  preferencesColumn,
  retainedColumn,
  ruleColumn,
  secretsColumn,
  specColumn,
} from './columns.ts';
import { writeEvent } from './events.ts';
import { requireNoCopy } from './guards.ts';
import type { ClusterRow, ClusterSecrets, Leader } from './rows.ts';
import { createKey, seal, unseal } from './secrets.ts';
import { takeNumbers } from './sequence.ts';
import { takeServicePort } from './service-ports.ts';
import { allRows, findRow, json, run } from './sql.ts';
import { checkLeader, type Store, transaction, transactionAs } from './store.ts';

const clusterRow = z
  .object({
    id: z.string(),
    name: z.string(),
    spec: json(specColumn),
    desired: z.enum(['present', 'retained', 'deleted']),
    createdAt: z.number(),
    deletedAt: z.number().nullable(),
    epoch: z.number(),
    primaryOrdinal: z.number().nullable(),
    rule: json(ruleColumn).nullable(),
    activatedAt: z.number().nullable(),
    automation: z.enum(['on', 'off']),
    automationUntil: z.number().nullable(),
    cooldownUntil: z.number().nullable(),
    preferences: json(preferencesColumn)
      .nullable()
      .transform((preferences) => preferences ?? {}),
    backupPolicy: json(backupPolicyColumn)
      .nullable()
      .transform((policy) => policy ?? backupPolicyDefault),
    backupPolicyAt: z.number().nullable(),
    servicePort: z.number().nullable(),
    origin: json(originColumn).nullable(),
    retained: json(retainedColumn).nullable(),
  })
  .transform(({ primaryOrdinal, ...row }): ClusterRow => ({ ...row, primary: primaryOrdinal }));

const idRow = z.object({ id: z.string() });

export interface NewCluster {
  readonly id: string;
  readonly spec: ClusterSpec;
  readonly secrets: ClusterSecrets;
  readonly members: readonly { readonly ordinal: number; readonly incarnation: string; readonly serverUuid: string }[];
  /** Who asked, for the event. */
  readonly requestedBy?: string;
  /** What its first member is filled with, instead of nothing. */
  readonly origin?: Origin | null;
}

/**
 * Stores a person's wish for a cluster with its members, whole or not at all, and tells it as `cluster.created`.
 * The same id again answers the row that is there. Refusals: NAME_TAKEN, NO_SERVICE_PORT, CLUSTER_DELETING (its source
 * is).
 */
export function insertCluster(store: Store, input: NewCluster): Promise<ClusterRow> {
  return transaction(store, () => {
    const known = findById(store, input.id);
    if (known) return known;
    const { id, spec } = input;
    if (findByOpenName(store, spec.name)) throw new Refusal('NAME_TAKEN', `a cluster named ${spec.name} exists`);
    if (input.origin && getById(store, input.origin.clusterId).desired === 'deleted')
      throw new Refusal('CLUSTER_DELETING', `cluster ${input.origin.cluster} is being deleted`);
    run(
      store,
      `INSERT INTO cluster
         (id, name, open_name, spec, desired, created_at, epoch, rule_version, service_port, sealed_secrets, origin)
       VALUES (?, ?, ?, ?, 'present', ?, 0, 0, ?, ?, ?)`,
      id,
      spec.name,
      spec.name,
      JSON.stringify(spec),
      store.clock.now(),
      takeServicePort(store),
      seal(store.key, `cluster:${id}`, JSON.stringify(input.secrets)),
      input.origin ? JSON.stringify(input.origin) : null,
    );
    insertMembers(store, input);
    const { origin } = input;
    const data = { ...by(input.requestedBy), ...(origin ? { from: origin.cluster, backup: origin.backup.id } : {}) };
    writeEvent(store, { kind: 'cluster.created', clusterId: id, cluster: spec.name, data });
    return getById(store, id);
  });
}

function by(requestedBy: string | undefined): Readonly<Record<string, string>> {
  return requestedBy === undefined ? {} : { by: requestedBy };
}

function insertMembers(store: Store, { id, members }: NewCluster): void {
  const firstServerId = takeNumbers(store, 'server_id', members.length);
  members.forEach(({ ordinal, incarnation, serverUuid }, index) => {
    run(
      store,
      `INSERT INTO member (cluster_id, ordinal, desired, incarnation, server_uuid, server_id, phase, failures)
       VALUES (?, ?, 'present', ?, ?, ?, 'new', 0)`,
      id,
      ordinal,
      incarnation,
      serverUuid,
      firstServerId + index,
    );
  });
}

/** Oldest first. Deleted ones (of which nothing is left) only on request. */
export async function listClusters(
  store: Store,
  options: { readonly includeDeleted?: boolean } = {},
): Promise<ClusterRow[]> {
  const where = options.includeDeleted ? '' : 'WHERE deleted_at IS NULL';
  return allRows(store, clusterRow, `SELECT * FROM cluster ${where} ORDER BY created_at, name`);
}

/** Of those that are not gone, oldest first: the controller asks every second. */
export async function listClusterIds(store: Store): Promise<string[]> {
  const sql = 'SELECT id FROM cluster WHERE deleted_at IS NULL ORDER BY created_at, name';
  return allRows(store, idRow, sql).map(({ id }) => id);
}

/** By the name of a living cluster, or by the id of any. */
export async function findCluster(store: Store, nameOrId: string): Promise<ClusterRow | null> {
  return findByOpenName(store, nameOrId) ?? findById(store, nameOrId);
}

/** Refusal: NOT_FOUND. */
export async function getCluster(store: Store, id: string): Promise<ClusterRow> {
  return getById(store, id);
}

/**
 * A person's intent to delete; told as `cluster.deleting` the first time. Refusals: NOT_FOUND, CLUSTER_RETAINED (it is
 * purged instead), COPY_OPEN.
 */
export function markClusterDeleted(store: Store, id: string, requestedBy?: string): Promise<ClusterRow> {
  return transaction(store, () => {
    const { name, desired } = getById(store, id);
    if (desired === 'retained') throw new Refusal('CLUSTER_RETAINED', `the volumes of ${name} are retained`);
    if (desired === 'present') requireNoCopy(store, id);
    if (run(store, "UPDATE cluster SET desired = 'deleted' WHERE id = ? AND desired = 'present'", id) > 0) {
      run(store, "UPDATE member SET desired = 'gone' WHERE cluster_id = ?", id);
      writeEvent(store, { kind: 'cluster.deleting', clusterId: id, cluster: name, data: by(requestedBy) });
    }
    return getById(store, id);
  });
}

/**
 * Nothing is left of the cluster on Mesos: its name is free again. Throws while a bundle is not released, because a
 * reservation without a living cluster would never be taken down. False when it was gone before.
 */
export function setClusterGone(store: Store, leader: Leader, id: string, at: number): Promise<boolean> {
  return transactionAs(store, leader, () => {
    if (getById(store, id).desired !== 'deleted') throw new Error(`cluster ${id} is to be kept`);
    const left = "SELECT COUNT(*) AS left_over FROM bundle WHERE cluster_id = ? AND state <> 'released'";
    if (findRow(store, z.object({ leftOver: z.number() }), left, id)?.leftOver !== 0)
      throw new Error(`cluster ${id} still has reservations`);
    const gone = `UPDATE cluster SET deleted_at = ?, open_name = NULL, service_port = NULL
      WHERE id = ? AND deleted_at IS NULL`;
    return run(store, gone, at, id) > 0;
  });
}

export interface PrimaryChange {
  readonly clusterId: string;
  readonly fromEpoch: number;
  readonly toEpoch: number;
  readonly primary: number;
  readonly rule: VoterRule;
}

/**
 * The commit point of a failover: epoch, primary and voters change together, or not at all when the epoch is not
 * `fromEpoch` any more (false). True also when this very change is in the row already, so that it may run twice.
 */
export function commitPrimary(store: Store, leader: Leader, change: PrimaryChange): Promise<boolean> {
  return transactionAs(
    store,
    leader,
    () => writePrimary(store, change) || hasRule(store, change.clusterId, change.rule),
  );
}

/** For use inside a transaction: false when the epoch has moved on. */
export function writePrimary(store: Store, change: PrimaryChange): boolean {
  const { clusterId, fromEpoch, toEpoch, primary, rule } = change;
  checkRule(rule);
  if (toEpoch !== fromEpoch + 1) throw new Error(`epoch ${toEpoch} does not follow ${fromEpoch}`);
  if (rule.epoch !== toEpoch || rule.primary !== primary) throw new Error('the rule is of another epoch or primary');
  const changed = run(
    store,
    `UPDATE cluster SET epoch = ?, primary_ordinal = ?, rule = ?, rule_version = ?, activated_at = NULL
     WHERE id = ? AND epoch = ? AND deleted_at IS NULL`,
    toEpoch,
    primary,
    ruleText(rule),
    rule.version,
    clusterId,
    fromEpoch,
  );
  return changed > 0;
}

export interface RuleChange {
  readonly clusterId: string;
  readonly epoch: number;
  readonly fromVersion: number;
  readonly rule: VoterRule;
}

/** Another rule in the same epoch, by compare-and-set on epoch and version. True also when it is in the row already. */
export function storeRule(store: Store, leader: Leader, change: RuleChange): Promise<boolean> {
  const { clusterId, epoch, fromVersion, rule } = change;
  checkRule(rule);
  if (rule.epoch !== epoch || rule.version <= fromVersion)
    throw new Error('the rule does not follow the one it replaces');
  return transactionAs(store, leader, () => {
    const changed = run(
      store,
      `UPDATE cluster SET rule = ?, rule_version = ?
       WHERE id = ? AND epoch = ? AND rule_version = ? AND primary_ordinal = ? AND deleted_at IS NULL`,
      ruleText(rule),
      rule.version,
      clusterId,
      epoch,
      fromVersion,
      rule.primary,
    );
    return changed > 0 || hasRule(store, clusterId, rule);
  });
}

/** The primary of this epoch was seen writable at `at`. False when the epoch has passed or it was known. */
export function setActivated(
  store: Store,
  leader: Leader,
  clusterId: string,
  epoch: number,
  at: number,
): Promise<boolean> {
  const sql = 'UPDATE cluster SET activated_at = ? WHERE id = ? AND epoch = ? AND activated_at IS NULL';
  return transactionAs(store, leader, () => run(store, sql, at, clusterId, epoch) > 0);
}

/** A person's word: what happens by itself. `until` (UTC ms) ends an `off`. Refusal: NOT_FOUND. */
export function setAutomation(
  store: Store,
  id: string,
  change: { readonly mode: 'on' | 'off'; readonly until: number | null },
): Promise<ClusterRow> {
  return transaction(store, () => {
    run(store, 'UPDATE cluster SET automation = ?, automation_until = ? WHERE id = ?', change.mode, change.until, id);
    return getById(store, id);
  });
}

/** A person's word: another durability; what is left out stays. The voters are led there step by step. Refusal: NOT_FOUND. */
export function setDurability(
  store: Store,
  id: string,
  change: {
    readonly durability?: ClusterSpec['durability'] | undefined;
    readonly ackFlush?: ClusterSpec['ackFlush'] | undefined;
  },
): Promise<ClusterRow> {
  return transaction(store, () => {
    const { spec: before } = getById(store, id);
    const { durability = before.durability, ackFlush = before.ackFlush } = change;
    const spec = { ...before, durability, ackFlush };
    run(store, 'UPDATE cluster SET spec = ? WHERE id = ?', JSON.stringify(spec), id);
    return getById(store, id);
  });
}

/** A person's word: who shall rather, or never, become the primary. Refusal: NOT_FOUND. */
export function setPreferences(store: Store, id: string, preferences: Preferences): Promise<ClusterRow> {
  return transaction(store, () => {
    run(store, 'UPDATE cluster SET preferences = ? WHERE id = ?', JSON.stringify(preferences), id);
    return getById(store, id);
  });
}

/**
 * A person's word: when it is backed up, and what is kept. Its schedule counts from now. One that wants encryption gives
 * the cluster its key, unless it has one. Refusal: NOT_FOUND.
 */
export function setBackupPolicy(store: Store, id: string, policy: BackupPolicy): Promise<ClusterRow> {
  return transaction(store, () => {
    if (policy.encrypt !== 'none') ensureBackupKey(store, id);
    const sql = 'UPDATE cluster SET backup_policy = ?, backup_policy_at = ? WHERE id = ?';
    run(store, sql, JSON.stringify(policy), store.clock.now(), id);
    return getById(store, id);
  });
}

/** No automatic failover before `until`; null ends the wait. By the controller, or by a person without a leader. */
export function setCooldown(store: Store, leader: Leader | null, id: string, until: number | null): Promise<void> {
  return transaction(store, () => {
    if (leader) checkLeader(store, leader);
    run(store, 'UPDATE cluster SET cooldown_until = ? WHERE id = ?', until, id);
  });
}

function ensureBackupKey(store: Store, id: string): void {
  const secrets = openSecrets(store, id);
  if (secrets.backupKey !== undefined) return;
  const sealed = seal(store.key, `cluster:${id}`, JSON.stringify({ ...secrets, backupKey: createKey() }));
  run(store, 'UPDATE cluster SET sealed_secrets = ? WHERE id = ?', sealed, id);
}

/** Refusal: NOT_FOUND. Throws when the key is another one. */
export async function readClusterSecrets(store: Store, id: string): Promise<ClusterSecrets> {
  return openSecrets(store, id);
}

/** The last that were opened: in the midst of a failover everybody asks for the endpoints of one cluster. */
const openedSecrets = new WeakMap<Store, { id: string; sealed: string; secrets: ClusterSecrets }>();

function openSecrets(store: Store, id: string): ClusterSecrets {
  const row = findRow(
    store,
    z.object({ sealedSecrets: z.string() }),
    'SELECT sealed_secrets FROM cluster WHERE id = ?',
    id,
  );
  if (!row) throw new Refusal('NOT_FOUND', `there is no cluster ${id}`);
  const { sealedSecrets: sealed } = row;
  const known = openedSecrets.get(store);
  if (known?.id === id && known.sealed === sealed) return known.secrets;
  const secrets = secretsColumn.parse(JSON.parse(unseal(store.key, `cluster:${id}`, sealed)));
  openedSecrets.set(store, { id, sealed, secrets });
  return secrets;
}

function checkRule(rule: VoterRule): void {
  const ordinals = new Set(rule.voters.map((voter) => voter.ordinal));
  if (ordinals.size !== rule.voters.length) throw new Error('a voter is listed twice');
  if (!ordinals.has(rule.primary)) throw new Error('the primary is not among the voters');
  // k may exceed what the voters can give: after a loss the primary blocks rather than lies.
  if (rule.k < 0) throw new Error(`k = ${rule.k} is negative`);
}

/** One spelling of a rule, whatever the order of keys: it is compared as text. */
function ruleText({ epoch, version, primary, voters, k, base }: VoterRule): string {
  return JSON.stringify({
    epoch,
    version,
    primary,
    voters: voters.map(({ ordinal, incarnation, bootId }) => ({ ordinal, incarnation, bootId })),
    k,
    base,
  });
}

function hasRule(store: Store, clusterId: string, rule: VoterRule): boolean {
  const stored = findById(store, clusterId);
  return stored?.deletedAt === null && stored.rule !== null && ruleText(stored.rule) === ruleText(rule);
}

function findByOpenName(store: Store, name: string): ClusterRow | null {
  return findRow(store, clusterRow, 'SELECT * FROM cluster WHERE open_name = ?', name);
}

function findById(store: Store, id: string): ClusterRow | null {
  return findRow(store, clusterRow, 'SELECT * FROM cluster WHERE id = ?', id);
}

/** For use inside a transaction. Refusal: NOT_FOUND. */
export function getById(store: Store, id: string): ClusterRow {
  const row = findById(store, id);
  if (!row) throw new Refusal('NOT_FOUND', `there is no cluster ${id}`);
  return row;
}
