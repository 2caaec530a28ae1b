// A heavy tail: 5% of the provider's calls are ten times slower. Straight and through Shunt in the
// same run; the p99 through Shunt must be at most a quarter,
// in a quick run at most half.
import http from "k6/http";
import { check } from "k6";
import { Trend } from "k6/metrics";
import { arrivals, base, chat, headers } from "./shared.js";

const straight = new Trend("straight", true);
const hedged = new Trend("hedged", true);
const provider = __ENV.PROVIDER_URL;
export const options = {
  scenarios: arrivals(120, 400),
  thresholds: {
    checks: ["rate==1"],
    dropped_iterations: ["count==0"],
    straight: ["p(99)>=400"],
    // Of a quick run's 600 calls only six lie beyond the p99: one slow moment of the machine shows.
    hedged: [__ENV.QUICK ? "p(99)<200" : "p(99)<100"],
  },
  summaryTrendStats: ["med", "p(95)", "p(99)", "max"],
};

export default function () {
  const through = http.post(`${base}/v1/chat/completions`, chat({ model: "tail" }), { headers });
  const direct = http.post(`${provider}/v1/chat/completions`, chat(), { headers });
  check(through, { "is answered": (one) => one.status === 200 });
  hedged.add(through.timings.duration);
  straight.add(direct.timings.duration);
}
