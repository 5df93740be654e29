/**
 * Accounts and the schema `selvedge` of one member, made on each member by itself (see withLocalWrites).
 * Nobody but `selvedge`@`localhost` has CONNECTION_ADMIN or any right that escapes the fence: offline_mode and
 * read_only hold for everybody else (docs/failover-safety.md, rule 2).
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { errorNumber, type Session } from './connection.ts';
import { withLocalWrites } from './read-only.ts';

export const ownUser = 'selvedge';

interface Credentials {
  readonly user: string;
  readonly password: string;
}

export interface MemberAccounts {
  readonly replication: Credentials;
  readonly clone: Credentials;
  readonly team: Credentials;
}

/** 3032: made, but killed before the GRANT; without CONNECTION_ADMIN it is kept out by offline_mode. */
const notMade = new Set([1045, 1698, 3032]);

export interface OwnAccount {
  /** Opens a session over the socket, without a password. */
  readonly login: (user: string) => Promise<Session>;
  /** The OS user as which the executor runs: the only one that may use the account. */
  readonly osUser: string;
}

/**
 * Logs in as our own account, over the socket and by OS user (auth_socket). In a fresh data directory it is made first,
 * by root without a password, and root goes last: killed anywhere, the next call goes on.
 */
export async function ensureOwnAccount({ login, osUser }: OwnAccount): Promise<Session> {
  const session = await loginOrCreate({ login, osUser });
  try {
    const roots = await session.query("SELECT 1 FROM mysql.user WHERE user = 'root'");
    if (roots.length > 0) {
      await withLocalWrites(session, () => session.query("DROP USER IF EXISTS 'root'@'localhost'"));
    }
    return session;
  } catch (error) {
    await session.close();
    throw error;
  }
}

async function loginOrCreate({ login, osUser }: OwnAccount): Promise<Session> {
  try {
    return await login(ownUser);
  } catch (error) {
    if (!notMade.has(errorNumber(error))) throw error;
  }
  const root = await login('root');
  try {
    await withLocalWrites(root, async () => {
      await root.query(`CREATE USER IF NOT EXISTS ?@'localhost' IDENTIFIED WITH auth_socket AS ?`, [ownUser, osUser]);
      await root.query(`GRANT ALL ON *.* TO ?@'localhost' WITH GRANT OPTION`, [ownUser]);
    });
  } finally {
    await root.close();
  }
  return login(ownUser);
}

/** Rights of a team on everything, cut down below. None of them gets past read_only, offline_mode or the quorum. */
const teamRights = [
  'SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, REFERENCES, INDEX, ALTER, CREATE TEMPORARY TABLES, LOCK TABLES',
  'CREATE VIEW, SHOW VIEW, CREATE ROUTINE, ALTER ROUTINE, EXECUTE, TRIGGER',
].join(', ');
const closedSchemas = {
  mysql: teamRights,
  sys: teamRights,
  selvedge: teamRights,
  // The others are denied to everybody there, and MySQL refuses even to revoke them.
  performance_schema: 'SELECT, INSERT, UPDATE, DELETE, DROP, LOCK TABLES',
};

/** Makes schema, accounts and rights what they should be; passwords included. Only for our own session. */
export async function ensureAccounts(session: Session, accounts: MemberAccounts): Promise<void> {
  await withLocalWrites(session, async () => {
    for (const sql of memberSchema()) await session.query(sql);
    await ensureAccount(session, accounts.replication);
    await session.query(`GRANT REPLICATION SLAVE ON *.* TO ?@'%'`, [accounts.replication.user]);
    await ensureAccount(session, accounts.clone);
    await session.query(`GRANT BACKUP_ADMIN ON *.* TO ?@'%'`, [accounts.clone.user]);
    await ensureTeam(session, accounts.team);
  });
}

async function ensureAccount(session: Session, { user, password }: Credentials): Promise<void> {
  const options = 'IDENTIFIED WITH caching_sha2_password BY ? REQUIRE SSL';
  await session.query(`CREATE USER IF NOT EXISTS ?@'%' ${options}`, [user, password]);
  await session.query(`ALTER USER ?@'%' ${options}`, [user, password]);
}

/**
 * Locked until all restrictions stand. An unlocked account is complete, and its rights are not granted again: between
 * the grants on everything and the revokes its sessions could reach mysql.*.
 */
async function ensureTeam(session: Session, team: Credentials): Promise<void> {
  const [known] = await session.query<{ locked: string }>(
    `SELECT account_locked AS locked FROM mysql.user WHERE user = ? AND host = '%'`,
    [team.user],
  );
  if (!known) await session.query(`CREATE USER ?@'%' ACCOUNT LOCK`, [team.user]);
  if (known?.locked !== 'N') {
    await session.query(`GRANT ${teamRights} ON *.* TO ?@'%'`, [team.user]);
    for (const [schema, rights] of Object.entries(closedSchemas)) {
      await session.query(`REVOKE ${rights} ON \`${schema}\`.* FROM ?@'%'`, [team.user]);
    }
  }
  await ensureAccount(session, team);
  await session.query(`ALTER USER ?@'%' ACCOUNT UNLOCK`, [team.user]);
}

const schemaFile = join(import.meta.dirname, '..', '..', 'sql', 'mysql', '0001-selvedge.sql');

/** Statements of sql/mysql, without comments. */
function memberSchema(): string[] {
  const lines = readFileSync(schemaFile, 'utf8').split('\n');
  const text = lines.filter((line) => !line.startsWith('--')).join('\n');
  return text
    .split(/;\n/)
    .map((each) => each.trim())
    .filter((each) => each !== '');
}
