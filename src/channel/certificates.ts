/**
 * Certificates that the scheduler issues: one authority per cluster, one server certificate per member launch. The
 * executor's own certificate is in self-signed.ts, so that executors need not load the library used here.
 */
import './reflect-metadata.ts';
import { KeyObject, type webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import { type Certificate, fingerprintOf } from './self-signed.ts';

export { type Certificate, createSelfSigned } from './self-signed.ts';

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const YEAR_MS = 365 * 24 * 3600 * 1000;
const BACKDATE_MS = 24 * 3600 * 1000;

/** `serial`: hex, unique within the authority; a uuid without dashes does. `now`: UTC ms. */
interface Issue {
  readonly commonName: string;
  readonly serial: string;
  readonly now: number;
}

/** A new certificate authority for one cluster, valid for twenty years. Keep the key encrypted. */
export async function createAuthority(options: Issue): Promise<Certificate> {
  const keys = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: nameOf(options.commonName),
    keys,
    serialNumber: options.serial,
    notBefore: new Date(options.now - BACKDATE_MS),
    notAfter: new Date(options.now + 20 * YEAR_MS),
    signingAlgorithm: algorithm,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return pack(certificate, keys.privateKey);
}

/** A certificate for the mysqld of one member: valid for its address and host name, as server and as client, ten years. */
export async function issueMemberCertificate(
  authority: Pick<Certificate, 'certPem' | 'keyPem'>,
  options: Issue & { readonly ip: string; readonly hostname: string },
): Promise<Certificate> {
  const issuer = new x509.X509Certificate(authority.certPem);
  const signingKey = await crypto.subtle.importKey(
    'pkcs8',
    x509.PemConverter.decodeFirst(authority.keyPem),
    algorithm,
    false,
    ['sign'],
  );
  const keys = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const certificate = await x509.X509CertificateGenerator.create({
    subject: nameOf(options.commonName),
    issuer: issuer.subject,
    publicKey: keys.publicKey,
    signingKey,
    serialNumber: options.serial,
    notBefore: new Date(options.now - BACKDATE_MS),
    notAfter: new Date(options.now + 10 * YEAR_MS),
    signingAlgorithm: algorithm,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth]),
      new x509.SubjectAlternativeNameExtension([
        { type: 'ip', value: options.ip },
        { type: 'dns', value: options.hostname },
      ]),
      await x509.AuthorityKeyIdentifierExtension.create(issuer),
    ],
  });
  return pack(certificate, keys.privateKey);
}

/** The JSON form of a name needs no escaping. */
const nameOf = (commonName: string): x509.JsonName => [{ CN: [commonName] }];

function pack(certificate: x509.X509Certificate, key: webcrypto.CryptoKey): Certificate {
  return {
    certPem: `${certificate.toString('pem')}\n`,
    keyPem: KeyObject.from(key).export({ type: 'pkcs8', format: 'pem' }).toString(),
    fingerprint: fingerprintOf(new Uint8Array(certificate.rawData)),
  };
}
