"""The dashboards and the page of metrics: every query has an answer, every name is one that a gateway
tells. A gateway under load is scraped by Debian's Prometheus with the rules that are shipped."""

import json
import re
import subprocess
import sys
import threading
import time

import pytest
import yaml
from watched import FOLDER, RULES, Watched, until

GRAFANA = FOLDER / "config" / "grafana"
FILES = sorted((GRAFANA / "dashboards").glob("*.json"))
# Prometheus's own.
OWN = {"up", "ALERTS"}
WORDS = {
    "and", "or", "unless", "on", "ignoring", "by", "without", "group_left", "group_right", "offset", "bool",
}


def dashboards():
    return {path.name: json.loads(path.read_text()) for path in FILES}


def panels():
    """Every panel with a query: its dashboard, and itself."""
    for name, board in dashboards().items():
        for panel in board["panels"]:
            if panel["type"] != "row":
                yield name, panel


def values(board):
    """What stands for the variables of a dashboard: everything, or the route that the load is on."""
    several = {one["name"]: one.get("allValue", "chat") for one in board["templating"]["list"] if one["type"] == "query"}
    return several | {"__rate_interval": "30s"}


def put_in(query, board):
    for name, value in values(board).items():
        query = query.replace("$" + name, value)
    assert "$" not in query, query
    return query


def queries():
    """Every query of every dashboard, under a name that says where it stands."""
    for name, board in dashboards().items():
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                yield f"{name}: {panel['title']} ({target['refId']})", put_in(target["expr"], board)
        for one in board["annotations"]["list"]:
            yield f"{name}: annotation {one['name']}", put_in(one["expr"], board)


def rules():
    for name in ("recording.yml", "alerts.yml"):
        for group in yaml.safe_load((RULES / name).read_text())["groups"]:
            yield from group["rules"]


def named(query):
    """The metrics of a query: words that are no function, label, keyword or string."""
    query = re.sub(r'"[^"]*"', '""', query)
    query = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", query)
    query = re.sub(r"\{[^}]*\}", "", re.sub(r"\[[^\]]*\]", "", query))
    words = re.findall(r"\b([a-zA-Z_:][\w:]*)\b(?!\s*\()", query)
    return set(words) - WORDS


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    watched, done, threads = Watched(tmp_path_factory.mktemp("watched")), threading.Event(), []
    try:
        watched.begin()
        watched.scrape()
        threads = watched.load(done)
        called = 'shunt_requests_total{route="leaves",target="leaver"'
        until(lambda: called in watched.metrics())
        # A first scrape, so that the reload is a rise.
        until(lambda: watched.ask("count(shunt_config_reloads_total)"))
        watched.before = watched.metrics()
        watched.reload_without_the_route()
        yield watched
    finally:
        done.set()
        for thread in threads:
            thread.join(timeout=20)
        watched.close()


def series(text, name):
    """Labels and value of each series of a metric."""
    for labels, value in re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", text, re.M):
        yield dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels)), float(value)


def total(text, name, **wanted):
    return sum(value for labels, value in series(text, name) if wanted.items() <= labels.items())


def test_dashboards_are_what_their_source_gives():
    code = "import sys, json; sys.path.insert(0, '.'); import build; print(json.dumps(build.build()))"
    made = subprocess.run([sys.executable, "-I", "-c", code], cwd=GRAFANA, capture_output=True, text=True, check=True)
    made = json.loads(made.stdout)
    assert {path.name: path.read_text() for path in FILES} == made, "run config/grafana/build.py"
    assert set(made) == {"overview.json", "route.json", "cold.json"}


def test_links_of_alerts_lead_where_the_pages_can_be_read_and_back():
    code = "import sys, json; sys.path.insert(0, '.'); import build; " \
           "texts = [path.read_text() for path in build.ALERTING]; " \
           "there = [build.leads_to('https://pages.example/x', text) for text in texts]; " \
           "print(json.dumps([there, [build.leads_to('docs', text) for text in there]]))"
    made = subprocess.run([sys.executable, "-I", "-c", code], cwd=GRAFANA, capture_output=True, text=True, check=True)
    (alerts, tests), back = json.loads(made.stdout)
    count = sum("alert" in rule for rule in rules())
    assert alerts.count('runbook_url: "https://pages.example/x/runbooks.md#') == alerts.count("runbook_url") == count
    assert tests.count('runbook_url: "https://pages.example/x/runbooks.md#') == tests.count("runbook_url") > count
    assert back == [(RULES / name).read_text() for name in ("alerts.yml", "tests.yml")]


