"""The access log: each call has one line with what happened to it, and no call waits for the log."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time
import urllib.parse

import pytest
from conftest import SHUNT
from scripted import PATH, Scene

JSON = """
[access_log]
format = "json"
file = "{folder}/access.log"
"""
PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "access-log.md").read_text()
CALLS, ATTEMPTS = (set(re.findall(r"^\| `(\w+)` ", part, re.M)) for part in PAGE.split("## Attempts"))


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    scene = Scene(tmp_path_factory.mktemp("log"), JSON)
    yield scene
    scene.close()


def lines(scene, name="access.log"):
    text = (scene.folder / name).read_text()
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


class Next:
    """What is written of the calls that are made within."""

    def __init__(self, scene, count=1):
        self.scene, self.count = scene, count

    def __enter__(self):
        self.before = len(lines(self.scene))
        return self

    def __exit__(self, failed, *_):
        if failed:
            return
        self.scene.gateway.until(lambda: len(lines(self.scene)) >= self.before + self.count)
        time.sleep(0.1)
        # Lines of several workers are a moment out of order.
        found = sorted(lines(self.scene)[self.before :], key=lambda line: line["time"])
        assert len(found) == self.count, found
        # The page lists every field and none besides.
        assert all(set(line) == CALLS for line in found)
        assert all(set(one) == ATTEMPTS for line in found for one in line["attempts"])
        self.all, self.line = found, found[0]

    def __getitem__(self, name):
        return self.line[name]


def test_tokens_are_known_of_callers_who_take_compressed_answers(scene):
    # As httpx and fetch say it, and so every official SDK.
    with Next(scene) as line:
        (status, headers, body), seen = scene.call(accept_encoding="gzip, deflate, br, zstd")
    assert status == 200 and json.loads(body)["choices"]
    assert "content-encoding" not in {name.lower() for name in headers}
    assert seen[0]["accept-encoding"] == "identity"
    assert (line["input_tokens"], line["output_tokens"]) == (7, 2)


def test_a_served_call_has_one_line_with_its_times(scene):
    with Next(scene) as line:
        (status, headers, _), _ = scene.call("50", path=PATH + "?secret=in-a-query", authorization="Bearer sk-secret")
    assert status == 200
    assert (line["method"], line["path"], line["route"]) == ("POST", PATH, "plain")
    assert (line["status"], line["outcome"], line["why"]) == (200, "served", None)
    assert (line["model"], line["target"], line["demoted"]) == ("plain-4o", headers["x-shunt-target"], False)
    assert line["request_id"] == headers["x-shunt-request-id"]
    assert 50 <= line["total_ms"] < 5000 and line["first_token_ms"] is None
    assert (line["budget_ms"], line["over_budget"], line["queue_ms"]) == (5000, False, 0)
    assert (line["input_tokens"], line["output_tokens"]) == (7, 2)
    (attempt,) = line["attempts"]
    assert (attempt["kind"], attempt["result"], attempt["status"]) == ("first", "won", 200)
    assert attempt["start_ms"] <= line["own_ms"] + (line["upload_ms"] or 0) + 1
    assert 50 <= attempt["end_ms"] - attempt["start_ms"] <= line["total_ms"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])


def test_a_stream_has_its_first_token(scene):
    with Next(scene) as line:
        scene.call("80", body={"stream": True})
    assert line["stream"] and 80 <= line["first_token_ms"] < line["total_ms"]
    # Not their difference: a loaded machine reads the first content late.
    assert line["total_ms"] >= 170
    (attempt,) = line["attempts"]
    assert 80 <= attempt["first_token_ms"] <= line["first_token_ms"] + 1
    assert (line["input_tokens"], line["output_tokens"]) == (7, 2)


def test_a_hedged_call_has_both_attempts(scene):
    with Next(scene) as line:
        (status, _, _), seen = scene.call("500,0", model="gpt-4o")
    assert status == 200 and len(seen) == 2
    lost, won = line["attempts"]
    assert (lost["kind"], lost["result"], lost["status"]) == ("first", "lost", None)
    assert (won["kind"], won["result"], won["status"]) == ("hedge", "won", 200)
    assert 140 <= won["start_ms"] - lost["start_ms"] < 500
    assert lost["end_ms"] >= won["start_ms"] and lost["end_ms"] <= won["end_ms"] + 1
    assert line["target"] == won["target"] != lost["target"]


def test_a_retried_call_has_the_failure_and_its_status(scene):
    with Next(scene) as line:
        (status, _, _), _ = scene.call("0/500,0")
    assert status == 200
    failed, won = line["attempts"]
    assert (failed["result"], failed["status"], failed["error"]) == ("failed", 500, "500")
    assert (won["kind"], won["result"]) == ("retry", "won")


def test_a_demoted_call_has_its_job_and_why(scene):
    with Next(scene) as line:
        (status, _, body), _ = scene.call("1500", model="gpt-4o", prefer="respond-async")
    assert status == 202
    assert (line["outcome"], line["demoted"], line["status"]) == ("demoted", True, 202)
    assert (line["job"], line["why"]) == (json.loads(body)["id"], "budget_exceeded")
    assert line["over_budget"] and 550 <= line["total_ms"] < 1500
    assert {attempt["result"] for attempt in line["attempts"]} == {"handed_over"}
    with Next(scene) as line:
        scene.call("0", prefer="respond-async, wait=0")
    assert (line["why"], line["over_budget"], line["attempts"]) == ("requested", False, [])


def test_a_failed_call_says_why(scene):
    with Next(scene) as line:
        (status, _, _), _ = scene.call("900", model="gpt-4o")
    assert status == 504
    assert (line["status"], line["outcome"], line["why"]) == (504, "failed", "budget_exceeded")
    assert line["over_budget"] and {one["result"] for one in line["attempts"]} == {"cancelled"}
    with Next(scene) as line:
        (status, _, _), _ = scene.call("0/500,0/500")
    assert (status, line["status"], line["why"]) == (500, 500, None)
    assert [one["result"] for one in line["attempts"]] == ["failed", "won"]


def test_a_call_that_waits_for_a_place_has_that_time(scene):
    with Next(scene, 2) as line:
        first = subprocess.Popen(
            ["curl", "-s", scene.gateway.public + PATH, "-H", "content-type: application/json", "-H", "x-script: 400",
             "-H", "x-tag: first", "-d", '{"model":"tight-1","messages":[]}'], stdout=subprocess.DEVNULL)
        scene.gateway.until(lambda: "first" in scene.provider.seen)
        scene.call("0", model="tight-2")
        first.wait()
    held, waited = line.all
    assert held["queue_ms"] == 0 and 100 <= waited["queue_ms"] <= waited["total_ms"]
    assert waited["attempts"][0]["start_ms"] >= waited["queue_ms"]


def test_a_call_over_a_budget_that_is_only_observed_says_so(scene):
    with Next(scene) as line:
        (status, _, _), _ = scene.call("200", model="watched-1")
    assert (status, line["outcome"], line["over_budget"], line["status"]) == (200, "observed_over", True, 200)


def test_a_call_whose_caller_left_has_a_line(scene):
    address = urllib.parse.urlsplit(scene.gateway.public)
    body = b'{"model":"gpt-4o","messages":[]}'
    head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nx-script: 500\r\nx-tag: leaves\r\n"
    with Next(scene) as line, socket.create_connection((address.hostname, address.port)) as caller:
        caller.sendall(head.encode() + f"content-length: {len(body)}\r\n\r\n".encode() + body)
        scene.gateway.until(lambda: "leaves" in scene.provider.seen)
    assert (line["status"], line["outcome"], line["why"]) == (499, "cancelled", "caller_left")
    assert {one["result"] for one in line["attempts"]} == {"cancelled"}
    with Next(scene) as line, socket.create_connection((address.hostname, address.port)) as caller:
        # Before it had sent its body.
        caller.sendall(head.encode() + f"content-length: {len(body)}\r\n\r\n".encode())
        time.sleep(0.2)
    assert (line["status"], line["outcome"], line["why"]) == (400, "failed", "bad_request")
    assert line["total_ms"] >= 150 and line["attempts"] == []


def test_a_call_of_a_scope_that_is_cancelled_says_so(scene):
    with Next(scene) as line:
        call = subprocess.Popen(
            ["curl", "-s", scene.gateway.public + PATH, "-H", "content-type: application/json", "-H", "x-script: 500",
             "-H", "x-tag: scoped", "-H", "x-shunt-scope: s", "-d", '{"model":"gpt-4o","messages":[]}'],
            stdout=subprocess.DEVNULL)
        scene.gateway.until(lambda: "scoped" in scene.provider.seen)
        scene.gateway.fetch(scene.gateway.public + "/scopes/s", "DELETE")
        call.wait()
    assert (line["status"], line["outcome"], line["why"]) == (409, "cancelled", "scope_cancelled")


def test_a_call_that_is_refused_has_a_line(scene):
    for path, body, code, why, route in [
        ("/nowhere", {}, 404, "no_route", None),
        (PATH, {"model": "unknown"}, 404, "no_route", None),
        (PATH, b"no json", 400, "bad_request", "tight"),
    ]:
        with Next(scene) as line:
            status, headers, _ = scene.gateway.call(path, body)
        assert status == code, path
        assert (line["status"], line["why"], line["route"]) == (code, why, route)
        assert line["outcome"] == ("failed" if route else "refused")
        assert line["request_id"] == headers["x-shunt-request-id"]
        assert line["attempts"] == []


def test_what_is_no_call_has_none(scene):
    before = len(lines(scene))
    scene.gateway.fetch(scene.gateway.public + "/jobs")
    scene.gateway.fetch(scene.gateway.public + "/jobs/job_" + "0" * 32)
    with Next(scene):
        scene.call()
    assert len(lines(scene)) == before + 1


def test_a_call_that_joins_another_says_so(scene):
    with Next(scene, 2) as line:
        for _ in range(2):
            scene.call("50", idempotency_key="one", body={"user": "same"})
    assert line.all[0]["joined"] is None and len(line.all[0]["attempts"]) == 1
    assert line.all[1]["joined"] in ("key", "store") and line.all[1]["attempts"] == []


def test_the_trace_that_a_call_belongs_to_is_named(scene):
    with Next(scene) as line:
        given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        _, seen = scene.call(traceparent=given)
    assert line["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    # Without traces of the gateway's own it passes unchanged.
    assert [one["traceparent"] for one in seen] == [given]


def test_nothing_secret_is_written(scene):
    secrets = ["sk-secret-1", "in-the-query", "in-the-body", "in-a-header"]
    with Next(scene):
        scene.call(path=PATH + "?key=in-the-query", body={"user": "in-the-body"}, authorization="Bearer sk-secret-1",
                   x_anything="in-a-header", prefer="respond-async")
    text = (scene.folder / "access.log").read_text()
    assert "plain" in text and not [one for one in secrets if one in text]


def test_a_file_that_was_moved_away_is_opened_anew(tmp_path):
    scene = Scene(tmp_path, JSON)
    scene.call()
    scene.gateway.until(lambda: len(lines(scene)) == 1)
    (tmp_path / "access.log").rename(tmp_path / "access.log.1")
    scene.call()
    scene.gateway.until(lambda: len(lines(scene, "access.log.1")) == 2)
    os.kill(scene.process.pid, signal.SIGHUP)
    scene.gateway.until(lambda: (tmp_path / "access.log").exists())
    scene.call()
    # The last lines are written before the process ends.
    scene.close()
    assert len(lines(scene)) == 1 and len(lines(scene, "access.log.1")) == 2


def test_keys_are_named_and_not_told(tmp_path):
    keys = tmp_path / "keys.toml"
    made = subprocess.run([SHUNT, "keys", "create", "--file", str(keys), "--name", "team-a", "--concurrency", "1"],
                          capture_output=True, text=True, check=True)
    key = re.search(r"shunt_\S+", made.stdout).group()
    scene = Scene(tmp_path, JSON + '[auth]\nkeys = "{folder}/keys.toml"\n')
    scene.call(authorization=f"Bearer {key}")
    scene.call()
    slow = subprocess.Popen(
        ["curl", "-s", scene.gateway.public + PATH, "-H", "content-type: application/json", "-H", "x-script: 400",
         "-H", "x-tag: slow", "-H", f"authorization: Bearer {key}", "-d", '{"model":"gpt-4o"}'],
        stdout=subprocess.DEVNULL)
    scene.gateway.until(lambda: "slow" in scene.provider.seen)
    (status, _, _), _ = scene.call(authorization=f"Bearer {key}")
    assert status == 429
    slow.wait()
    scene.close()
    served, refused, last, limited = sorted(lines(scene), key=lambda line: line["time"])
    assert (served["key"], served["status"]) == ("team-a", 200)
    assert (refused["key"], refused["status"], refused["why"]) == (None, 401, "unauthorized")
    assert (limited["status"], limited["why"], limited["outcome"]) == (429, "rate_limited", "refused")
    assert last["status"] == 200
    assert key not in (tmp_path / "access.log").read_text()


def test_on_standard_output_it_is_json_unless_that_is_a_terminal(tmp_path):
    scene = Scene(tmp_path, '[access_log]\nformat = "auto"\n')
    scene.call()
    told = scene.close().splitlines()
    assert [json.loads(line)["status"] for line in told] == [200]
    scene = Scene(tmp_path, '[access_log]\nformat = "text"\n')
    scene.call("300,0", model="gpt-4o\u001b[31m")
    scene.gateway.call("/nowhere", {})
    # Lines of two workers stand in either order: those of calls that arrived first are first here.
    told = sorted(scene.close().splitlines())
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d\.\d{3} POST /v1/chat/completions 200 served chat gpt-4o\\u\{1b\}\[31m \w+ \d+\.\dms "
        r"\(first \w+ lost, hedge \w+ won\)", told[0]), told
    assert told[1].split()[1:] == ["POST", "/nowhere", "404", "refused", "-", "-", "-", told[1].split()[8],
                                   "why=no_route"]


def test_a_pipe_that_nobody_reads_holds_no_call_up(tmp_path):
    scene = Scene(tmp_path, '[access_log]\nformat = "json"\nqueue = 16\n')
    began = time.monotonic()
    for _ in range(400):
        (status, _, _), _ = scene.call()
        assert status == 200
    assert time.monotonic() - began < 20
    left_out = scene.counted("shunt_access_log_dropped_total", 'reason="full"')
    assert left_out > 0
    scene.process.terminate()
    began = time.monotonic()
    written = scene.process.stdout.read()
    assert scene.process.wait(timeout=10) == 0
    # Every call is written or counted.
    assert len(written.splitlines()) + left_out == 400


def test_a_full_disk_holds_no_call_up_and_is_counted(tmp_path):
    scene = Scene(tmp_path, '[access_log]\nformat = "json"\nfile = "/dev/full"\n')
    for _ in range(3):
        (status, _, _), _ = scene.call()
        assert status == 200
    scene.gateway.until(lambda: scene.counted("shunt_access_log_dropped_total", 'reason="unwritten"') == 3)
    scene.close()


def test_a_call_that_becomes_a_job_is_told_where_it_was_asked_last(scene):
    counted = lambda target: scene.counted("shunt_requests_total{", f'route="plain",target="{target}",status="202"')
    before = {target: counted(target) for target in ("one", "two", "none")}
    with Next(scene) as told:
        (status, _, _), _ = scene.call("0/503,3000", prefer="respond-async, wait=1")
        assert status == 202
    line = told.line
    first, last = line["attempts"]
    assert (first["result"], last["result"]) == ("failed", "handed_over")
    assert line["target"] == last["target"] != first["target"]
    assert counted(last["target"]) == before[last["target"]] + 1
    with Next(scene) as told:
        (status, _, _), _ = scene.call("0", prefer="respond-async, wait=0")
        assert status == 202
    assert told.line["target"] is None
    assert counted("none") == before["none"] + 1
