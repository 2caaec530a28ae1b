"""Streams that are late or slow: comments until the first token, and the least rate."""

import http.client
import json
import time

import anthropic
import openai
import pytest

MESSAGES = [{"role": "user", "content": "Hi"}]


def stream(model):
    return {"model": model, "messages": MESSAGES, "stream": True}


@pytest.fixture
def client(gateway):
    return openai.OpenAI(base_url=gateway.public + "/v1", api_key="test-key")


def test_a_late_stream_is_kept_busy_with_comments_and_then_passes_whole(gateway):
    status, headers, body = gateway.call(
        "/v1/chat/completions", stream("alive-1"), x_sim_latency_ms="700"
    )
    assert status == 200
    assert headers["content-type"] == "text/event-stream"
    assert headers["x-shunt-route"] == "alive"
    assert body.startswith(b": keepalive\n\n" * 2 + b": keepalive\n\n")
    assert body.endswith(b"data: [DONE]\n\n")
    assert b"word15" in body


def test_a_stream_in_time_has_no_comments(gateway):
    _, headers, body = gateway.call("/v1/chat/completions", stream("alive-1"))
    assert b": keepalive" not in body
    assert headers["x-shunt-target"] == "sim"


def test_the_sdk_reads_over_the_comments(client):
    answer = client.chat.completions.create(
        **stream("alive-1"), extra_headers={"x-sim-latency-ms": "700"}
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices)
    assert text.split() == [f"word{at}" for at in range(16)]


def test_a_budget_that_ends_after_the_comments_is_the_sdks_own_error(gateway, client):
    answer = client.chat.completions.create(
        **stream("alive-1"),
        extra_headers={"x-request-tag": "alive-late", "x-sim-latency-ms": "5000"},
    )
    with pytest.raises(openai.APIError) as raised:
        list(answer)
    assert "budget" in str(raised.value)
    gateway.until(lambda: gateway.stats("alive-late").get("aborted") == 1)


def test_an_error_after_the_comments_is_the_sdks_own_error_in_anthropics_shape(gateway):
    client = anthropic.Anthropic(base_url=gateway.public, api_key="test-key")
    with pytest.raises(anthropic.APIStatusError) as raised:
        with client.messages.stream(
            model="alive-1",
            max_tokens=64,
            messages=MESSAGES,
            extra_headers={"x-sim-latency-ms": "5000"},
        ) as answer:
            list(answer.text_stream)
    assert "budget" in str(raised.value)


def test_a_caller_that_leaves_during_the_comments_cancels_at_the_provider(gateway):
    import socket

    host, port = gateway.public.removeprefix("http://").split(":")
    body = json.dumps(stream("alive-1")).encode()
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"x-request-tag: alive-left\r\nx-sim-latency-ms: 900\r\n"
            b"content-length: %d\r\n\r\n%s" % (len(body), body)
        )
        assert b"200 OK" in connection.recv(65536)
    gateway.until(lambda: gateway.stats("alive-left").get("aborted") == 1)


def test_a_stream_below_its_least_rate_is_cut_after_ten_seconds(gateway):
    began = time.monotonic()
    with pytest.raises(http.client.IncompleteRead):
        gateway.call(
            "/v1/chat/completions", stream("paced-1"), x_sim_tokens="40", x_sim_gap_ms="500"
        )
    assert 9.5 < time.monotonic() - began < 13
    _, _, text = gateway.fetch(gateway.admin + "/metrics")
    assert b'shunt_budget_exceeded_total{route="paced",action="fail"} 1' in text