def test_dashboards_can_be_imported_and_provisioned():
    boards = dashboards().values()
    assert len({board["uid"] for board in boards}) == len(boards)
    for board in boards:
        assert board["schemaVersion"] >= 36 and board["title"] and re.fullmatch(r"[a-z-]{1,40}", board["uid"])
        assert "id" not in board, "an id is another Grafana's"
        source, *_ = board["templating"]["list"]
        assert (source["type"], source["query"], source["name"]) == ("datasource", "prometheus", "DS_PROMETHEUS")
        ids = [panel["id"] for panel in board["panels"]]
        assert len(set(ids)) == len(ids)
        taken = set()
        for panel in board["panels"]:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24
            cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                     for y in range(place["y"], place["y"] + place["h"])}
            assert not cells & taken, f"{panel['title']} lies over another panel"
            taken |= cells
            for one in [panel, *panel.get("targets", [])]:
                assert panel["type"] == "row" or one["datasource"]["uid"] == "${DS_PROMETHEUS}", panel["title"]
    for path in GRAFANA.glob("provisioning/*/*.yml"):
        assert yaml.safe_load(path.read_text())["apiVersion"] == 1, path


def test_every_panel_says_what_it_means_and_links_to_what_is_there():
    heads = {line[3:].strip().lower() for line in (FOLDER / "docs" / "runbooks.md").read_text().splitlines()
             if line.startswith("## ")}
    linked = set()
    for name, panel in panels():
        assert len(panel["description"]) > 25, f"{name}: {panel['title']}"
        for link in panel.get("links", []):
            page, _, part = link["url"].partition("#")
            assert page == "${docs}/runbooks.md" and part in heads, f"{name}: {panel['title']}: {link['url']}"
            linked.add(part)
    for board in dashboards().values():
        for link in board["links"]:
            page = link.get("url", "${docs}/").removeprefix("${docs}/")
            assert (FOLDER / "docs" / page).exists(), link
    alerts = {rule["alert"].lower() for rule in rules() if "alert" in rule}
    # It has no panel of its own: a reload is a line in each.
    assert alerts - linked == {"shuntreloadfailed"}, "no panel leads to these"


def unit(panel, letter):
    """The unit that a query is shown in, and the name of its column if it has its own."""
    columns = {}
    for one in panel.get("transformations", []):
        columns = one["options"].get("renameByName", columns)
    name = columns.get(f"Value #{letter}")
    for override in panel["fieldConfig"]["overrides"]:
        if name and override["matcher"] == {"id": "byName", "options": name}:
            return {one["id"]: one["value"] for one in override["properties"]}["unit"]
    return panel["fieldConfig"]["defaults"]["unit"]


def fits(query):
    """The units that a query may be shown in, by the names in it: base units are in them."""
    bases = {re.sub(r":\w+$", "", re.sub(r"^\w+:", "", name)) for name in named(query)}
    # What is only matched on tells no unit.
    bases = {re.sub(r"_(bucket|sum|count)$", "", base) for base in bases} - {"shunt_build_info"}
    # A rate of seconds a second is a share too.
    ratio = "/ " in query or ":ratio" in query or "_ratio" in query or "rate(process_cpu_seconds" in query
    if query.startswith("count("):
        return {"short"}
    if ratio:
        return {"short"} if query.endswith("/ 0.01") else {"percentunit"}
    if all(base in OWN for base in bases):
        return {"short"}
    if "increase(" in query and "_total" in query:
        return {"short"}
    if "increase(shunt_request_duration_seconds_bucket" in query or all("_seconds" in base for base in bases):
        return {"s"}
    if all(base.endswith("_bytes") for base in bases):
        return {"bytes"}
    if "rate(" in query or ":rate" in query or "_rate" in query:
        return {"short"} if "tokens" in query else {"reqps", "ops"}
    return {"short"}


