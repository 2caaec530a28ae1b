// Calls that take longer than their budget: every one gets its 202 in time, and nothing else.
import http from "k6/http";
import { check } from "k6";
import { arrivals, base, chat, headers } from "./shared.js";

export const options = {
  scenarios: arrivals(100, 200),
  thresholds: {
    checks: ["rate==1"],
    dropped_iterations: ["count==0"],
    http_req_duration: [`p(99)<${__ENV.QUICK ? 550 : 520}`, "min>=490"],
  },
  summaryTrendStats: ["min", "med", "p(95)", "p(99)", "max"],
};

export default function () {
  const answer = http.post(
    `${base}/v1/chat/completions`,
    chat({ metadata: { sim_latency_ms: "30000" } }),
    { headers: { ...headers, prefer: "respond-async", "x-shunt-budget": "500ms" } },
  );
  check(answer, {
    "is demoted": (one) => one.status === 202,
    "is a job": (one) => one.json("object") === "job",
  });
}
