"""Traces: what a real OTLP receiver gets of each call, and that no call waits for one."""

import contextlib
import json
import pathlib
import random
import re
import socket
import time

import grpc
import pytest
from otlp import Grpc, Http
from scripted import PATH, Scene
from test_tls import Authority

INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER = 1, 2, 3, 4, 5


PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "traces.md").read_text()


def traces(receiver, **more):
    keys = {"endpoint": f"http://127.0.0.1:{receiver.port}", "protocol": receiver.protocol, "sample": 1.0} | more
    return "[traces]\n" + "".join(f"{name} = {json.dumps(one)}\n" for name, one in keys.items())


def place(sampled=True):
    """A caller's place in a trace: its id, its span and its header."""
    trace, span = f"{random.getrandbits(128):032x}", f"{random.getrandbits(64):016x}"
    return trace, span, f"00-{trace}-{span}-{'01' if sampled else '00'}"


class Traced(Scene):
    def __init__(self, folder, receiver, more="", **keys):
        self.receiver_of_traces = receiver
        super().__init__(folder, traces(receiver, **keys) + more, OTLP_SECRET="otlp-secret")

    def spans(self, trace, count):
        received = self.receiver_of_traces
        self.gateway.until(lambda: len(received.of(trace)) >= count, 15)
        time.sleep(0.1)
        found = received.of(trace)
        assert len(found) == count, found
        return found

    def traced(self, count, script="0", sampled=True, **more):
        """A call in a trace of its own: its caller's span, the answer, and all spans."""
        trace, span, header = place(sampled)
        answer, seen = self.call(script, traceparent=header, **more)
        return span, answer, seen, self.spans(trace, count)


@pytest.fixture(scope="module", params=[Grpc, Http])
def scene(request, tmp_path_factory):
    receiver = request.param()
    scene = Traced(tmp_path_factory.mktemp("traces"), receiver)
    yield scene
    scene.close()
    receiver.close()
    # The page tells of every attribute that came.
    known = set(re.findall(r"`((?:gen_ai|shunt|http|server|url|error)[\w.]+)`", PAGE))
    told = {name for span in receiver.spans for name in span.attributes}
    assert told and told - {"server.port"} <= known, told - known


def test_a_call_is_a_span_with_one_inside_for_its_attempt(scene):
    began = time.time()
    caller, (status, headers, _), seen, (call, attempt) = scene.traced(
        2, "50", tracestate="vendor=1", body={"messages": [{"role": "user", "content": "a-prompt"}]})
    assert status == 200
    assert (call.name, call.kind, call.parent, call.state) == ("POST plain", SERVER, caller, "vendor=1")
    assert (attempt.name, attempt.kind, attempt.parent) == ("chat plain-4o", CLIENT, call.id)
    assert began - 0.1 <= call.start <= attempt.start and attempt.end <= call.end + 1e-3 <= time.time()
    assert 0.05 <= attempt.end - attempt.start < 5
    for span in (call, attempt):
        assert not span.failed and "error.type" not in span.attributes
        assert (span["gen_ai.operation.name"], span["gen_ai.request.model"]) == ("chat", "plain-4o")
        assert span["gen_ai.response.model"] == "plain-4o-2026-11-01"
        assert (span["gen_ai.usage.input_tokens"], span["gen_ai.usage.output_tokens"]) == (7, 2)
        assert (span["http.request.method"], span["http.response.status_code"]) == ("POST", 200)
    assert (call["url.path"], call["shunt.route"], call["shunt.outcome"]) == (PATH, "plain", "served")
    assert call["shunt.request.id"] == headers["x-shunt-request-id"]
    assert call["shunt.over_budget"] is False and call["shunt.budget"] == 5
    assert attempt["gen_ai.provider.name"] == "openai"
    assert f"http://{attempt['server.address']}:{attempt['server.port']}" == scene.provider.url()
    assert (attempt["shunt.attempt.kind"], attempt["shunt.attempt.result"]) == ("first", "won")
    assert call.resource["service.name"] == "shunt" and call.resource["service.instance.id"]
    # The provider's own spans belong to the attempt.
    assert seen[0]["traceparent"] == f"00-{call.trace}-{attempt.id}-01"
    assert seen[0]["tracestate"] == "vendor=1"
    assert b"a-prompt" not in scene.receiver_of_traces.raw