def test_units_fit_the_names_of_metrics():
    for name, panel in panels():
        for target in panel["targets"]:
            if panel["title"] == "Alerts":
                continue
            shown, may = unit(panel, target["refId"]), fits(target["expr"])
            assert shown in may, f"{name}: {panel['title']} ({target['refId']}) is in {shown}, not {may}"


def test_what_a_reload_took_out_disappears_and_the_rest_counts_on(watched):
    gone = re.compile(r'="leave[sr]"')
    assert gone.search(watched.before)
    until(lambda: not gone.search(watched.metrics()))
    now = watched.metrics()
    for name in ("shunt_requests_total", "shunt_request_duration_seconds_count"):
        assert total(now, name, route="chat") >= total(watched.before, name, route="chat") > 0
    promtool = subprocess.run(["promtool", "check", "metrics"], input=now, capture_output=True, text=True)
    assert promtool.returncode == 0, promtool.stdout + promtool.stderr


def test_a_job_that_is_held_for_its_provider_s_quota_is_seen_to_wait(watched):
    name = "shunt_job_oldest_queued_seconds"
    until(lambda: total(watched.metrics(), name, route="limited") > 0.5)
    assert total(watched.metrics(), name, route="chat") < 5


def test_every_query_of_every_panel_is_answered(watched):
    asked = dict(queries())
    assert len(asked) > 80
    left, end = asked, time.monotonic() + 25
    while left and time.monotonic() < end:
        left = {name: query for name, query in left.items()
                if not any(abs(value) < float("inf") for value in watched.ask(query))}
        time.sleep(1 if left else 0)
    assert not left, "no figure for:\n" + "\n".join(f"{name}\n    {query}" for name, query in left.items())


def test_every_metric_that_is_asked_for_is_one_that_a_gateway_tells(watched):
    text = watched.metrics()
    told = set(re.findall(r"^([a-zA-Z_:][\w:]*)(?:\{| )", text, re.M))
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    asked = dict(queries()) | {rule.get("record") or rule["alert"]: rule["expr"] for rule in rules()}
    for where, query in asked.items():
        names = named(query)
        assert names, f"{where} asks for nothing: {query}"
        assert names <= told | recorded | OWN, f"{where}: {names - told - recorded - OWN}"
    used = set().union(*(named(query) for query in asked.values()))
    assert recorded <= used | {"route:shunt_request_duration_seconds:p99_5m"}, "rules that nobody asks"


