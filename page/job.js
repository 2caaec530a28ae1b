// One job: what is known of it, what became of each attempt, what can be done.

import { ask } from "./api.js";
import { at, empty, h, tell } from "./dom.js";
import { bytes, duration, when } from "./format.js";

const SIGNS = { queued: "○", running: "◐", succeeded: "●", failed: "▲", cancelled: "✕", expired: "◇" };
const KINDS = { queued: "idle", running: "warn", succeeded: "good", failed: "bad", cancelled: "idle", expired: "bad" };

/** How often a job that is over is looked at again for its last attempt. */
const LOOKS = 10;

/** A state as a sign and a word. @param {string} status */
export function chip(status) {
  const kind = KINDS[/** @type {keyof typeof KINDS} */ (status)] ?? "idle";
  return h("span", { class: `chip ${kind}` }, h("span", { "aria-hidden": "true" }, SIGNS[/** @type {keyof typeof SIGNS} */ (status)] ?? "◇"), h("span", {}, status));
}

/** What can be done to a job in this state. @param {any} job @returns {[string, string, string][]} path, label, question */
function deeds(job) {
  const all = [];
  const over = !["queued", "running"].includes(job.status);
  if (!over) all.push(["cancel", "Cancel", "Cancel this job? A call to a provider that runs for it ends too."]);
  if (over && job.status !== "succeeded") all.push(["retry", "Run again", "Run this job again? It calls its provider anew, and its callback is told anew."]);
  if (over && job.callback) all.push(["replay-callback", "Replay callback", "Deliver the callback again, under the same webhook-id?"]);
  return /** @type {any} */ (all);
}

/** Does something to a job, and says what came of it. @param {string} id @param {string} deed */
export async function act(id, deed) {
  try {
    const job = await ask(`api/jobs/${encodeURIComponent(id)}/${deed}`, "POST");
    const callback = deed === "replay-callback" ? `, its callback ${job.callback?.status}` : "";
    tell(`${id.slice(0, 12)}… is ${job.status}${callback}`);
    return true;
  } catch (error) {
    tell(/** @type {Error} */ (error).message, true);
    return false;
  }
}

export class JobView {
  /** @param {() => void} changed something was done to a job */
  constructor(changed) {
    this.changed = changed;
    this.id = "";
    this.dialog = at("job");
    this.body = at("job-body");
    at("job-close").addEventListener("click", () => this.dialog.close());
    this.dialog.addEventListener("close", () => (this.id = ""));
    this.dialog.addEventListener("click", (/** @type {Event} */ event) => event.target === this.dialog && this.dialog.close());
    this.asking = false;
    this.last = "";
    this.looks = LOOKS;
  }

  /** @param {string} id */
  open(id) {
    this.id = id;
    this.last = "";
    this.looks = LOOKS;
    this.body.replaceChildren(h("p", { class: "muted" }, "asking the gateway…"));
    if (!this.dialog.open) this.dialog.showModal();
    this.load();
  }

  /** Looks again while the job is not over and nobody is answering a question. */
  beat() {
    if (this.id && this.unfinished && !this.asking) this.load();
  }

  async load() {
    const id = this.id;
    try {
      const job = await ask(`api/jobs/${encodeURIComponent(id)}`);
      if (id !== this.id) return;
      // What became of the last attempt is written after the job's end.
      const over = !["queued", "running"].includes(job.status);
      if (!over) this.looks = LOOKS;
      this.unfinished = !over || (job.attempts > (job.history?.length ?? 0) && this.looks-- > 0);
      const text = JSON.stringify(job);
      if (text !== this.last) this.show(job);
      this.last = text;
    } catch (error) {
      if (id === this.id) this.body.replaceChildren(empty("The job cannot be shown:", /** @type {Error} */ (error).message));
    }
  }

  /** @param {any} job */
  show(job) {
    const facts = [
      ["State", chip(job.status)], ["Id", h("code", {}, job.id)], ["Route", job.route], ["Why it is a job", job.reason.replaceAll("_", " ")],
      ["Budget", duration(job.budget_ms / 1000)], ["Became a job", job.elapsed_ms ? `at the age of ${duration(job.elapsed_ms / 1000)}` : "at once"],
      ["Attempts", String(job.attempts)], ["Priority", String(job.priority)], job.scope && ["Scope", job.scope],
      ["Created", when(job.created_at)], ["Expires", when(job.expires_at)], ["Finished", when(job.finished_at)],
      ["Result", job.result_bytes === null ? "none stored" : bytes(job.result_bytes)],
      job.error && ["Error", `${job.error.code}: ${job.error.message}`],
      job.callback && ["Callback", `${job.callback.status}, ${job.callback.deliveries === 1 ? "1 delivery" : `${job.callback.deliveries} deliveries`} to ${job.callback.url}`],
      job.callback?.last_error && ["Last delivery failed", job.callback.last_error],
    ].filter(Boolean);
    this.body.replaceChildren(
      h("dl", { class: "facts-list" }, ...facts.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
      this.actions(job), h("h3", {}, "History"), history(job.history));
  }

  /** @param {any} job */
  actions(job) {
    const box = h("p", { class: "actions" });
    const all = deeds(job);
    const offer = () => {
      this.asking = false;
      box.replaceChildren(...all.map(([deed, label, question]) => h("button", { type: "button", "data-deed": deed, onclick: () => sure(deed, label, question) }, label)));
    };
    const sure = (/** @type {string} */ deed, /** @type {string} */ label, /** @type {string} */ question) => {
      this.asking = true;
      const yes = h("button", { type: "button", class: "main", "data-sure": deed, onclick: async () => {
        yes.disabled = true;
        await act(job.id, deed);
        offer();
        this.changed();
        this.load();
      } }, `${label} now`);
      box.replaceChildren(h("span", {}, question), yes, h("button", { type: "button", onclick: offer }, "No"));
      yes.focus();
    };
    offer();
    return box;
  }
}

/** @param {any[]} records */
function history(records) {
  if (!records?.length) return empty("No attempt has ended yet.");
  const row = (/** @type {any} */ one) => h("tr", {}, h("td", { class: "number" }, String(one.number)), h("td", {}, one.target ?? "–"),
    h("td", {}, when(one.began)), h("td", {}, when(one.ended)), h("td", {}, one.result.replaceAll("_", " ")), h("td", { class: "number" }, String(one.status ?? "–")), h("td", { class: "long" }, one.error ?? ""), h("td", {}, one.gateway));
  const heads = ["#", "Target", "Began", "Ended", "Result", "Status", "Error", "Gateway"];
  return h("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": "History of the job" }, h("table", {}, h("caption", { class: "hidden" }, "History of the job"),
    h("thead", {}, h("tr", {}, ...heads.map((head) => h("th", { scope: "col" }, head)))), h("tbody", {}, ...records.map(row))));
}
