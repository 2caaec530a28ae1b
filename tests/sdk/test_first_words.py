"""What a provider's first words are taken for: an error after a good head, an error that comes first, nothing at all."""

import json
import socket
import threading
import time

import pytest
from conftest import until
from scripted import PATH, Scene

STREAM = {"stream": True}


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    scene = Scene(tmp_path_factory.mktemp("words"), BUSY)
    yield scene
    scene.close()


BUSY = """
[[routes]]
name    = "busy"
match   = {{ path = "/v1/chat/completions", model = "busy-*" }}
targets = ["one"]
budget  = {{ first_token = "100ms", total = "5s", keepalive = "100ms" }}
over_budget = {{ action = "observe" }}
[[routes]]
name    = "wide"
match   = {{ path = "/v1/chat/completions", model = "wide-*" }}
targets = [{{ provider = "one", weight = 100 }}, "two"]
budget  = {{ first_token = "5s", total = "5s" }}
hedge   = {{ after = "150ms", max_extra = 1.0 }}
[providers.once]
base_url = "{provider}"
dialect  = "openai"
[providers.twice]
base_url = "{provider}"
dialect  = "openai"
[[routes]]
name    = "pair"
match   = {{ path = "/v1/chat/completions", model = "pair-*" }}
targets = [{{ provider = "once", weight = 100 }}, "twice"]
budget  = {{ first_token = "5s", total = "5s" }}
hedge   = {{ after = "150ms", max_extra = 1.0 }}
"""

RING = """
[[routes]]
name    = "ring"
match   = {{ path = "/v1/chat/completions", model = "ring-*" }}
targets = ["narrow"]
budget  = {{ first_token = "20s", total = "20s" }}
retries = {{ max = 0 }}
"""

KEYED = """
[providers.keyed]
base_url = "{provider}"
dialect  = "openai"
api_key  = {{ env = "KEY" }}
[[routes]]
name    = "keyed-route"
match   = {{ path = "/v1/chat/completions", model = "keyed-*" }}
targets = ["keyed"]
budget  = {{ first_token = "5s", total = "5s" }}
"""


@pytest.mark.parametrize("first", ["0/error", "0/empty"])
def test_a_stream_whose_first_word_is_an_error_is_tried_elsewhere(scene, first):
    (status, headers, body), seen = scene.call(f"{first},0", body=STREAM)
    assert (status, headers["x-shunt-attempts"], len(seen)) == (200, "2", 2)
    assert b"Hi" in body and b"overloaded" not in body


def test_an_error_that_every_target_tells_is_passed_on_and_counts_as_a_failure(scene):
    failed = 'route="plain",target="two",status="200",outcome="failed"'
    before = scene.counted("shunt_requests_total", failed)
    (status, _, body), seen = scene.call("0/error", body=STREAM)
    assert status == 200 and b"overloaded" in body and len(seen) == 2
    until(lambda: scene.counted("shunt_requests_total", failed) == before + 1, 10)
    assert scene.counted("shunt_retries_total", 'reason="error_event"') > 0


@pytest.mark.parametrize("hedge", ["0/error", "0/401", "0/404"])
def test_a_hedge_that_fails_takes_nothing_from_the_call_that_was_only_slow(scene, hedge):
    before = scene.counted("shunt_hedges_total", 'route="chat",result="failed"')
    (status, headers, body), seen = scene.call(f"400,{hedge}", model="gpt-4o", body=STREAM)
    assert (status, headers["x-shunt-target"], len(seen)) == (200, "one", 2), body
    assert b"Hi" in body
    assert scene.counted("shunt_hedges_total", 'route="chat",result="failed"') == before + 1


@pytest.mark.parametrize("hedge", ["400/401", "400/404"])
def test_a_hedge_that_fails_ends_no_call_that_is_to_be_sent_again(scene, hedge):
    (status, headers, body), seen = scene.call(f"200/503,{hedge},0", model="wide-1")
    assert (status, headers["x-shunt-attempts"], len(seen)) == (200, "3", 3), body


