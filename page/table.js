// A table whose rows stay in place while their cells change each second.

import { h, say, scrolling } from "./dom.js";

/**
 * @template Row
 * @typedef {{
 *   id: string, label: string, title?: string, number?: boolean, minor?: boolean, head?: boolean,
 *   sort?: (row: Row) => number|string,
 *   cell: (row: Row, cell: HTMLElement) => string|void,
 * }} Column  A cell gives its text, or fills its element itself.
 */

/** @template Row */
export class Table {
  /**
   * @param {{ caption: string, columns: Column<Row>[], key: (row: Row) => string, sort?: string,
   *   descending?: boolean, none?: () => Node, row?: (row: Row, element: HTMLElement) => void }} settings
   */
  constructor(settings) {
    this.settings = settings;
    this.sort = settings.sort ?? null;
    this.descending = settings.descending ?? false;
    /** @type {Map<string, { element: HTMLElement, cells: HTMLElement[] }>} */
    this.known = new Map();
    /** @type {Row[]} */
    this.rows = [];
    this.heads = settings.columns.map((column) => this.head(column));
    this.body = h("tbody");
    this.table = h(
      "table", {},
      h("caption", { class: "hidden" }, settings.caption),
      h("thead", {}, h("tr", {}, ...this.heads)),
      this.body,
    );
    this.empty = h("div");
    this.scroll = scrolling(settings.caption, this.table);
    this.element = h("div", {}, this.scroll, this.empty);
    this.mark();
  }

  /** @param {Column<Row>} column */
  head(column) {
    const label = column.sort
      ? h("button", { type: "button", class: "sort", title: column.title ?? "", onclick: () => this.by(column.id) }, column.label)
      : h("span", { title: column.title ?? "" }, column.label);
    return h("th", { scope: "col", class: classes(column) }, label);
  }

  /** @param {string} id */
  by(id) {
    if (this.sort === id) this.descending = !this.descending;
    else {
      this.sort = id;
      this.descending = this.settings.columns.find((column) => column.id === id)?.number ?? false;
    }
    this.mark();
    this.update(this.rows);
  }

  mark() {
    this.settings.columns.forEach((column, index) => {
      if (!column.sort) return;
      const order = this.sort !== column.id ? "none" : this.descending ? "descending" : "ascending";
      this.heads[index].setAttribute("aria-sort", order);
    });
  }

  /** @param {Row[]} rows */
  update(rows) {
    this.rows = rows;
    const { columns, key } = this.settings;
    const by = columns.find((column) => column.id === this.sort)?.sort;
    const sorted = by ? [...rows].sort((one, other) => this.compare(by(one), by(other))) : rows;
    const kept = new Set();
    // Who moves a row must not take the focus from it.
    const focused = this.body.contains(document.activeElement) ? document.activeElement : null;
    sorted.forEach((row, index) => {
      const name = key(row);
      kept.add(name);
      let known = this.known.get(name);
      if (!known) {
        const cells = columns.map((column) =>
          h(column.head ? "th" : "td", { class: classes(column), scope: column.head ? "row" : null }));
        known = { element: h("tr", {}, ...cells), cells };
        this.known.set(name, known);
      }
      const { element, cells } = known;
      columns.forEach((column, at) => {
        const text = column.cell(row, cells[at]);
        if (typeof text === "string") say(cells[at], text);
      });
      this.settings.row?.(row, element);
      if (this.body.children[index] !== element) this.body.insertBefore(element, this.body.children[index] ?? null);
    });
    for (const [name, { element }] of this.known) {
      if (kept.has(name)) continue;
      element.remove();
      this.known.delete(name);
    }
    if (focused?.isConnected && focused !== document.activeElement) /** @type {HTMLElement} */ (focused).focus({ preventScroll: true });
    this.scroll.hidden = rows.length === 0;
    this.empty.hidden = rows.length > 0;
    if (rows.length === 0 && this.settings.none) this.empty.replaceChildren(this.settings.none());
  }

  /** @param {number|string} one @param {number|string} other */
  compare(one, other) {
    const order = typeof one === "string" ? one.localeCompare(String(other)) : one - Number(other);
    return this.descending ? -order : order;
  }
}

/** @param {{ number?: boolean, minor?: boolean }} column */
function classes(column) {
  return [column.number && "number", column.minor && "minor"].filter(Boolean).join(" ");
}

/** Fills a cell once, and gives what it was filled with. @param {HTMLElement} cell @param {() => HTMLElement} make @returns {any} */
export function once(cell, make) {
  if (!cell.firstElementChild) cell.append(make());
  return cell.firstElementChild;
}
