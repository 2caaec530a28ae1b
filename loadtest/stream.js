// Streams: every one arrives whole, and its first byte within the budget of its route.
import http from "k6/http";
import { check } from "k6";
import { arrivals, base, chat, headers } from "./shared.js";

export const options = {
  scenarios: arrivals(50, 200),
  thresholds: {
    checks: ["rate==1"],
    dropped_iterations: ["count==0"],
    http_req_waiting: ["p(99)<1000"],
  },
};

export default function () {
  const answer = http.post(`${base}/v1/chat/completions`, chat({ stream: true }), { headers });
  check(answer, {
    "is answered": (one) => one.status === 200,
    "is whole": (one) => one.body.endsWith("data: [DONE]\n\n"),
  });
}
