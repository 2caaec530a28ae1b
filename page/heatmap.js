// Calls of the last hour by minute and latency: the more calls, the fuller the cell.

import { h, say } from "./dom.js";
import { clock, count, duration } from "./format.js";
import { colour, onTheme } from "./theme.js";
import { label, ticks } from "./charts.js";

const MINUTES = 61;
const MARGIN = { left: 58, right: 8, top: 10, bottom: 26 };

/** @typedef {{ column: number, began: number, rows: number[], columns: { first: number, counts: number[] }[] }} Heat */

export class Heatmap {
  /** @param {HTMLElement} box @param {HTMLElement} readout */
  constructor(box, readout) {
    this.box = box;
    this.readout = readout;
    this.canvas = h("canvas", { role: "img" });
    this.stage = h("div", { class: "heat", tabIndex: 0, role: "group", "aria-label": "Heatmap: move with the arrow keys", hidden: true,
      onkeydown: (/** @type {KeyboardEvent} */ event) => this.key(event),
      onpointermove: (/** @type {PointerEvent} */ event) => this.point(event),
      onpointerleave: () => this.select(null), onblur: () => this.select(null) }, this.canvas);
    this.note = h("p", { class: "empty" }, "No call in the last hour. Each minute of traffic becomes a column here.");
    box.append(this.stage, this.note);
    /** @type {Heat|null} */
    this.heat = null;
    this.budget = 0;
    /** The rows that are shown: lowest and highest. @type {[number, number]} */
    this.rows = [0, 1];
    /** @type {[number, number]|null} column and row */
    this.chosen = null;
    new ResizeObserver(() => this.draw()).observe(box);
    onTheme(() => this.draw());
  }

  /** @param {Heat|null} heat @param {number} budget seconds */
  show(heat, budget) {
    this.heat = heat;
    this.budget = budget;
    const rows = heat?.columns.flatMap((column) => column.counts.map((_, at) => column.first + at)) ?? [];
    this.stage.hidden = rows.length === 0;
    this.note.hidden = rows.length > 0;
    if (!heat || rows.length === 0) return;
    const near = heat.rows.findLastIndex((low) => low <= budget);
    const [low, high] = [Math.min(...rows), Math.max(...rows)];
    const shown = near <= high + 8 && near >= low - 8 ? [near, low, high] : [low, high];
    this.rows = [Math.max(0, Math.min(...shown) - 1), Math.min(heat.rows.length - 1, Math.max(...shown) + 1)];
    const calls = heat.columns.flatMap((column) => column.counts).reduce((sum, one) => sum + one, 0);
    this.canvas.setAttribute("aria-label", `${count(calls)} calls of the last hour, from ${duration(heat.rows[low])} to ${duration(this.top(high))}`);
    this.draw();
  }

  /** A row's upper end. @param {number} row */
  top(row) {
    const rows = this.heat?.rows ?? [];
    return rows[row + 1] ?? rows[row] * Math.SQRT2;
  }

  /** A row's lower end, above zero. @param {number} row */
  low(row) {
    const rows = this.heat?.rows ?? [];
    return row > 0 ? rows[row] : rows[1] / Math.SQRT2;
  }

  size() {
    const width = Math.max(this.box.clientWidth, 240);
    // Beside the curve it is as tall as that and its sliders.
    const tall = matchMedia("(max-width: 1100px)").matches ? 280 : 430;
    return { width: width - MARGIN.left - MARGIN.right, height: tall - MARGIN.top - MARGIN.bottom, full: width, tall };
  }

  /** @param {number} seconds */
  y(seconds) {
    const [low, high] = [this.low(this.rows[0]), this.top(this.rows[1])];
    const share = Math.log(seconds / low) / Math.log(high / low);
    return MARGIN.top + this.size().height * (1 - share);
  }

  draw() {
    const heat = this.heat;
    if (!heat || this.stage.hidden) return;
    const { width, height, full, tall } = this.size();
    const ratio = devicePixelRatio || 1;
    this.canvas.width = full * ratio;
    this.canvas.height = tall * ratio;
    this.canvas.style.width = `${full}px`;
    this.canvas.style.height = `${tall}px`;
    const ctx = this.canvas.getContext("2d");
    ctx.scale(ratio, ratio);
    ctx.font = `12px ${colour("font")}`;
    this.axes(ctx, width, height);
    const most = Math.max(...heat.columns.flatMap((column) => column.counts), 1);
    const step = width / MINUTES;
    ctx.fillStyle = colour("accent");
    heat.columns.forEach((column, index) => {
      const x = MARGIN.left + (MINUTES - heat.columns.length + index) * step;
      column.counts.forEach((calls, at) => {
        if (calls === 0) return;
        const row = column.first + at;
        const [top, bottom] = [this.y(this.top(row)), this.y(this.low(row))];
        ctx.globalAlpha = 0.16 + 0.84 * Math.sqrt(calls / most);
        ctx.fillRect(x + 0.25, top + 0.25, Math.max(step - 0.5, 1), bottom - top - 0.5);
      });
    });
    ctx.globalAlpha = 1;
    this.budgetLine(ctx, width);
    this.mark(ctx, step);
  }

