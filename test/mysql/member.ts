/** Instances prepared as members are: own account, accounts, schema; with what they need to follow each other. */
import { userInfo } from 'node:os';
import { ensureAccounts, ensureOwnAccount, type MemberAccounts } from '../../src/mysql/accounts.ts';
import type { Session } from '../../src/mysql/connection.ts';
import { setOffline, setWritable } from '../../src/mysql/read-only.ts';
import { pointReceiver } from '../../src/mysql/replication.ts';
import { setSource } from '../../src/mysql/semi-sync.ts';
import { type Instance, type InstanceOptions, startInstance } from './instance.ts';

export const accounts: MemberAccounts = {
  replication: { user: 'replication', password: "r'e\\pl" },
  clone: { user: 'donor', password: 'd"onor' },
  team: { user: 'shop', password: 'pass;word' },
};

export interface Member {
  readonly instance: Instance;
  /** selvedge over the socket. */
  readonly session: Session;
}

export function loginOwn(instance: Instance): Promise<Session> {
  return ensureOwnAccount({ login: (user) => instance.login({ user }), osUser: userInfo().username });
}

/** Read-only, online, without replication. */
export async function startMember(options: InstanceOptions = {}): Promise<Member> {
  const instance = await startInstance(options);
  const session = await loginOwn(instance);
  await ensureAccounts(session, accounts);
  await setOffline(session, false);
  return { instance, session };
}

export async function follow(replica: Member, primary: Member): Promise<void> {
  const { address: host, port } = primary.instance;
  const { caFile, address: from } = replica.instance;
  await pointReceiver(replica.session, { host, port, ...accounts.replication, caFile, from });
}

export async function makeWritable(primary: Member, k: number): Promise<void> {
  await setSource(primary.session, k);
  await setWritable(primary.session);
}
