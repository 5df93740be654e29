import { fromPromise } from 'xstate';

/**
 * An actor that a chart names and the controller provides. A chart that runs without its implementation fails at once
 * and says so, instead of waiting for ever.
 */
export function effect<Output, Input>(name: string) {
  return fromPromise<Output, Input>(async () => {
    throw new Error(`no implementation was provided for ${name}`);
  });
}
