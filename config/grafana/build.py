#!/usr/bin/env python3
"""Writes the dashboards in `dashboards/`: `config/grafana/build.py [--docs ADDRESS]`.

ADDRESS is where people read this repository's `docs/`; links of panels lead there, and those of the
alerts in `../prometheus`, of which nothing else is changed. Needs nothing but Python.
`tests/sdk/test_grafana.py` asks every query of a Prometheus that scrapes a gateway.
"""

import argparse
import json
import pathlib
import re

from panels import ask, bars, choice, dashboard, graph, heatmap, number, table

HERE = pathlib.Path(__file__).parent
ALERTING = [HERE.parent / "prometheus" / name for name in ("alerts.yml", "tests.yml")]
ROUTES = '{route=~"$route"}'
ROUTE = '{route="$route"}'
RATE = "[$__rate_interval]"


def rate(metric, by, labels, window=RATE):
    return f"sum by ({by}) (rate({metric}{labels}{window}))"


def quantile(share, metric, by, labels):
    return f"histogram_quantile({share}, sum by ({by}, le) (rate({metric}_bucket{labels}[5m])))"


def of_budget(expr, labels):
    """As a share of the budget for whole answers."""
    return f"{expr}{labels} / on (route) max by (route) (shunt_budget_seconds{{phase=\"total\"}})"


def causes(labels):
    """Parts of a call's time as shares of its budget: what the verdict is read from."""
    median = of_budget("route:shunt_provider_duration_seconds:p50_5m", labels)
    answers = of_budget("route:shunt_provider_duration_seconds:p99_5m", labels)
    first = ("max by (route) (target:shunt_first_token_seconds:p99_5m" + labels + ") / on (route) "
             'max by (route) (shunt_budget_seconds{phase="first_token"})')
    colours = (0.7, 1)
    return [
        ask(median, "provider: median", "Provider: median", "percentunit", colours),
        ask(answers, "provider: p99", "Provider: p99", "percentunit", colours),
        ask(first, "provider: first token, p99", "First token: p99", "percentunit", colours),
        ask(of_budget("route:shunt_queue_wait_seconds:mean_5m", labels), "queue: mean", "Queue: mean",
            "percentunit", (0.05, 0.2)),
        ask(of_budget("route:shunt_overhead_seconds:p99_5m", labels), "gateway: p99", "Gateway: p99",
            "percentunit", (0.02, 0.1)),
    ]


ALERTS = table(
    "Alerts",
    "What waits to fire or fires. Look its name up in the runbooks.",
    "alertname",
    ask('ALERTS{alertname=~"Shunt.+"}', name="Value"),
    width=24, height=8, hide=("Value", "__name__", "job"),
)
VERDICT = table(
    "Which route is over its budget, and what is the cause",
    """A route whose first column is red misses its budget: more than 1 % of its calls are late. Red cells beside it are
    the cause; they are shares of the budget, which holds no stream's whole answer unless it is cut (mid_stream): of a
    route that streams, read the first token. Provider's median: it is slow for all calls, and no hedge helps; take the
    slow target out, or give the route the budget that /api/routes/ROUTE/what-if tells. Only its p99: a tail; hedge it
    (hedge.after = auto), and if Hedges denied is red too, raise hedge.max_extra. Queue: calls wait for a place; raise
    providers.*.concurrency or add a target. Gateway: its own time; give it more CPU.""",
    "route",
    ask("route:shunt_budget_exceeded:ratio_rate5m" + ROUTES, name="Over budget", unit="percentunit", limits=(0.005, 0.01)),
    *causes(ROUTES),
    ask("route:shunt_hedges_denied:ratio_rate5m" + ROUTES, name="Hedges denied", unit="percentunit", limits=(0.2, 0.5)),
    ask("route:shunt_failed:ratio_rate5m" + ROUTES, name="Failed", unit="percentunit", limits=(0.01, 0.05)),
    ask("route:shunt_demoted:ratio_rate5m" + ROUTES, name="Made jobs", unit="percentunit", limits=(0.1, 0.2)),
    ask("route:shunt_requests:rate5m" + ROUTES, name="Calls", unit="reqps"),
    runbook="ShuntBudgetBurnsFast", link="/d/shunt-route?var-route=${__value.text}&${DS_PROMETHEUS:queryparam}&${__url_time_range}",
)