  /** @param {CanvasRenderingContext2D} ctx @param {number} width @param {number} height */
  axes(ctx, width, height) {
    ctx.fillStyle = colour("muted");
    ctx.strokeStyle = colour("grid");
    ctx.textAlign = "right";
    ctx.textBaseline = "middle";
    const all = ticks(this.low(this.rows[0]), this.top(this.rows[1]));
    const labels = all.length > 9 ? all.filter((value) => Number.isInteger(Number(Math.log10(value).toFixed(6)))) : all;
    for (const value of labels) {
      const y = Math.round(this.y(value)) + 0.5;
      ctx.beginPath();
      ctx.moveTo(MARGIN.left, y);
      ctx.lineTo(MARGIN.left + width, y);
      ctx.stroke();
      ctx.fillText(duration(value), MARGIN.left - 8, y);
    }
    ctx.textBaseline = "alphabetic";
    const times = [[60, "−60 min"], [45, "−45"], [30, "−30"], [15, "−15"], [0, "now"]];
    for (const [minutes, text] of times.filter((_, index) => width > 300 || index % 2 === 0)) {
      const x = MARGIN.left + ((60.5 - Number(minutes)) / MINUTES) * width;
      ctx.textAlign = minutes === 60 ? "left" : minutes === 0 ? "right" : "center";
      ctx.fillText(String(text), minutes === 60 ? MARGIN.left : minutes === 0 ? MARGIN.left + width : x, MARGIN.top + height + 18);
    }
  }

  /** @param {CanvasRenderingContext2D} ctx @param {number} width */
  budgetLine(ctx, width) {
    const y = this.y(this.budget);
    if (y < MARGIN.top || y > MARGIN.top + this.size().height) return;
    ctx.strokeStyle = ctx.fillStyle = colour("text");
    ctx.lineWidth = 1.5;
    ctx.setLineDash([7, 4]);
    ctx.beginPath();
    ctx.moveTo(MARGIN.left, y);
    ctx.lineTo(MARGIN.left + width, y);
    ctx.stroke();
    ctx.setLineDash([]);
    ctx.font = `600 12px ${colour("font")}`;
    ctx.textAlign = "left";
    label(ctx, `budget ${duration(this.budget)}`, MARGIN.left + 6, y - 6 < MARGIN.top + 8 ? y + 16 : y - 6, 1);
  }

  /** @param {CanvasRenderingContext2D} ctx @param {number} step */
  mark(ctx, step) {
    if (!this.chosen) return;
    const [column, row] = this.chosen;
    const [top, bottom] = [this.y(this.top(row)), this.y(this.low(row))];
    ctx.strokeStyle = colour("text");
    ctx.lineWidth = 2;
    ctx.strokeRect(MARGIN.left + column * step, top, step, bottom - top);
  }

  /** @param {PointerEvent} event */
  point(event) {
    const box = this.canvas.getBoundingClientRect();
    const { width } = this.size();
    const column = Math.floor(((event.clientX - box.left - MARGIN.left) / width) * MINUTES);
    const y = event.clientY - box.top;
    let row = this.rows[0];
    while (row < this.rows[1] && this.y(this.top(row)) > y) row += 1;
    this.select(column >= 0 && column < MINUTES ? [column, row] : null);
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    const move = moves[/** @type {keyof typeof moves} */ (event.key)];
    if (!move || !this.heat) return;
    event.preventDefault();
    const [column, row] = this.chosen ?? [MINUTES - 1 - move[0], this.middle() - move[1]];
    const clamp = (/** @type {number} */ value, /** @type {number} */ low, /** @type {number} */ high) => Math.max(low, Math.min(high, value));
    this.select([clamp(column + move[0], 0, MINUTES - 1), clamp(row + move[1], this.rows[0], this.rows[1])]);
  }

  middle() {
    return Math.round((this.rows[0] + this.rows[1]) / 2);
  }

  /** @param {[number, number]|null} chosen */
  select(chosen) {
    this.chosen = chosen;
    this.draw();
    const heat = this.heat;
    if (!chosen || !heat) {
      say(this.readout, "");
      return;
    }
    const [at, row] = chosen;
    const index = at - (MINUTES - heat.columns.length);
    const column = heat.columns[index];
    const calls = column?.counts[row - column.first] ?? 0;
    const began = heat.began - (heat.columns.length - 1 - index) * heat.column;
    const time = clock(began).slice(0, 5);
    say(this.readout, `${time}, ${row ? duration(this.low(row)) : "0 s"} to ${duration(this.top(row))}: ${count(calls)} call${calls === 1 ? "" : "s"}`);
  }
}
