// Sparklines, the percentile curve, and first token against total.

import uPlot from "./vendor/uPlot.esm.js";
import { h, s, say } from "./dom.js";
import { duration, isOver, percentile } from "./format.js";
import { colour, onTheme } from "./theme.js";

/** Samples of a sparkline: two minutes. */
export const PAST = 120;

/** A line without axes. @param {string} [kind] its class */
export function spark(kind = "") {
  const path = s("path", { class: "line" });
  const dot = s("circle", { r: 1.6, class: "dot" });
  const svg = s("svg", { class: `spark ${kind}`, viewBox: "0 0 100 24", "aria-hidden": "true" }, path, dot);
  return { element: svg, draw: (/** @type {number[]} */ values) => draw(path, dot, values) };
}

/** @param {SVGElement} path @param {SVGElement} dot @param {number[]} values */
function draw(path, dot, values) {
  const most = Math.max(...values, 1e-9);
  const x = (/** @type {number} */ index) => 98 - ((values.length - 1 - index) * 96) / (PAST - 1);
  const y = (/** @type {number} */ value) => 22 - (value / most) * 19;
  const points = values.map((value, index) => `${x(index).toFixed(1)} ${y(value).toFixed(1)}`);
  path.setAttribute("d", points.length ? `M${points.join("L")}` : "");
  dot.setAttribute("cx", "98");
  dot.setAttribute("cy", values.length ? y(values[values.length - 1]).toFixed(1) : "-9");
}

/** One, two, five and their tens between two values. @param {number} low @param {number} high */
export function ticks(low, high) {
  const all = [];
  for (let decade = Math.floor(Math.log10(low)); 10 ** decade <= high; decade += 1)
    for (const step of [1, 2, 5]) {
      const value = step * 10 ** decade;
      if (value >= low * 0.999 && value <= high * 1.001) all.push(value);
    }
  return all;
}

/** Points of a curve a factor of ten; the gateway's own spacing. */
const STEPS = 16;

/** @param {[number, number][]} points @param {number} count @returns {any} uPlot's columns */
function columns(points, count) {
  const x = points.map(([share], index) => (share < 1 ? index / STEPS : Math.log10(Math.max(count, 1.2))));
  return [x, points.map(([, value]) => Math.max(value, 1e-6))];
}

/** @typedef {{ seconds: number, text: string, moved: boolean }} Line a horizontal line: the budget, or another one */

/** Latency by percentile on HdrHistogram's axis: each step right is ten times rarer. */
export class Curve {
  /** @param {HTMLElement} box @param {HTMLElement} readout */
  constructor(box, readout) {
    this.box = box;
    this.readout = readout;
    this.canvas = h("div", { role: "img" });
    this.note = h("p", { class: "empty" }, "Nothing was measured in this window yet.");
    box.append(this.canvas, this.note);
    /** @type {{ points: [number, number][], count: number, hour: [number, number][], hourCount: number, lines: Line[] }|null} */
    this.shown = null;
    /** @type {any} */
    this.plot = null;
    /** What the axes hold. @type {[number, number]} */
    this.x = [0, 2];
    /** @type {[number, number]} */
    this.y = [0.001, 1];
    new ResizeObserver(() => this.plot?.setSize(this.size())).observe(box);
    onTheme(() => this.renew());
  }

  size() {
    const width = Math.max(this.box.clientWidth, 240);
    return { width, height: width < 480 ? 250 : 300 };
  }

  renew() {
    this.plot?.destroy();
    this.plot = null;
    if (this.shown) this.show(this.shown);
  }

  /** @param {NonNullable<Curve["shown"]>} shown */
  show(shown) {
    this.shown = shown;
    const filled = shown.points.length > 0;
    this.canvas.hidden = !filled;
    this.note.hidden = filled;
    if (!filled) return;
    this.frame(shown);
    const data = uPlot.join([columns(shown.points, shown.count), columns(shown.hour, shown.hourCount)]);
    if (this.plot) this.plot.setData(data);
    else this.plot = new uPlot({ ...this.options(), ...this.size() }, data, this.canvas);
    const last = shown.points[shown.points.length - 1];
    const budget = shown.lines[0];
    this.canvas.setAttribute("aria-label",
      `Percentile curve of ${shown.count} calls, up to ${duration(last[1])}; ${budget.text}. The figures stand in the table below.`);
  }

  /** What the axes hold: all values, and a line unless it is far away. @param {NonNullable<Curve["shown"]>} shown */
  frame({ points, count, hour, hourCount, lines }) {
    const values = [...points, ...hour].map(([, value]) => Math.max(value, 1e-6));
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const near = lines.map((line) => line.seconds).filter((at) => at < high * 8 && at > low / 8);
    this.y = [Math.min(low, ...near) / 1.3, Math.max(high, ...near) * 1.9];
    this.x = [0, Math.max(2, Math.log10(Math.max(count, hourCount, 1)) + 0.05)];
  }

