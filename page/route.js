// One route: its curve, its hour, what became of its calls, its targets.

import { Curve, Dumbbells, PAST, spark } from "./charts.js";
import { at, empty, h, say, scrolling } from "./dom.js";
import { age, count, duration, rate, share } from "./format.js";
import { Heatmap } from "./heatmap.js";
import { Table, once } from "./table.js";
import { WhatIf } from "./whatif.js";

/** @typedef {"first_token"|"total"} Phase */

const OUTCOMES = /** @type {const} */ ([
  ["served", "●", "Served", "answered"],
  ["demoted", "◆", "Demoted", "became jobs"],
  ["failed", "▲", "Failed", "got an error"],
  ["cancelled", "○", "Cancelled", "their callers left"],
  ["observed_over", "◇", "Over, observed", "answered past a budget that is only observed"],
]);
const HEDGES = /** @type {const} */ ([
  ["won", "●", "Won", "answered first"],
  ["lost", "○", "Lost", "the other attempt answered first, or neither did in time"],
  ["denied", "◆", "Denied", "the share of extra calls was used up"],
  ["failed", "▲", "Failed", "failed by themselves"],
]);

const WINDOWS = { "1m": "1 min", "5m": "5 min", "1h": "1 h" };

const HEALTH = {
  healthy: ["●", "healthy", "good"],
  half_open: ["◆", "half open", "warn"],
  ejected: ["▲", "ejected", "bad"],
  resting: ["◆", "resting", "warn"],
};

/** A row of radio buttons. @param {HTMLElement} box @param {[string, string][]} choices @param {string} chosen @param {(value: string) => void} choose */
function segments(box, choices, chosen, choose) {
  for (const [value, label] of choices) {
    const input = h("input", { type: "radio", name: box.id, value, checked: value === chosen, onchange: () => choose(value) });
    box.append(h("label", {}, input, h("span", {}, label)));
  }
  return (/** @type {string} */ value) => {
    for (const input of box.querySelectorAll("input")) input.checked = input.value === value;
  };
}

export class RouteView {
  constructor() {
    this.name = "";
    /** @type {Phase} */
    this.phase = "first_token";
    /** @type {"1m"|"5m"|"1h"} */
    this.window = "5m";
    /** @type {any} */
    this.route = null;
    /** @type {any} */
    this.curves = null;
    /** @type {any} */
    this.heat = null;
    this.phaseChosen = false;
    this.setPhase = segments(at("phase"), [["first_token", "First token"], ["total", "Total"]], this.phase, (value) => {
      this.phaseChosen = true;
      this.phase = /** @type {Phase} */ (value);
      this.draw();
    });
    segments(at("window"), Object.entries(WINDOWS), this.window, (value) => {
      this.window = /** @type {any} */ (value);
      this.draw();
    });
    this.curve = new Curve(at("curve"), at("curve-readout"));
    this.heatmap = new Heatmap(at("heat"), at("heat-readout"));
    this.dumbbells = new Dumbbells(at("phases"));
    this.whatIf = new WhatIf(at("whatif"), (phase) => {
      this.phaseChosen = true;
      this.phase = phase;
      this.setPhase(phase);
      this.draw();
    });
    this.outcomes = flows(at("outcomes"), "Outcomes", OUTCOMES);
    this.hedges = flows(at("hedges"), "Hedges", HEDGES);
    this.targets = targets();
    at("targets").append(this.targets.element);
    /** @type {any[]} */
    this.past = [];
  }

  /** @param {string} name */
  choose(name) {
    if (name === this.name) return;
    this.name = name;
    this.curves = this.heat = this.route = null;
    this.phaseChosen = false;
    this.past = [];
    at("route").hidden = true;
  }

  /** @param {any} snapshot */
  take(snapshot) {
    const route = snapshot.routes.find((/** @type {any} */ one) => one.name === this.name);
    at("route").hidden = !route;
    if (!route) return;
    const first = this.route === null;
    this.route = route;
    // A route without streams opens with what it has.
    if (!this.phaseChosen && (first || this.empty())) {
      this.phase = route.first_token["1h"].count || !route.duration["1h"].count ? "first_token" : "total";
      this.setPhase(this.phase);
    }
    if (route.per_second) this.past.push(route.per_second);
    if (this.past.length > PAST) this.past.shift();
    this.whatIf.of(route.name, route.budget);
    this.facts(route);
    this.outcomes(this.past.map((one) => one), route.per_second, route.total);
    this.hedges(this.past.map((one) => one.hedges), route.per_second?.hedges, route.total.hedges);
    this.targets.update(route.targets);
    this.draw();
  }