def test_what_is_no_place_in_a_trace_is_passed_on_by_nobody(scene):
    _, seen = scene.call(traceparent="00-nonsense", tracestate="vendor=1")
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-03", seen[0]["traceparent"])
    assert "tracestate" not in seen[0]
    (call, _) = scene.spans(seen[0]["traceparent"].split("-")[1], 2)
    assert call.parent == "" and call.state == ""


def test_a_stream_has_its_first_token(scene):
    _, _, _, (call, attempt) = scene.traced(2, "80", body={"stream": True})
    assert call["gen_ai.request.stream"] and attempt["gen_ai.request.stream"]
    assert call["gen_ai.response.model"] == attempt["gen_ai.response.model"] == "plain-4o-2026-11-01"
    assert 0.08 <= attempt["gen_ai.response.time_to_first_chunk"] <= call["gen_ai.server.time_to_first_token"] + 1e-3
    assert call["gen_ai.server.time_to_first_token"] < call.end - call.start


def test_a_stream_that_begins_with_a_comment_tells_its_model_too(scene):
    _, _, _, (call, attempt) = scene.traced(2, "80", body={"stream": True, "user": "comment-first"})
    assert call["gen_ai.response.model"] == attempt["gen_ai.response.model"] == "plain-4o-2026-11-01"


def test_hedges_are_siblings_with_links_and_the_loser_is_cancelled(scene):
    _, _, seen, (call, lost, won) = scene.traced(3, "500,0", model="gpt-4o")
    assert lost.parent == won.parent == call.id and lost.id != won.id
    assert (lost["shunt.attempt.result"], lost["shunt.attempt.cancelled"]) == ("lost", True)
    assert (won["shunt.attempt.result"], won["shunt.attempt.cancelled"]) == ("won", False)
    assert won["shunt.attempt.kind"] == "hedge" and won.links == [(call.trace, lost.id)] and lost.links == []
    assert won.start >= lost.start + 0.14 and not lost.failed
    assert [one["traceparent"].split("-")[2] for one in seen] == [lost.id, won.id]


def test_a_failed_attempt_is_an_error_and_the_call_it_did_not_fail_is_none(scene):
    _, _, _, (call, failed, won) = scene.traced(3, "0/500,0")
    assert failed.failed and failed["error.type"] == "500" and failed["http.response.status_code"] == 500
    assert not call.failed and won.links == [(call.trace, failed.id)]
    _, _, _, (call, *attempts) = scene.traced(3, "0/500,0/500")
    assert call.failed and call["error.type"] == "500" and all(one.failed for one in attempts)


def test_a_call_over_its_budget_says_so(scene):
    _, _, _, (call, *attempts) = scene.traced(3, "900", model="gpt-4o")
    assert call.failed and call["error.type"] == "budget_exceeded" and call["shunt.over_budget"]
    assert {one["shunt.attempt.result"] for one in attempts} == {"cancelled"}


def test_a_refused_call_is_a_span_of_its_own(scene):
    trace, span, header = place()
    scene.gateway.call("/nowhere", {}, traceparent=header)
    (call,) = scene.spans(trace, 1)
    assert (call.name, call.parent, call["shunt.why"]) == ("POST", span, "no_route")
    # What its caller did wrong is no error of the gateway's.
    assert not call.failed and call["http.response.status_code"] == 404


