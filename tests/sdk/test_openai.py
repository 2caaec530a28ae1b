"""The official OpenAI SDK, with nothing changed but its base URL."""

import base64
import json

import openai
import pytest
import standardwebhooks

from conftest import SECRET

MESSAGES = [{"role": "user", "content": "Hi"}]
TOOLS = [
    {
        "type": "function",
        "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
    }
]


@pytest.fixture
def client(gateway):
    return openai.OpenAI(base_url=gateway.public + "/v1", api_key="test-key")


def test_a_chat_is_answered(client):
    answer = client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    assert answer.choices[0].message.content.startswith("word0 ")
    assert answer.usage.completion_tokens == 16


def test_a_stream_arrives_token_by_token(client):
    stream = client.chat.completions.create(
        model="gpt-4o", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text.split() == [f"word{at}" for at in range(16)]
    assert chunks[-1].usage.completion_tokens == 16


def test_tools_are_called_streamed_and_not(client):
    answer = client.chat.completions.create(model="gpt-4o", messages=MESSAGES, tools=TOOLS)
    assert answer.choices[0].message.tool_calls[0].function.name == "weather"
    stream = client.chat.completions.create(
        model="gpt-4o", messages=MESSAGES, tools=TOOLS, stream=True
    )
    calls = [c.choices[0].delta.tool_calls for c in stream if c.choices[0].delta.tool_calls]
    assert calls[0][0].function.name == "weather"


def test_embeddings_arrive_as_numbers(client):
    answer = client.embeddings.create(model="embed", input=["a", "b"])
    assert len(answer.data) == 2
    assert answer.data[0].embedding[0] == pytest.approx(0.1)


def test_responses_are_answered_and_streamed(client):
    answer = client.responses.create(model="gpt-4o", input="Hi")
    assert answer.output_text.startswith("word0 ")
    events = list(client.responses.create(model="gpt-4o", input="Hi", stream=True))
    assert events[-1].type == "response.completed"
    assert any(event.type == "response.output_text.delta" for event in events)


def test_models_are_listed(client):
    assert [model.id for model in client.models.list()][0] == "gpt-4o"


@pytest.mark.parametrize(
    ("model", "key", "error"),
    [
        ("gpt-4o", "wrong-key", openai.AuthenticationError),
        ("no-route-takes-it", "k", None),
    ],
)
def test_a_providers_errors_are_the_sdks_own(gateway, model, key, error):
    client = openai.OpenAI(base_url=gateway.public + "/v1", api_key=key)
    if error is None:
        # The last route takes every model.
        client.chat.completions.create(model=model, messages=MESSAGES)
        return
    with pytest.raises(error):
        client.chat.completions.create(model=model, messages=MESSAGES)


def test_an_unknown_model_is_the_sdks_not_found(client):
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="unknown-model", messages=MESSAGES)


def test_a_call_over_its_budget_is_a_504_that_is_not_retried(gateway, client):
    with pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(
            model="gpt-4o",
            messages=MESSAGES,
            metadata={"sim_latency_ms": "5000"},
            extra_headers={"x-request-tag": "over-budget"},
        )
    assert raised.value.status_code == 504
    assert raised.value.code == "budget_exceeded"
    gateway.until(lambda: gateway.stats("over-budget").get("aborted") == 1)
    assert gateway.stats("over-budget")["received"] == 1


def test_an_unmodified_sdk_follows_a_demoted_call_to_its_answer(gateway, client):
    answer = client.chat.completions.create(
        model="slow-1",
        messages=MESSAGES,
        metadata={"sim_latency_ms": "1500"},
        extra_headers={"x-request-tag": "see-other"},
    )
    assert answer.choices[0].message.content.startswith("word0 ")
    assert gateway.stats("see-other")["received"] == 1


def test_a_demoted_call_is_sent_once_and_called_back_signed(gateway, client):
    url = gateway.receiver.url("signed")
    raw = client.chat.completions.with_raw_response.create(
        model="gpt-4o",
        messages=MESSAGES,
        metadata={"sim_latency_ms": "2000"},
        extra_headers={
            "prefer": f'respond-async, callback; url="{url}"',
            "x-request-tag": "callback",
        },
    )
    job = json.loads(raw.text)
    assert (raw.status_code, job["status"], job["reason"]) == (202, "running", "budget_exceeded")
    assert raw.headers["location"] == f"/jobs/{job['id']}"
    assert raw.headers["preference-applied"] == "respond-async"
    [(_, headers, body)] = gateway.receiver.wait_for("signed")
    told = standardwebhooks.Webhook(SECRET).verify(body, headers)
    assert told["type"] == "job.succeeded"
    assert told["data"]["id"] == job["id"]
    assert told["data"]["response"]["body"]["object"] == "chat.completion"
    unwrapped = client.webhooks.verify_signature(body, headers, secret=SECRET)
    assert unwrapped is None
    assert gateway.stats("callback")["received"] == 1


def test_a_callback_that_fails_is_sent_again_under_the_same_id(gateway, client):
    gateway.receiver.failures = 1
    client.chat.completions.with_raw_response.create(
        model="gpt-4o",
        messages=MESSAGES,
        extra_headers={
            "prefer": "respond-async, wait=0",
            "x-shunt-callback": gateway.receiver.url("again"),
        },
    )
    first, second = gateway.receiver.wait_for("again", count=2)
    assert first[1]["webhook-id"] == second[1]["webhook-id"]
    assert first[2] == second[2]


