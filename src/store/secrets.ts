/**
 * Secrets at rest: AES-256-GCM under a key that is kept beside the store, never in it. The additional data names table
 * and row, so that a sealed value moved to another row does not open.
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, linkSync, openSync, readFileSync, statSync, unlinkSync, writeSync } from 'node:fs';

const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
/** Format of a sealed value; another cipher gets another number. */
const VERSION = 'v1';

/** Hex of 32 random bytes. */
export const createKey = (): string => randomBytes(KEY_BYTES).toString('hex');

/** `row` names table and row: `cluster:<id>`. */
export function seal(key: Buffer, row: string, text: string): string {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(Buffer.from(row));
  const body = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()]);
  return `${VERSION}:${Buffer.concat([nonce, cipher.getAuthTag(), body]).toString('base64')}`;
}

/** Throws when the key is another one, the value was changed, or it belongs to another row. */
export function unseal(key: Buffer, row: string, sealed: string): string {
  const [version, encoded] = sealed.split(':');
  if (version !== VERSION || encoded === undefined) throw new Error(`unknown format of a sealed value of ${row}`);
  const bytes = Buffer.from(encoded, 'base64');
  const nonce = bytes.subarray(0, NONCE_BYTES);
  const tag = bytes.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES);
  try {
    const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES });
    decipher.setAAD(Buffer.from(row));
    decipher.setAuthTag(tag);
    const body = bytes.subarray(NONCE_BYTES + TAG_BYTES);
    return Buffer.concat([decipher.update(body), decipher.final()]).toString('utf8');
  } catch (cause) {
    throw new Error(`open the sealed value of ${row}`, { cause });
  }
}

/**
 * Reads the key file. `mayCreate` is false when the store already holds secrets: a new key would make them unreadable,
 * so that a lost key file must be an error and not a fresh start.
 */
export function readKeyFile(
  path: string,
  options: { readonly mayCreate: boolean; readonly newId: () => string },
): Buffer {
  if (options.mayCreate) ensureKeyFile(path, options.newId());
  let text: string;
  try {
    const mode = statSync(path).mode;
    if ((mode & 0o027) !== 0) throw new Error(`others may read it or its group may write it: chmod 600 ${path}`);
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new Error(`read the key file ${path}`, { cause });
  }
  return parseKey(text.trim(), path);
}

function parseKey(text: string, path: string): Buffer {
  if (!/^[0-9a-f]{64}$/.test(text)) throw new Error(`the key file ${path} does not hold ${KEY_BYTES} bytes in hex`);
  return Buffer.from(text, 'hex');
}

/** Written whole under another name and linked into place: two starters at once end with one key, and none is half written. */
function ensureKeyFile(path: string, unique: string): void {
  const draft = `${path}.${unique}`;
  const file = openSync(draft, 'wx', 0o600);
  try {
    writeSync(file, `${randomBytes(KEY_BYTES).toString('hex')}\n`);
    fsyncSync(file);
    linkSync(draft, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST')
      throw new Error(`make the key file ${path}`, { cause: error });
  } finally {
    closeSync(file);
    unlinkSync(draft);
  }
}
