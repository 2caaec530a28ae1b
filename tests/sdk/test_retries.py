"""Further attempts after a failure: when the provider wants them, and not later than the caller."""

import json
import time

import pytest
from scripted import Scene

CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}


def timed(gateway, path, body, **headers):
    began = time.monotonic()
    status, answered, _ = gateway.call(path, body, **headers)
    return status, answered, time.monotonic() - began


def test_a_provider_that_says_when_is_asked_again_then(gateway):
    status, headers, took = timed(
        gateway,
        "/v1/embeddings",
        {"model": "e", "input": "x"},
        x_request_tag="says-when",
        x_sim_status="429",
    )
    assert status == 429
    assert headers["x-shunt-attempts"] == "2"
    assert 1.0 <= took < 2.0
    assert gateway.stats("says-when")["received"] == 2


def test_a_retry_that_would_come_too_late_is_not_waited_for(gateway):
    status, headers, took = timed(
        gateway, "/v1/chat/completions", CHAT, x_request_tag="too-late", x_sim_status="429"
    )
    assert status == 429
    assert headers["retry-after"] == "1"
    assert headers["x-shunt-attempts"] == "1"
    assert took < 0.5


def test_a_caller_that_opted_in_gets_its_202_at_once_where_the_retry_comes_too_late(gateway):
    began = time.monotonic()
    status, headers, body = gateway.call(
        "/v1/chat/completions", CHAT, x_sim_status="429", prefer="respond-async, wait=1"
    )
    took = time.monotonic() - began
    assert status == 202
    assert json.loads(body)["reason"] == "provider_down"
    assert headers["location"].startswith("/jobs/")
    assert took < 0.5
    # It would be refused for ever, and hold up every other job of this provider.
    url = gateway.public + headers["location"]
    assert gateway.fetch(url, "DELETE")[0] == 200


def test_a_failure_that_says_nothing_is_tried_again_within_the_budget(gateway):
    status, headers, took = timed(
        gateway, "/v1/chat/completions", CHAT, x_request_tag="once-more", x_sim_status="500"
    )
    assert status == 500
    assert headers["x-shunt-attempts"] == "2"
    assert took < 1.0


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    scene = Scene(tmp_path_factory.mktemp("retries"))
    yield scene
    scene.close()


def test_a_provider_whose_word_is_final_is_not_asked_again_and_another_may_answer(scene):
    (status, headers, _), seen = scene.call("0/429/no,0")
    assert (status, headers["x-shunt-attempts"], len(seen)) == (200, "2", 2)
    # Each of the two targets has said so; no job waits for what nobody will give.
    (status, headers, _), seen = scene.call("0/429/no", model="gpt-4o", prefer="respond-async")
    assert (status, headers["x-shunt-attempts"], len(seen)) == (429, "2", 2)
    assert headers["x-should-retry"] == "false"


def test_a_job_whose_provider_says_a_last_word_ends_with_it(scene):
    (status, headers, _), _ = scene.call("0/429/no", model="gpt-4o", prefer="respond-async, wait=0")
    assert status == 202
    result = scene.gateway.public + headers["location"] + "/result"
    scene.gateway.until(lambda: scene.gateway.fetch(result)[0] != 202, 20)
    job = json.loads(scene.gateway.fetch(scene.gateway.public + headers["location"])[2])
    assert (job["status"], job["error"]["code"]) == ("failed", "provider_error"), job


def test_what_the_caller_did_wrong_is_not_sent_again(gateway):
    status, headers, _ = timed(
        gateway, "/v1/chat/completions", CHAT, x_request_tag="my-fault", x_sim_status="404"
    )
    assert status == 404
    assert headers["x-shunt-attempts"] == "1"
    assert gateway.stats("my-fault")["received"] == 1


def test_a_target_that_is_down_is_left_alone_and_no_call_fails(gateway, tmp_path):
    from conftest import Gateway, start, stop

    config = tmp_path / "shunt.toml"
    config.write_text(f"""
[listen]
public = "127.0.0.1:0"
admin = "127.0.0.1:0"
[providers.up]
base_url = "{gateway.simulator}"
dialect = "openai"
[providers.down]
base_url = "http://127.0.0.1:1"
dialect = "openai"
[[routes]]
name = "both"
match = {{ path = "/v1/*" }}
targets = ["down", "up"]
[cold]
store = "sqlite:{tmp_path}/jobs.db"
""")
    process, found = start(["serve", "--config", str(config)], "public", "admin")
    both = Gateway(found["public"], found["admin"], gateway.simulator, None)
    attempts = []
    for _ in range(40):
        status, headers, _ = both.call("/v1/embeddings", {"model": "e", "input": "x"})
        assert status == 200
        assert headers["x-shunt-target"] == "up"
        attempts.append(int(headers["x-shunt-attempts"]))
    # A failed call counts as a second: the balance leaves the target alone before it is ejected.
    assert sum(attempts) <= 40 + 6
    assert attempts[-20:] == [1] * 20
    stop(process)


def test_a_call_that_waits_to_be_sent_again_is_not_hedged_meanwhile(scene):
    began = time.monotonic()
    (status, headers, _), seen = scene.call("20/503/1,0", model="lonely-4o")
    assert status == 200
    assert (headers["x-shunt-attempts"], len(seen)) == ("2", 2)
    assert time.monotonic() - began >= 1.0


@pytest.mark.parametrize("status, sent", [(500, 1), (504, 1), (503, 2)])
def test_a_call_that_stores_something_is_sent_again_only_where_nothing_was_done(scene, status, sent):
    (answered, _, _), seen = scene.call(f"0/{status},0", path="/v1/responses", body={"input": "x"})
    assert (len(seen), answered) == (sent, 200 if sent == 2 else status)


def test_an_attempt_of_a_job_that_is_cancelled_is_counted(scene):
    (status, headers, _), _ = scene.call("3000", model="gpt-4o", prefer="respond-async, wait=0")
    assert status == 202
    job = scene.gateway.public + headers["location"]
    running = lambda: json.loads(scene.gateway.fetch(job)[2])["status"] == "running"
    scene.gateway.until(running)
    assert scene.gateway.fetch(job, "DELETE")[0] == 200
    cancelled = lambda: scene.counted("shunt_job_attempts_total{", 'result="cancelled"') == 1
    scene.gateway.until(cancelled)
