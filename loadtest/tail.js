// A heavy tail: 5% of the provider's calls are ten times slower. Straight and through Shunt in the
// same run; the p99 through Shunt must be at most a quarter.
import http from "k6/http";
import { check } from "k6";
import { Trend } from "k6/metrics";
import { arrivals, base, chat, headers, seconds } from "./shared.js";

const straight = new Trend("straight", true);
const hedged = new Trend("hedged", true);
const provider = __ENV.PROVIDER_URL;
// The route has to learn its percentile first.
const warm = Math.max(4, seconds / 3);

export const options = {
  scenarios: arrivals(120, 400),
  thresholds: { checks: ["rate==1"], dropped_iterations: ["count==0"] },
  summaryTrendStats: ["med", "p(95)", "p(99)", "max"],
};

const began = Date.now();

export default function () {
  const through = http.post(`${base}/tail/v1/chat/completions`, chat(), { headers });
  const direct = http.post(`${provider}/v1/chat/completions`, chat(), { headers });
  check(through, { "is answered": (one) => one.status === 200 });
  if (Date.now() - began > warm * 1000) {
    hedged.add(through.timings.duration);
    straight.add(direct.timings.duration);
  }
}
