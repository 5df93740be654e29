/** A small page that shows /openapi.json; nothing is loaded from elsewhere. */
export const docsPolicy =
  "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'";

export const docsPage = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Selvedge API</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
  code, pre { font: 14px/1.5 ui-monospace, monospace; }
  pre { background: #f5f5f2; padding: 1rem; overflow: auto; }
  summary { cursor: pointer; padding: .3rem 0; }
  .method { display: inline-block; width: 4.5rem; font-weight: bold; }
  .say { color: #555; margin-left: 5.5rem; }
</style>
<h1>Selvedge API</h1>
<p>From <a href="/openapi.json">/openapi.json</a>. Errors are <code>application/problem+json</code>; their codes are in docs/errors.md.</p>
<main></main>
<script>
  const main = document.querySelector('main');
  const add = (parent, tag, text, cls) => {
    const element = parent.appendChild(document.createElement(tag));
    if (text) element.textContent = text;
    if (cls) element.className = cls;
    return element;
  };
  const show = (parent, title, value) => {
    if (!value) return;
    add(parent, 'h4', title);
    add(parent, 'pre', JSON.stringify(value, null, 2));
  };
  fetch('/openapi.json').then((answer) => answer.json()).then((api) => {
    const groups = new Map();
    for (const [path, methods] of Object.entries(api.paths))
      for (const [method, operation] of Object.entries(methods)) {
        const tag = (operation.tags || ['other'])[0];
        if (!groups.has(tag)) groups.set(tag, []);
        groups.get(tag).push({ path, method, operation });
      }
    for (const [tag, operations] of groups) {
      add(main, 'h2', tag);
      for (const { path, method, operation } of operations) {
        const details = add(main, 'details');
        const summary = add(details, 'summary');
        add(summary, 'code', method.toUpperCase(), 'method');
        add(summary, 'code', path);
        add(summary, 'div', operation.summary, 'say');
        show(details, 'Parameters', operation.parameters);
        show(details, 'Body', operation.requestBody && operation.requestBody.content);
        for (const [status, answer] of Object.entries(operation.responses || {}))
          show(details, 'Answer ' + status, answer.content);
      }
    }
  }).catch((error) => add(main, 'p', 'The description could not be loaded: ' + error));
</script>
</html>
`;