  empty() {
    return this.route[this.phase === "total" ? "duration" : "first_token"]["1h"].count === 0;
  }

  /** @param {any} detail */
  detail(detail) {
    if (detail.route !== this.name) return;
    this.curves = detail.curves;
    this.heat = detail.heat ?? this.heat;
    this.draw();
  }

  /** @param {any} route */
  facts(route) {
    say(at("route-heading"), route.name);
    const { first_token: first, total } = route.budget;
    const { action, unasked } = route.over_budget;
    const does = action === "observe" ? "over it: only counted" : action === "fail" ? "over it: 504" :
      `over it: a job for callers that asked, ${unasked === "wait" ? "others go on waiting" : unasked === "see-other" ? "303 for the others" : "504 for the others"}`;
    say(at("route-facts"), `budget ${duration(first)} to the first token, ${duration(total)} in all; ${does}`);
    const { after, stream_delay: stream, answer_delay: answer, max_extra: extra } = route.hedge;
    const delays = [stream !== null && `${duration(stream)} for streams`, answer !== null && `${duration(answer)} for answers`].filter(Boolean);
    const rule = after === "off" ? "off: this route sends no second attempts" :
      `${after}, at most ${share(extra)} extra; ` + (delays.length ? `now after ${delays.join(", ")}` : "no delay known yet");
    say(at("hedge-facts"), rule);
    const notes = noted(route);
    const list = at("notes");
    list.hidden = notes.length === 0;
    while (list.children.length > notes.length) list.lastElementChild.remove();
    notes.forEach((note, index) => say(list.children[index] ?? list.appendChild(h("li")), note));
  }

  draw() {
    const route = this.route;
    if (!route) return;
    const figures = route[this.phase === "total" ? "duration" : "first_token"];
    const budget = route.budget[this.phase];
    const curves = this.curves?.[this.phase];
    const line = this.whatIf.line(this.phase, curves?.[this.window] ?? []);
    const over = figures[this.window].count ? `: ${share(figures[this.window].over)} over in ${WINDOWS[this.window]}` : "";
    this.curve.show({
      points: curves?.[this.window] ?? [], count: figures[this.window].count,
      hour: this.window === "1h" ? [] : curves?.["1h"] ?? [], hourCount: figures["1h"].count,
      lines: [{ seconds: budget, text: `budget ${duration(budget)}${over}`, moved: false }, ...(line ? [line] : [])],
    });
    this.heatmap.show(this.heat?.[this.phase] ?? null, budget);
    this.dumbbells.show(route.first_token[this.window], route.duration[this.window], route.budget);
  }
}

/** What an operator would look at first: provider, hedge, queue or gateway. @param {any} route */
function noted(route) {
  const notes = [];
  for (const target of route.targets) {
    if (target.health === "ejected") notes.push(`Provider: ${target.name} failed too often and is left alone${target.closed_for ? ` for ${age(Math.ceil(target.closed_for))} yet` : ""}.`);
    if (target.health === "resting") notes.push(`Provider: ${target.name} asked to be left alone${target.closed_for ? ` for ${age(Math.ceil(target.closed_for))} yet` : ""}.`);
    if (target.health === "half_open") notes.push(`Provider: ${target.name} gets one call to find out whether it is back.`);
  }
  // What gets no calls is told above, and its average is old.
  const slow = route.targets.filter((target) => target.health === "healthy" && target.average_first_token).sort((a, b) => b.average_first_token - a.average_first_token);
  if (slow.length > 1 && slow[0].average_first_token > 3 * slow[slow.length - 1].average_first_token && slow[0].in_flight + (slow[0].share ?? 0) > 0)
    notes.push(`Provider: ${slow[0].name} takes ${duration(slow[0].average_first_token)} to its first content, ${slow[slow.length - 1].name} ${duration(slow[slow.length - 1].average_first_token)}.`);
  if (route.queue > 0) notes.push(`Queue: ${count(route.queue)} calls wait for a place at a target.`);
  const hedges = route.per_second?.hedges;
  if (hedges && hedges.denied > 0.05) notes.push(`Hedge: ${rate(hedges.denied)} denied; the share of extra calls, ${share(route.hedge.max_extra)}, is used up.`);
  if (route.overhead.p99 > Math.max(0.01, 0.02 * Math.min(route.budget.total, 60))) notes.push(`Gateway: its own part of a call is ${duration(route.overhead.p99)} at p99.`);
  return notes;
}

