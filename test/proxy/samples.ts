import { newRoute, type Route, takeEndpoints } from '../../src/proxy/routes.ts';

export const endpoint = (ordinal: number) => ({
  ordinal,
  host: `127.0.0.${11 + ordinal}`,
  port: 31_000,
  healthPort: 31_002,
});

/** Of epoch 1 with member 0 as the primary. */
export function aRoute(name = 'orders', servicePort = 13_306): Route {
  const empty = newRoute({ id: `id-of-${name}`, name, servicePort, members: 3 });
  return takeEndpoints(empty, { epoch: 1, primary: endpoint(0), replicas: [endpoint(1), endpoint(2)] });
}
