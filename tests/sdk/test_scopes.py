"""Calls of one pipeline: one deadline, and one cancel that leaves nothing running."""

import json
import threading
import time
import uuid

SLOW = {
    "model": "other",
    "messages": [{"role": "user", "content": "Hi"}],
    "metadata": {"sim_latency_ms": "20000"},
}


def background(gateway, given, body, **headers):
    def run():
        try:
            given.append(gateway.call("/v1/chat/completions", body, **headers))
        except Exception as broken:  # a stream that is cut has no status any more
            given.append(broken)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def scope(gateway, name, method="GET", **headers):
    status, _, body = gateway.fetch(f"{gateway.public}/scopes/{name}", method, headers)
    return status, json.loads(body)


def test_a_cancel_ends_every_call_of_a_scope_hot_and_cold_and_refuses_later_ones(gateway):
    name, tag = f"run:{uuid.uuid4().hex}", uuid.uuid4().hex
    mine = {"x_shunt_scope": name, "x_request_tag": tag, "authorization": "Bearer me"}
    given, threads = [], []
    threads.append(background(gateway, given, SLOW, **mine))
    stream = SLOW | {"stream": True, "metadata": {"sim_latency_ms": "0", "sim_tokens": "500", "sim_gap_ms": "50"}}
    threads.append(background(gateway, given, stream, **mine))
    status, _, body = gateway.call(
        "/v1/chat/completions", SLOW, prefer="respond-async, wait=0", **mine
    )
    assert status == 202
    job = json.loads(body)["id"]
    gateway.until(lambda: gateway.stats(tag).get("received") == 3)
    gateway.until(lambda: gateway.stats(tag)["tokens"] > 5)

    status, told = scope(gateway, name, authorization="Bearer me")
    assert status == 200
    assert told["status"] == "open"
    assert len(told["calls"]) == 2
    assert {call["route"] for call in told["calls"]} == {"rest"}
    assert [one["id"] for one in told["jobs"]] == [job]
    assert told["jobs"][0]["scope"] == name
    # Another caller's scope of the same name is another one.
    assert scope(gateway, name, authorization="Bearer other")[0] == 404
    scope(gateway, name, "DELETE", authorization="Bearer other")
    assert gateway.stats(tag)["running"] == 3

    began = time.monotonic()
    status, told = scope(gateway, name, "DELETE", authorization="Bearer me")
    assert status == 200
    assert told["cancelled"] == {"calls": 2, "jobs": 1}
    gateway.until(lambda: gateway.stats(tag)["aborted"] == 3, seconds=1)
    for thread in threads:
        thread.join(timeout=1)
    assert time.monotonic() - began < 1
    refused = [one for one in given if isinstance(one, tuple) and one[0] == 409]
    assert len(refused) == 1
    assert json.loads(refused[0][2])["error"]["code"] == "scope_cancelled"
    assert refused[0][1]["x-should-retry"] == "false"

    status, _, body = gateway.fetch(
        f"{gateway.public}/jobs/{job}", headers={"authorization": "Bearer me"}
    )
    assert json.loads(body)["status"] == "cancelled"
    status, _, _ = gateway.call("/v1/chat/completions", SLOW, **mine)
    assert status == 409
    assert gateway.stats(tag)["received"] == 3
    _, told = scope(gateway, name, authorization="Bearer me")
    assert (told["status"], told["calls"], told["jobs"]) == ("cancelled", [], [])


def test_siblings_have_one_deadline_from_the_first_of_them_on(gateway):
    name, tag = uuid.uuid4().hex, uuid.uuid4().hex
    mine = {"x_shunt_scope": name, "x_shunt_scope_budget": "1200ms", "x_request_tag": tag}
    quick = SLOW | {"metadata": {"sim_latency_ms": "500"}}
    began = time.monotonic()
    assert gateway.call("/v1/chat/completions", quick, **mine)[0] == 200
    status, _, body = gateway.call("/v1/chat/completions", SLOW, **mine)
    assert status == 504
    assert json.loads(body)["error"]["code"] == "budget_exceeded"
    assert 1.1 < time.monotonic() - began < 1.5
    # Too late to be sent at all.
    status, _, _ = gateway.call("/v1/chat/completions", SLOW, **mine)
    assert status == 504
    assert gateway.stats(tag)["received"] == 2
    status, _, body = gateway.call(
        "/v1/chat/completions", quick, prefer="respond-async", **mine
    )
    assert (status, json.loads(body)["reason"]) == (202, "budget_exceeded")


def test_what_is_no_scope_is_refused_with_a_sentence(gateway):
    status, _, body = gateway.call("/v1/chat/completions", SLOW, x_shunt_scope="a/b")
    assert (status, json.loads(body)["error"]["code"]) == (400, "bad_request")
    status, _, body = gateway.call("/v1/chat/completions", SLOW, x_shunt_scope_budget="1s")
    assert status == 400
    assert "send both" in json.loads(body)["error"]["message"]
    assert scope(gateway, "nobody-knows-it")[0] == 404
