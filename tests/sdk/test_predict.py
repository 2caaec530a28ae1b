"""Calls that will miss their budget: told at once where the caller asked for a 202."""

import concurrent.futures
import json

import pytest

from conftest import Gateway, start, stop

SLOW, FAST = 4096, 16


FULL = """
[listen]
public = "127.0.0.1:0"
admin  = "127.0.0.1:0"
[server]
drain = "1s"
[providers.sim]
base_url = "{simulator}"
dialect  = "openai"
[[routes]]
name    = "predicted"
match   = {{ path = "/v1/*" }}
targets = ["sim"]
predict = {{ min_samples = 60 }}
[cold]
store = "sqlite:{folder}/jobs.db"
queue_limit = 1
"""


def call(gateway, stream, tokens, latency, tag="", **headers):
    body = {
        "model": f"predict-{stream}",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": tokens,
        "stream": stream,
        "metadata": {"sim_latency_ms": str(latency)},
    }
    return gateway.call("/v1/chat/completions", body, x_request_tag=tag, **headers)


def route(gateway):
    _, _, text = gateway.fetch(gateway.admin + "/api/routes")
    return next(one for one in json.loads(text)["routes"] if one["name"] == "predicted")


def told(gateway):
    return route(gateway)["predict"]


def at_once(gateway, phase):
    query = f"/api/routes/predicted/what-if?{phase}=300ms"
    _, _, text = gateway.fetch(gateway.admin + query)
    return json.loads(text)[phase]["at_once"] or 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_class_that_misses_its_budget_is_told_at_once_and_no_other(gateway, stream):
    opted_in = {"prefer": "respond-async"}
    phase = "first_token" if stream else "total"
    calls_before = route(gateway)["phases"]["total"]["1m"]["count"]
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        slow = [
            pool.submit(call, gateway, stream, SLOW, 600, **opted_in) for _ in range(80)
        ]
        answers = [(status, json.loads(body)) for status, _, body in (one.result() for one in slow)]
    # While nothing is known they are demoted at the deadline.
    assert answers[0][1]["reason"] == "budget_exceeded"
    assert all(status == 202 for status, _ in answers)
    gateway.until(lambda: at_once(gateway, phase) > 0.9)

    # Errors that come fast say nothing of how long an answer takes.
    for _ in range(80):
        status, _, _ = call(gateway, stream, SLOW, 0, authorization="Bearer wrong-key")
        assert status == 401
    gateway.until(lambda: route(gateway)["phases"]["total"]["1m"]["count"] >= calls_before + 160)
    assert at_once(gateway, phase) > 0.9

    before = told(gateway)
    tag = f"predicted-{stream}"
    status, headers, body = call(gateway, stream, SLOW, 600, tag, **opted_in)
    job = json.loads(body)
    assert (status, job["reason"], job["status"]) == (202, "predicted", "queued")
    assert job["elapsed_ms"] < 200
    assert headers["preference-applied"] == "respond-async"
    # It is run once and judged by its run; so is one that would have made it.
    gateway.until(lambda: told(gateway)["right"] == before["right"] + 1)
    assert gateway.stats(tag)["received"] == 1
    status, _, body = call(gateway, stream, SLOW, 0, **opted_in)
    assert (status, json.loads(body)["reason"]) == (202, "predicted")
    gateway.until(lambda: told(gateway)["wrong"] == before["wrong"] + 1)
    after = told(gateway)
    assert 0 < after["precision"] < 1
    assert 0 < after["recall"] < 1

    # Another class is served, and counts as met.
    status, _, _ = call(gateway, stream, FAST, 0, **opted_in)
    assert status == 200
    gateway.until(lambda: told(gateway)["met"] == before["met"] + 1)

    # Whoever did not ask for a 202 is never touched.
    status, _, _ = call(gateway, stream, SLOW, 0)
    assert status == 200
    status, _, body = call(gateway, stream, SLOW, 600)
    assert (status, json.loads(body)["error"]["code"]) == (504, "budget_exceeded")
    assert told(gateway)["met"] == before["met"] + 1

    _, _, metrics = gateway.fetch(gateway.admin + "/metrics")
    assert b'shunt_predictions_total{route="predicted",result="right"}' in metrics


def test_a_call_that_cannot_become_a_job_runs_in_spite_of_its_prediction(gateway, tmp_path):
    config = tmp_path / "full.toml"
    config.write_text(FULL.format(simulator=gateway.simulator, folder=tmp_path))
    process, found = start(["serve", "--config", str(config)], "public", "admin")
    full = Gateway(found["public"], found["admin"], gateway.simulator, None)
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        slow = [pool.submit(call, full, False, SLOW, 600) for _ in range(80)]
        assert all(one.result()[0] == 200 for one in slow)
    full.until(lambda: at_once(full, "total") > 0.9)
    budget = {"x_shunt_budget": "300ms"}
    status, _, body = call(full, False, SLOW, 30_000, prefer="respond-async", **budget)
    assert (status, json.loads(body)["reason"]) == (202, "predicted")
    # Now there is no room for another job.
    status, _, _ = call(full, False, SLOW, 0, prefer="respond-async", **budget)
    assert status == 200
    full.until(lambda: told(full)["wrong"] == 1)
    stop(process)
