// Elements without markup in strings: whatever a caller or a provider wrote stays text.

/**
 * An element. Properties named `on…` are listeners, `class` and `aria-…`, `data-…` are attributes.
 * @param {string} tag
 * @param {Record<string, any>} [properties]
 * @param {...(Node|string|null|undefined|false)} children
 * @returns {any}
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class" || name.includes("-") || name === "role" || name === "scope" || name === "colspan")
      element.setAttribute(name, String(value));
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/**
 * A table that scrolls by itself where it is wider than its place.
 * @param {string} caption
 * @param {Node} table
 */
export function scrolling(caption, table) {
  return h("div", { class: "scroll", role: "region", "aria-label": `${caption}: table`, tabIndex: 0 }, table);
}

const SVG = "http://www.w3.org/2000/svg";

/**
 * An SVG element; all properties are attributes.
 * @param {string} tag
 * @param {Record<string, string|number>} attributes
 * @param {...(Node|string)} children
 */
export function s(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/** The element of this id, which the page has. @param {string} id @returns {any} */
export function at(id) {
  return document.getElementById(id);
}

/** Sets a text where it differs, so that what is selected or read aloud is not disturbed. @param {Element} element @param {string} text */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Says what came of an action, also to who cannot see it. @param {string} text @param {boolean} [bad] */
export function tell(text, bad = false) {
  const toast = at("said");
  toast.textContent = text;
  toast.classList.toggle("bad", bad);
  toast.classList.add("shown");
  clearTimeout(fading);
  fading = setTimeout(() => toast.classList.remove("shown"), bad ? 12000 : 6000);
}
let fading = 0;

/** What stands where there is nothing to show. @param {string} title @param {string} [more] */
export function empty(title, more = "") {
  return h("p", { class: "empty" }, h("strong", {}, title), more ? " " + more : "");
}