/**
 * A table of counts with their past: rate, share of all, count since the start.
 * @param {HTMLElement} box @param {string} caption @param {readonly (readonly [string, string, string, string])[]} kinds
 */
function flows(box, caption, kinds) {
  const rows = kinds.map(([id, sign, label, title]) => ({
    id, line: spark(id), cells: [h("td", { class: "number" }), h("td", { class: "number" }), h("td", { class: "number" })], sign, label, title,
  }));
  const table = h("table", { class: "flows" }, h("caption", { class: "hidden" }, caption),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "What"), h("th", { scope: "col" }, h("span", { class: "hidden" }, "Two minutes at most, since this page was opened")),
      h("th", { scope: "col", class: "number" }, "Now"), h("th", { scope: "col", class: "number" }, "Share"), h("th", { scope: "col", class: "number" }, "Since start"))),
    h("tbody", {}, ...rows.map((row) => h("tr", { title: row.title },
      h("th", { scope: "row" }, h("span", { class: `sign ${row.id}`, "aria-hidden": "true" }, row.sign), row.label),
      h("td", { class: "plot" }, row.line.element), ...row.cells))));
  // Counts grow: on a phone it is the table that scrolls then, not the page.
  box.append(scrolling(caption, table));
  return (/** @type {any[]} */ past, /** @type {any} */ now, /** @type {any} */ total) => {
    const all = rows.reduce((sum, row) => sum + total[row.id], 0);
    for (const row of rows) {
      row.line.draw(past.map((one) => one[row.id]));
      say(row.cells[0], rate(now?.[row.id]));
      say(row.cells[1], all ? share(total[row.id] / all) : "–");
      say(row.cells[2], count(total[row.id]));
    }
  };
}

function targets() {
  const text = (/** @type {(target: any) => string} */ of) => (/** @type {any} */ target) => of(target);
  return new Table({
    caption: "Targets of the route",
    key: (target) => target.name,
    none: () => empty("This route has no target."),
    columns: [
      { id: "name", label: "Target", head: true, sort: (target) => target.name, cell: text((target) => target.name) },
      { id: "health", label: "Health", sort: (target) => target.health, cell: (target, cell) => {
        const [sign, word, kind] = HEALTH[/** @type {keyof typeof HEALTH} */ (target.health)] ?? ["◇", target.health, "warn"];
        const chip = once(cell, () => h("span", { class: "chip" }, h("span", { "aria-hidden": "true" }), h("span")));
        chip.className = `chip ${kind}`;
        say(chip.children[0], sign);
        say(chip.children[1], target.closed_for ? `${word}, ${age(Math.ceil(target.closed_for))}` : word);
      } },
      { id: "load", label: "In flight", number: true, sort: (target) => target.in_flight, cell: (target, cell) => {
        const box = once(cell, () => h("div", { class: "load" }, h("span"), h("meter", { min: 0, "aria-label": "places taken" })));
        const meter = /** @type {any} */ (box.lastElementChild);
        meter.hidden = !target.limit;
        if (target.limit) {
          meter.max = target.limit;
          meter.value = target.in_flight;
        }
        say(box.firstElementChild, count(target.in_flight) + (target.limit ? ` of ${count(target.limit)}` : "") + (target.waiting ? `, ${count(target.waiting)} wait` : ""));
      } },
      { id: "share", label: "Share", title: "Share of the route’s attempts", number: true, sort: (target) => target.share ?? 0, cell: text((target) => share(target.share)) },
      { id: "average", label: "Average first content", title: "As the balancer sees it", number: true, sort: (target) => target.average_first_token ?? 0, cell: text((target) => duration(target.average_first_token)) },
      { id: "first", label: "First token p95", number: true, minor: true, sort: (target) => target.first_token.p95, cell: text((target) => (target.first_token.count ? duration(target.first_token.p95) : "–")) },
      { id: "whole", label: "Total p95", number: true, minor: true, sort: (target) => target.duration.p95, cell: text((target) => (target.duration.count ? duration(target.duration.p95) : "–")) },
      { id: "ejections", label: "Ejections", title: "Since the start", number: true, minor: true, sort: (target) => target.ejections, cell: text((target) => count(target.ejections)) },
      { id: "quota", label: "Rate limit left", minor: true, cell: text((target) => target.quota.map((/** @type {any} */ one) => `${share(one.remaining / one.limit)} of ${one.kind}`).join(", ") || "not told") },
    ],
  });
}
