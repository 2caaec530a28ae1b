"""Responses in the background, with OpenAI's own SDK."""

import time

import openai
import pytest

from conftest import SECRET

WAIT = {"prefer": "respond-async, wait=1"}


@pytest.fixture
def client(gateway):
    return openai.OpenAI(base_url=gateway.public + "/v1", api_key="test-key")


def create(client, latency, headers=WAIT, **more):
    metadata = {"sim_latency_ms": str(latency)} | more.pop("metadata", {})
    return client.responses.create(
        model="gpt-4o", input="Hi", metadata=metadata, extra_headers=headers, **more
    )


def polled(client, made, seconds=15):
    end = time.monotonic() + seconds
    while made.status in ("queued", "in_progress"):
        assert time.monotonic() < end
        time.sleep(0.05)
        made = client.responses.retrieve(made.id)
    return made


def test_a_demoted_response_is_polled_to_its_end(gateway, client):
    tag = {"x-request-tag": "background"}
    made = create(client, 2000, WAIT | tag, metadata={"mine": "yes"})
    assert (made.status, made.background, made.output) == ("in_progress", True, [])
    assert (made.model, made.metadata["mine"], made.usage) == ("gpt-4o", "yes", None)
    assert client.responses.retrieve(made.id).status == "in_progress"
    done = polled(client, made)
    assert (done.id, done.status, done.background) == (made.id, "completed", True)
    assert done.output_text.startswith("word0 ")
    assert done.usage.output_tokens == 16
    assert gateway.stats("background")["received"] == 1


def test_its_head_says_what_it_is_and_a_provider_prefix_changes_nothing(gateway):
    client = openai.OpenAI(base_url=gateway.public + "/sim/v1", api_key="test-key")
    raw = client.responses.with_raw_response.create(
        model="gpt-4o", input="Hi", extra_headers={"prefer": "respond-async, wait=0"}
    )
    made = raw.parse()
    assert (raw.status_code, made.status) == (202, "queued")
    assert raw.headers["location"] == "/jobs/job_" + made.id.removeprefix("resp_")
    assert (raw.headers["retry-after"], raw.headers["preference-applied"]) == ("1", "respond-async")
    assert polled(client, made).status == "completed"


def test_a_response_is_cancelled_once_and_as_often_as_one_likes(gateway, client):
    made = create(client, 30000, WAIT | {"x-request-tag": "cancel-response"})
    for _ in range(2):
        cancelled = client.responses.cancel(made.id)
        assert (cancelled.id, cancelled.status) == (made.id, "cancelled")
    assert client.responses.retrieve(made.id).status == "cancelled"
    gateway.until(lambda: gateway.stats("cancel-response").get("aborted") == 1)
    done = polled(client, create(client, 1, {"prefer": "respond-async, wait=0"}))
    assert client.responses.cancel(done.id).status == "completed"


def test_a_response_that_fails_says_why(client):
    asked = {"prefer": "respond-async, wait=0"}
    made = create(client, 1, asked, metadata={"sim_status": "400"})
    failed = polled(client, made)
    assert (failed.status, failed.error.message) == ("failed", "simulated")


def test_anothers_response_is_not_there_and_a_providers_own_is_the_providers(gateway, client):
    made = create(client, 1, {"prefer": "respond-async, wait=0"})
    other = client.with_options(api_key="another-key")
    for call in (other.responses.retrieve, other.responses.cancel):
        with pytest.raises(openai.NotFoundError) as raised:
            call(made.id)
        assert made.id in raised.value.message
    for name in ("resp_" + "0" * 32, "resp_1"):
        raw = gateway.fetch(gateway.public + "/v1/responses/" + name)
        assert raw[0] == 404
        assert raw[1]["x-shunt-target"] == "sim"


def test_a_caller_that_did_not_ask_never_meets_this_shape(gateway, client):
    whole = client.responses.create(model="gpt-4o", input="Hi", background=True)
    assert (whole.id, whole.status) == ("resp_1", "completed")
    with pytest.raises(openai.InternalServerError) as raised:
        client.responses.create(
            model="gpt-4o",
            input="Hi",
            metadata={"sim_latency_ms": "5000"},
            extra_headers={"x-shunt-budget": "200ms"},
        )
    assert raised.value.code == "budget_exceeded"


def test_a_chat_that_is_a_job_is_no_response(gateway):
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}
    status, headers, _ = gateway.call("/v1/chat/completions", body, prefer="respond-async, wait=0")
    assert status == 202
    name = headers["location"].rsplit("/", 1)[1].replace("job_", "resp_")
    status, headers, _ = gateway.fetch(f"{gateway.public}/v1/responses/{name}")
    assert (status, headers["x-shunt-target"]) == (404, "sim")


@pytest.mark.parametrize(
    ("metadata", "kind"),
    [({}, "response.completed"), ({"sim_status": "400"}, "response.failed")],
)
def test_its_callback_is_an_event_that_the_sdk_unwraps(gateway, client, metadata, kind):
    path = "event-" + kind
    headers = {"prefer": "respond-async, wait=0", "x-shunt-callback": gateway.receiver.url(path)}
    made = create(client, 1, headers, metadata=metadata)
    [(_, headers, body)] = gateway.receiver.wait_for(path)
    event = client.webhooks.unwrap(body, headers, secret=SECRET)
    assert (event.object, event.type, event.data.id) == ("event", kind, made.id)
    assert event.id.startswith("evt_")
    assert abs(event.created_at - time.time()) < 60


def test_a_cancelled_response_calls_back_too(gateway, client):
    headers = WAIT | {"x-shunt-callback": gateway.receiver.url("event-cancelled")}
    made = create(client, 30000, headers)
    client.responses.cancel(made.id)
    [(_, headers, body)] = gateway.receiver.wait_for("event-cancelled")
    event = client.webhooks.unwrap(body, headers, secret=SECRET)
    assert (event.type, event.data.id) == ("response.cancelled", made.id)


def test_a_conversation_goes_on_from_a_response_that_shunt_named(gateway, client):
    first = create(client, 2000)
    with pytest.raises(openai.BadRequestError) as raised:
        create(client, 1, {}, previous_response_id=first.id)
    assert "poll it until it is completed" in raised.value.message
    done = polled(client, first)
    second = create(client, 1, {}, previous_response_id=done.id)
    assert (second.status, second.previous_response_id) == ("completed", "resp_1")
    # A name that is none of this caller's is the provider's to know.
    for caller, name in ((client.with_options(api_key="another-key"), done.id), (client, "resp_2")):
        with pytest.raises(openai.BadRequestError) as raised:
            create(caller, 1, {}, previous_response_id=name)
        assert "no such previous response" in raised.value.message
