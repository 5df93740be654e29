/**
 * The gist of an error text, as the golden files hold it: phrases that must stand in the live text in this order. What
 * differs from run to run (ids, addresses, lists of resources, which come in no fixed order) was cut out of them.
 */

/** The first phrase that the text does not have after the phrases before it; undefined when it says all. */
export function missingPhrase(text: string, gist: readonly string[]): string | undefined {
  let from = 0;
  for (const phrase of gist) {
    const at = text.indexOf(phrase, from);
    if (at < 0) return phrase;
    from = at + phrase.length;
  }
  return undefined;
}
