import fc from 'fast-check';
import { expect, test } from 'vitest';
import { commandsFor, cutOf, newRoute, type Route, takeClaim, takeEndpoints } from '../../src/proxy/routes.ts';
import { aRoute, endpoint } from './samples.ts';

const orders = newRoute({ id: 'id-1', name: 'orders', servicePort: 13_306, members: 3 });
const told = (epoch: number, primary: number | null) => ({
  epoch,
  primary: primary === null ? null : endpoint(primary),
  replicas: [0, 1, 2].filter((ordinal) => ordinal !== primary).map(endpoint),
});

test('the first word fills places and primary; the same again changes nothing', () => {
  const route = takeEndpoints(orders, told(1, 0));

  expect(route).toMatchObject({ epoch: 1, primary: 0 });
  expect(route.places.map((place) => place?.host)).toEqual(['127.0.0.11', '127.0.0.12', '127.0.0.13']);
  expect(takeEndpoints(route, told(1, 0))).toBe(route);
});

test('at a new epoch connections go nowhere until its primary takes writes', () => {
  const before = aRoute();

  const committed = takeEndpoints(before, told(2, null));
  const writable = takeEndpoints(committed, told(2, 1));

  expect(committed).toMatchObject({ epoch: 2, primary: null });
  expect(commandsFor(committed, 'live', before.places)).toEqual([
    'set server orders/m0 state maint',
    'set server orders/m1 state maint',
    'set server orders/m2 state maint',
  ]);
  expect(cutOf(before, committed)).toBe('orders/m0');
  expect(writable).toMatchObject({ epoch: 2, primary: 1 });
  expect(cutOf(committed, writable)).toBeNull();
  expect(commandsFor(writable, 'live', before.places).slice(-4)).toEqual([
    'enable health orders/m1',
    'set server orders/m1 health up',
    'disable health orders/m1',
    'set server orders/m1 state ready',
  ]);
});

test('an older epoch is ignored, and so is another primary of the same epoch', () => {
  const route = takeEndpoints(aRoute(), told(3, 2));

  expect(takeEndpoints(route, told(2, 1))).toBe(route);
  expect(takeEndpoints(route, told(3, 1))).toBe(route);
  expect(takeEndpoints(route, told(3, null))).toBe(route);
  expect(takeClaim(route, { ordinal: 1, epoch: 3 })).toBe(route);
});

test('while the API is away a claim of a higher epoch counts, and one of an older epoch does not', () => {
  const route = takeEndpoints(aRoute(), told(3, 2));

  expect(takeClaim(route, { ordinal: 1, epoch: 2 })).toBe(route);
  expect(takeClaim(route, { ordinal: 1, epoch: 4 })).toMatchObject({ epoch: 4, primary: 1 });
});

test('while the API is away the health check of the primary is on, and all others stay out', () => {
  expect(commandsFor(aRoute(), 'away', aRoute().places)).toEqual([
    'set server orders/m1 state maint',
    'set server orders/m2 state maint',
    'enable health orders/m0',
    'set server orders/m0 health up',
    'set server orders/m0 state ready',
  ]);
});

test('a member on another address is moved while it is out', () => {
  const moved = takeEndpoints(aRoute(), {
    epoch: 1,
    primary: endpoint(0),
    replicas: [{ ...endpoint(1), port: 31_500 }],
  });

  expect(commandsFor(moved, 'live', aRoute().places).slice(0, 4)).toEqual([
    'set server orders/m1 state maint',
    'set server orders/m1 addr 127.0.0.12 port 31500',
    'set server orders/m1 check-port 31002',
    'set server orders/m1 state maint',
  ]);
});

test('whatever is told in whatever order, the epoch never falls and no earlier primary comes back', () => {
  const word = fc.record({
    by: fc.constantFrom('stream', 'claim'),
    epoch: fc.integer({ min: 0, max: 6 }),
    // One primary an epoch: a function of it.
    isWritable: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(word, { maxLength: 30 }), (words) => {
      let route: Route = orders;
      for (const { by, epoch, isWritable } of words) {
        const primary = (epoch * 2) % 3;
        const next =
          by === 'claim'
            ? takeClaim(route, { ordinal: primary, epoch })
            : takeEndpoints(route, told(epoch, isWritable ? primary : null));
        expect(next.epoch).toBeGreaterThanOrEqual(route.epoch);
        if (next.primary !== null) expect(next.primary).toBe((next.epoch * 2) % 3);
        const ready = commandsFor(next, 'live', next.places).filter((command) => command.endsWith('state ready'));
        expect(ready.length).toBeLessThanOrEqual(1);
        route = next;
      }
    }),
  );
});
