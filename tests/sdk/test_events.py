"""A job's events, read with a plain HTTP client, and a response's with OpenAI's SDK."""

import http.client
import json
import urllib.parse

import openai
import pytest

KEY = {"authorization": "Bearer test-key"}
WORDS = [f"word{at}" for at in range(16)]


def events(gateway, job, last=None, key=KEY):
    """Yields each event as a dict, with the comment before it."""
    address = urllib.parse.urlsplit(gateway.public).netloc
    connection = http.client.HTTPConnection(address, timeout=30)
    headers = key | ({"last-event-id": last} if last else {})
    connection.request("GET", f"/jobs/{job}/events", headers=headers)
    answer = connection.getresponse()
    if answer.status != 200:
        yield {"http": answer.status}
        return
    assert answer.headers["content-type"] == "text/event-stream"
    event = {}
    for line in answer:
        line = line.decode().rstrip("\n")
        if not line and event:
            yield event
            event = {}
        elif line.startswith(":"):
            event["comment"] = line
        elif line:
            name, _, value = line.partition(": ")
            event[name] = value
    connection.close()


def chat(gateway, prefer="respond-async, wait=1", **metadata):
    metadata = {"sim_latency_ms": "1300", "sim_gap_ms": "60"} | metadata
    body = {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "metadata": metadata,
    }
    status, _, made = gateway.call("/v1/chat/completions", body, prefer=prefer, **KEY)
    assert status == 202
    return json.loads(made)["id"]


def said(found):
    chunks = [one["data"] for one in found if one.get("event") != "status"]
    assert chunks[-1] == "[DONE]"
    deltas = [json.loads(one)["choices"][0]["delta"] for one in chunks[:-1]]
    return [delta["content"].strip() for delta in deltas if delta.get("content")]


def statuses(found):
    return [json.loads(one["data"])["status"] for one in found if one.get("event") == "status"]


def test_a_running_stream_is_read_from_its_first_chunk_and_then_live(gateway):
    job = chat(gateway)
    found, live = [], None
    for one in events(gateway, job):
        found.append(one)
        if live is None and "word0" in one["data"]:
            _, _, shown = gateway.fetch(f"{gateway.public}/jobs/{job}", headers=KEY)
            live = json.loads(shown)["status"]
    assert live == "running"
    assert statuses(found) == ["running", "succeeded"]
    assert said(found) == WORDS
    assert all(one["id"] for one in found)
    assert len({one["id"] for one in found}) == len(found)
    # The same again from what is stored.
    again = list(events(gateway, job))
    assert statuses(again) == ["succeeded"]
    assert said(again) == WORDS
    # What is replayed says when it came: 1.3 s after it was asked for, and then each 60 ms.
    came = [int(one["comment"].split()[1]) for one in again if "word" in one["data"]]
    assert came == sorted(came) and came[0] >= 1300
    assert came[-1] - came[0] >= 15 * 60


@pytest.mark.parametrize("cut", [1, 2, 5, 11])
def test_a_reader_comes_back_without_loss_or_repetition(gateway, cut):
    job = chat(gateway)
    found = []
    for one in events(gateway, job):
        found.append(one)
        if len(found) == cut:
            break
    for one in events(gateway, job, found[-1]["id"]):
        found.append(one)
    assert said(found) == WORDS
    assert statuses(found) == ["running", "succeeded"]
    # Back at the same place once it is finished, and after the end.
    rest = list(events(gateway, job, found[cut - 1]["id"]))
    assert [one["data"] for one in rest[:-1]] == [one["data"] for one in found[cut:-1]]
    assert list(events(gateway, job, found[-1]["id"])) == [{"http": 204}]


def test_a_place_that_is_not_in_the_answer_begins_again(gateway):
    job = chat(gateway)
    found = list(events(gateway, job, "9-00000000deadbeef-running"))
    assert found[0]["event"] == "restart"
    assert said(found[1:]) == WORDS


