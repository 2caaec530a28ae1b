// The table of routes.

import { PAST, spark } from "./charts.js";
import { at, empty, h, say } from "./dom.js";
import { count, duration, isOver, rate, share } from "./format.js";
import { Table, once } from "./table.js";

/** The share over budget from which a route is called over it; below, and above none, it is close. */
const OVER = 0.05;

/** How a route stands: a sign, a word, a class. @param {any} route */
export function standing(route) {
  const over = Math.max(route.first_token["1m"].over ?? 0, route.duration["1m"].over ?? 0);
  const calls = route.duration["1m"].count + route.first_token["1m"].count;
  if (calls === 0 && route.in_flight === 0) return { sign: "○", word: "idle", kind: "idle", order: 0, over };
  if (over >= OVER) return { sign: "▲", word: `${share(over)} over budget`, kind: "bad", order: 2 + over, over };
  if (over > 0) return { sign: "◆", word: `${share(over)} over budget`, kind: "warn", order: 1 + over, over };
  return { sign: "●", word: "in budget", kind: "good", order: 0.5, over };
}

/** @param {any} route */
function targets(route) {
  const away = route.targets.filter((/** @type {any} */ target) => target.health !== "healthy");
  const all = route.targets.length;
  return { away: away.length, text: away.length ? `▲ ${all - away.length} of ${all}` : `${all} of ${all}`, all };
}

export class Routes {
  /** @param {(name: string) => void} choose */
  constructor(choose) {
    this.choose = choose;
    this.chosen = "";
    /** @type {Map<string, number[]>} calls a second, the last two minutes */
    this.past = new Map();
    this.table = new Table({
      caption: "Routes",
      key: (route) => route.name,
      none: () => empty("No route has calls yet.", "Point an app’s base URL at the public listener and send one, or show the idle ones."),
      columns: this.columns(),
      row: (route, element) => {
        element.classList.toggle("chosen", route.name === this.chosen);
        element.onclick = (event) => {
          if (!(event.target instanceof HTMLButtonElement)) this.choose(route.name);
        };
      },
    });
    at("routes").append(this.table.element);
    at("show-idle").addEventListener("change", () => this.show());
    /** @type {any} */
    this.snapshot = null;
  }

  columns() {
    return [
      { id: "name", label: "Route", head: true, sort: (/** @type {any} */ route) => route.name, cell: (/** @type {any} */ route, /** @type {HTMLElement} */ cell) => {
        const button = once(cell, () => h("button", { type: "button", class: "link", onclick: () => this.choose(button.textContent) }));
        say(button, route.name);
        button.setAttribute("aria-current", String(route.name === this.chosen));
      } },
      { id: "standing", label: "State", title: "Share of the last minute’s calls over their budget", number: false,
        sort: (/** @type {any} */ route) => -standing(route).order, cell: (/** @type {any} */ route, /** @type {HTMLElement} */ cell) => {
          const { sign, word, kind } = standing(route);
          const chip = once(cell, () => h("span", { class: "chip" }, h("span", { "aria-hidden": "true" }), h("span", {}, h("span"), h("span", { class: "aside" }))));
          chip.className = `chip ${kind}`;
          say(chip.children[0], sign);
          const [main, aside] = chip.children[1].children;
          say(main, word);
          say(aside, route.over_budget.action === "observe" && kind !== "idle" ? ", observed" : "");
        } },
      { id: "rate", label: "Calls", title: "Calls a second, now and since this page was opened (two minutes at most)", number: true,
        sort: (/** @type {any} */ route) => route.per_second?.calls ?? 0, cell: (/** @type {any} */ route, /** @type {any} */ cell) => {
          cell.spark ??= spark();
          const box = once(cell, () => h("div", { class: "sparked" }, cell.spark.element, h("span")));
          cell.spark.draw(this.past.get(route.name) ?? []);
          say(box.lastElementChild, rate(route.per_second?.calls));
        } },
      figure("ftp50", "First token p50", "first_token", "p50"),
      figure("ftp99", "p99", "first_token", "p99"),
      figure("tp50", "Total p50", "duration", "p50"),
      figure("tp99", "p99", "duration", "p99"),
      { id: "budget", label: "Budget", title: "First token / total", number: true, minor: true, sort: (/** @type {any} */ route) => route.budget.total,
        cell: (/** @type {any} */ route) => `${duration(route.budget.first_token)} / ${duration(route.budget.total)}` },
      { id: "demoted", label: "Demoted", title: "Calls that became jobs, a second", number: true, minor: true,
        sort: (/** @type {any} */ route) => route.per_second?.demoted ?? 0, cell: (/** @type {any} */ route) => rate(route.per_second?.demoted) },
      { id: "failed", label: "Failed", title: "Calls that got an error, a second", number: true, minor: true,
        sort: (/** @type {any} */ route) => route.per_second?.failed ?? 0, cell: (/** @type {any} */ route) => rate(route.per_second?.failed) },
      { id: "hedged", label: "Hedges won", title: "Second attempts that answered first, a second", number: true, minor: true,
        sort: (/** @type {any} */ route) => route.per_second?.hedges.won ?? 0, cell: (/** @type {any} */ route) => rate(route.per_second?.hedges.won) },
      { id: "inflight", label: "In flight", title: "Attempts at targets, and calls that wait for a place", number: true,
        sort: (/** @type {any} */ route) => route.in_flight, cell: (/** @type {any} */ route) => count(route.in_flight) + (route.queue ? ` + ${count(route.queue)} waiting` : "") },
      { id: "targets", label: "Targets", title: "Targets that calls are sent to", number: true,
        sort: (/** @type {any} */ route) => targets(route).away, cell: (/** @type {any} */ route, /** @type {HTMLElement} */ cell) => {
          const { text, away } = targets(route);
          cell.classList.toggle("over", away > 0);
          return text;
        } },
    ];
  }

  /** @param {any} snapshot */
  take(snapshot) {
    this.snapshot = snapshot;
    const names = new Set();
    for (const route of snapshot.routes) {
      names.add(route.name);
      const past = this.past.get(route.name) ?? [];
      if (route.per_second) past.push(route.per_second.calls);
      if (past.length > PAST) past.shift();
      this.past.set(route.name, past);
    }
    for (const name of this.past.keys()) if (!names.has(name)) this.past.delete(name);
    this.show();
  }

  show() {
    if (!this.snapshot) return;
    const all = at("show-idle").checked;
    const shown = this.snapshot.routes.filter((/** @type {any} */ route) =>
      all || !route.built_in || route.name === this.chosen || route.duration["1h"].count + route.first_token["1h"].count + route.in_flight > 0);
    this.table.update(shown);
    const over = shown.filter((/** @type {any} */ route) => standing(route).kind === "bad").length;
    document.title = over ? `(${over} over budget) Shunt` : "Shunt";
  }
}

/** @param {string} id @param {string} label @param {string} phase @param {"p50"|"p99"} figure */
function figure(id, label, phase, figure) {
  const budget = phase === "duration" ? "total" : "first_token";
  return {
    id, label, number: true, minor: figure === "p50", title: `${budget === "total" ? "Total" : "First token"} ${figure}, the last minute`,
    sort: (/** @type {any} */ route) => route[phase]["1m"][figure],
    cell: (/** @type {any} */ route, /** @type {HTMLElement} */ cell) => {
      const { count: calls, [figure]: value } = route[phase]["1m"];
      cell.classList.toggle("over", isOver(route[phase]["1m"], figure));
      return calls ? duration(value) : "–";
    },
  };
}
