/**
 * A backup as one tar archive: `manifest.json`, `SHA256SUMS` for `sha256sum -c`, and the data directory below `data/`; or,
 * of a packed one as it is stored, its files below `packed/`.
 */
import { type TarEntry, tarBytes, tarEnd, tarHeader, tarPadding } from './tar.ts';

export interface BackupFile {
  /** Relative to `root`. */
  readonly path: string;
  readonly bytes: number;
  readonly sha256: string;
}

/** main makes it of the executor that holds the backup. */
export interface BackupReader {
  /** `manifest.json`, and what else lies beside it. */
  readonly texts: readonly { readonly path: string; readonly text: Buffer }[];
  /** What the files are below. */
  readonly root: 'data' | 'packed';
  readonly files: readonly BackupFile[];
  /** Relative to `root`; mysqld needs those without files too. */
  readonly directories: readonly string[];
  /** Exactly `file.bytes` bytes; throws when they cannot be had. */
  read(file: BackupFile, signal: AbortSignal): AsyncIterable<Buffer>;
  close(): void;
}

export interface TarStream {
  readonly bytes: number;
  read(signal: AbortSignal): AsyncIterable<Buffer>;
}

/** `at`: UTC ms, the time of the entries. One chunk is in memory at a time. */
export function tarOf(reader: BackupReader, at: number): TarStream {
  const mtime = Math.floor(at / 1000);
  const { root } = reader;
  const sums = reader.files.map(({ sha256, path }) => `${sha256}  ${root}/${path}\n`).join('');
  const texts = [...reader.texts, { path: 'SHA256SUMS', text: Buffer.from(sums) }];
  const entryOf = (file: BackupFile): TarEntry => ({ path: `${root}/${file.path}`, bytes: file.bytes, mtime });
  const textEntries = texts.map(({ path, text }) => ({ path, bytes: text.length, mtime }));
  const directories = ['', ...reader.directories.map((path) => `${path}/`)].map((path) => {
    return { path: `${root}/${path}`, bytes: 0, mtime, isDirectory: true };
  });
  return {
    bytes: tarBytes([...textEntries, ...directories, ...reader.files.map(entryOf)]),
    async *read(signal) {
      for (const [index, { text }] of texts.entries()) {
        yield Buffer.concat([tarHeader(textEntries[index]!), text, tarPadding(text.length)]);
      }
      for (const directory of directories) yield tarHeader(directory);
      for (const file of reader.files) {
        yield tarHeader(entryOf(file));
        yield* reader.read(file, signal);
        yield tarPadding(file.bytes);
      }
      yield tarEnd();
    },
  };
}