def test_a_job_is_polled_and_its_result_is_the_providers_answer(gateway):
    body = {"model": "gpt-4o", "messages": MESSAGES}
    key = {"authorization": "Bearer mine"}
    status, headers, answer = gateway.call(
        "/v1/chat/completions", body, prefer="respond-async, wait=0", **key
    )
    job = json.loads(answer)
    assert (status, job["status"], job["reason"]) == (202, "queued", "requested")
    self_link, result_link = job["links"]["self"], job["links"]["result"]
    status, _, polled = gateway.fetch(
        gateway.public + self_link, headers=key | {"prefer": "wait=10"}
    )
    assert json.loads(polled)["status"] == "succeeded"
    status, headers, result = gateway.fetch(gateway.public + result_link, headers=key)
    assert status == 200
    assert headers["content-type"] == "application/json"
    assert json.loads(result)["object"] == "chat.completion"
    for other in ({"authorization": "Bearer another"}, {}):
        status, _, _ = gateway.fetch(gateway.public + self_link, headers=other)
        assert status == 404


def test_a_demoted_stream_is_replayed_as_a_stream(gateway, client):
    stream = client.chat.completions.create(
        model="slow-1", messages=MESSAGES, stream=True, metadata={"sim_latency_ms": "1000"}
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert text.split() == [f"word{at}" for at in range(16)]


def test_a_cancelled_job_is_cancelled_at_the_provider(gateway):
    body = {"model": "gpt-4o", "messages": MESSAGES, "metadata": {"sim_latency_ms": "30000"}}
    _, _, answer = gateway.call(
        "/v1/chat/completions", body, prefer="respond-async, wait=1", x_request_tag="cancel-job"
    )
    link = gateway.public + json.loads(answer)["links"]["self"]
    status, _, cancelled = gateway.fetch(link, "DELETE")
    assert (status, json.loads(cancelled)["status"]) == (200, "cancelled")
    gateway.until(lambda: gateway.stats("cancel-job").get("aborted") == 1)
    status, _, _ = gateway.fetch(link, "DELETE")
    assert status == 409


def test_a_provider_is_reached_by_its_name(gateway):
    client = openai.OpenAI(base_url=gateway.public + "/sim/v1", api_key="k")
    answer = client.chat.completions.create(model="anything", messages=MESSAGES)
    assert answer.choices[0].message.content


@pytest.mark.parametrize(
    ("body", "headers", "says"),
    [
        (b"not json", {}, "not JSON"),
        ({"model": 7, "messages": []}, {}, "send a string"),
        ({"model": "gpt-4o", "stream": "yes"}, {}, "wrong type"),
        ({"model": "gpt-4o"}, {"prefer": "respond-async, wait=soon"}, "wait=2"),
        ({"model": "gpt-4o"}, {"x_shunt_budget": "fast"}, "duration"),
        ({"model": "gpt-4o"}, {"x_shunt_callback": "https://127.0.0.1/x"}, "public address"),
        ({"model": "gpt-4o"}, {"x_shunt_callback": "http://example.com/x"}, "https"),
        ({"model": "gpt-4o"}, {"x_shunt_callback": "https://169.254.169.254/"}, "public address"),
    ],
)
def test_a_bad_request_says_what_to_send_and_starts_nothing(gateway, body, headers, says):
    tag = base64.b32encode(says.encode()).decode()
    status, _, answer = gateway.call(
        "/v1/chat/completions", body, x_request_tag=tag, **headers
    )
    error = json.loads(answer)["error"]
    assert (status, error["code"]) == (400, "bad_request")
    assert says in error["message"]
    assert gateway.stats(tag) == {}


def test_a_path_that_no_route_takes_says_so(gateway):
    status, _, answer = gateway.call("/v2/nothing", {})
    assert (status, json.loads(answer)["code"]) == (404, "no_route")
    assert "/sim/…" in json.loads(answer)["detail"]


@pytest.mark.parametrize("path", ["/jobs?limit=many", "/jobs?status=failed&status=failed", "/jobs?stauts=failed", "/jobs/job_0/result?wait=abc"])
def test_a_query_that_cannot_be_read_is_a_problem_like_any_other(gateway, path):
    status, headers, answer = gateway.fetch(gateway.public + path)
    problem = json.loads(answer)
    assert (status, problem["code"]) == (400, "bad_request")
    assert headers["content-type"] == "application/problem+json"
    assert "the query cannot be read; send " in problem["detail"]


@pytest.mark.parametrize("path", ["/api/jobs?stauts=failed", "/api/callbacks/dead?limt=5"])
def test_a_misspelt_query_of_operators_is_refused_by_its_name(gateway, path):
    status, _, answer = gateway.fetch(gateway.admin + path)
    assert status == 400 and path.split("?")[1].split("=")[0] in answer.decode(), answer


@pytest.mark.parametrize("path", ["/jobs", "/jobs/job_0/result", "/scopes/a", "/jobs/%ff", "/scopes/%ff"])
def test_a_page_that_is_asked_wrongly_answers_with_a_problem(gateway, path):
    method = "GET" if "%" in path else "POST"
    status, headers, answer = gateway.fetch(gateway.public + path, method)
    wanted = (400, "bad_request") if "%" in path else (405, "method_not_allowed")
    assert (status, json.loads(answer)["code"]) == wanted
    assert headers["content-type"] == "application/problem+json"
    assert ("allow" in {name.lower() for name in headers}) == (status == 405)
