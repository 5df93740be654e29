/**
 * What an error text says, without what differs from run to run: ids, addresses, and lists of resources (which come in no
 * fixed order) are cut out; what is left are phrases that must stand in the live text in this order.
 */
const agentSuffix = /; on agent \S+ at slave\(1\)@\S+ \(\S+\)$/;
const resources =
  /(?:cpus|mem|disk|ports)\(allocated: \w+\)(?:\(reservations: \[.*?\]\))?(?:\[[^\]]*\])?:(?:\[[^\]]*\]|[\d.]+)/g;
const ids = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(?:-[SO]?\d+)?/g;

export function gistOf(message: string): readonly string[] {
  return message
    .replace(agentSuffix, '')
    .replace(resources, '\0')
    .replace(ids, '\0')
    .replace(/\d+\.\d+\.\d+\.\d+/g, '\0')
    .split('\0')
    .map((phrase) => phrase.replace(/^[;'" ]+|[;'" ]+$/g, ''))
    .filter((phrase) => phrase.length > 0);
}

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
