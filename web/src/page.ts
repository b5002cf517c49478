/** element returns an element of the page by its ID, and throws when it is not there. */
export function element<T extends HTMLElement>(id: string, type: new () => T): T {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`the page has no ${type.name} #${id}`);
  return found;
}

/** text returns a text that the page keeps for its script, in data-NAME. */
export function text(of: HTMLElement, name: string): string {
  const value = of.dataset[name];
  if (value === undefined) throw new Error(`the page has no text for ${name}`);
  return value;
}
