/** Bytes that are no HTTP request never reach a route; they get a problem too. */
import type { Socket } from 'node:net';
import { errors } from '../errors.ts';
import { toProblem } from './problems.ts';

export function refuseBrokenRequest(error: Error & { readonly code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || socket.destroyed || !socket.writable) return;
  const code = codeOf(error.code);
  const problem = JSON.stringify(toProblem(code, 'This is not a whole HTTP request.'));
  socket.end(
    [
      `HTTP/1.1 ${errors[code].status} ${errors[code].title}`,
      'content-type: application/problem+json',
      `content-length: ${Buffer.byteLength(problem)}`,
      'connection: close',
      '',
      problem,
    ].join('\r\n'),
  );
}

function codeOf(code: string | undefined) {
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return 'REQUEST_TIMEOUT';
  return code === 'HPE_HEADER_OVERFLOW' ? 'TOO_LARGE' : 'BAD_REQUEST';
}
