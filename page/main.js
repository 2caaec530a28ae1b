// Wires the page: one stream, whose snapshots every part takes.

import { keepToken } from "./api.js";
import { at, h, say } from "./dom.js";
import { age, clock, count } from "./format.js";
import { Jobs } from "./jobs.js";
import { RouteView } from "./route.js";
import { Routes } from "./routes.js";
import { Stream } from "./stream.js";
import { begin } from "./theme.js";

begin();
const routes = new Routes((name) => choose(name));
const view = new RouteView();
const jobs = new Jobs();
let latest = 0;

const stream = new Stream({
  event(name, data) {
    if (name === "detail") view.detail(data);
    if (name !== "snapshot") return;
    latest = data.at;
    if (!view.name) choose(wanted(data), false);
    gateway(data.gateway);
    routes.take(data);
    view.take(data);
    jobs.take(data);
  },
  state: connection,
});

/** The route of the address, or the busiest. @param {any} snapshot */
function wanted(snapshot) {
  const named = decodeURIComponent(location.hash.replace(/^#\/?/, ""));
  const all = [...snapshot.routes];
  if (all.some((route) => route.name === named)) return named;
  const calls = (/** @type {any} */ route) => route.duration["1h"].count;
  return all.reduce((best, route) => (calls(route) > calls(best) ? route : best), all[0])?.name ?? "";
}

/** @param {string} name @param {boolean} [told] */
function choose(name, told = true) {
  routes.chosen = name;
  view.choose(name);
  routes.show();
  if (told) history.replaceState(null, "", `#/${encodeURIComponent(name)}`);
  if (name) stream.open(name);
}

addEventListener("hashchange", () => {
  const name = decodeURIComponent(location.hash.replace(/^#\/?/, ""));
  if (routes.snapshot?.routes.some((/** @type {any} */ route) => route.name === name)) choose(name, false);
});

/** @param {any} facts */
function gateway(facts) {
  const ready = facts.store_ready === false ? "▲ job store not ready" : facts.store_ready ? "job store ready" : "job store not asked yet";
  const parts = [facts.name, `version ${facts.version}`, `up ${age(facts.uptime)}`, `${count(facts.in_flight)} in flight`, ready];
  if (facts.draining) parts.push("▲ draining: it takes no new calls");
  const box = at("gateway");
  while (box.children.length > parts.length) box.lastElementChild.remove();
  parts.forEach((part, index) => {
    const span = box.children[index] ?? box.appendChild(h("span"));
    span.className = part.startsWith("▲") ? "over" : index ? "" : "strong";
    say(span, part);
  });
}

let countdown = 0;

/** @param {string} state @param {string} why @param {number} again milliseconds */
function connection(state, why, again) {
  const words = { connecting: "◌ connecting", live: "● live", lost: "▲ connection lost", refused: "▲ token needed", resting: "○ paused in the background" };
  const chip = at("connection");
  say(chip, words[/** @type {keyof typeof words} */ (state)]);
  chip.dataset.state = state;
  const banner = at("banner");
  clearInterval(countdown);
  document.body.classList.toggle("stale", state === "lost" && latest > 0);
  if (state === "refused") askToken(why);
  if (state !== "lost") {
    banner.hidden = state !== "connecting" || banner.hidden;
    if (state !== "connecting") banner.hidden = true;
    return;
  }
  const until = Date.now() + again;
  const text = h("span");
  const left = h("span", { "aria-hidden": "true" });
  const tick = () => say(left, ` Next try in ${Math.max(0, Math.ceil((until - Date.now()) / 1000))} s.`);
  text.textContent = `Connection lost: ${why}.` + (latest ? ` What is shown is from ${clock(latest)}.` : "");
  banner.replaceChildren(text, left, h("button", { type: "button", onclick: () => stream.open() }, "Try now"));
  banner.hidden = false;
  tick();
  countdown = setInterval(tick, 500);
}

let tried = false;

/** @param {string} why */
function askToken(why) {
  const dialog = at("token");
  const hint = at("token-why");
  if (tried) hint.textContent = "That token was refused. It is the one of auth.admin_token.";
  else hint.title = why;
  if (!dialog.open) dialog.showModal();
}

at("token-form").addEventListener("submit", () => {
  tried = true;
  keepToken(at("token-input").value.trim());
  at("token-input").value = "";
  stream.failures = 0;
  stream.open();
});
at("token").addEventListener("cancel", (/** @type {Event} */ event) => event.preventDefault());

stream.open();