@pytest.mark.parametrize("hedge", ["400/404", "400/503/bare"])
def test_a_hedge_that_fails_keeps_no_call_from_becoming_a_job(scene, hedge):
    # The first wants to be left alone for longer than its caller waits.
    (status, _, body), seen = scene.call(f"200/429/60,{hedge}", model="pair-1", prefer="respond-async, wait=3")
    assert (status, len(seen)) == (202, 2), body


def test_a_hedge_that_runs_at_the_deadline_is_lost(scene):
    before = scene.counted("shunt_hedges_total", 'route="chat",result="lost"')
    (status, _, _), seen = scene.call("3000", model="gpt-4o")
    assert (status, len(seen)) == (504, 2)
    assert scene.counted("shunt_hedges_total", 'route="chat",result="lost"') == before + 1


def test_a_job_whose_stream_told_of_an_error_is_tried_again(scene):
    headers = {"prefer": "respond-async, wait=0"}
    (status, headers, _), _ = scene.call("0/error,0", model="gpt-4o", body=STREAM, **headers)
    assert status == 202
    url = scene.gateway.public + headers["location"]
    job = lambda: json.loads(scene.gateway.fetch(url)[2])
    until(lambda: job()["status"] == "succeeded", 10)
    assert job()["attempts"] == 2
    assert b"Hi" in scene.gateway.fetch(url + "/result")[2]


def test_a_job_whose_stream_tells_of_nothing_but_errors_fails(scene):
    headers = {"prefer": "respond-async, wait=0"}
    (status, headers, _), _ = scene.call("0/error", model="gpt-4o", body=STREAM, **headers)
    assert status == 202
    url = scene.gateway.public + headers["location"]
    job = lambda: json.loads(scene.gateway.fetch(url)[2])
    until(lambda: job()["status"] == "failed", 10)
    assert job()["error"]["code"] == "provider_error"
    assert scene.gateway.fetch(url + "/result")[0] >= 500


def test_a_job_that_its_caller_asked_for_misses_no_budget(scene):
    before = scene.counted("shunt_budget_exceeded_total")
    (status, _, _), _ = scene.call("0", model="gpt-4o", prefer="respond-async, wait=0")
    assert status == 202
    assert scene.counted("shunt_budget_exceeded_total") == before


def test_the_store_is_no_part_of_the_gateways_own_time(scene):
    # A commit to a disk takes some milliseconds; of its own the gateway needs tenths of one.
    owns = []
    for _ in range(5):
        (status, headers, _), _ = scene.call("0", model="gpt-4o", prefer="respond-async, wait=0")
        assert status == 202
        owns.append(float(headers["server-timing"].split("dur=")[1].split(",")[0]))
    assert min(owns) < 3, owns


def test_a_providers_error_is_a_failure_and_its_callers_mistake_is_none(scene):
    for status, outcome in ((500, "failed"), (404, "served"), (401, "served")):
        label = f'route="stored",target="one",status="{status}",outcome="{outcome}"'
        before = scene.counted("shunt_requests_total", label)
        (answered, _, _), _ = scene.call(f"0/{status}", body={"model": "m"}, path="/v1/responses")
        assert answered == status
        until(lambda: scene.counted("shunt_requests_total", label) == before + 1, 10)


def test_an_answer_without_its_end_is_passed_on_and_not_kept_under_its_key(scene):
    headers = {"idempotency_key": "endless"}
    for _ in range(2):
        (status, _, body), seen = scene.call("0/endless", body=STREAM, **headers)
        assert (status, len(seen)) == (200, 1) and b"Hi" in body


def test_who_joins_an_answer_without_its_end_gets_it_as_the_first_did(scene):
    answers = []
    call = lambda: answers.append(scene.call("500/endless", body=STREAM, idempotency_key="joined"))
    calls = [threading.Thread(target=call) for _ in range(2)]
    for one in calls:
        one.start()
        time.sleep(0.1)
    for one in calls:
        one.join(timeout=10)
    assert [status for (status, _, _), _ in answers] == [200, 200]
    assert sorted(len(seen) for _, seen in answers) == [0, 1]
    assert answers[0][0][2] == answers[1][0][2]


