// The elements of the page. Invariant: whatever is written is text, never markup.

export const $ = (id) => document.getElementById(id);

/** Has the list show these items, keeping its elements: screen readers tell what is new. */
export function list(element, items, key, fill) {
  const old = new Map([...element.children].map((child) => [child.dataset.key, child]));
  items.forEach((item, index) => {
    const child = old.get(String(key(item))) ?? document.createElement("li");
    old.delete(child.dataset.key);
    child.dataset.key = key(item);
    fill(child, item);
    if (element.children[index] !== child) element.insertBefore(child, element.children[index]);
  });
  for (const child of old.values()) child.remove();
}

export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Writes into the child of that kind, which is made first. */
export function writePart(element, kind, text) {
  const part = element.querySelector(kind) ?? element.appendChild(document.createElement(kind));
  write(part, text);
  return part;
}
