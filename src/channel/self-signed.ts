/**
 * The executor's own certificate: ECDSA P-256, self-signed, trusted by its fingerprint alone. It is written as DER by
 * hand, a fixed shape of a few lines, because the X.509 library costs an executor 20 MB that it would never use again.
 */
import { createHash, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';

export interface Certificate {
  readonly certPem: string;
  readonly keyPem: string;
  /** SHA-256 over the DER, hex, lower case, no colons. */
  readonly fingerprint: string;
}

const YEAR_MS = 365 * 24 * 3600 * 1000;
/** Clocks of scheduler and agent may differ. */
const BACKDATE_MS = 24 * 3600 * 1000;

const oid = {
  ecdsaWithSha256: '06082a8648ce3d040302',
  commonName: '0603550403',
  subjectAltName: '0603551d11',
};

/** SHA-256 fingerprint of a DER certificate: hex, lower case, no colons. */
export function fingerprintOf(der: Uint8Array): string {
  return createHash('sha256').update(der).digest('hex');
}

/**
 * A new key and a certificate for it, valid for ten years from `now` (UTC ms). `serial`: 1 to 19 bytes in hex, unique
 * among certificates of the name (a uuid without its dashes does, a launch has one).
 */
export function createSelfSigned(options: {
  readonly commonName: string;
  readonly ip: string;
  readonly serial: string;
  readonly now: number;
}): Certificate {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const name = sequence(set(sequence(hex(oid.commonName), tagged(0x0c, Buffer.from(options.commonName)))));
  const validity = sequence(time(options.now - BACKDATE_MS), time(options.now + 10 * YEAR_MS));
  const algorithm = sequence(hex(oid.ecdsaWithSha256));
  const names = sequence(tagged(0x87, Buffer.from(options.ip.split('.').map(Number))));
  const extensions = tagged(0xa3, sequence(sequence(hex(oid.subjectAltName), tagged(0x04, names))));
  const body = sequence(
    tagged(0xa0, hex('020102')), // version 3
    tagged(0x02, Buffer.concat([Buffer.of(0x01), Buffer.from(options.serial, 'hex')])), // leading 01: positive
    algorithm,
    name,
    validity,
    name,
    publicKey.export({ type: 'spki', format: 'der' }),
    extensions,
  );
  const signature = tagged(0x03, Buffer.concat([Buffer.of(0), sign('sha256', body, privateKey)]));
  const der = sequence(body, algorithm, signature);
  return { certPem: toPem('CERTIFICATE', der), keyPem: exportKey(privateKey), fingerprint: fingerprintOf(der) };
}

function exportKey(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' }).toString();
}

function toPem(label: string, der: Buffer): string {
  const lines = der.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}

const hex = (text: string) => Buffer.from(text, 'hex');
const sequence = (...parts: Buffer[]) => tagged(0x30, Buffer.concat(parts));
const set = (part: Buffer) => tagged(0x31, part);

/** GeneralizedTime, UTC: YYYYMMDDHHMMSSZ. X.509 wants UTCTime for years before 2050. */
function time(at: number): Buffer {
  const digits = new Date(at).toISOString().replace(/[-:T]/g, '').slice(0, 14);
  return Number(digits.slice(0, 4)) < 2050
    ? tagged(0x17, Buffer.from(`${digits.slice(2)}Z`))
    : tagged(0x18, Buffer.from(`${digits}Z`));
}

function tagged(tag: number, content: Buffer): Buffer {
  const { length } = content;
  if (length < 0x80) return Buffer.concat([Buffer.of(tag, length), content]);
  if (length < 0x100) return Buffer.concat([Buffer.of(tag, 0x81, length), content]);
  return Buffer.concat([Buffer.of(tag, 0x82, length >> 8, length & 0xff), content]);
}
