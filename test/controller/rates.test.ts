import { expect, test } from 'vitest';
import { defaultRates } from '../../src/cluster/rebuild-way.ts';
import { createRates } from '../../src/controller/rates.ts';

test('the first measurement replaces the default, later ones weigh half', () => {
  const rates = createRates();
  expect(rates.read()).toEqual(defaultRates);
  rates.learn('diskBytes', 100e6, 1000);
  expect(rates.read().diskBytes).toBe(100e6);
  rates.learn('diskBytes', 400e6, 2000);
  expect(rates.read()).toEqual({ ...defaultRates, diskBytes: 150e6 });
});

test('what is too little or too short tells nothing', () => {
  const rates = createRates();
  rates.learn('diskBytes', 1e6, 10_000);
  rates.learn('networkBytes', 100e6, 10);
  rates.learn('applied', 10, 1000);
  expect(rates.read()).toEqual(defaultRates);
});