  /** @returns {any} */
  options() {
    const font = `12px ${colour("font")}`;
    const axis = { stroke: colour("muted"), font, grid: { stroke: colour("grid"), width: 1 }, ticks: { show: false } };
    const named = (/** @type {any} */ _, /** @type {number[]} */ all) => all.map((x) => `${Number((100 * (1 - 10 ** -x)).toFixed(5))}%`);
    const series = { spanGaps: true, points: { show: false } };
    return {
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 8 } },
      scales: {
        x: { time: false, range: () => this.x },
        y: { distr: 3, range: () => this.y },
      },
      axes: [
        { ...axis, size: 30, values: named, splits: () => this.shares() },
        { ...axis, size: 62, values: (/** @type {any} */ _, /** @type {number[]} */ all) => all.map(duration), splits: () => fewer(ticks(this.y[0], this.y[1])), filter: (/** @type {any} */ _, /** @type {number[]} */ all) => all },
      ],
      series: [
        {},
        { ...series, stroke: colour("accent"), width: 2.5, fill: colour("accent-wash") },
        { ...series, stroke: colour("muted"), width: 1.25, dash: [3, 3] },
      ],
      hooks: { draw: [(/** @type {any} */ plot) => this.lines(plot)], setCursor: [(/** @type {any} */ plot) => this.read(plot)] },
    };
  }

  /** The shares that are named below the curve: as many as have room, round ones first. */
  shares() {
    const room = (48 * this.x[1]) / (this.size().width - 80);
    /** @type {number[]} */
    const kept = [];
    for (const x of [0, 1, 2, 3, 4, 5, 6, 7, Math.log10(2), Math.log10(20)])
      if (x <= this.x[1] && kept.every((other) => Math.abs(other - x) > room)) kept.push(x);
    return kept.sort((one, other) => one - other);
  }

  /** The budget over the curve, and where another one would lie. @param {any} plot */
  lines(plot) {
    const { ctx, bbox } = plot;
    const ratio = uPlot.pxRatio;
    ctx.save();
    ctx.font = `600 ${12 * ratio}px ${colour("font")}`;
    for (const line of this.shown?.lines ?? []) {
      const inside = line.seconds >= this.y[0] && line.seconds <= this.y[1];
      const above = line.seconds > this.y[1];
      const y = inside ? plot.valToPos(line.seconds, "y", true) : above ? bbox.top + ratio : bbox.top + bbox.height - ratio;
      ctx.strokeStyle = ctx.fillStyle = colour(line.moved ? "accent" : "text");
      ctx.lineWidth = (line.moved ? 2 : 1.5) * ratio;
      ctx.setLineDash(line.moved ? [2 * ratio, 3 * ratio] : [7 * ratio, 4 * ratio]);
      if (inside) {
        ctx.beginPath();
        ctx.moveTo(bbox.left, y);
        ctx.lineTo(bbox.left + bbox.width, y);
        ctx.stroke();
      }
      const arrow = inside ? "" : above ? " ↑" : " ↓";
      ctx.textAlign = line.moved ? "right" : "left";
      // A tighter budget is named below its line, so that the two never meet.
      const tighter = line.moved && line.seconds < (this.shown?.lines[0].seconds ?? 0) && y < bbox.top + bbox.height - 20 * ratio;
      const under = tighter || y < bbox.top + 20 * ratio;
      label(ctx, line.text + arrow, line.moved ? bbox.left + bbox.width - 6 * ratio : bbox.left + 8 * ratio, y + (under ? 16 : -6) * ratio, ratio);
    }
    ctx.restore();
  }

  /** @param {any} plot */
  read(plot) {
    const index = plot.cursor.idx;
    const [x, value] = index === null || index === undefined ? [null, null] : [plot.data[0][index], plot.data[1][index]];
    say(this.readout, value === null || value === undefined ? "" : `${percentile(1 - 10 ** -x)}: ${duration(value)}`);
  }
}

/** A text that can be read over what is drawn. @param {CanvasRenderingContext2D} ctx @param {string} text @param {number} x @param {number} y @param {number} ratio */
export function label(ctx, text, x, y, ratio) {
  const width = ctx.measureText(text).width;
  const ink = ctx.fillStyle;
  ctx.save();
  ctx.fillStyle = colour("surface");
  ctx.globalAlpha = 0.78;
  ctx.fillRect(x - (ctx.textAlign === "right" ? width : 0) - 3 * ratio, y - 11 * ratio, width + 6 * ratio, 15 * ratio);
  ctx.restore();
  ctx.fillStyle = ink;
  ctx.fillText(text, x, y);
}

/** At most eight ticks: else only whole decades. @param {number[]} all */
function fewer(all) {
  if (all.length <= 8) return all;
  const decades = all.filter((value) => Math.abs(Math.log10(value) - Math.round(Math.log10(value))) < 1e-6);
  return decades;
}

