/** As much of the tar format (POSIX ustar, with pax headers where a name or a size does not fit) as a backup needs. */

const BLOCK = 512;
const NAME_BYTES_MAX = 100;
const PREFIX_BYTES_MAX = 155;
/** Eleven octal digits. */
const SIZE_MAX = 8 ** 11 - 1;

export interface TarEntry {
  /** Relative, with slashes. */
  readonly path: string;
  readonly bytes: number;
  /** Seconds since 1970. */
  readonly mtime: number;
  readonly isDirectory?: boolean;
}

/** Header of a regular file or a directory, whole blocks. */
export function tarHeader(entry: TarEntry): Buffer {
  const type = entry.isDirectory ? '5' : '0';
  const name = splitName(entry.path);
  if (name && entry.bytes <= SIZE_MAX) return block({ ...name, bytes: entry.bytes, mtime: entry.mtime, type });
  const records = Buffer.concat([paxRecord('path', entry.path), paxRecord('size', String(entry.bytes))]);
  const pax = block({ name: 'pax', prefix: '', bytes: records.length, mtime: entry.mtime, type: 'x' });
  // Readers take name and size from the records; those that know none find a short name.
  const short = { name: `long/${entry.path.slice(-60).replace(/[^\x20-\x7e]/g, '_')}`, prefix: '' };
  const bytes = Math.min(entry.bytes, SIZE_MAX);
  const own = block({ ...short, bytes, mtime: entry.mtime, type });
  return Buffer.concat([pax, records, tarPadding(records.length), own]);
}

/** After a file's content: up to the next whole block. */
export const tarPadding = (bytes: number): Buffer => Buffer.alloc((BLOCK - (bytes % BLOCK)) % BLOCK);

/** Two empty blocks. */
export const tarEnd = (): Buffer => Buffer.alloc(2 * BLOCK);

/** Size of the whole archive. */
export function tarBytes(entries: readonly TarEntry[]): number {
  const sizeOf = (entry: TarEntry) => tarHeader(entry).length + entry.bytes + tarPadding(entry.bytes).length;
  return entries.reduce((sum, entry) => sum + sizeOf(entry), 2 * BLOCK);
}

function splitName(path: string): { readonly name: string; readonly prefix: string } | null {
  const length = (text: string) => Buffer.byteLength(text);
  if (length(path) <= NAME_BYTES_MAX) return { name: path, prefix: '' };
  for (let at = path.indexOf('/'); at > 0; at = path.indexOf('/', at + 1)) {
    const [prefix, name] = [path.slice(0, at), path.slice(at + 1)];
    if (length(prefix) <= PREFIX_BYTES_MAX && length(name) <= NAME_BYTES_MAX && name !== '') return { name, prefix };
  }
  return null;
}

/** `<length> <key>=<value>\n`, where the length counts itself. */
function paxRecord(key: string, value: string): Buffer {
  const rest = Buffer.from(` ${key}=${value}\n`);
  let length = rest.length;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return Buffer.concat([Buffer.from(String(length)), rest]);
}

interface Fields {
  readonly name: string;
  readonly prefix: string;
  readonly bytes: number;
  readonly mtime: number;
  readonly type: '0' | '5' | 'x';
}

function block({ name, prefix, bytes, mtime, type }: Fields): Buffer {
  const header = Buffer.alloc(BLOCK);
  const octal = (value: number, digits: number) => `${Math.floor(value).toString(8).padStart(digits, '0')}\0`;
  header.write(name, 0);
  header.write(octal(type === '5' ? 0o750 : 0o640, 7), 100);
  header.write(octal(0, 7), 108);
  header.write(octal(0, 7), 116);
  header.write(octal(bytes, 11), 124);
  header.write(octal(mtime, 11), 136);
  header.write('        ', 148);
  header.write(type, 156);
  header.write('ustar\x0000', 257);
  header.write(prefix, 345);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return header;
}
