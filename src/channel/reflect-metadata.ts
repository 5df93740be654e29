/**
 * The three functions of the Reflect metadata proposal that the X.509 library's dependency container calls while it
 * loads. Imported for its effect, before the library; does nothing where a full polyfill is there already.
 */
type Key = string | symbol;
interface MetadataFunctions {
  defineMetadata?: (key: Key, value: unknown, target: object) => void;
  getOwnMetadata?: (key: Key, target: object) => unknown;
  getMetadata?: (key: Key, target: object) => unknown;
}

const reflect = Reflect as unknown as MetadataFunctions;
const metadata = new WeakMap<object, Map<Key, unknown>>();
const findOwn = (key: Key, target: object) => metadata.get(target)?.get(key);

if (!reflect.getMetadata) {
  reflect.getOwnMetadata = findOwn;
  reflect.defineMetadata = (key, value, target) => {
    const own = metadata.get(target) ?? new Map<Key, unknown>();
    own.set(key, value);
    metadata.set(target, own);
  };
  reflect.getMetadata = (key, target) => {
    for (let at: object | null = target; at; at = Object.getPrototypeOf(at)) {
      const found = findOwn(key, at);
      if (found !== undefined) return found;
    }
    return undefined;
  };
}
