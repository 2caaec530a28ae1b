// Jobs by state, the newest of them, and callbacks that were given up.

import { ask } from "./api.js";
import { at, empty, h, say, tell } from "./dom.js";
import { age, count, when } from "./format.js";
import { JobView, act, chip } from "./job.js";
import { Table, once } from "./table.js";

const STATES = ["queued", "running", "succeeded", "failed", "cancelled", "expired"];
const PAGE = 12;

/** At most once in so many milliseconds a list is read again because counts changed. */
const CALM = 2000;

export class Jobs {
  constructor() {
    this.view = new JobView(() => this.refresh());
    /** @type {string|null} */
    this.after = null;
    this.seen = "";
    this.dead = -1;
    this.read = 0;
    this.counts = this.countTable();
    this.list = this.listTable();
    this.deadList = this.deadTable();
    at("job-counts").append(this.counts.element);
    at("job-list").append(this.list.element);
    at("dead-list").append(this.deadList.element);
    for (const state of STATES) at("job-status").append(h("option", { value: state }, state));
    at("job-status").addEventListener("change", () => this.refresh(null));
    at("job-route").addEventListener("change", () => this.refresh(null));
    at("jobs-refresh").addEventListener("click", () => this.refresh());
    at("jobs-newest").addEventListener("click", () => this.refresh(null));
    at("jobs-older").addEventListener("click", () => this.refresh(this.list.rows.at(-1)?.id ?? null));
    at("dead-all").addEventListener("click", () => this.replayAll());
    this.list.update([]);
    this.deadList.update([]);
  }

  countTable() {
    const state = (/** @type {string} */ name) => ({
      id: name, label: name, number: true, sort: (/** @type {any} */ row) => row[name],
      cell: (/** @type {any} */ row, /** @type {HTMLElement} */ cell) => {
        const button = once(cell, () => h("button", { type: "button", class: "link", onclick: () => this.filter(name, cell.dataset.route ?? "") }));
        cell.dataset.route = row.route;
        button.disabled = row[name] === 0;
        say(button, count(row[name]));
        button.setAttribute("aria-label", `${row[name]} ${name} of ${row.route || "all routes"}: list them`);
      },
    });
    return new Table({
      caption: "Jobs by route and state",
      key: (row) => row.route,
      none: () => empty("No jobs.", "A call becomes one when it passes its budget and its caller asked for that with Prefer: respond-async."),
      columns: [
        { id: "route", label: "Route", head: true, sort: (row) => row.route, cell: (row) => row.route || "all" },
        ...STATES.map(state),
        { id: "oldest", label: "Oldest waits", title: "How long the job waits that could run for longest", number: true,
          sort: (row) => row.oldest_queued ?? 0, cell: (row) => (row.oldest_queued === null ? "–" : age(row.oldest_queued)) },
      ],
    });
  }

  listTable() {
    return new Table({
      caption: "Jobs",
      key: (job) => job.id,
      none: () => empty("No such jobs."),
      columns: [
        this.idColumn(),
        { id: "status", label: "State", cell: (job, cell) => {
          if (cell.dataset.status === job.status) return;
          cell.dataset.status = job.status;
          cell.replaceChildren(chip(job.status));
        } },
        { id: "route", label: "Route", cell: (job) => job.route },
        { id: "reason", label: "Why", cell: (job) => job.reason.replaceAll("_", " ") },
        { id: "attempts", label: "Attempts", number: true, minor: true, cell: (job) => String(job.attempts) },
        { id: "created", label: "Created", number: true, cell: (job) => when(job.created_at) },
        { id: "finished", label: "Finished", number: true, minor: true, cell: (job) => when(job.finished_at) },
        { id: "callback", label: "Callback", minor: true, cell: (job) => job.callback?.status ?? "none" },
      ],
    });
  }

  deadTable() {
    return new Table({
      caption: "Callbacks that were given up",
      key: (job) => job.id,
      none: () => empty("No callback was given up."),
      columns: [
        this.idColumn(),
        { id: "route", label: "Route", cell: (job) => job.route },
        { id: "url", label: "Receiver", cell: (job, cell) => {
          cell.classList.add("long");
          return job.callback?.url ?? "–";
        } },
        { id: "deliveries", label: "Deliveries", number: true, cell: (job) => String(job.callback?.deliveries ?? 0) },
        { id: "error", label: "Last error", minor: true, cell: (job, cell) => {
          cell.classList.add("long");
          return job.callback?.last_error ?? "–";
        } },
        { id: "replay", label: "Action", cell: (job, cell) => {
          const button = once(cell, () => h("button", { type: "button", onclick: () => this.replay(button, cell.dataset.job ?? "") }, "Replay"));
          cell.dataset.job = job.id;
          button.setAttribute("aria-label", `Replay the callback of ${job.id}`);
        } },
      ],
    });
  }

