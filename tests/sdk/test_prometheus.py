"""The rules for Prometheus: right by promtool, each alert tried and explained, each metric real."""

import pathlib
import re
import subprocess

import yaml

FOLDER = pathlib.Path(__file__).parents[2]
RULES = FOLDER / "config" / "prometheus"


def promtool(*arguments):
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def groups(name):
    rules = yaml.safe_load((RULES / name).read_text())
    return [rule for group in rules["groups"] for rule in group["rules"]]


def test_promtool_takes_the_example_and_every_rule_does_what_its_tests_say():
    promtool("check", "config", RULES / "prometheus.yml")
    promtool("test", "rules", RULES / "tests.yml")


def test_each_alert_is_tried_both_ways_and_leads_to_its_part_of_the_runbook():
    tests = yaml.safe_load((RULES / "tests.yml").read_text())["tests"]
    tried = [one for test in tests for one in test["alert_rule_test"]]
    heads = {
        "#" + line[3:].strip().lower()
        for line in (FOLDER / "docs" / "runbooks.md").read_text().splitlines()
        if line.startswith("## ")
    }
    alerts = groups("alerts.yml")
    assert len(alerts) > 10
    for alert in alerts:
        fires = {bool(one["exp_alerts"]) for one in tried if one["alertname"] == alert["alert"]}
        assert fires == {True, False}, alert["alert"]
        page, _, part = alert["annotations"]["runbook_url"].partition("#")
        assert page == "docs/runbooks.md" and "#" + part in heads, alert["alert"]


def test_rules_ask_for_nothing_that_a_gateway_does_not_tell(gateway):
    from test_operators import ask_once

    ask_once(gateway)
    told = gateway.fetch(gateway.admin + "/metrics")[2].decode()
    told = set(re.findall(r"^# TYPE (\S+)", told, re.M))
    recorded = {rule["record"] for rule in groups("recording.yml")}
    for rule in groups("recording.yml") + groups("alerts.yml"):
        for name in re.findall(r"\bshunt_\w+", re.sub(r"\w+:shunt_[\w:]+", "", rule["expr"])):
            base = re.sub(r"_(bucket|sum|count)$", "", name)
            # Only with TLS is there one.
            later = name.startswith("shunt_tls_")
            assert {name, base} & told or later, name
        for name in re.findall(r"\w+:shunt_[\w:]+", rule["expr"]):
            assert name in recorded, name
