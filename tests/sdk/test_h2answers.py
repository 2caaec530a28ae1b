"""Providers over HTTP/2 that do nothing wrong: what their frames mean for the call."""

import urllib.request

import h2lies
import pytest
from conftest import start, stop, until
from h2raw import *
from test_h2lies import call

LENGTH = ("content-length", "2")


def configuration(folder, provider):
    return f"""
[listen]
public = "127.0.0.1:0"
admin = "127.0.0.1:0"
[server]
workers = 1
[cold]
store = "sqlite:{folder}/jobs.db"
[providers.p]
base_url = "{provider.url}"
protocol = "http2"
dialect = "openai"
warm_connections = 0
[[routes]]
name = "r"
match = {{ path = "/r/*" }}
targets = ["p"]
budget = {{ first_token = "5s", total = "5s" }}
"""


@pytest.fixture()
def answering(tmp_path):
    """A gateway before a provider that answers `/first` so: its listeners, and a reader of its metrics."""
    begun = []

    def begin(parts):
        provider = h2lies.Provider(parts)
        config = tmp_path / "shunt.toml"
        config.write_text(configuration(tmp_path, provider))
        process, found = start(["serve", "--config", str(config)], "public", "admin")
        begun.append((process, provider))

        def told(name):
            text = urllib.request.urlopen(found["admin"] + "/metrics", timeout=5).read().decode()
            return [line for line in text.splitlines() if line.startswith(name) and not line.endswith(" 0")]

        return found["public"], told

    yield begin
    for process, provider in begun:
        stop(process)
        provider.close()


@pytest.mark.parametrize("wait", [0, 0.3], ids=["with the last bytes", "later"])
def test_an_answer_whose_length_has_come_is_served_though_its_stream_ends_in_a_frame_of_its_own(answering, wait):
    public, told = answering(lambda link: [
        link.head(LENGTH) + link.body(b"ok", 0) + (b"" if wait else link.body(b"")), wait, link.body(b"") if wait else b"",
    ])
    for _ in range(3):
        head, body, ended, _ = call(public, "/r/first")
        assert head.startswith(b"HTTP/1.1 200") and body == b"ok" and ended
    until(lambda: told("shunt_requests_total{"), 5)
    [line] = told("shunt_requests_total{")
    assert 'outcome="served"' in line and line.endswith(" 3"), line


UNSEEN = {
    "reset": lambda link: [link.reset(REFUSED)],
    # The last stream it saw is none of this connection, which it then closes.
    "connection": lambda link: [link.away(0), None],
}


@pytest.mark.parametrize("how", UNSEEN)
def test_a_stream_that_was_refused_unseen_is_sent_again_whatever_it_asks(answering, how):
    refused = []

    def once(link):
        refused.append(link.stream)
        return UNSEEN[how](link) if len(refused) == 1 else [link.whole(LENGTH)]

    public, told = answering(once)
    head, body, _, _ = call(public, "/r/first", "POST", b'{"model": "m", "input": "not to be done twice"}')
    assert head.startswith(b"HTTP/1.1 200") and body == b"ok", head
    assert len(refused) == 2
    [line] = told("shunt_retries_total{")
    assert 'reason="refused"' in line and line.endswith(" 1"), line


def test_what_the_gateway_itself_answers_to_head_has_no_body(answering):
    public, _ = answering(lambda link: [link.whole(LENGTH)])
    for path in ("/nowhere", "/jobs/job_none"):
        peer = Peer(public)
        block = peer.encoder.encode(common("HEAD", path))
        peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block))
        seen, data = {}, b""
        while True:
            kind, flags, stream, payload = peer.read()
            if kind == HEADERS:
                seen = dict(peer.decoder.decode(payload))
            if kind == DATA:
                data += payload
            if stream == 1 and flags & END_STREAM:
                break
        assert seen[":status"] == "404" and data == b"", (path, seen, data)