  idColumn() {
    return { id: "id", label: "Job", head: true, cell: (/** @type {any} */ job, /** @type {HTMLElement} */ cell) => {
      const button = once(cell, () => h("button", { type: "button", class: "link", onclick: () => this.view.open(cell.dataset.job ?? "") }));
      cell.dataset.job = job.id;
      say(button, `${job.id.slice(0, 12)}…`);
      button.title = job.id;
    } };
  }

  /** @param {any} snapshot */
  take(snapshot) {
    this.view.beat();
    const jobs = snapshot.jobs;
    if (!jobs) {
      say(at("jobs-facts"), snapshot.gateway.store_ready === null ? "" : "the store does not answer");
      return;
    }
    const names = jobs.routes.map((/** @type {any} */ row) => row.route);
    this.names(names);
    const sum = (/** @type {string} */ name) => jobs.routes.reduce((/** @type {number} */ all, /** @type {any} */ row) => all + row[name], 0);
    const oldest = Math.max(...jobs.routes.map((/** @type {any} */ row) => row.oldest_queued ?? -1), -1);
    const all = { route: "", oldest_queued: oldest < 0 ? null : oldest, ...Object.fromEntries(STATES.map((state) => [state, sum(state)])) };
    this.counts.update(jobs.routes.length > 1 ? [...jobs.routes, all] : jobs.routes);
    say(at("jobs-facts"), `${count(sum("queued"))} queued, ${count(sum("running"))} running` + (oldest > 0 ? `, the oldest waits ${age(oldest)}` : ""));
    say(at("dead-facts"), jobs.dead_callbacks ? `${count(jobs.dead_callbacks)} given up` : "");
    const seen = JSON.stringify(jobs.routes.map((/** @type {any} */ row) => STATES.map((state) => row[state])));
    const calm = Date.now() - this.read > CALM;
    if (calm && this.after === null && seen !== this.seen) {
      this.seen = seen;
      this.refresh();
    }
    if (calm && jobs.dead_callbacks !== this.dead) {
      this.dead = jobs.dead_callbacks;
      this.refreshDead();
    }
  }

  /** @param {string[]} names */
  names(names) {
    const select = at("job-route");
    const known = [...select.options].map((option) => option.value);
    for (const name of names) if (!known.includes(name)) select.append(h("option", { value: name }, name));
  }

  /** @param {string} state @param {string} route */
  filter(state, route) {
    at("job-status").value = state;
    at("job-route").value = route;
    this.refresh(null);
    at("list-heading").scrollIntoView({ block: "nearest" });
  }

  /** @param {string|null} [after] */
  async refresh(after = this.after) {
    this.read = Date.now();
    this.after = after;
    const query = new URLSearchParams({ limit: String(PAGE) });
    for (const [name, value] of [["status", at("job-status").value], ["route", at("job-route").value], ["after", after]]) if (value) query.set(name, value);
    try {
      const jobs = (await ask(`api/jobs?${query}`)).data;
      this.list.update(jobs);
      at("jobs-newest").hidden = after === null;
      at("jobs-older").hidden = jobs.length < PAGE;
      say(at("list-heading"), after === null ? "Newest jobs" : "Older jobs");
    } catch (error) {
      this.seen = "";
      tell(/** @type {Error} */ (error).message, true);
    }
  }

  async refreshDead() {
    try {
      const jobs = (await ask(`api/callbacks/dead?limit=${PAGE}`)).data;
      this.deadList.update(jobs);
      at("dead-all").hidden = jobs.length < 2;
    } catch (error) {
      this.dead = -1;
      tell(/** @type {Error} */ (error).message, true);
    }
  }

  /** @param {HTMLButtonElement} button @param {string} id */
  async replay(button, id) {
    button.disabled = true;
    await act(id, "replay-callback");
    button.disabled = false;
    this.refreshDead();
  }

  async replayAll() {
    at("dead-all").disabled = true;
    let done = 0;
    const jobs = [...this.deadList.rows];
    for (const job of jobs) done += Number(await act(job.id, "replay-callback"));
    tell(`${done} of ${jobs.length} callbacks are delivered again`, done < jobs.length);
    at("dead-all").disabled = false;
    this.refreshDead();
  }
}