def overview(docs):
    now = [
        number("Alerts that fire", "Each has a part of the runbooks.",
               ask('count(ALERTS{alertname=~"Shunt.+",alertstate="firing"}) or vector(0)'), "short", (1, 1), 3),
        number("Routes over their budget", "Routes of whose calls more than 1 % were late in the last five minutes: see the table.",
               ask("count(route:shunt_budget_exceeded:ratio_rate5m > 0.01) or vector(0)"), "short", (1, 1), 3,
               runbook="ShuntBudgetBurnsFast"),
        number("Targets without calls", "Targets that failed and get only probes. They come back by themselves.",
               ask("count(min by (target) (shunt_target_healthy) == 0) or vector(0)"), "short", (1, 1), 3,
               runbook="ShuntTargetEjected"),
        number("Gateways up", "Of those that Prometheus scrapes. Red: one does not answer, or there is none.",
               ask('min(up{job="shunt"}) or vector(0)'), "short", (1, 0.5), 3, runbook="ShuntDown", names={0: "not all", 1: "all"}),
        number("Job store", "Whether jobs can be written. If not, calls are answered but none can become a job.",
               ask("min(shunt_store_ready)"), "short", (1, 0.5), 3, runbook="ShuntStoreNotReady",
               names={0: "refuses", 1: "ready"}),
        number("Oldest job that waits", "How long the job that could run for longest has waited. See the cold path.",
               ask("max(shunt_job_oldest_queued_seconds)"), "s", (300, 600), 3, runbook="ShuntOldestJobWaits"),
        number("Callbacks given up", "In the store, to be replayed: shunt jobs replay-callback ID.",
               ask("max(shunt_callbacks_dead)"), "short", (1, 10), 3, runbook="ShuntCallbacksDie"),
        number("Gateway's own p99", "One call in a hundred spends at least this in the gateway itself, on the worst route.",
               ask("max(route:shunt_overhead_seconds:p99_5m)"), "s", (0.005, 0.01), 3, runbook="ShuntOwnTimeHigh"),
        VERDICT,
    ]
    routes = [
        graph("Calls over their budget", "The share that was late, whatever was done then. The line: the service level.",
              ask("route:shunt_budget_exceeded:ratio_rate5m" + ROUTES, "{{route}}"), unit="percentunit",
              limits=(0.01, 0.144), runbook="ShuntBudgetBurnsFast ShuntBudgetBurnsSlowly"),
        graph("p99 of calls", "As callers saw them. Compare with the budget of the route.",
              ask("route:shunt_request_duration_seconds:p99_5m" + ROUTES, "{{route}}"), unit="s"),
        graph("Calls", "By route. A rise before latency rises: more load. A fall: callers cannot get in, or gave up.",
              ask(rate("shunt_requests_total", "route", ROUTES), "{{route}}"), unit="reqps"),
        graph("Calls that failed", "The share that got an error that is not the caller's own. By status on the route's own page.",
              ask("route:shunt_failed:ratio_rate5m" + ROUTES, "{{route}}"), unit="percentunit", limits=(0.05, 0.05),
              runbook="ShuntRouteFails"),
        graph("Calls made jobs", "The share that got a 202. Nothing is lost; but is the provider slower than it was?",
              ask("route:shunt_demoted:ratio_rate5m" + ROUTES, "{{route}}"), unit="percentunit", limits=(0.2, 0.2),
              runbook="ShuntDemotesMany"),
        graph("What became of calls", "All routes, by outcome. cancelled: the caller left before its answer; if many do, their own timeouts are shorter.",
              ask(rate("shunt_requests_total", "outcome", ROUTES), "{{outcome}}"), unit="reqps", stack=True,
              runbook="ShuntCallersLeave"),
    ]
    targets = [
        graph("First token, p99 by target", "One line far above the others: that target is slow; lower its weight or take it out.",
              ask("max by (target) (target:shunt_first_token_seconds:p99_5m)", "{{target}}"), unit="s",
              runbook="ShuntBudgetBurnsFast"),
        graph("First token now, by target", "Some ten seconds, as balancing weighs it. A line that jumps: that target has become slow.",
              ask("max by (target) (shunt_target_average_first_token_seconds)", "{{target}}"), unit="s", runbook="ShuntTargetSlow"),
        graph("Targets that get calls", "1: it does. 0: it failed, or failed more than its peers, and gets only probes.",
              ask("min by (target) (shunt_target_healthy)", "{{target}}"), unit="short", runbook="ShuntTargetEjected"),
        graph("Attempts that run", "By target; a queue at the provider shows as a rise at the same rate of calls.",
              ask("sum by (target) (shunt_attempts_inflight)", "{{target}}"), unit="short", stack=True),
    ]
    gateways = [
        graph("CPU", "Cores in use by each gateway. Near what it may have: give it more, or run another.",
              ask("rate(process_cpu_seconds_total" + RATE + ") and on (job, instance) shunt_build_info", "{{instance}}"),
              unit="percentunit", runbook="ShuntOwnTimeHigh"),
        graph("Memory", "Resident. It follows connections, kept bodies (limits.body) and kept answers (limits.replay).",
              ask("process_resident_memory_bytes and on (job, instance) shunt_build_info", "{{instance}}"), unit="bytes"),
        graph("File descriptors in use", "The share of what the process may open. Above 80 %: raise its limit (LimitNOFILE).",
              ask("process_open_fds / process_max_fds and on (job, instance) shunt_build_info", "{{instance}}"),
              unit="percentunit", limits=(0.8, 0.95)),
        graph("Turned away", "Calls and connections that broke a bound, and keys that were refused, by the reason.",
              ask(rate("shunt_refused_total", "limit", ""), "{{limit}}"),
              ask(rate("shunt_auth_refusals_total", "reason", ""), "key: {{reason}}"), unit="ops"),
        graph("Tasks alive", "Calls, connections and jobs. What only rises is a leak: report it.",
              ask("shunt_tasks", "{{instance}}"), unit="short"),
        graph("Certificates end in", "What is not renewed in time: write the new files over the old ones.",
              ask("min by (instance, listener) (shunt_tls_certificate_expiry_timestamp_seconds) - time()",
                  "{{instance}} {{listener}}"), unit="s", runbook="ShuntCertificateExpires"),
    ]
    return dashboard(
        "shunt-overview", "Shunt / Overview", "Which route is over its budget, and what is the cause.",
        [choice("route", "Route", "label_values(shunt_request_duration_seconds_count, route)", True)],
        [("Is anything wrong", now), ("Routes", routes), ("Targets", targets), ("Gateways", gateways), ("Alerts", [ALERTS])], docs,
    )


