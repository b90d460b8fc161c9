// Elements from data. Text is always set as text, never parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element. `on…` properties are listeners, `data` is its dataset, others are attributes. */
export function h(tag, properties = {}, ...children) {
  return filled(document.createElement(tag), properties, children);
}

/** An SVG element with attributes. */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/**
 * Show items as children of `list`. Rows that are unchanged stay, and with them focus and images.
 * @param key of an item; @param make its element; @param sign what an element depends on
 */
export function keyed(list, items, key, make, sign = JSON.stringify) {
  const there = new Map([...list.children].map((child) => [child.dataset.key, child]));
  let place = list.firstChild;
  for (const item of items) {
    const name = String(key(item));
    const signature = sign(item);
    let child = there.get(name);
    there.delete(name);
    if (!child || child.signature !== signature) {
      const made = make(item);
      made.dataset.key = name;
      made.signature = signature;
      if (child === place) place = child?.nextSibling ?? null;
      child?.remove();
      list.insertBefore(made, place);
      continue;
    }
    if (child === place) place = place.nextSibling;
    else list.insertBefore(child, place);
  }
  for (const child of there.values()) child.remove();
}

/** Set the text only if it changed, so that nothing is laid out or announced again. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A labelled input. */
export function field(label, input, hint = null) {
  return h("label", { class: "field" }, h("span", {}, label), input, hint && h("small", {}, hint));
}

/** A select of [value, text] pairs. */
export function select(options, value, properties = {}) {
  const made = h(
    "select",
    properties,
    options.map(([v, text]) => h("option", { value: v }, text)),
  );
  made.value = value;
  return made;
}

/**
 * An input of a number. A browser's own drops a decimal comma or a point, depending on its language:
 * 1,2 becomes 12. This one takes both.
 */
export const decimalInput = (properties = {}) =>
  h("input", { inputmode: "decimal", pattern: "\\s*[0-9]+([.,][0-9]+)?\\s*", size: 9, ...properties });

/** What was typed there, with a decimal point. */
export const withPoint = (text) => text.trim().replace(",", ".");

/** What such an input holds; NaN for nothing or no number. */
export const decimal = ({ value }) => (value.trim() ? Number(withPoint(value)) : NaN);
