/** Accounts and certificates: made once per cluster, handed to members over the pinned channel. */

import { createAuthority, issueMemberCertificate } from '../channel/certificates.ts';
import type { MemberSecrets } from '../channel/protocol.ts';
import type { ClusterSecrets } from '../store/rows.ts';
import { newId, newPassword } from './random.ts';

const serial = () => newId().replaceAll('-', '');

export async function createClusterSecrets(
  cluster: { readonly name: string; readonly teamUser: string },
  now: number,
): Promise<ClusterSecrets> {
  const authority = await createAuthority({ commonName: `selvedge ${cluster.name}`, serial: serial(), now });
  return {
    team: { user: cluster.teamUser, password: newPassword() },
    replication: { user: 'selvedge_replication', password: newPassword() },
    clone: { user: 'selvedge_clone', password: newPassword() },
    caCertPem: authority.certPem,
    caKeyPem: authority.keyPem,
  };
}

export async function createMemberSecrets(
  secrets: ClusterSecrets,
  member: { readonly commonName: string; readonly ip: string; readonly hostname: string },
  now: number,
): Promise<MemberSecrets> {
  const authority = { certPem: secrets.caCertPem, keyPem: secrets.caKeyPem };
  const { certPem, keyPem } = await issueMemberCertificate(authority, { ...member, serial: serial(), now });
  const { replication, clone, team, caCertPem, backupKey = null } = secrets;
  return { caCertPem, certPem, keyPem, replication, clone, team, backupKey };
}