const ROWS = /** @type {const} */ (["p50", "p90", "p95", "p99", "p999", "max"]);
const NAMES = { p50: "p50", p90: "p90", p95: "p95", p99: "p99", p999: "p99.9", max: "max" };

/** First token (circle) and total (square) of each percentile on one scale, with both budgets. */
export class Dumbbells {
  /** @param {HTMLElement} box */
  constructor(box) {
    this.body = h("tbody");
    this.none = h("p", { class: "empty" }, "Nothing was measured in this window yet.");
    this.table = h("table", { class: "dumbbells" },
      h("caption", { class: "hidden" }, "First token against total"),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Share"), h("th", { scope: "col" }, h("span", { class: "hidden" }, "Both on one scale")),
        h("th", { scope: "col", class: "number" }, h("span", { class: "key round", "aria-hidden": "true" }), "First token"),
        h("th", { scope: "col", class: "number" }, h("span", { class: "key square", "aria-hidden": "true" }), "Total"))),
      this.body);
    this.rows = ROWS.map((row) => this.row(NAMES[row]));
    this.axis = h("p", { class: "hint" });
    box.append(this.table, this.axis, this.none);
  }

  /** @param {string} name */
  row(name) {
    const [first, total] = [h("td", { class: "number" }), h("td", { class: "number" })];
    const rail = s("line", { class: "rail", x1: 0, x2: 100, y1: 50, y2: 50 });
    const svg = s("svg", { class: "dumbbell", "aria-hidden": "true" }, rail);
    const budget = (/** @type {string} */ kind) => s("line", { class: `budget ${kind}`, y1: "8%", y2: "92%" });
    const marks = {
      firstBudget: budget("first"), totalBudget: budget("total"),
      join: s("line", { class: "join", y1: "50%", y2: "50%" }),
      first: s("circle", { class: "first", r: 4.5, cy: "50%" }),
      total: s("rect", { class: "total", width: 8, height: 8, y: "50%", transform: "translate(-4 -4)" }),
    };
    rail.setAttribute("x2", "100%");
    rail.setAttribute("y1", "50%");
    rail.setAttribute("y2", "50%");
    svg.append(marks.firstBudget, marks.totalBudget, marks.join, marks.total, marks.first);
    this.body.append(h("tr", {}, h("th", { scope: "row" }, name), h("td", { class: "plot" }, svg), first, total));
    return { first, total, marks };
  }

  /** @param {any} first figures @param {any} total figures @param {{first_token: number, total: number}} budget */
  show(first, total, budget) {
    const some = first.count + total.count > 0;
    this.table.toggleAttribute("hidden", !some);
    this.axis.hidden = !some;
    this.none.hidden = some;
    if (!some) return;
    const values = ROWS.flatMap((row) => [first.count ? first[row] : 0, total.count ? total[row] : 0]).filter((value) => value > 0);
    const most = Math.max(...values);
    const near = [budget.first_token, budget.total].filter((value) => value < most * 8);
    const [low, high] = [Math.min(...values, ...near) / 1.5, Math.max(...values, ...near) * 1.3];
    const x = (/** @type {number} */ value) => `${Math.max(1.5, Math.min(98.5, (100 * Math.log(value / low)) / Math.log(high / low)))}%`;
    ROWS.forEach((row, index) => {
      const { marks, ...cells } = this.rows[index];
      const [one, other] = [first.count ? first[row] : null, total.count ? total[row] : null];
      say(cells.first, duration(one));
      say(cells.total, duration(other));
      cells.first.classList.toggle("over", isOver(first, row));
      cells.total.classList.toggle("over", isOver(total, row));
      place(marks.first, "cx", one, x);
      place(marks.total, "x", other, x);
      place(marks.join, "x1", one !== null && other !== null ? one : null, x);
      if (other !== null) marks.join.setAttribute("x2", x(other));
      place(marks.firstBudget, "x1", budget.first_token < high ? budget.first_token : null, x, "x2");
      place(marks.totalBudget, "x1", budget.total < high ? budget.total : null, x, "x2");
    });
    say(this.axis, `Scale: ${duration(low)} to ${duration(high)}, logarithmic. Upright lines: budgets of ${duration(budget.first_token)} to the first token (dotted) and ${duration(budget.total)} in all. ` +
      `${first.count.toLocaleString("en")} streams, ${total.count.toLocaleString("en")} calls.`);
  }
}

/** @param {SVGElement} mark @param {string} name @param {number|null} value @param {(value: number) => string} x @param {string} [also] */
function place(mark, name, value, x, also) {
  mark.toggleAttribute("hidden", value === null);
  if (value === null) return;
  mark.setAttribute(name, x(value));
  if (also) mark.setAttribute(also, x(value));
}
