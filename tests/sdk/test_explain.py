"""`shunt check --explain` says of a call what the gateway does with it."""

import json
import subprocess

import pytest
from conftest import SHUNT, House

CHAT = "/v1/chat/completions"
CALLS = [
    ("POST", CHAT, {"model": "gpt-4o", "messages": []}, {}),
    ("POST", CHAT, {"model": "slow-1", "stream": True, "messages": []}, {}),
    ("POST", CHAT, {"model": "strange", "messages": []}, {}),
    ("POST", "/v1/messages", {"model": "alive-1", "stream": True, "messages": [], "max_tokens": 9}, {}),
    ("POST", "/v1/messages", {"model": "other", "messages": [], "max_tokens": 9}, {}),
    ("POST", "/sim/v1/embeddings", {"model": "e", "input": "x"}, {}),
    ("GET", "/v1/models", None, {}),
    ("GET", "/nowhere", None, {}),
    ("POST", CHAT, "{", {}),
    ("POST", CHAT, {"model": 7}, {}),
    ("POST", CHAT, {"model": "gpt-4o"}, {"Prefer": "wait=soon"}),
    ("POST", CHAT, {"model": "gpt-4o"}, {"X-Shunt-Callback": "http://10.0.0.1/x"}),
]


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    house = House(tmp_path_factory.mktemp("explain"))
    house.gateway = house.begin()
    yield house
    house.close()


def text(body):
    return body if isinstance(body, str) else json.dumps(body)


def explain(house, method, path, body, headers):
    arguments = ["--explain", method, path] + ([] if body is None else [text(body)])
    for name, value in headers.items():
        arguments += ["-H", f"{name}: {value}"]
    command = [SHUNT, "check", "--config", str(house.config), *arguments]
    # No secret is needed to be told.
    told = subprocess.run(command, capture_output=True, text=True, timeout=20, env={})
    return told.returncode, told.stdout or told.stderr


@pytest.mark.parametrize(("method", "path", "body", "headers"), CALLS)
def test_what_is_told_of_a_call_is_what_happens_to_it(house, method, path, body, headers):
    data = None if body is None else text(body).encode()
    sent = headers | {"content-type": "application/json"}
    status, got, answer = house.gateway.fetch(house.gateway.public + path, method, sent, data)
    code, told = explain(house, method, path, body, headers)
    if code == 0:
        assert told.startswith(f"{got['x-shunt-route']} takes {method} {path}\n"), told
    else:
        error = json.loads(answer)
        error = error.get("error", error)
        assert told.startswith(f"the call would get {status} {error['code']}: "), told
        assert (error.get("message") or error.get("detail")) in told


def test_a_body_comes_from_a_file_or_a_pipe(house, tmp_path):
    file = tmp_path / "body.json"
    file.write_text('{"model":"gpt-4o"}')
    command = [SHUNT, "check", "--config", str(house.config), "--explain", "POST", CHAT]
    of_file = subprocess.run([*command, f"@{file}"], capture_output=True, text=True, timeout=20)
    piped = subprocess.run([*command, "-"], input=file.read_text(), capture_output=True, text=True, timeout=20)
    assert of_file.stdout == piped.stdout and of_file.stdout.startswith("chat takes")
    none = subprocess.run([*command, "@/no/such/file"], capture_output=True, text=True, timeout=20)
    assert none.returncode == 1 and "/no/such/file cannot be read" in none.stderr