def test_a_scopes_deadline_that_is_missed_is_told_as_one(scene):
    before = scene.counted("shunt_budget_exceeded_total", 'action="demote"')
    headers = {"x_shunt_scope": "hurried", "x_shunt_scope_budget": "200ms", "prefer": "respond-async, wait=1"}
    (status, _, _), _ = scene.call("800", model="wide-1", **headers)
    assert status == 202
    assert scene.counted("shunt_budget_exceeded_total", 'action="demote"') == before + 1


def test_a_stream_that_is_only_watched_is_kept_busy_after_its_head_too(scene):
    (status, _, body), _ = scene.call("600", model="busy-1", body=STREAM)
    assert status == 200
    assert body.count(b": keepalive") >= 3 and b"Hi" in body


def test_a_call_that_is_late_before_it_is_sent_is_not_sent(scene):
    body = b'{"model": "gpt-4o", "messages": []}'
    head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\nx-tag: late\r\nx-shunt-budget: 150ms\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    host, port = scene.gateway.public.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as caller:
        caller.sendall(head.encode())
        time.sleep(0.4)
        caller.sendall(body)
        answer = caller.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 504")
    assert "late" not in scene.provider.seen


def test_a_target_that_never_says_more_than_its_head_is_ejected(tmp_path):
    scene = Scene(tmp_path)
    try:
        for _ in range(5):
            scene.call("0/empty", model="lonely-1", body=STREAM)
        until(lambda: scene.counted("shunt_target_healthy", 'target="one"') == 0, 10)
    finally:
        scene.close()


def test_a_target_whose_errors_have_no_body_is_ejected(tmp_path):
    scene = Scene(tmp_path)
    try:
        for _ in range(5):
            scene.call("0/503/bare", model="lonely-1")
        until(lambda: scene.counted("shunt_target_healthy", 'target="one"') == 0, 10)
    finally:
        scene.close()


def test_who_waits_for_a_place_at_a_target_that_is_to_be_probed_gets_it(tmp_path):
    scene, answers = Scene(tmp_path, RING), []
    try:
        for _ in range(5):
            scene.call("0/500", model="ring-1")
        # Ejected for five seconds. It is the only one: calls are sent all the same, one at a time.
        call = lambda script: answers.append(scene.call(script, model="ring-1")[0][0])
        calls = [threading.Thread(target=call, args=[script]) for script in ("5500/500", "0", "0")]
        for one in calls:
            one.start()
            time.sleep(0.1)
        for one in calls:
            one.join(timeout=15)
        assert sorted(answers) == [200, 200, 500]
    finally:
        scene.close()


def test_a_target_that_takes_the_gateways_key_no_more_is_ejected(tmp_path):
    scene = Scene(tmp_path, KEYED, KEY="revoked")
    try:
        for _ in range(6):
            scene.call("0/401", model="keyed-1")
        until(lambda: scene.counted("shunt_target_healthy", 'target="keyed"') == 0, 10)
    finally:
        scene.close()


def test_the_rate_limit_of_one_callers_account_is_not_that_of_others(tmp_path):
    scene = Scene(tmp_path)
    try:
        limited = lambda key: scene.call("0/429/60", model="tight-1", authorization=key)[0][0]
        asked = lambda key: scene.call("0", model="tight-1", authorization=key, prefer="respond-async")[0][0]
        # All come with the same key: that is one account, and what it is told holds for all.
        assert limited("Bearer a") == 429
        assert asked("Bearer a") == 202
        # From here on there are two.
        assert scene.call("0", model="plain-1", authorization="Bearer a")[0][0] == 200
        assert scene.call("0", model="plain-1", authorization="Bearer b")[0][0] == 200
        assert scene.call("0/429/60,0/429/60", model="plain-1", authorization="Bearer a")[0][0] == 429
        assert scene.call("0", model="plain-1", authorization="Bearer b", prefer="respond-async")[0][0] == 200
    finally:
        scene.close()
