/** What both of the executor's servers do: listen on its one address, and end with all connections. */
import type { Server } from 'node:http';
import type { Logger } from '../log.ts';

export interface Listening {
  /** The real one, also when 0 was asked for. */
  readonly port: number;
  close(): Promise<void>;
}

/** Rejects when the port cannot be had; errors after that are logged as `message`. */
export async function listen(
  server: Pick<Server, 'once' | 'on' | 'listen' | 'removeListener' | 'address' | 'close' | 'closeAllConnections'>,
  options: { readonly address: string; readonly port: number; readonly log: Logger },
  message: string,
): Promise<Listening> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port, options.address, () => {
      server.removeListener('error', reject);
      resolve();
    });
  });
  server.on('error', (error) => options.log.error({ err: error }, message));
  const bound = server.address();
  return {
    port: typeof bound === 'object' && bound ? bound.port : options.port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