def test_a_job_belongs_to_its_call_from_the_hand_off_to_the_callback(scene):
    receiver = scene.receiver
    _, (status, _, body), _, spans = scene.traced(
        8, "900", model="gpt-4o", prefer="respond-async", x_shunt_callback=receiver.url("job-" + scene.receiver_of_traces.protocol))
    assert status == 202
    job = json.loads(body)["id"]
    (call,), (hand_off,), (run,) = ([one for one in spans if one.kind == kind] for kind in (SERVER, PRODUCER, CONSUMER))
    clients = [one for one in spans if one.kind == CLIENT]
    (callback,) = [one for one in clients if one.name == "callback"]
    attempts = [one for one in clients if one.parent == call.id]
    assert {one["shunt.attempt.result"] for one in attempts} == {"handed_over"} and len(attempts) == 2
    assert call["shunt.outcome"] == "demoted" and call["shunt.why"] == "budget_exceeded" and not call.failed
    assert {one["shunt.job.id"] for one in (call, hand_off, run, callback)} == {job}
    assert hand_off.parent == call.id and hand_off.start - call.start > 0.5
    assert run.parent == hand_off.id and run.links == [(call.trace, hand_off.id)] and run.name == "job chat"
    assert (run["shunt.job.result"], run["http.response.status_code"], run["shunt.job.attempt"]) == ("succeeded", 200, 2)
    going_on = [one for one in clients if one.parent == run.id]
    assert sorted(one["shunt.attempt.result"] for one in going_on) == ["succeeded", "superseded"]
    assert callback.links == [(call.trace, hand_off.id)] and callback["http.response.status_code"] == 204
    assert callback.start >= run.end - 0.05
    ((_, headers, _),) = receiver.wait_for("job-" + scene.receiver_of_traces.protocol)
    headers = {name.lower(): line for name, line in headers.items()}
    assert headers["traceparent"] == f"00-{call.trace}-{callback.id}-01"


def test_each_run_of_a_job_is_a_span_with_its_attempt(scene):
    _, (status, _, body), _, spans = scene.traced(6, "0/500,0", model="gpt-4o", prefer="respond-async, wait=0")
    assert status == 202
    runs = sorted((one for one in spans if one.kind == CONSUMER), key=lambda one: one.start)
    assert [one["shunt.job.result"] for one in runs] == ["retried", "succeeded"]
    assert [one["shunt.job.attempt"] for one in runs] == [1, 2]
    assert [one.failed for one in runs] == [True, False]
    for run in runs:
        (attempt,) = [one for one in spans if one.parent == run.id]
        assert attempt["gen_ai.request.model"] == "gpt-4o" and attempt.kind == CLIENT
        sent = [one for each in scene.provider.seen.values() for one in each]
        assert f"00-{run.trace}-{attempt.id}-01" in [one.get("traceparent") for one in sent]


def test_a_job_keeps_its_trace_when_its_gateway_dies(tmp_path):
    receiver = Http()
    scene = Traced(tmp_path, receiver)
    trace, _, header = place()
    (status, _, body), _ = scene.call("20000,0", traceparent=header, prefer="respond-async, wait=0")
    assert status == 202
    scene.gateway.until(lambda: any("traceparent" in one for all in scene.provider.seen.values() for one in all))
    # What was told of the call is there before its gateway is killed.
    scene.spans(trace, 2)
    scene.begin_again()
    *_, run, attempt = scene.spans(trace, 4)
    (hand_off,) = [one for one in receiver.of(trace) if one.kind == PRODUCER]
    assert run.parent == hand_off.id and run["shunt.job.result"] == "succeeded"
    assert attempt.parent == run.id and run["shunt.job.id"] == json.loads(body)["id"]
    scene.close()
    receiver.close()


@contextlib.contextmanager
def begun(folder, receiver, *more, **keys):
    scene = Traced(folder, receiver, *more, **keys)
    try:
        yield scene
    finally:
        scene.close()


