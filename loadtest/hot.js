// The hot path: short answers at a constant rate; none may fail, none may be dropped.
import http from "k6/http";
import { check } from "k6";
import { arrivals, base, chat, headers } from "./shared.js";

export const options = {
  scenarios: arrivals(300, 200),
  thresholds: {
    checks: ["rate==1"],
    dropped_iterations: ["count==0"],
    http_req_duration: ["p(99)<500"],
  },
};

export default function () {
  const answer = http.post(`${base}/v1/chat/completions`, chat(), { headers });
  check(answer, { "is answered": (one) => one.status === 200 });
}
