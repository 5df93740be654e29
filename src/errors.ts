/**
 * Catalogue of every error and refusal: code, HTTP status, what it means, what to do.
 * docs/errors.md says the same for people; a test compares the two in both directions.
 */
export const errors = {
  BAD_REQUEST: { status: 400, title: 'The request is not valid', todo: 'Mend every fault listed under `faults`.' },
  UNAUTHORIZED: { status: 401, title: 'No valid token', todo: 'Send `Authorization: Bearer <token>`.' },
  FORBIDDEN: {
    status: 403,
    title: 'The caller may not do this',
    todo: 'Use a token with the role that `detail` names.',
  },
  METHOD_NOT_ALLOWED: { status: 405, title: 'The path does not take this method', todo: 'Look at the header `Allow`.' },
  REQUEST_TIMEOUT: { status: 408, title: 'The request came too slowly', todo: 'Send it again.' },
  NOT_FOUND: { status: 404, title: 'There is no such thing', todo: 'Look at the list of its kind.' },
  NAME_TAKEN: {
    status: 409,
    title: 'A cluster of this name exists',
    todo: 'Choose another name or delete that cluster first.',
  },
  OPERATION_OPEN: {
    status: 409,
    title: 'Another operation of this kind is open',
    todo: 'Wait for it or look at its steps.',
  },
  CLUSTER_DELETING: {
    status: 409,
    title: 'The cluster is being deleted',
    todo: 'Nothing: wait until it is gone, or use another cluster.',
  },
  CLUSTER_RETAINED: {
    status: 409,
    title: 'The cluster was deleted with its volumes retained',
    todo: 'Copy it to a new cluster (`from`), or purge it.',
  },
  NOT_RETAINED: {
    status: 409,
    title: 'The cluster was not deleted with its volumes retained',
    todo: 'Delete it, with or without `retainVolumes`.',
  },
  COPY_OPEN: {
    status: 409,
    title: 'A new cluster is being filled from this one',
    todo: 'Wait until that copy is ready, or delete it first; `facts.copy` names it.',
  },
  HOLDER_AWAY: {
    status: 503,
    title: 'The agent with the retained volumes of the backup is away',
    todo: 'Bring that agent back, or name a backup of another member.',
  },
  PRECONDITION: {
    status: 409,
    title: 'ifPrimary or ifEpoch does not match',
    todo: 'Read the cluster again and decide anew.',
  },
  TOO_LARGE: { status: 413, title: 'The body is too large', todo: 'Send less.' },
  UNSUPPORTED_MEDIA: { status: 415, title: 'The body is not JSON', todo: 'Send `Content-Type: application/json`.' },
  NO_SERVICE_PORT: {
    status: 503,
    title: 'All service ports belong to clusters',
    todo: 'Delete a cluster, or start the control plane with a wider `--service-ports`.',
  },
  TOO_MANY_STREAMS: {
    status: 503,
    title: 'Too many streams are open',
    todo: 'Close some, or read without `watch` and `follow`.',
  },
  NEVER_PLACEABLE: {
    status: 422,
    title: 'No agent could ever hold a member',
    todo: 'Ask for less or add a larger agent.',
  },
  NOT_SUPPORTED: { status: 501, title: 'Not supported yet', todo: "See the README's table." },
  NOT_CONNECTED: { status: 503, title: 'Not connected to Mesos', todo: 'Try again when /readyz answers 200.' },
  INTERNAL: { status: 500, title: 'A fault of Selvedge', todo: 'Look into the log of the scheduler.' },
  STALE_LEADER: { status: 409, title: 'A newer leader exists', todo: 'Nothing: the newer leader goes on.' },
  STALE_EPOCH: {
    status: 409,
    title: 'The command carries an older epoch',
    todo: 'Nothing: a newer primary was chosen.',
  },
  RELAY_LOG_AT_RISK: {
    status: 409,
    title: 'Repointing this member would throw away transactions that it received',
    todo: 'Mend what stops the applier, or rebuild the member.',
  },
  MYSQL_MISSING: {
    status: 503,
    title: 'There is no MySQL on this machine',
    todo: 'Run `npm run setup`, or set SELVEDGE_MYSQL_HOME to an unpacked MySQL 9.7.',
  },
  MYSQL_UNSUPPORTED: {
    status: 503,
    title: 'This MySQL is not supported',
    todo: 'Use MySQL 9.7, or accept another series with SELVEDGE_ALLOW_UNTESTED_VERSION=1.',
  },
  VOLUME_NOT_OURS: {
    status: 409,
    title: 'The volume is not that of this member',
    todo: 'Look whether the disk is mounted and whose marker it has; nothing on it was touched.',
  },
  VOLUME_LOST: {
    status: 409,
    title: 'A volume of the member came back without what was on it',
    todo: 'If its disk is only not mounted, mount it. If it is gone, read the message: it says what takes the new one.',
  },
  INCARNATION_MISMATCH: {
    status: 409,
    title: 'The volume holds another incarnation than the launch names',
    todo: 'Launch with the incarnation that the marker names, or rebuild the member.',
  },
  REBUILD_UNFINISHED: {
    status: 409,
    title: 'The data volume was being filled when it was interrupted',
    todo: 'Send the rebuild again.',
  },
  NOT_RUNNING: { status: 409, title: 'mysqld does not run on this member', todo: 'Start the member first.' },
  NOT_PRIMARY: { status: 409, title: 'The member is not the primary of this epoch', todo: 'Read the cluster again.' },
  IS_WRITABLE: { status: 409, title: 'The member takes writes', todo: 'Demote or fence it first.' },
  BUSY: { status: 409, title: 'The member does other long work', todo: 'Wait for its end, it is in Status.work.' },
  PAUSE_ENDED: {
    status: 409,
    title: 'The pause of the switchover ended by itself before the commit point',
    todo: 'Nothing was lost and the old primary takes writes: ask for the switchover again.',
  },
  SUPERSEDED: {
    status: 409,
    title: 'A later command overtook this one',
    todo: 'Nothing: whoever sent the later one goes on.',
  },
  TIMED_OUT: {
    status: 504,
    title: 'It did not happen in the given time',
    todo: 'Look at the status and send it again.',
  },
  COMMAND_FAILED: {
    status: 500,
    title: 'The command failed on the way',
    todo: 'Read the message; steps are idempotent, send it again.',
  },
  INSTANCE_FAILED: {
    status: 500,
    title: 'mysqld does not start',
    todo: "Read the message, from mysqld's log in the sandbox; then start again or rebuild.",
  },
  INSTANCE_LOST: {
    status: 500,
    title: 'mysqld ended by itself',
    todo: 'Nothing for a replica, it is started again; a primary is held until a failover is decided.',
  },
  DATA_DIR_DAMAGED: {
    status: 500,
    title: 'The data directory is missing or damaged',
    todo: 'Rebuild the member from its backup volume or by CLONE.',
  },
  HELD: {
    status: 409,
    title: 'The member is held: fenced, or ended uncleanly while it was writable',
    todo: 'Nothing: the controller decides how it goes on.',
  },
  STOPPED: { status: 409, title: 'mysqld was stopped on command', todo: 'Start it again.' },
  NO_BACKUP_VOLUME: {
    status: 409,
    title: 'There is no backup volume',
    todo: 'Rebuild by CLONE, or create a cluster with `volumes.backup`.',
  },
  BACKUP_DAMAGED: {
    status: 409,
    title: 'The backup is not there or does not match its manifest',
    todo: 'Use another backup, or rebuild by CLONE.',
  },
  ARCHIVE_FAILED: {
    status: 500,
    title: 'Binary logs cannot be archived',
    todo: 'Read the message; look whether the backup volume is well and has room. It is tried again by itself.',
  },
  BACKUP_NOT_ACKNOWLEDGED: {
    status: 409,
    title: 'The backup holds what the cluster has not acknowledged',
    todo: 'Use a backup of another member, or take one now.',
  },
  NO_BACKUP: { status: 409, title: 'There is no such backup', todo: 'Take one: `selvedge backup NAME --wait`.' },
  TARGET_BEFORE_BACKUP: {
    status: 409,
    title: 'The target is older than every backup that could serve',
    todo: 'Choose a later time or a larger GTID set; the list of backups says from when on.',
  },
  TARGET_NOT_REACHED: {
    status: 409,
    title: 'The archives do not hold all that lies before the target',
    todo: 'Wait until what `missing` names is archived, or choose an earlier target.',
  },
  APPLY_FAILED: {
    status: 409,
    title: 'Archived logs cannot be applied',
    todo: 'Read the message; choose another backup or another target.',
  },
  VOLUME_TOO_SMALL: {
    status: 422,
    title: 'What is to be filled in does not fit into the data volume',
    todo: 'Ask for a larger `volumes.data.sizeMb`.',
  },
  CONFIRM_NEEDED: {
    status: 422,
    title: 'What cannot be taken back needs the name of the cluster in `confirm`',
    todo: 'Look at `?dryRun=true` first; then send the name as `confirm`.',
  },
  SAFETY_BACKUP_FAILED: {
    status: 409,
    title: 'The safety backup before a restore could not be made; nothing was touched',
    todo: 'Mend what the message says; or repeat with `withoutSafetyBackup`, which goes on without it.',
  },
  BINLOG_UNREADABLE: {
    status: 500,
    title: 'A binary log cannot be read',
    todo: 'Look whether the disk is well; use the copy of another member.',
  },
  BACKUP_NO_SPACE: {
    status: 409,
    title: 'The backup volume has no room for another full backup',
    todo: 'Remove backups, keep fewer of them (backup policy), or use a larger backup volume; `facts` has the numbers.',
  },
  BACKUP_ENGINE: {
    status: 409,
    title: 'Tables are in engines whose content CLONE leaves out',
    todo: 'Change the tables in `facts.tables` to InnoDB.',
  },
  BACKUP_KEY_UNKNOWN: {
    status: 409,
    title: 'The key that opens the encrypted backup is not here',
    todo: 'Compare `keyId` with that of `selvedge backup-key`: a backup opens with the key of the cluster that made it alone.',
  },
  BACKUP_LAST_VERIFIED: {
    status: 409,
    title: 'It is the last backup of the member that is known to be good',
    todo: 'Take and verify another one first, or repeat with `force`.',
  },
  PROMOTION_UNSAFE: {
    status: 409,
    title: 'Acknowledged writes could be lost',
    todo: 'Bring back the members named in `facts`, or repeat with acceptDataLoss quoting `facts.lossStatement`.',
  },
  NO_CANDIDATE: {
    status: 409,
    title: 'No member can become the primary',
    todo: 'Bring a voter back and let it apply what it received.',
  },
  CANDIDATE_UNFIT: {
    status: 409,
    title: 'The requested member cannot become the primary',
    todo: 'Name another one, or none.',
  },
  CANDIDATE_BEHIND: {
    status: 409,
    title: 'The member lacks transactions that another one has',
    todo: 'Let it catch up, or name none: the most advanced one is taken.',
  },
  GTID_DIVERGED: {
    status: 409,
    title: 'Members have transactions of each other missing',
    todo: 'Compare the sets in `facts`; rebuild the member that is wrong.',
  },
  LOSS_CHANGED: {
    status: 409,
    title: 'What would be lost is not what was accepted',
    todo: 'Read the new statement and decide anew.',
  },
  MEMBER_NOT_READY: {
    status: 409,
    title: 'Not every member runs yet',
    todo: 'Wait, or look why a member does not start.',
  },
  PRIMARY_NOT_READY: {
    status: 409,
    title: 'The primary does not take writes',
    todo: 'A switchover needs a living primary: ask for a failover instead.',
  },
  PRIMARY_HEALTHY: {
    status: 409,
    title: 'The primary is alive',
    todo: 'Ask for a switchover; or repeat with `force` if it must be given up.',
  },
  LEFTOVER_NOT_SAVED: {
    status: 409,
    title: 'What only this member has could not be saved before it is filled anew',
    todo: 'Make room on its volumes and rebuild it; or rebuild it with `force`, which gives that up.',
  },
  LONG_TRANSACTION: {
    status: 409,
    title: 'A transaction on the primary has written for longer than the pause may last',
    todo: 'Wait for it, give a longer `maxPauseMs`, or repeat with `force`: it is then ended.',
  },
  CANDIDATE_NOT_READY: {
    status: 409,
    title: 'The candidate cannot take over now',
    todo: 'Choose one of those named in `facts.ready`, or none.',
  },
  ERRANT: {
    status: 409,
    title: 'The member has transactions that the primary lacks',
    todo: 'Rebuild the member; it is done by itself when it joins.',
  },
  IS_PRIMARY: { status: 409, title: 'The member is the primary', todo: 'Hand over first with a switchover.' },
  NO_PRIMARY: { status: 409, title: 'The cluster has no primary yet', todo: 'Wait until the cluster is ready.' },
  REBUILD_BUDGET: {
    status: 409,
    title: 'The member was rebuilt too often within an hour',
    todo: 'Find out why it diverges, then ask for a rebuild by hand.',
  },
  TAIL_TOO_DEEP: {
    status: 409,
    title: 'What the primary lacks does not stand at the end of the last binary log alone',
    todo: 'Nothing: the member is filled anew from its backup volume or by CLONE.',
  },
  TRANSFER_REFUSED: {
    status: 409,
    title: 'The donor does not let this member read its backups any more',
    todo: 'Nothing: the controller shares them again and the transfer goes on.',
  },
  TRANSFER_BROKEN: {
    status: 503,
    title: 'The donor of a transfer does not answer',
    todo: 'Look at the network between the agents and at the executor of the donor; the transfer goes on by itself.',
  },
  TRIM_FAILED: {
    status: 409,
    title: 'The unacknowledged tail could not be cut',
    todo: 'Nothing: the member is filled anew from its backup volume or by CLONE; read the message.',
  },
  ABORTED: {
    status: 409,
    title: 'The change was taken back before its commit point',
    todo: 'Read its steps and try again.',
  },
} as const satisfies Record<string, { status: number; title: string; todo: string }>;

export type ErrorCode = keyof typeof errors;

/** A code as another process told it; INTERNAL for none, and for one that this version does not know. */
export function toErrorCode(code: string | null): ErrorCode {
  return code !== null && code in errors ? (code as ErrorCode) : 'INTERNAL';
}

/** An expected refusal: has a code from the catalogue, facts for people, and never a stack in an answer. */
export class Refusal extends Error {
  readonly code: ErrorCode;
  readonly facts: Readonly<Record<string, unknown>>;
  constructor(code: ErrorCode, message: string, facts: Readonly<Record<string, unknown>> = {}) {
    super(message);
    this.name = 'Refusal';
    this.code = code;
    this.facts = facts;
  }
}
