"""Two gateways on one PostgreSQL: a job may be asked for, waited on and cancelled through either."""

import base64
import json
import os
import signal
import subprocess
import time

import pytest

from conftest import SHUNT, House
from postgres import Cluster


@pytest.fixture(scope="module")
def cluster():
    cluster = Cluster()
    yield cluster
    cluster.close()


class Pair(House):
    """Two gateways on a database of their own, one provider and one receiver of callbacks."""

    def __init__(self, cluster, folder):
        os.environ["SHUNT_SEAL_KEYS"] = "k1:" + base64.b64encode(os.urandom(32)).decode()
        self.database, address = cluster.database()
        super().__init__(folder, lambda text: text.replace(f"sqlite:{folder}/jobs.db", address))
        self.gateways = []
        for _ in range(2):
            self.begin()

    def begin(self):
        self.gateways.append(super().begin())

    def demote(self, gateway, millis, wait=0, **headers):
        body = {"model": "gpt-4o", "messages": [], "metadata": {"sim_latency_ms": str(millis)}}
        status, _, answer = gateway.call(
            "/v1/chat/completions", body, prefer=f"respond-async, wait={wait}",
            x_shunt_budget="200ms", authorization="Bearer a-secret-of-this-caller", **headers,
        )
        assert status == 202, answer
        return json.loads(answer)["id"]


@pytest.fixture
def pair(cluster, tmp_path):
    pair = Pair(cluster, tmp_path)
    yield pair
    pair.close()


MINE = {"authorization": "Bearer a-secret-of-this-caller"}


def test_a_job_of_one_gateway_is_waited_on_and_fetched_at_the_other(pair, cluster):
    one, other = pair.gateways
    url = pair.receiver.url("told")
    job = pair.demote(one, 1500, x_shunt_callback=url)
    status, _, answer = other.fetch(f"{other.public}/jobs/{job}/result?wait=8", headers=MINE)
    assert status == 200, answer
    assert json.loads(answer)["object"] == "chat.completion"
    status, _, answer = other.fetch(f"{other.public}/jobs/{job}", headers=MINE)
    assert (status, json.loads(answer)["status"]) == (200, "succeeded")
    assert other.fetch(f"{other.public}/jobs/{job}")[0] == 404
    assert other.fetch(f"{other.admin}/readyz")[0] == 200
    told = pair.receiver.wait_for("told")
    assert len({headers["webhook-id"] for _, headers, _ in told}) == 1
    # What a rerun needs of the caller's credentials stands nowhere in clear.
    rows = cluster.sql(pair.database, "select encode(headers, 'escape') from shunt.requests")
    assert rows and "a-secret-of-this-caller" not in rows


def test_a_job_of_one_gateway_is_cancelled_at_the_other(pair):
    one, other = pair.gateways
    job = pair.demote(one, 20_000, x_request_tag="cancelled-elsewhere")
    one.until(lambda: one.stats("cancelled-elsewhere").get("received") == 1)
    status, _, answer = other.fetch(f"{other.public}/jobs/{job}", "DELETE", headers=MINE)
    assert (status, json.loads(answer)["status"]) == (200, "cancelled")
    # Its provider call ends, at the gateway that runs it, long before it would by itself.
    one.until(lambda: one.stats("cancelled-elsewhere").get("aborted") == 1, seconds=2)
    status, _, answer = one.fetch(f"{one.public}/jobs/{job}", headers=MINE)
    assert (status, json.loads(answer)["status"]) == (200, "cancelled")
    assert one.fetch(f"{one.public}/jobs/{job}", "DELETE", headers=MINE)[0] == 409


def test_a_gateway_that_is_killed_loses_its_jobs_to_the_other_and_none_is_lost(pair):
    one, other = pair.gateways
    url = pair.receiver.url("taken-over")
    # What is handed over runs where it was called; a job that is queued may be either's.
    job = pair.demote(one, 4000, wait=1, x_shunt_callback=url, x_request_tag="taken-over")
    one.until(lambda: one.stats("taken-over").get("received") == 1)
    pair.processes[0].kill()
    killed = time.monotonic()
    status, _, answer = other.fetch(f"{other.public}/jobs/{job}/result?wait=25", headers=MINE)
    assert status == 200, answer
    # Two heartbeats of 5 s, the call's 4 s, and room for a busy machine.
    assert time.monotonic() - killed < 20
    assert other.stats("taken-over")["received"] == 2
    told = pair.receiver.wait_for("taken-over")
    assert len({headers["webhook-id"] for _, headers, _ in told}) == 1
    _, _, shown = other.fetch(f"{other.admin}/api/jobs/{job}")
    assert [one["result"] for one in json.loads(shown)["history"]] == ["lost", "succeeded"]


def test_a_server_that_crashes_costs_no_job_that_was_promised(pair, cluster):
    one, other = pair.gateways
    jobs = [pair.demote(one, 1500) for _ in range(10)]
    cluster.kill()
    status, _, answer = one.call(
        "/v1/chat/completions",
        {"model": "gpt-4o", "messages": [], "metadata": {"sim_latency_ms": "20000"}},
        prefer="respond-async, wait=0", x_shunt_budget="200ms",
    )
    assert status == 503, answer
    assert one.fetch(f"{one.admin}/readyz")[0] == 503
    url = f"{other.public}/jobs/{jobs[0]}"
    assert other.fetch(url, "DELETE", headers=MINE)[0] == 503
    # Hot traffic needs no store.
    assert one.call("/v1/chat/completions", {"model": "gpt-4o", "messages": []})[0] == 200
    cluster.serve()
    for job in jobs:
        url = f"{other.public}/jobs/{job}"
        ended = lambda: json.loads(other.fetch(url, headers=MINE)[2]).get("status") == "succeeded"
        other.until(ended, seconds=60)
    one.until(lambda: one.fetch(f"{one.admin}/readyz")[0] == 200)


def test_without_the_key_of_credentials_a_gateway_does_not_start(pair):
    environment = dict(os.environ, SHUNT_CALLBACK_SECRET="whsec_" + "A" * 32)
    del environment["SHUNT_SEAL_KEYS"]
    done = subprocess.run(
        [SHUNT, "serve", "--config", str(pair.config)], env=environment, capture_output=True, text=True, timeout=30
    )
    assert done.returncode != 0
    assert "SHUNT_SEAL_KEYS" in done.stderr
