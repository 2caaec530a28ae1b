"""One call however often it is sent: under an `Idempotency-Key`, and as an SDK's own retry."""

import json
import subprocess
import threading
import time
import uuid

import openai
import pytest

from conftest import Gateway, start, stop

HI = [{"role": "user", "content": "Hi"}]


def chat(model="gpt-4o", **more):
    return {"model": model, "messages": HI} | more


def key():
    return uuid.uuid4().hex


def together(*calls):
    """Runs calls side by side and gives what each gave."""
    given = [None] * len(calls)

    def run(at, call):
        given[at] = call()

    threads = [threading.Thread(target=run, args=one) for one in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return given


def test_a_key_gets_its_first_answer_again_and_the_provider_is_asked_once(gateway):
    name, tag = key(), key()
    send = lambda: gateway.call(
        "/v1/chat/completions", chat(), idempotency_key=f'"{name}"', x_request_tag=tag
    )
    status, headers, first = send()
    assert (status, headers.get("x-shunt-joined")) == (200, None)
    for _ in range(3):
        status, headers, again = send()
        assert (status, again) == (200, first)
        assert headers["x-shunt-joined"] in ("key", "store")
        assert headers["content-type"] == "application/json"
    # With and without quotes it is the same key.
    status, _, again = gateway.call(
        "/v1/chat/completions", chat(), idempotency_key=name, x_request_tag=tag
    )
    assert (status, again) == (200, first)
    assert gateway.stats(tag)["received"] == 1


def test_callers_of_one_key_share_a_call_that_still_runs_streamed_too(gateway):
    for streamed in (False, True):
        name, tag = key(), key()
        body = chat("other", stream=streamed, metadata={"sim_latency_ms": "700"})
        send = lambda: gateway.call(
            "/v1/chat/completions", body, idempotency_key=name, x_request_tag=tag
        )
        answers = together(*[send] * 5)
        assert {status for status, _, _ in answers} == {200}
        assert len({body for _, _, body in answers}) == 1
        joined = [headers.get("x-shunt-joined") for _, headers, _ in answers]
        assert sorted(joined, key=str) == [None] + ["key"] * 4 or joined.count("key") == 4
        assert gateway.stats(tag)["received"] == 1


def test_a_key_that_goes_with_another_body_is_refused(gateway):
    name = key()
    gateway.call("/v1/chat/completions", chat(), idempotency_key=name)
    status, _, body = gateway.call("/v1/chat/completions", chat(n=1), idempotency_key=name)
    assert status == 422
    assert json.loads(body)["error"]["code"] == "idempotency_mismatch"


def test_keys_of_other_callers_are_other_keys(gateway):
    name, tag = key(), key()
    bodies = set()
    for caller in ("Bearer one", "Bearer two"):
        status, headers, body = gateway.call(
            "/v1/chat/completions",
            chat(),
            idempotency_key=name,
            authorization=caller,
            x_request_tag=tag,
        )
        assert (status, headers.get("x-shunt-joined")) == (200, None)
        bodies.add(body)
    assert gateway.stats(tag)["received"] == 2


def test_a_failure_frees_its_key(gateway):
    name, tag = key(), key()
    send = lambda **more: gateway.call(
        "/v1/chat/completions", chat(), idempotency_key=name, x_request_tag=tag, **more
    )
    assert send(x_sim_status="500")[0] == 500
    asked = gateway.stats(tag)["received"]
    assert send()[0] == 200
    assert gateway.stats(tag)["received"] == asked + 1


def test_a_key_whose_call_became_a_job_gets_the_job_and_then_its_answer(gateway):
    name, tag = key(), key()
    send = lambda: gateway.call(
        "/v1/chat/completions",
        chat(metadata={"sim_latency_ms": "2500"}),
        idempotency_key=name,
        x_request_tag=tag,
        prefer="respond-async, wait=1",
    )
    status, headers, body = send()
    assert status == 202
    status, again, _ = send()
    assert (status, again["location"]) == (202, headers["location"])
    # The third comes while it runs, and is told within its own budget of a second.
    status, _, answer = send()
    assert status == 200
    assert json.loads(answer)["object"] == "chat.completion"
    assert gateway.stats(tag)["received"] == 1


def counted(gateway, *labels):
    _, _, text = gateway.fetch(gateway.admin + "/metrics")
    lines = text.decode().splitlines()
    found = [one for one in lines if one.startswith("shunt_requests_total{")]
    return sum(
        int(one.split()[-1]) for one in found if all(label in one for label in labels)
    )


def test_whoever_joins_counts_as_served_also_where_the_length_is_known(gateway):
    name = key()
    cancelled = counted(gateway, 'route="rest"', 'outcome="cancelled"')
    served = counted(gateway, 'route="rest"', 'outcome="served"')
    body = chat("other", metadata={"sim_latency_ms": "500"})
    send = lambda: gateway.call("/v1/chat/completions", body, idempotency_key=name)
    for status, headers, _ in together(*[send] * 4):
        assert status == 200
        assert "content-length" in headers
    gateway.until(lambda: counted(gateway, 'route="rest"', 'outcome="served"') == served + 4)
    assert counted(gateway, 'route="rest"', 'outcome="cancelled"') == cancelled


def test_an_empty_answer_is_an_answer_too(gateway):
    name, tag = key(), key()
    for _ in range(3):
        status, headers, body = gateway.call(
            "/raw/echo", b"", idempotency_key=name, x_request_tag=tag
        )
        assert (status, body) == (200, b"")
        time.sleep(0.1)
    assert gateway.stats(tag)["received"] == 1


def test_a_twin_that_asked_for_no_job_gets_an_answer_and_no_job(gateway):
    name, tag = key(), key()
    body = chat("other", metadata={"sim_latency_ms": "1500"})
    send = lambda **more: gateway.call(
        "/v1/chat/completions", body, idempotency_key=name, x_request_tag=tag, **more
    )
    first, second = together(
        lambda: send(prefer="respond-async, wait=1"), lambda: time.sleep(0.3) or send()
    )
    assert first[0] == 202
    assert second[0] == 200
    assert json.loads(second[2])["object"] == "chat.completion"
    assert gateway.stats(tag)["received"] == 1


def test_a_failure_that_a_stream_told_late_is_not_kept(gateway):
    name, tag = key(), key()
    body = chat("alive-1", stream=True, metadata={"sim_latency_ms": "500", "sim_status": "500"})
    status, headers, first = gateway.call(
        "/v1/chat/completions", body, idempotency_key=name, x_request_tag=tag
    )
    assert (status, b"error" in first) == (200, True)
    asked = gateway.stats(tag)["received"]
    gateway.call("/v1/chat/completions", body, idempotency_key=name, x_request_tag=tag)
    assert gateway.stats(tag)["received"] > asked


def test_finished_steps_are_back_at_once_after_a_crash(gateway, tmp_path):
    config = tmp_path / "shunt.toml"
    config.write_text(f"""
[listen]
public = "127.0.0.1:0"
admin = "127.0.0.1:0"
[providers.sim]
base_url = "{gateway.simulator}"
dialect = "openai"
[[routes]]
name = "all"
match = {{ path = "/v1/*" }}
targets = ["sim"]
[cold]
store = "sqlite:{tmp_path}/jobs.db"
""")
    tag, steps = key(), [key() for _ in range(5)]

    def run(name, latency="0"):
        body = chat("gpt-4o", stream=True, metadata={"sim_latency_ms": latency})
        status, _, body = again.call(
            "/v1/chat/completions", body, idempotency_key=name, x_request_tag=tag
        )
        assert status == 200
        return body

    process, found = start(["serve", "--config", str(config)], "public", "admin")
    again = Gateway(found["public"], found["admin"], gateway.simulator, None)
    first = [run(name) for name in steps]
    process.kill()
    process.wait()
    process, found = start(["serve", "--config", str(config)], "public", "admin")
    again = Gateway(found["public"], found["admin"], gateway.simulator, None)
    # Another call under a key of before is refused, and takes nothing away.
    for name in steps:
        status, _, _ = again.call("/v1/chat/completions", chat(n=1), idempotency_key=name)
        assert status == 422
    assert [run(name) for name in steps] == first
    assert gateway.stats(tag)["received"] == 5
    stop(process)
    for file in tmp_path.iterdir():
        data = file.read_bytes()
        assert not any(name.encode() in data for name in steps), file.name


def test_an_sdk_that_times_out_and_tries_again_costs_one_call(gateway):
    tag = key()
    client = openai.OpenAI(
        base_url=gateway.public + "/v1", api_key="k", timeout=2, max_retries=2
    )
    began = time.monotonic()
    answer = client.chat.completions.create(
        model="patient-1",
        messages=HI,
        metadata={"sim_latency_ms": "5000"},
        extra_headers={"x-request-tag": tag},
    )
    took = time.monotonic() - began
    assert answer.choices[0].message.content
    assert took > 4.5
    assert gateway.stats(tag) | {"tokens": 0} == {
        "received": 1, "completed": 1, "aborted": 0, "broken": 0, "running": 0, "tokens": 0
    }  # fmt: skip


def test_a_retry_of_an_answer_that_just_finished_joins_it_and_others_do_not(gateway):
    tag = key()
    send = lambda count: gateway.call(
        "/v1/chat/completions", chat(), x_stainless_retry_count=count, x_request_tag=tag
    )
    first = send("0")
    assert send("0")[1].get("x-shunt-joined") is None
    _, headers, body = send("1")
    assert headers["x-shunt-joined"] == "retry"
    assert body == first[2]
    assert gateway.stats(tag)["received"] == 2


def test_a_caller_that_vanished_is_waited_for_and_then_its_call_is_cancelled(gateway):
    tag = key()
    client = openai.OpenAI(
        base_url=gateway.public + "/v1", api_key="k", timeout=0.5, max_retries=0
    )
    began = time.monotonic()
    with pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(
            model="patient-1",
            messages=HI,
            metadata={"sim_latency_ms": "30000"},
            extra_headers={"x-request-tag": tag},
        )
    gateway.until(lambda: gateway.stats(tag)["aborted"] == 1)
    assert 3 < time.monotonic() - began < 5
