// Reads /api/live. Not an EventSource, which can send no token: fetch, and the events taken apart here.

import { ApiError, credentials } from "./api.js";

/** Without an event for so long the connection is taken for lost. */
const SILENCE = 6000;

/** A page that nobody sees gives its place up after so long: a browser has six connections to a gateway. */
const HIDDEN = 30000;

/**
 * @typedef {{
 *   event: (name: string, data: any) => void,
 *   state: (state: "connecting"|"live"|"lost"|"refused"|"resting", why: string, again: number) => void,
 * }} Told
 */

export class Stream {
  /** @param {Told} told */
  constructor(told) {
    this.told = told;
    /** @type {string|null} */
    this.route = null;
    this.failures = 0;
    /** @type {AbortController|null} */
    this.running = null;
    this.timer = 0;
    document.addEventListener("visibilitychange", () => {
      clearTimeout(this.resting);
      if (document.hidden) this.resting = setTimeout(() => this.rest(), HIDDEN);
      else if (!this.running) this.open();
    });
    addEventListener("online", () => this.open());
  }

  rest() {
    this.close();
    this.told.state("resting", "", 0);
  }

  close() {
    clearTimeout(this.timer);
    this.running?.abort();
    this.running = null;
  }

  /** Listens anew, to this route's details too. @param {string|null} [route] */
  open(route = this.route) {
    this.route = route;
    this.close();
    const control = new AbortController();
    this.running = control;
    this.read(control).then(
      () => this.again(control, "the gateway ended the stream"),
      (error) => this.again(control, error instanceof ApiError ? error.message : "the gateway does not answer", error),
    );
  }

  /** @param {AbortController} control @param {string} why @param {any} [error] */
  again(control, why, error) {
    if (this.running !== control) return;
    control.abort();
    this.running = null;
    if (error?.status === 401) {
      this.told.state("refused", why, 0);
      return;
    }
    if (error?.status === 404) {
      this.open(null);
      return;
    }
    const wait = Math.min(5000, 500 * 2 ** this.failures);
    this.failures += 1;
    this.told.state("lost", why, wait);
    this.timer = setTimeout(() => this.open(), wait);
  }

  /** @param {AbortController} control */
  async read(control) {
    if (this.failures === 0) this.told.state("connecting", "", 0);
    const query = this.route === null ? "" : `?route=${encodeURIComponent(this.route)}`;
    let watchdog = setTimeout(() => control.abort(), SILENCE);
    try {
      const answer = await fetch(`api/live${query}`, { headers: credentials(), cache: "no-store", signal: control.signal });
      if (!answer.ok || !answer.body) throw new ApiError(answer.status, (await answer.text()).trim());
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let left = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        clearTimeout(watchdog);
        watchdog = setTimeout(() => control.abort(), SILENCE);
        const events = (left + value).split("\n\n");
        left = events.pop() ?? "";
        for (const event of events) this.take(event);
      }
    } finally {
      clearTimeout(watchdog);
    }
  }

  /** @param {string} text one event */
  take(text) {
    let name = "message";
    let data = "";
    for (const line of text.split("\n")) {
      if (line.startsWith("event: ")) name = line.slice(7);
      if (line.startsWith("data: ")) data += line.slice(6);
    }
    if (!data) return;
    this.failures = 0;
    this.told.state("live", "", 0);
    this.told.event(name, JSON.parse(data));
  }
}
