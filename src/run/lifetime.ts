/** A process runs until a signal asks it to end, or until it cannot go on. */
export function untilSignal(): { readonly ended: Promise<Error | null>; end(reason: Error): void } {
  const { promise, resolve } = Promise.withResolvers<Error | null>();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve(null));
  return { ended: promise, end: (reason) => resolve(reason) };
}
