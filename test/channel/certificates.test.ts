import { X509Certificate } from 'node:crypto';
import { expect, test } from 'vitest';
import { createAuthority, createSelfSigned, issueMemberCertificate } from '../../src/channel/certificates.ts';

const now = Date.UTC(2026, 10, 20);

test('a self-signed certificate is a valid one for its address and is known by its fingerprint', () => {
  const certificate = createSelfSigned({ commonName: 'orders-0', ip: '127.0.0.11', serial: 'ff'.repeat(16), now });

  const parsed = new X509Certificate(certificate.certPem);
  expect(parsed.verify(parsed.publicKey)).toBe(true);
  expect(parsed.checkIP('127.0.0.11')).toBe('127.0.0.11');
  expect(parsed.fingerprint256.replaceAll(':', '').toLowerCase()).toBe(certificate.fingerprint);
  expect(parsed.validFromDate.getTime()).toBeLessThan(now);
  expect(parsed.validToDate.getTime()).toBeGreaterThan(now + 9 * 365 * 86_400_000);
});

test('two certificates have different keys', () => {
  const options = { commonName: 'orders-0', ip: '127.0.0.11', serial: '01', now };

  expect(createSelfSigned(options).fingerprint).not.toBe(createSelfSigned(options).fingerprint);
});

test('a member certificate is issued by the authority for its address and host name', async () => {
  const authority = await createAuthority({ commonName: 'orders', serial: '01', now });

  const member = await issueMemberCertificate(authority, {
    commonName: 'orders-0',
    serial: '02',
    now,
    ip: '127.0.0.11',
    hostname: 'agent-1',
  });

  const [ca, parsed] = [new X509Certificate(authority.certPem), new X509Certificate(member.certPem)];
  expect(ca.ca).toBe(true);
  expect(parsed.ca).toBe(false);
  expect(parsed.verify(ca.publicKey)).toBe(true);
  expect(parsed.checkIssued(ca)).toBe(true);
  expect(parsed.checkIP('127.0.0.11')).toBe('127.0.0.11');
  expect(parsed.checkHost('agent-1')).toBe('agent-1');
});