def test_a_job_that_is_not_streamed_tells_its_states(gateway):
    body = {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": "Hi"}],
        "metadata": {"sim_latency_ms": "1500"},
    }
    _, _, made = gateway.call("/v1/chat/completions", body, prefer="respond-async, wait=0", **KEY)
    job = json.loads(made)["id"]
    told = statuses(list(events(gateway, job)))
    assert told[-2:] == ["running", "succeeded"]
    assert told in (["queued", "running", "succeeded"], ["running", "succeeded"])


def test_a_cancelled_job_ends_its_events(gateway):
    job = chat(gateway, sim_latency_ms="30000")
    reader = events(gateway, job)
    assert json.loads(next(reader)["data"])["status"] == "running"
    gateway.fetch(f"{gateway.public}/jobs/{job}", "DELETE", KEY)
    assert statuses(list(reader)) == ["cancelled"]


def test_anothers_events_are_not_there(gateway):
    job = chat(gateway)
    for key in ({"authorization": "Bearer another"}, {}):
        assert list(events(gateway, job, key=key)) == [{"http": 404}]


@pytest.fixture
def client(gateway):
    return openai.OpenAI(base_url=gateway.public + "/v1", api_key="test-key")


def response(client, **metadata):
    raw = client.responses.with_raw_response.create(
        model="gpt-4o",
        input="Hi",
        stream=True,
        metadata={"sim_latency_ms": "1300", "sim_gap_ms": "60"} | metadata,
        extra_headers={"prefer": "respond-async, wait=1"},
    )
    assert raw.status_code == 202
    return json.loads(raw.http_response.read())["id"]


def test_a_streamed_response_is_read_live_and_again_from_any_number(client):
    made = response(client)
    read = []
    for event in client.responses.retrieve(made, stream=True):
        read.append(event)
        if event.sequence_number == 7:
            break
    assert read[0].type == "response.created"
    assert (read[0].response.id, read[0].response.background) == (made, True)
    rest = list(client.responses.retrieve(made, stream=True, starting_after=7))
    numbers = [event.sequence_number for event in read + rest]
    assert numbers == list(range(len(numbers)))
    assert rest[-1].type == "response.completed"
    assert (rest[-1].response.id, rest[-1].response.status) == (made, "completed")
    deltas = [one.delta for one in read + rest if one.type == "response.output_text.delta"]
    assert "".join(deltas).split() == WORDS
    again = list(client.responses.retrieve(made, stream=True, starting_after=7))
    assert [one.to_json() for one in again] == [one.to_json() for one in rest]
    whole = client.responses.retrieve(made)
    assert (whole.id, whole.status, whole.background) == (made, "completed", True)
    assert whole.output_text.split() == WORDS


def test_a_cancelled_response_ends_its_stream(client):
    made = response(client, sim_latency_ms="30000")
    reader = iter(client.responses.retrieve(made, stream=True))
    assert next(reader).type == "response.created"
    client.responses.cancel(made)
    last = list(reader)[-1]
    assert (last.type, last.response.status) == ("response.failed", "cancelled")


def test_a_response_that_was_not_streamed_cannot_be(client):
    made = client.responses.create(
        model="gpt-4o", input="Hi", extra_headers={"prefer": "respond-async, wait=0"}
    )
    with pytest.raises(openai.BadRequestError):
        client.responses.retrieve(made.id, stream=True)


def test_an_unmodified_stream_across_the_wall_comes_as_a_stream(gateway):
    body = {
        "model": "slow-1",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "metadata": {"sim_latency_ms": "1000"},
    }
    status, headers, _ = gateway.call("/v1/chat/completions", body, **KEY)
    while status == 303:
        status, headers, answer = gateway.fetch(gateway.public + headers["location"], headers=KEY)
    assert (status, headers["content-type"].split(";")[0]) == (200, "text/event-stream")
    assert answer.count(b"data: ") == 16 + 3 and answer.endswith(b"data: [DONE]\n\n")
