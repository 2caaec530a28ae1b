// What every script shares: where the gateway is, and how long a run takes.
export const base = __ENV.SHUNT_URL || "http://127.0.0.1:8080";
export const seconds = Number(__ENV.SECONDS || 20);

export const headers = { "content-type": "application/json", authorization: "Bearer load" };

export function chat(extra = {}) {
  return JSON.stringify({
    model: "gpt-4o",
    messages: [{ role: "user", content: "Hi" }],
    ...extra,
  });
}

// Open load: calls arrive at a constant rate whatever the answers do, so that a stall counts.
export function arrivals(rate, vus) {
  return {
    load: {
      executor: "constant-arrival-rate",
      rate,
      timeUnit: "1s",
      duration: `${seconds}s`,
      preAllocatedVUs: vus,
      maxVUs: vus,
    },
  };
}