def route(docs):
    callers = "max by (phase, quantile) (shunt_latency_seconds{route=\"$route\",window=\"1m\",quantile=~\"0.5|0.99\"})"
    budget = "max by (phase) (shunt_budget_seconds" + ROUTE + ")"
    verdict = [
        number("Over budget", "The share of the last five minutes' calls that was late. Above 1 %: the service level is missed.",
               ask("route:shunt_budget_exceeded:ratio_rate5m" + ROUTE), "percentunit", (0.005, 0.01),
               runbook="ShuntBudgetBurnsFast"),
        number("Burn of the month's allowance", "1: used up in 30 days; 14.4: in two. Over the last hour.",
               ask("route:shunt_budget_exceeded:ratio_rate1h" + ROUTE + " / 0.01"), "short", (1, 14.4),
               runbook="ShuntBudgetBurnsSlowly"),
        number("Failed", "The share that got an error that is not the caller's own; by status further down.", ask("route:shunt_failed:ratio_rate5m" + ROUTE), "percentunit",
               (0.01, 0.05), runbook="ShuntRouteFails"),
        bars("What takes the budget",
             """Shares of the budget for whole answers, or for first tokens. Streams are in the former too, though it holds
             them only where they are cut (mid_stream): of a route that streams, read the first token. A red bar is the
             cause, and its row below says what to turn. Only p99 red: a tail, which hedging cures. The median too: slow for all, which it does not.
             The queue's share is a mean, by Little's law.""",
             *causes(ROUTE), unit="percentunit", limits=(0.7, 1), height=8, runbook="ShuntBudgetBurnsFast"),
        number("Made jobs", "The share that got a 202 and its answer later.", ask("route:shunt_demoted:ratio_rate5m" + ROUTE), "percentunit",
               (0.1, 0.2), runbook="ShuntDemotesMany"),
        number("Hedges denied", "Of the second attempts that it would make, the share over hedge.max_extra.",
               ask("route:shunt_hedges_denied:ratio_rate5m" + ROUTE), "percentunit", (0.2, 0.5), runbook="ShuntHedgesDenied"),
        number("Calls", "A second, over five minutes. Few: do not trust a p99.", ask("route:shunt_requests:rate5m" + ROUTE), "reqps"),
        graph("Callers' latency against the budget",
              """p50 and p99 of the last minute, as callers see them, and the configured budget. p50 far below and p99 above:
              a tail, which hedging cures. Both above: the provider is slow for all, which it does not.""",
              ask(callers, "{{phase}} p{{quantile}}"), ask(budget, "budget: {{phase}}"), unit="s", width=12),
        heatmap("How long calls take", "Two bands: two kinds of calls, which may want two routes with a budget each.",
                ask("sum by (le) (increase(shunt_request_duration_seconds_bucket" + ROUTE + RATE + "))")),
        graph("Past the deadline", "By what was done: over_budget.action, and over_budget.unasked for callers that take no 202.",
              ask(rate("shunt_budget_exceeded_total", "action", ROUTE), "{{action}}"), unit="reqps", stack=True,
              runbook="ShuntDemotesMany"),
        graph("Calls by status", "429: the provider's limit. 502: not reachable. 503: no place. 504: past the budget.",
              ask(rate("shunt_requests_total", "status, target", ROUTE), "{{status}} {{target}}"), unit="reqps", stack=True,
              runbook="ShuntRouteFails"),
        graph("What became of calls", "observed_over: late, but the route only observes. cancelled: the caller left first.",
              ask(rate("shunt_requests_total", "outcome", ROUTE), "{{outcome}}"), unit="reqps", stack=True,
              runbook="ShuntCallersLeave"),
    ]
    provider = [
        graph("First token, by target", "Turn: weight, or take the slow target out of targets and send SIGHUP.",
              ask(quantile(0.5, "shunt_first_token_seconds", "target", ROUTE), "{{target}} p50"),
              ask("target:shunt_first_token_seconds:p99_5m" + ROUTE, "{{target}} p99"), unit="s",
              runbook="ShuntBudgetBurnsFast"),
        graph("Whole answers, by target", "Attempts to their last byte. Longer with more tokens: see the tokens below.",
              ask(quantile(0.5, "shunt_provider_duration_seconds", "target", ROUTE), "{{target}} p50"),
              ask(quantile(0.99, "shunt_provider_duration_seconds", "target", ROUTE), "{{target}} p99"), unit="s"),
        graph("Between tokens, p99 by target", "A stream that stalls. Turn: budget.idle and budget.min_rate cut it.",
              ask(quantile(0.99, "shunt_token_gap_seconds", "target", ROUTE), "{{target}}"), unit="s"),
        graph("Attempts after a failure", "By the failure: a status, connect, connect_timeout or reset. Turn: retries.max.",
              ask(rate("shunt_retries_total", "reason", ROUTE), "{{reason}}"), unit="ops", stack=True,
              runbook="ShuntTargetEjected"),
        graph("Tokens", "Read and written, a second. More of them at the same rate of calls: the prompts or answers grew.",
              ask(rate("shunt_tokens_total", "kind, use", ROUTE), "{{kind}} {{use}}"), unit="short", stack=True),
        graph("Left of the provider's limits",
              "As a share, where it tells. Near 0: 429s come; ask for a higher limit or add a target.",
              ask("min by (provider, kind) (shunt_quota_remaining_ratio)", "{{provider}} {{kind}}"), unit="percentunit",
              runbook="ShuntRouteFails"),
    ]
    hedge = [
        graph("Second attempts", "won: it answered first. lost: it was not needed. denied: over hedge.max_extra. failed: by itself.",
              ask(rate("shunt_hedges_total", "result", ROUTE), "{{result}}"), unit="ops", stack=True,
              runbook="ShuntHedgesDenied"),
        graph("When a second attempt starts",
              "Beside the budget: a delay near or over it helps nobody. Turn: hedge.after, best auto. No line: no hedge.",
              ask("max(shunt_hedge_delay_seconds" + ROUTE + ")", "delay"), ask(budget, "budget: {{phase}}"), unit="s"),
        graph("Extra calls for hedging", "Of all calls, the share that was sent twice. Turn: hedge.max_extra, the most it may be.",
              ask('sum(rate(shunt_hedges_total{route="$route",result!="denied"}[5m])) / sum(rate(shunt_requests_total'
                  + ROUTE + "[5m]))", "sent twice"), unit="percentunit", runbook="ShuntHedgesDenied"),
    ]
    queue = [
        graph("Calls that wait for a place",
              "Above 0: the target is full, by providers.*.concurrency. Turn: its limit (or max), or add a target.",
              ask("sum by (target) (shunt_queue_length" + ROUTE + ")", "{{target}}"), unit="short",
              runbook="ShuntBudgetBurnsFast"),
        graph("Places and running attempts", "An adaptive limit that falls: the provider got slower under load. Attempts are of all routes.",
              ask("sum by (target) (shunt_concurrency_limit" + ROUTE + ")", "{{target}} places"),
              ask("sum by (target) (shunt_attempts_inflight)", "{{target}} running"), unit="short"),
        graph("Found no place in time", "By what was done. refused: callers got 503; raise providers.*.concurrency.queue or the limit.",
              ask(rate("shunt_shed_total", "result", ROUTE), "{{result}}"), unit="reqps", stack=True,
              runbook="ShuntRouteFails ShuntDemotesMany"),
    ]
    gateway = [
        graph("The gateway's own time", "Above 10 ms for 1 % of the calls: too little CPU, or very large bodies.",
              ask(quantile(0.5, "shunt_overhead_seconds", "route", ROUTE), "p50"),
              ask("route:shunt_overhead_seconds:p99_5m" + ROUTE, "p99"), unit="s", limits=(0.01, 0.01),
              runbook="ShuntOwnTimeHigh"),
        graph("Predictions", "wrong: a call was made a job and would have been in time: lower predict.floor. missed: it was late all the same.",
              ask(rate("shunt_predictions_total", "result", ROUTE), "{{result}}"), unit="ops", stack=True,
              runbook="ShuntDemotesMany"),
        graph("Calls that shared an answer", "By an Idempotency-Key, as an SDK's own retry, or from the store. Many retries: callers time out first.",
              ask(rate("shunt_joined_total", "by", ROUTE), "{{by}}"), unit="reqps", stack=True),
    ]
    return dashboard(
        "shunt-route", "Shunt / Route", "One route: is it the provider, the hedge, the queue or the gateway.",
        [choice("route", "Route", "label_values(shunt_request_duration_seconds_count, route)", False)],
        [("$route", verdict), ("Is it the provider", provider), ("Is it the hedge", hedge), ("Is it the queue", queue),
         ("Is it the gateway", gateway)], docs,
    )


