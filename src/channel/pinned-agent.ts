/** TLS connections to one executor, each checked against its pinned certificate before a byte is sent. */
import type { X509Certificate } from 'node:crypto';
import { Agent } from 'node:https';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import type { Clock } from '../clock.ts';
import { fingerprintOf } from './self-signed.ts';

const CONNECT_TIMEOUT_MS = 3000;

/** The executor answered with another certificate than the one it reported: someone else listens there. */
export class WrongCertificateError extends Error {
  constructor(address: string) {
    super(`the certificate of ${address} is not the pinned one`);
    this.name = 'WrongCertificateError';
  }
}

/**
 * An agent whose sockets are handed out only after the handshake ended and the certificate's SHA-256 equals
 * `fingerprint`. The name in the certificate is not looked at: the pin is stronger.
 */
export function createPinnedAgent(options: { readonly fingerprint: string; readonly clock: Clock }): Agent {
  const agent = new Agent({ keepAlive: true, maxSockets: 16, maxFreeSockets: 2, timeout: 0 });
  // The documented asynchronous form: no socket returned, the request is written when the callback brings one.
  Object.assign(agent, {
    createConnection: (to: ConnectionOptions, done: (error: Error | null, socket?: TLSSocket) => void) => {
      openPinned(to, options, done);
      return undefined;
    },
  });
  return agent;
}

function openPinned(
  to: ConnectionOptions,
  pin: { readonly fingerprint: string; readonly clock: Clock },
  done: (error: Error | null, socket?: TLSSocket) => void,
): void {
  const where = `${to.host}:${to.port}`;
  const socket = connect({
    host: to.host ?? '',
    port: Number(to.port),
    rejectUnauthorized: false, // self-signed: the pin below is what authorises
    minVersion: 'TLSv1.3',
  });
  const finish = (error: Error | null) => {
    pin.clock.clearTimeout(timer);
    socket.removeListener('error', finish);
    if (!error) return done(null, socket);
    socket.on('error', () => {}); // already reported
    socket.destroy();
    done(error);
  };
  const timer = pin.clock.setTimeout(() => finish(new Error(`connect to ${where} timed out`)), CONNECT_TIMEOUT_MS);
  socket.on('error', finish);
  socket.once('secureConnect', () => {
    const certificate: X509Certificate | undefined = socket.getPeerX509Certificate();
    const isPinned = certificate !== undefined && fingerprintOf(certificate.raw) === pin.fingerprint;
    finish(isPinned ? null : new WrongCertificateError(where));
  });
}