def test_what_is_kept_is_what_went_wrong_and_what_its_caller_keeps(tmp_path):
    receiver = Http()
    with begun(tmp_path, receiver, sample=0.0) as scene:
        quiet = place(False)
        _, seen = scene.call(traceparent=quiet[2])
        assert seen[0]["traceparent"].startswith(f"00-{quiet[0]}-") and seen[0]["traceparent"].endswith("-00")
        for _ in range(5):
            scene.call()
        scene.call("200", model="watched-1")
        scene.call("900", model="gpt-4o")
        scene.traced(2)
        scene.traced(3, "900", model="gpt-4o", sampled=False)
        calls = [one for one in receiver.spans if one.kind == SERVER]
        assert [one["shunt.over_budget"] for one in calls] == [True, True, False, True]
        assert not receiver.of(quiet[0])
    receiver.close()


def said(span):
    """Its prompt and answer, as the texts of their messages."""
    def texts(name):
        told = json.loads(span.attributes.get(name, "[]"))
        return [(one["role"], part["content"]) for one in told for part in one["parts"]]

    return texts("gen_ai.input.messages"), texts("gen_ai.output.messages")


ASKS = {"messages": [{"role": "user", "content": "a-prompt"}]}
ASKED, ANSWERED = [("user", "a-prompt")], [("assistant", "Hi")]


@pytest.mark.parametrize("kind", [Grpc, Http])
def test_prompts_and_answers_are_told_of_routes_that_are_named_and_of_no_other(tmp_path, kind):
    receiver = kind()
    more = '[access_log]\nformat = "json"\nfile = "{folder}/access.log"\n'
    with begun(tmp_path, receiver, more, content=["plain", "ch*"], content_limit="1KiB") as scene:
        _, _, _, (call, attempt) = scene.traced(2, body=ASKS)
        assert said(call) == ([], []) and said(attempt) == (ASKED, ANSWERED)
        assert json.loads(attempt["gen_ai.output.messages"])[0]["finish_reason"] == "stop"
        _, _, _, (_, attempt) = scene.traced(2, body=ASKS | {"stream": True})
        assert said(attempt) == (ASKED, ANSWERED)
        # Once, with the attempt whose answer it is; nobody's answer is told of the one that failed.
        _, _, _, (_, lost, won) = scene.traced(3, "500,0", model="gpt-4o", body=ASKS)
        assert said(lost) == ([], []) and said(won) == (ASKED, ANSWERED)
        _, _, _, (_, first, second) = scene.traced(3, "900", model="gpt-4o", body=ASKS)
        assert said(first) == ([], []) and said(second) == (ASKED, [])
        # A job's run tells it.
        *_, spans = scene.traced(4, "0", model="gpt-4o", body=ASKS, prefer="respond-async, wait=0")
        told = {one.name: said(one) for one in spans}
        assert told.pop("chat gpt-4o") == (ASKED, ANSWERED) and set(map(str, told.values())) == {"([], [])"}
        # What is too long is left out, and its span says so.
        long = {"messages": [{"role": "user", "content": "long" * 300}]}
        _, _, _, (_, attempt) = scene.traced(2, body=long)
        assert said(attempt) == ([], ANSWERED)
        assert attempt["shunt.content.left_out"] == "prompt: longer than content_limit"
        assert b"a-prompt" in receiver.raw
        receiver.raw = b""
        scene.traced(2, model="watched-1", body=ASKS)
        assert receiver.raw and b"a-prompt" not in receiver.raw and b"Hi" not in receiver.raw
        assert "a-prompt" not in (tmp_path / "access.log").read_text()
    told = {name for span in receiver.spans for name in span.attributes}
    assert {name for name in told if re.match("gen_ai|shunt", name)} <= set(re.findall(r"`([\w.]+)`", PAGE))
    receiver.close()


def test_the_access_log_names_the_trace(tmp_path):
    receiver = Http()
    more = '[access_log]\nformat = "json"\nfile = "{folder}/access.log"\n'
    with begun(tmp_path, receiver, more) as scene:
        scene.call()
        scene.gateway.until(lambda: receiver.spans)
        (line,) = [json.loads(line) for line in (tmp_path / "access.log").read_text().splitlines()]
        assert {one.trace for one in receiver.spans} == {line["trace_id"]}
        assert not [one for one in receiver.spans if one.kind == SERVER and one.parent]
    receiver.close()


