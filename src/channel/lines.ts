/** Newline-delimited records out of chunks of any size, with a bound on the length of one. */

/** Returns a function that takes chunks and calls `onLine` for each whole line; throws RangeError past `maxBytes`. */
export function createLineSplitter(maxBytes: number, onLine: (line: string) => void): (chunk: Buffer) => void {
  let parts: Buffer[] = [];
  let size = 0;
  return (chunk) => {
    let rest = chunk;
    for (let end = rest.indexOf(10); end !== -1; end = rest.indexOf(10)) {
      const line = Buffer.concat([...parts, rest.subarray(0, end)]);
      if (line.length > maxBytes) throw new RangeError(`a line is longer than ${maxBytes} bytes`);
      parts = [];
      size = 0;
      rest = rest.subarray(end + 1);
      onLine(line.toString('utf8'));
    }
    size += rest.length;
    if (size > maxBytes) throw new RangeError(`a line is longer than ${maxBytes} bytes`);
    if (rest.length > 0) parts.push(rest);
  };
}
