"""Whose job is taken next, and what becomes of calls while no target is there."""

import json
import socket
import subprocess
import time

import pytest
from conftest import SHUNT, Gateway, start, stop

BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "whisper"}]}


def alone(folder, provider, more=""):
    """A gateway with one route to one provider."""
    config = folder / "shunt.toml"
    config.write_text(f"""
[listen]
public = "127.0.0.1:0"
admin = "127.0.0.1:0"
[providers.only]
base_url = "{provider}"
dialect = "openai"
[[routes]]
name = "chat"
match = {{ path = "/v1/*" }}
targets = ["only"]
{more}
[cold]
store = "sqlite:{folder}/jobs.db"
""")
    process, found = start(["serve", "--config", str(config)], "public", "admin")
    return process, Gateway(found["public"], found["admin"], provider, None)


def demote(gateway, key, tag, latency=30, **headers):
    body = BODY | {"metadata": {"sim_latency_ms": str(latency)}}
    status, _, answer = gateway.call(
        "/v1/chat/completions", body, prefer="respond-async, wait=0", x_request_tag=tag,
        authorization=f"Bearer {key}", **headers,
    )
    assert status == 202, answer
    return json.loads(answer)


def finished(gateway, key, ids):
    """When each of a caller's jobs was finished, once all are."""
    def ended():
        url = f"{gateway.public}/jobs?limit=100"
        data = json.loads(gateway.fetch(url, headers={"authorization": f"Bearer {key}"})[2])["data"]
        ends = {job["id"]: job.get("finished_at") for job in data}
        return [ends[one] for one in ids]
    gateway.until(lambda: all(ended()), 30)
    return ended()


def test_callers_take_turns_and_a_priority_orders_its_own_caller_s_jobs(gateway, tmp_path):
    process, one = alone(tmp_path, gateway.simulator, "cold = { concurrency = 1 }")
    demote(one, "first", "turns", latency=1500)
    many = [demote(one, "many", "turns")["id"] for _ in range(30)]
    urgent = demote(one, "many", "turns", x_shunt_priority="9")
    assert urgent["priority"] == 9
    few = [demote(one, "few", "turns")["id"] for _ in range(3)]
    ends, last_of_few = finished(one, "many", [urgent["id"], *many]), max(finished(one, "few", few))
    assert ends == sorted(ends)
    assert sum(end < last_of_few for end in ends) <= 4
    command = [SHUNT, "jobs", "show", urgent["id"], "--admin", one.admin]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=30).stdout
    assert ["priority", "9"] in [line.split() for line in shown.splitlines()]
    stop(process)


@pytest.mark.parametrize("wrong", ["10", "-1", "4.5", "high"])
def test_a_priority_that_is_none_is_refused_and_not_sent(gateway, wrong):
    tag = f"priority-{wrong}"
    status, _, body = gateway.call(
        "/v1/chat/completions", BODY, x_shunt_priority=wrong, x_request_tag=tag
    )
    assert status == 400
    error = json.loads(body)["error"]
    assert error["code"] == "bad_request"
    assert "X-Shunt-Priority" in error["message"] and "from 0 to 9" in error["message"]
    assert gateway.stats(tag) == {}


def test_a_job_says_the_priority_that_nobody_asked_for(gateway):
    assert demote(gateway, "quiet", "quiet")["priority"] == 4


def test_while_no_target_is_there_jobs_wait_and_others_hear_when_it_is_tried_again(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process, one = alone(tmp_path, f"http://127.0.0.1:{port}", "retries = { max = 0 }")
    for _ in range(5):
        status, headers, _ = one.call("/v1/chat/completions", BODY)
        assert status == 502
    # Five failures in a row: it is left alone.
    assert 1 <= int(headers["retry-after"]) <= 5
    began = time.monotonic()
    status, headers, body = one.call("/v1/chat/completions", BODY, prefer="respond-async")
    assert (status, headers["x-shunt-attempts"]) == (202, "0")
    assert json.loads(body)["reason"] == "provider_down"
    assert time.monotonic() - began < 0.5
    simulator, _ = start(["simulate", "--listen", f"127.0.0.1:{port}"], "simulate")
    url = one.public + headers["location"]
    one.until(lambda: json.loads(one.fetch(url)[2])["status"] == "succeeded", 15)
    assert json.loads(one.fetch(url)[2])["attempts"] == 1
    stop(process)
    stop(simulator)
