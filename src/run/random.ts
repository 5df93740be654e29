/** The only source of ids, tokens and randomness; everything else is given these as arguments. */
import { randomBytes, randomUUID } from 'node:crypto';

export const newId = (): string => randomUUID();
/** 256 bits, safe in a URL and in a header. */
export const newToken = (): string => randomBytes(32).toString('base64url');
/** For people to type into a client: 144 bits without characters that shells or connection strings mind. */
export const newPassword = (): string => randomBytes(18).toString('base64url');
/** In [0, 1). */
export const random = (): number => Math.random();