# Of 100 calls a second with a budget of 1 s: how many of the provider's answers came within 0.5 s and
# 2.5 s, and of the gateway's own parts within 1 ms and 250 ms; calls in the queue; hedges denied and not.
CAUSES = {
    "nothing": ((100, 100), (100, 100), 0, (0, 9), 0, set()),
    "the provider is slow for all": ((5, 100), (100, 100), 0, (0, 9), 50, {"Provider: median", "Provider: p99", "First token: p99"}),
    "a tail that may not be hedged": ((95, 100), (100, 100), 0, (9, 1), 5, {"Provider: p99", "First token: p99", "Hedges denied"}),
    "the queue": ((100, 100), (100, 100), 40, (0, 9), 50, {"Queue: mean"}),
    "the gateway": ((100, 100), (90, 100), 0, (0, 9), 5, {"Gateway: p99"}),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_the_first_look_names_the_cause(cause, tmp_path):
    answers, own, waiting, hedges, late, red = CAUSES[cause]
    board = dashboards()["overview.json"]
    [panel] = [one for one in board["panels"] if one["title"].startswith("Which route")]
    by_minute = lambda count: f"0+{60 * count}x30"

    def histogram(name, low, high, counts):
        for le, count in zip((low, high, "+Inf"), (*counts, 100)):
            yield {"series": f'{name}_bucket{{route="chat",target="a",le="{le}"}}', "values": by_minute(count)}

    told = [
        {"series": 'shunt_requests_total{route="chat",outcome="served"}', "values": by_minute(100)},
        {"series": 'shunt_budget_exceeded_total{route="chat",action="wait"}', "values": by_minute(late)},
        {"series": 'shunt_queue_length{route="chat",target="a"}', "values": f"{waiting}x30"},
        {"series": 'shunt_hedges_total{route="chat",result="denied"}', "values": by_minute(hedges[0])},
        {"series": 'shunt_hedges_total{route="chat",result="won"}', "values": by_minute(hedges[1])},
        *({"series": f'shunt_budget_seconds{{route="chat",phase="{one}"}}', "values": "1x30"} for one in ("total", "first_token")),
        *histogram("shunt_provider_duration_seconds", 0.5, 2.5, answers),
        *histogram("shunt_first_token_seconds", 0.5, 2.5, answers),
        *histogram("shunt_overhead_seconds", 0.001, 0.25, own),
    ]
    red = red | ({"Over budget"} if late else set())
    columns = panel["transformations"][1]["options"]["renameByName"]
    limits = {one["matcher"]["options"]: {two["id"]: two["value"] for two in one["properties"]}.get("thresholds")
              for one in panel["fieldConfig"]["overrides"]}
    asked = []
    for target in panel["targets"]:
        name = columns[f"Value #{target['refId']}"]
        if limits[name] and name not in ("Failed", "Made jobs"):
            *_, most = limits[name]["steps"]
            assert most["color"] == "red"
            asked.append({"expr": f"({put_in(target['expr'], board)}) > bool {most['value']}", "eval_time": "20m",
                          "exp_samples": [{"labels": '{route="chat"}', "value": int(name in red)}]})
    assert red <= set(limits) and len(asked) > 5
    case = {"rule_files": [str(RULES / "recording.yml")], "evaluation_interval": "1m",
            "tests": [{"interval": "1m", "input_series": told, "promql_expr_test": asked}]}
    (tmp_path / "case.yml").write_text(yaml.safe_dump(case))
    done = subprocess.run(["promtool", "test", "rules", tmp_path / "case.yml"], capture_output=True, text=True)
    assert done.returncode == 0, f"{cause}: {done.stdout}{done.stderr}"


def rows(head):
    """The rows of the tables of docs/metrics.md that begin with a column of this name."""
    inside = False
    for line in (FOLDER / "docs" / "metrics.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] in ("metric", "label"):
            inside = cells[0] == head
        elif inside and cells[0].startswith("`"):
            yield cells


def ticked(text):
    return re.findall(r"`([^`]+)`", re.sub(r"\([^)]*\)", "", text))


def test_the_page_of_metrics_tells_of_each_and_of_none_besides(watched):
    text = watched.metrics()
    told = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    page = {ticked(cells[0])[0]: cells for cells in rows("metric")}
    assert set(page) == set(told), set(page) ^ set(told)
    assert set(told) == set(re.findall(r"^# HELP (\S+) \S", text, re.M))
    for name, (_, kind, labels, unit_, means, does) in page.items():
        assert kind == told[name], name
        live = list(series(text, name + ("_bucket" if kind == "histogram" else "")))
        assert live, name
        assert {label for one, _ in live for label in one} - {"le"} == set(ticked(labels)), name
        moment = name.endswith(("_timestamp_seconds", "_start_time_seconds"))
        assert (unit_ == "seconds since 1970") == moment, name
        assert (unit_ == "seconds") == ("_seconds" in name and not moment), name
        assert (unit_ == "bytes") == name.endswith("_bytes"), name
        assert (unit_ == "0 to 1") == name.endswith("_ratio"), name
        assert len(means) > 10 and len(does) > 10, name


def test_the_page_of_metrics_tells_every_value_of_a_label(watched):
    text = watched.metrics()
    page = {ticked(cells[0])[0] for cells in rows("metric")}
    explained = set()
    for label, on, values_, there in rows("label"):
        label, on, known = ticked(label)[0], ticked(on), set(ticked(values_))
        assert set(on) <= page, on
        for name in on or page:
            live = {one[label] for one, _ in series(text, f"{name}(?:_bucket)?") if label in one}
            explained |= {(name, one) for one in [label] if live}
            # Else names of the configuration.
            if values_.startswith("`") and label != "target":
                assert live <= known, f"{name}: {label}: {live - known}"
                assert live == known or there == "from the first" or not on, f"{name}: {label}: no {known - live}"
    for name in page:
        used = {label for one, _ in series(text, f"{name}(?:_bucket)?") for label in one} - {"le"}
        assert {(name, label) for label in used} <= explained, f"{name}: {used}"
