// Light, dark, or as the system has it.

import { at } from "./dom.js";

const NAMES = ["system", "light", "dark"];
const KEY = "shunt-theme";

/** @type {Set<() => void>} */
const watchers = new Set();

/** Calls back when colours change: canvases have to be drawn anew. @param {() => void} watcher */
export function onTheme(watcher) {
  watchers.add(watcher);
}

/** A colour of the style sheet. @param {string} name */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function stored() {
  try {
    return localStorage.getItem(KEY) ?? "system";
  } catch {
    return "system";
  }
}

/** Sets the theme up, and its switch. */
export function begin() {
  const button = at("theme");
  let name = stored();
  const apply = () => {
    if (name === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    button.textContent = `Theme: ${name}`;
    watchers.forEach((watcher) => watcher());
  };
  button.addEventListener("click", () => {
    name = NAMES[(NAMES.indexOf(name) + 1) % NAMES.length];
    try {
      localStorage.setItem(KEY, name);
    } catch {
      // A browser that keeps nothing: the theme lasts as long as the page.
    }
    apply();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);
  apply();
}
