// What another budget would have done to the calls of the last hour.

import { ask } from "./api.js";
import { h, say } from "./dom.js";
import { count, duration, share } from "./format.js";

/** The sliders' ends, in seconds. */
const [LEAST, MOST] = [0.01, 600];
const STEPS = 240;

/** What is told is asked for again after so many milliseconds: calls go on. */
const AGAIN = 5000;

/** @param {number} step */
function seconds(step) {
  const value = LEAST * (MOST / LEAST) ** (step / STEPS);
  const digits = 10 ** Math.max(0, 1 - Math.floor(Math.log10(value * 1000)));
  const rounded = Number((value * 1000).toPrecision(2));
  return Math.max(1, Math.round(rounded * digits) / digits) / 1000;
}

/** @param {number} value */
function step(value) {
  return Math.round((STEPS * Math.log(Math.max(LEAST, Math.min(MOST, value)) / LEAST)) / Math.log(MOST / LEAST));
}

/** The share of a curve that lies above a latency. @param {[number, number][]} points @param {number} latency */
function above(points, latency) {
  const next = points.findIndex(([, value]) => value > latency);
  if (next <= 0) return next < 0 ? 0 : 1;
  const [[low, from], [high, to]] = [points[next - 1], points[next]];
  return 1 - low - ((high - low) * (latency - from)) / (to - from);
}

const PHASES = /** @type {const} */ (["first_token", "total"]);
const NAMES = { first_token: "First token", total: "Total" };
const WHOM = { first_token: "streams", total: "calls held to it" };

export class WhatIf {
  /** @param {HTMLElement} box @param {(phase: "first_token"|"total") => void} moved */
  constructor(box, moved) {
    this.moved = moved;
    this.route = "";
    /** @type {Record<string, number>} */
    this.budget = { first_token: 600, total: 600 };
    /** @type {Record<string, number|null>} the budgets that are tried */
    this.tried = { first_token: null, total: null };
    /** @type {Record<string, any>} */
    this.told = {};
    this.timer = 0;
    this.asked = 0;
    this.sliders = Object.fromEntries(PHASES.map((phase) => [phase, this.slider(phase)]));
    this.reset = h("button", { type: "button", disabled: true, onclick: () => this.back() }, "Back to the budget in force");
    this.hedge = h("p", { class: "hint" });
    box.append(
      h("h4", {}, "What if the budget were…"),
      ...PHASES.map((phase) => this.sliders[phase].element),
      h("p", { class: "actions" }, this.reset), this.hedge);
  }

  /** @param {"first_token"|"total"} phase */
  slider(phase) {
    const id = `what-if-${phase}`;
    const value = h("output", { class: "value" });
    const says = h("output", { class: "says", id: `${id}-says` });
    const input = h("input", { type: "range", id, min: 0, max: STEPS, step: 1, "aria-describedby": `${id}-says`,
      oninput: () => this.move(phase, seconds(Number(input.value))) });
    return { input, value, says, element: h("div", { class: "slider" }, h("label", { for: id, htmlFor: id }, NAMES[phase]), input, value, says) };
  }

  /** Another route. @param {string} route @param {{first_token: number, total: number}} budget */
  of(route, budget) {
    const same = this.route === route && PHASES.every((phase) => this.budget[phase] === budget[phase]);
    if (same) {
      if (Date.now() - this.asked >= AGAIN) this.ask();
      return;
    }
    this.route = route;
    this.budget = { ...budget };
    this.back();
  }

  back() {
    for (const phase of PHASES) {
      this.tried[phase] = null;
      this.sliders[phase].input.value = String(step(this.budget[phase]));
    }
    this.reset.disabled = true;
    this.told = {};
    this.ask();
    this.show();
  }

  /** @param {"first_token"|"total"} phase @param {number} value */
  move(phase, value) {
    this.tried[phase] = value;
    this.reset.disabled = false;
    this.show();
    this.moved(phase);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(), 120);
  }

  /** @param {"first_token"|"total"} phase */
  at(phase) {
    return this.tried[phase] ?? this.budget[phase];
  }

  async ask() {
    const route = this.route;
    this.asked = Date.now();
    const milliseconds = (/** @type {"first_token"|"total"} */ phase) => `${Math.max(1, Math.round(this.at(phase) * 1000))}ms`;
    const path = `api/routes/${encodeURIComponent(route)}/what-if?first_token=${milliseconds("first_token")}&total=${milliseconds("total")}`;
    try {
      const told = await ask(path);
      if (route !== this.route) return;
      this.told = told;
      this.show();
    } catch (error) {
      for (const phase of PHASES) say(this.sliders[phase].says, String(/** @type {Error} */ (error).message));
    }
  }

  show() {
    for (const phase of PHASES) {
      const { value, says, input } = this.sliders[phase];
      const at = this.at(phase);
      const told = this.told[phase];
      say(value, duration(at));
      input.setAttribute("aria-valuetext", duration(at));
      if (!told) continue;
      const whose = this.tried[phase] === null ? "in force" : `now ${duration(this.budget[phase])}`;
      const demoted = `${share(told.over)} over, of ${count(told.count)} ${WHOM[phase]} in the last hour (${whose})`;
      const cut = told.unknown ? `; ${share(told.unknown)} were let go sooner, so nobody knows (observe would tell)` : "";
      const once = told.at_once ? `; ${share(told.at_once)} told at once` : "";
      say(says, told.count ? demoted + cut + once : `no ${WHOM[phase]} in the last hour`);
    }
    const delays = [this.told.hedge?.delay_stream, this.told.hedge?.delay_answer];
    const [stream, answer] = delays.map((delay) => (delay ? duration(delay) : null));
    const parts = [stream && `${stream} (streams)`, answer && `${answer} (answers)`].filter(Boolean).join(" or ");
    say(this.hedge, parts ? `A second attempt after ${parts} would spend just what this route may spend on hedges.` : "");
    this.hedge.hidden = !parts;
  }

  /**
   * The line to draw on a curve, where a budget is tried; up to the one in force it says what is over it on that
   * curve. Beyond, calls that were let go are missing on it.
   * @param {"first_token"|"total"} phase @param {[number, number][]} points
   */
  line(phase, points) {
    const tried = this.tried[phase];
    if (tried === null) return null;
    const over = points.length && tried <= this.budget[phase] ? `: ${share(above(points, tried))} over` : "";
    return { seconds: tried, text: `what if ${duration(tried)}${over}`, moved: true };
  }
}