def cold(docs):
    jobs = 'max by (route, status) (shunt_jobs{route=~"$route",status%s})'
    now = [
        number("Jobs that wait", "Of all gateways on the store, due or not. Rising: see below what holds them.", ask("sum(" + jobs % '="queued"' + ")"), "short"),
        number("Oldest job that waits", "How long the job that could run for longest has waited. It expires at cold.deadline.",
               ask("max(shunt_job_oldest_queued_seconds" + ROUTES + ")"), "s", (300, 600), runbook="ShuntOldestJobWaits"),
        number("Jobs that run", "Of all gateways on the store; each runs at most cold.concurrency of a route.", ask("sum(" + jobs % '="running"' + ")"), "short"),
        number("Jobs that failed", "In the store: failed, or grew older than cold.deadline. shunt jobs list --status failed",
               ask("sum(" + jobs % '=~"failed|expired"' + ")"), "short"),
        number("Callbacks given up", "To be replayed when the receiver works again: shunt jobs replay-callback ID.",
               ask("max(shunt_callbacks_dead)"), "short", (1, 10), runbook="ShuntCallbacksDie"),
        number("Job store", "If it refuses writes, calls are answered but none can become a job.",
               ask("min(shunt_store_ready)"), "short", (1, 0.5), runbook="ShuntStoreNotReady", names={0: "refuses", 1: "ready"}),
    ]
    queue = [
        graph("Jobs that are not finished", "By state. Only queued rises: see what holds them, to the right.",
              ask(jobs % '=~"queued|running"', "{{route}} {{status}}"), unit="short", stack=True,
              runbook="ShuntJobsWaitLong ShuntJobsStand"),
        graph("Oldest job that waits", "By route. Turn: cold.concurrency, or run another gateway on the same PostgreSQL.",
              ask("max by (route) (shunt_job_oldest_queued_seconds" + ROUTES + ")", "{{route}}"), unit="s",
              limits=(300, 600), runbook="ShuntOldestJobWaits ShuntJobsWaitLong"),
        graph("Jobs held for the provider", "requests, tokens: what is left is kept for hot calls (quota.reserve_for_hot). refused: a Retry-After. paced: its 429s.",
              ask(rate("shunt_jobs_held_total", "provider, reason", ""), "{{provider}} {{reason}}"), unit="ops", stack=True,
              runbook="ShuntJobsWaitLong ShuntJobsStand"),
        graph("Wait, p95", "From a job's call to its first attempt out of the queue. Turn: cold.concurrency, or another gateway.",
              ask("route:shunt_job_queue_seconds:p95_15m" + ROUTES, "{{route}}"), unit="s", limits=(300, 300),
              runbook="ShuntJobsWaitLong"),
        graph("Calls made jobs", "What comes in, by route: callers that asked for it, and calls past their budget.",
              ask('sum by (route) (rate(shunt_requests_total{route=~"$route",outcome="demoted"}' + RATE + "))", "{{route}}"),
              unit="reqps", stack=True, runbook="ShuntDemotesMany"),
        graph("Jobs a second that 429s taught", "No line: the provider set no limit that jobs ran into. Falling: ask for a higher one.",
              ask("min by (provider) (shunt_quota_job_rate)", "{{provider}}"), unit="ops", runbook="ShuntJobsWaitLong"),
    ]
    runs = [
        graph("Attempts for jobs", "By what came of them. retried, rate_limited: each is tried again until cold.max_attempts.",
              ask(rate("shunt_job_attempts_total", "result", ROUTES), "{{result}}"), unit="ops", stack=True,
              runbook="ShuntJobsStand"),
        graph("Jobs that ended", "By how. failed: refused, or tried cold.max_attempts times. expired: not done by cold.deadline.",
              ask(rate("shunt_jobs_ended_total", "status", ROUTES), "{{status}}"), unit="ops", stack=True,
              runbook="ShuntJobsFail"),
        graph("Jobs from call to end", "p50 and p95 of those that ended. Long with a short wait: the provider is slow, or attempts fail.",
              ask(quantile(0.5, "shunt_job_duration_seconds", "route", ROUTES), "{{route}} p50"),
              ask(quantile(0.95, "shunt_job_duration_seconds", "route", ROUTES), "{{route}} p95"), unit="s"),
        graph("Left of the providers' limits", "Jobs start only while reserve_for_hot of it is left.",
              ask("min by (provider, kind) (shunt_quota_remaining_ratio)", "{{provider}} {{kind}}"), unit="percentunit",
              runbook="ShuntJobsWaitLong"),
        graph("Tokens of jobs", "Read and written for jobs, a second; what hot calls use is on each route's page.",
              ask('sum by (kind) (rate(shunt_tokens_total{route=~"$route",use="cold"}' + RATE + "))", "{{kind}}"),
              unit="short", stack=True),
        graph("Leases lost, jobs rescued", "lost: the store was silent for too long. rescued: jobs of a gateway that died, run again by another.",
              ask("sum(increase(shunt_leases_lost_total" + RATE + "))", "leases lost"),
              ask("sum(increase(shunt_jobs_rescued_total" + RATE + "))", "jobs rescued"), unit="short",
              runbook="ShuntStoreNotReady"),
    ]
    callbacks = [
        graph("Callbacks", "retried: the receiver was not there or refused. rested: it is left alone for a while. dead: given up.",
              ask(rate("shunt_callbacks_total", "result", ""), "{{result}}"), unit="ops", stack=True,
              runbook="ShuntCallbacksDie"),
        graph("Lag of callbacks", "From a job's end to a delivery. Long: the receiver fails (retried), or callbacks.concurrency is low.",
              ask(quantile(0.5, "shunt_callback_lag_seconds", "job", ""), "p50"),
              ask(quantile(0.95, "shunt_callback_lag_seconds", "job", ""), "p95"), unit="s"),
        graph("Callbacks given up, in the store", "Each can be replayed as long as its job is kept (cold.retention).",
              ask("max(shunt_callbacks_dead)", "given up"), unit="short", runbook="ShuntCallbacksDie"),
    ]
    return dashboard(
        "shunt-cold", "Shunt / Cold path", "Jobs and callbacks: do they come through, and what holds them.",
        [choice("route", "Route", "label_values(shunt_jobs, route)", True)],
        [("Now", now), ("Waiting", queue), ("Running", runs), ("Callbacks", callbacks)], docs,
    )


def build(docs="docs"):
    """File names and what they hold."""
    made = {"overview.json": overview(docs), "route.json": route(docs), "cold.json": cold(docs)}
    return {name: json.dumps(one, indent=2) + "\n" for name, one in made.items()}


def leads_to(docs, text):
    """Alerts, or their tests, whose links lead there: whoever is paged reads them far from this repository."""
    return re.sub(r'(?<=runbook_url: )"?[^"\s]*/(runbooks\.md#\w+)"?', lambda found: f'"{docs}/{found[1]}"', text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--docs", default="docs", help="where docs/ can be read")
    address = parser.parse_args().docs.rstrip("/")
    for file, text in build(address).items():
        (HERE / "dashboards" / file).write_text(text)
    for path in ALERTING:
        path.write_text(leads_to(address, path.read_text()))
