"""A provider that takes no more calls: who asked gets a 202, the others an honest 503 or a place."""

import json
import threading
import time

import pytest
from conftest import Gateway, start, stop

CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}
PATH = "/v1/chat/completions"


@pytest.fixture
def limited(gateway, tmp_path):
    """Starts gateways that give their provider so many calls at once."""
    started = []

    def begin(queue, targets='["sim"]', max_extra=0.0):
        config = tmp_path / "shunt.toml"
        config.write_text(f"""
[listen]
public = "127.0.0.1:0"
admin = "127.0.0.1:0"
[providers.sim]
base_url = "{gateway.simulator}"
dialect = "openai"
concurrency = {{ mode = "fixed", limit = 1, queue = {queue} }}
[providers.twin]
base_url = "{gateway.simulator}"
dialect = "openai"
concurrency = {{ mode = "fixed", limit = 1, queue = {queue} }}
[[routes]]
name = "chat"
match = {{ path = "/v1/*" }}
targets = {targets}
budget = {{ first_token = "5s", total = "5s" }}
hedge = {{ after = "100ms", max_extra = {max_extra} }}
[cold]
store = "sqlite:{tmp_path}/jobs.db"
""")
        process, found = start(["serve", "--config", str(config)], "public", "admin")
        started.append(process)
        return Gateway(found["public"], found["admin"], gateway.simulator, None)

    yield begin
    for process in started:
        stop(process)


class Holding:
    """A call that holds a place for so long."""

    def __init__(self, gateway, tag, millis):
        self.answer = None
        self.thread = threading.Thread(target=self.call, args=(gateway, tag, millis))
        self.thread.start()
        gateway.until(lambda: gateway.stats(tag).get("received", 0) == 1)

    def call(self, gateway, tag, millis):
        self.answer = gateway.call(PATH, CHAT, x_request_tag=tag, x_sim_latency_ms=str(millis))

    def end(self):
        self.thread.join(timeout=20)
        return self.answer


def metric(gateway, line):
    _, _, text = gateway.fetch(gateway.admin + "/metrics")
    found = [one for one in text.decode().splitlines() if one.startswith(line + " ")]
    return float(found[0].split()[-1]) if found else 0.0


def test_over_the_limit_who_asked_gets_a_202_at_once_and_the_job_succeeds(limited):
    gateway = limited(queue=0)
    holding = Holding(gateway, "asked", 1_500)
    began = time.monotonic()
    status, headers, body = gateway.call(PATH, CHAT, prefer="respond-async", x_request_tag="demoted")
    assert time.monotonic() - began < 1.0
    assert status == 202
    told = json.loads(body)
    assert (told["reason"], told["status"], told["attempts"]) == ("overload", "queued", 0)
    # It waits for a place as well, and costs no attempt meanwhile.
    time.sleep(0.6)
    job = lambda: json.loads(gateway.fetch(gateway.public + headers["location"])[2])
    assert (job()["status"], job()["attempts"]) == ("queued", 0)
    assert holding.end()[0] == 200
    gateway.until(lambda: job()["status"] == "succeeded")
    assert job()["attempts"] == 1
    assert gateway.stats("demoted")["received"] == 1
    assert metric(gateway, 'shunt_shed_total{route="chat",result="demoted"}') == 1


def test_over_the_limit_who_did_not_ask_gets_a_503_that_says_when(limited):
    gateway = limited(queue=0)
    # A place is held for about two seconds: that is what the next caller is told.
    assert Holding(gateway, "learns", 1_800).end()[0] == 200
    holding = Holding(gateway, "holds", 1_500)
    began = time.monotonic()
    status, headers, body = gateway.call(PATH, CHAT, x_request_tag="refused")
    assert time.monotonic() - began < 1.0
    assert status == 503
    assert headers["retry-after"] == "2"
    assert json.loads(body)["error"]["code"] == "overloaded"
    assert "x-should-retry" not in headers
    assert holding.end()[0] == 200
    assert gateway.stats("refused").get("received", 0) == 0
    assert metric(gateway, 'shunt_shed_total{route="chat",result="refused"}') == 1


def test_a_call_waits_for_a_place_and_is_served(limited):
    gateway = limited(queue=1)
    holding = Holding(gateway, "first", 600)
    began = time.monotonic()
    status, headers, _ = gateway.call(PATH, CHAT, x_request_tag="second")
    assert status == 200
    assert headers["x-shunt-attempts"] == "1"
    assert time.monotonic() - began > 0.3
    assert holding.end()[0] == 200


def test_a_deadline_that_comes_while_it_waits_is_an_overload(limited):
    gateway = limited(queue=1)
    holding = Holding(gateway, "long", 1_500)
    began = time.monotonic()
    status, _, body = gateway.call(
        PATH, CHAT, prefer="respond-async", x_shunt_budget="300ms", x_request_tag="late"
    )
    took = time.monotonic() - began
    assert status == 202
    assert json.loads(body)["reason"] == "overload"
    assert 0.2 <= took < 1.0
    assert gateway.stats("late").get("received", 0) == 0
    assert holding.end()[0] == 200


def test_another_target_takes_what_one_has_no_place_for(limited):
    gateway = limited(queue=0, targets='["sim", "twin"]')
    holding = [Holding(gateway, f"each-{one}", 1_000) for one in range(2)]
    assert gateway.call(PATH, CHAT)[0] == 503
    answers = [one.end() for one in holding]
    assert {headers["x-shunt-target"] for _, headers, _ in answers} == {"sim", "twin"}
    status, _, body = gateway.fetch(gateway.admin + "/api/routes")
    targets = json.loads(body)["routes"][0]["targets"]
    assert [one["concurrency"]["limit"] for one in targets] == [1, 1]
    assert [one["healthy"] for one in targets] == [True, True]
    assert metric(gateway, 'shunt_concurrency_limit{route="chat",target="twin"}') == 1


def test_a_hedge_takes_no_place_that_is_not_free(limited):
    gateway = limited(queue=9, max_extra=1.0)
    status, headers, _ = gateway.call(PATH, CHAT, x_request_tag="alone", x_sim_latency_ms="500")
    assert (status, headers["x-shunt-attempts"]) == (200, "1")
    assert gateway.stats("alone")["received"] == 1
    assert metric(gateway, 'shunt_hedges_total{route="chat",result="denied"}') == 1


def test_a_caller_that_leaves_the_queue_leaves_its_place_in_it(limited):
    import socket

    gateway = limited(queue=1)
    holding = Holding(gateway, "whole", 1_500)
    host, port = gateway.public.removeprefix("http://").split(":")
    body = json.dumps(CHAT).encode()
    head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    leaver = socket.create_connection((host, int(port)))
    leaver.sendall(f"{head}x-request-tag: leaver\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
    queued = 'shunt_queue_length{route="chat",target="sim"}'
    gateway.until(lambda: metric(gateway, queued) == 1)
    leaver.close()
    gateway.until(lambda: metric(gateway, queued) == 0)
    assert gateway.call(PATH, CHAT, x_request_tag="stays")[0] == 200
    assert holding.end()[0] == 200
    assert gateway.stats("leaver").get("received", 0) == 0
