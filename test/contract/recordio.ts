/** Cuts RecordIO (decimal length, LF, record, nothing after it) out of bytes in any chunking. Throws on anything else. */
export class RecordReader {
  private rest: Buffer = Buffer.alloc(0);

  push(chunk: Buffer): unknown[] {
    this.rest = Buffer.concat([this.rest, chunk]);
    const records: unknown[] = [];
    for (;;) {
      const newline = this.rest.indexOf(10);
      if (newline < 0) return records;
      const length = this.rest.subarray(0, newline).toString('latin1');
      if (!/^\d{1,9}$/.test(length)) throw new Error(`not a RecordIO length: ${length.slice(0, 40)}`);
      const end = newline + 1 + Number(length);
      if (this.rest.length < end) return records;
      records.push(JSON.parse(this.rest.subarray(newline + 1, end).toString('utf8')));
      this.rest = this.rest.subarray(end);
    }
  }
}