@pytest.mark.parametrize("kind", [Grpc, Http])
def test_a_batch_that_is_not_taken_comes_again_once(tmp_path, kind):
    receiver = kind()
    receiver.answers = ["UNAVAILABLE"]
    with begun(tmp_path, receiver) as scene:
        scene.traced(2)
        assert receiver.requests == 2
        receiver.answers = ["INVALID_ARGUMENT"]
        scene.call()
        scene.gateway.until(lambda: scene.counted("shunt_spans_dropped_total", "failed") == 2)
        receiver.answers = ["partial"]
        scene.call()
        scene.gateway.until(lambda: scene.counted("shunt_spans_dropped_total", "rejected") == 1)
        assert scene.counted("shunt_spans_exported_total") == 3
    receiver.close()


def test_what_waits_is_told_before_the_process_ends(tmp_path):
    receiver = Grpc()
    scene = Traced(tmp_path, receiver)
    scene.call()
    scene.close()
    assert len(receiver.spans) == 2
    receiver.close()


def free():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.mark.parametrize("kind", [Grpc, Http])
def test_a_receiver_that_is_away_holds_no_call_up(tmp_path, kind):
    class Away:
        port, protocol = free(), kind.protocol

    scene = Traced(tmp_path, Away, queue=8)
    took = []
    for _ in range(60):
        began = time.monotonic()
        (status, _, _), _ = scene.call()
        assert status == 200
        took.append(time.monotonic() - began)
    assert sorted(took)[50] < 0.5, took
    scene.gateway.until(lambda: scene.counted("shunt_spans_dropped_total", "full") > 0)
    receiver = kind(Away.port)
    scene.gateway.until(lambda: receiver.spans, 20)
    scene.gateway.until(lambda: scene.counted("shunt_spans_exported_total") == len(receiver.spans))
    scene.close()
    receiver.close()


@pytest.mark.parametrize("kind", [Grpc, Http])
def test_a_receiver_that_does_not_answer_holds_up_neither_calls_nor_the_end(tmp_path, kind):
    receiver = kind()
    receiver.slow = 60
    scene = Traced(tmp_path, receiver, queue=8, timeout="1s")
    for _ in range(30):
        began = time.monotonic()
        (status, _, _), _ = scene.call()
        assert status == 200 and time.monotonic() - began < 1
        time.sleep(0.05)
    scene.gateway.until(lambda: scene.counted("shunt_spans_dropped_total", "full") > 0)
    began = time.monotonic()
    scene.close()
    assert time.monotonic() - began < 5
    receiver.slow = 0


def test_the_receivers_secret_is_sent_and_told_nowhere(tmp_path):
    receiver = Grpc()
    more = '[traces.headers]\nauthorization = { env = "OTLP_SECRET" }\n'.replace("{ ", "{{ ").replace(" }", " }}")
    with begun(tmp_path, receiver, more) as scene:
        scene.traced(2)
        assert receiver.headers[0]["authorization"] == "otlp-secret"
        pages = [scene.metrics(), *(scene.gateway.fetch(scene.gateway.admin + page)[2].decode() for page in ["/api/routes"])]
        assert "otlp-secret" not in "".join(pages)
        assert b"otlp-secret" not in receiver.raw
    receiver.close()


def test_a_receiver_behind_tls_is_told(tmp_path):
    authority = Authority(tmp_path / "authority")
    authority.issue(tmp_path / "cert")
    pair = [(tmp_path / "cert" / "key.pem").read_bytes(), (tmp_path / "cert" / "cert.pem").read_bytes()]
    receiver = Grpc(credentials=grpc.ssl_server_credentials([pair]))
    keys = {"endpoint": f"https://localhost:{receiver.port}", "ca": str(authority.root)}
    with begun(tmp_path, receiver, **keys) as scene:
        scene.traced(2)
    receiver.close()
