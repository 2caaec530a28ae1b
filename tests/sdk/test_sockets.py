"""What well-behaved clients never do, and providers sometimes."""

import http.server
import json
import signal
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request

import pytest

from conftest import start, stop, until

BODY = json.dumps({"model": "gpt-4o", "messages": []}).encode()


def connect(url):
    where = urllib.parse.urlsplit(url)
    return socket.create_connection((where.hostname, where.port), timeout=10)


def read_all(connection):
    data = b""
    while chunk := connection.recv(65536):
        data += chunk
    return data


def read_answer(connection):
    """One answer with a Content-Length; gives its head and body."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65536)
        assert chunk, data
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split()[0])
    while len(body) < length:
        body += connection.recv(65536)
    return head, body[:length], body[length:]


def post(path, body, *lines, version="1.1"):
    head = [f"POST {path} HTTP/{version}", "host: x", "content-type: application/json", *lines]
    return ("\r\n".join(head) + f"\r\ncontent-length: {len(body)}\r\n\r\n").encode() + body


def slow(tag, stream=False):
    body = {
        "model": "rest-1", "messages": [], "stream": stream,
        "metadata": {"sim_latency_ms": "300" if stream else "20000", "sim_gap_ms": "5000"},
    }
    return post("/sim/v1/chat/completions", json.dumps(body).encode(), f"x-request-tag: {tag}")


@pytest.mark.parametrize("stream", [False, True])
def test_a_caller_that_leaves_before_the_first_token_cancels_at_the_provider(gateway, stream):
    tag = f"leaves-{stream}"
    connection = connect(gateway.public)
    connection.sendall(slow(tag, stream))
    gateway.until(lambda: gateway.stats(tag).get("running") == 1)
    connection.close()
    gateway.until(lambda: gateway.stats(tag).get("aborted") == 1, seconds=2)


def test_a_caller_that_leaves_mid_stream_cancels_at_the_provider(gateway):
    connection = connect(gateway.public)
    connection.sendall(slow("mid-stream", True))
    data = b""
    while b"word0" not in data:
        data += connection.recv(65536)
    connection.close()
    gateway.until(lambda: gateway.stats("mid-stream").get("aborted") == 1, seconds=2)


def test_a_half_closed_caller_counts_as_gone(gateway):
    connection = connect(gateway.public)
    connection.sendall(slow("half-closed"))
    gateway.until(lambda: gateway.stats("half-closed").get("running") == 1)
    connection.shutdown(socket.SHUT_WR)
    gateway.until(lambda: gateway.stats("half-closed").get("aborted") == 1, seconds=2)


def test_a_chunked_body_with_trailers_arrives_whole(gateway):
    connection = connect(gateway.public)
    connection.sendall(
        b"POST /raw/echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n"
        b"trailer: x-sum\r\nconnection: close\r\n\r\n"
        b"3\r\nabc\r\n4\r\ndefg\r\n0\r\nx-sum: 7\r\n\r\n"
    )
    answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"abcdefg")


def test_an_http_1_0_caller_is_answered_and_the_connection_closed(gateway):
    connection = connect(gateway.public)
    connection.sendall(post("/v1/chat/completions", BODY, version="1.0"))
    answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.0 200")
    assert b"chat.completion" in answer


def test_pipelined_calls_are_answered_in_their_order(gateway):
    connection = connect(gateway.public)
    connection.sendall(post("/raw/echo", b"first") + post("/raw/echo", b"second"))
    head, body, rest = read_answer(connection)
    assert body == b"first"
    while b"second" not in rest:
        chunk = connection.recv(65536)
        assert chunk
        rest += chunk


def test_a_head_that_is_too_long_is_refused(gateway):
    connection = connect(gateway.public)
    connection.sendall(b"GET /raw/headers HTTP/1.1\r\nhost: x\r\nx-long: " + b"a" * 100_000 + b"\r\n\r\n")
    try:
        answer = connection.recv(65536)
    except ConnectionResetError:
        answer = b""
    assert answer == b"" or answer.startswith(b"HTTP/1.1 431")


def test_an_upgraded_connection_is_a_tunnel(gateway):
    connection = connect(gateway.public)
    connection.sendall(
        b"GET /raw/upgrade HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: echo\r\n\r\n"
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 101")
    connection.sendall(b"through the tunnel")
    echoed = b""
    while len(echoed) < 18:
        echoed += connection.recv(65536)
    assert echoed == b"through the tunnel"


def test_a_reload_of_a_file_with_a_mistake_is_counted_and_the_old_one_stays(tmp_path):
    config = tmp_path / "shunt.toml"
    text = f"""
[listen]
public = "127.0.0.1:0"
admin = "127.0.0.1:0"
[providers.sim]
base_url = "http://127.0.0.1:1"
[cold]
store = "sqlite:{tmp_path}/jobs.db"
"""
    config.write_text(text)
    process, found = start(["serve", "--config", str(config)], "public", "admin")

    def counted(result):
        with urllib.request.urlopen(found["admin"] + "/metrics", timeout=10) as told:
            lines = told.read().decode().splitlines()
        return next(line for line in lines if line.startswith(f'shunt_config_reloads_total{{result="{result}"}}')).split()[1]

    for number, wrong in enumerate(["[providers.sim\n", text + "[nonsense]\n", None], 1):
        config.unlink() if wrong is None else config.write_text(wrong)
        process.send_signal(signal.SIGHUP)
        until(lambda: counted("failed") == str(number), 10)
    assert counted("ok") == "0"
    stop(process)


@pytest.mark.parametrize("action, status", [("observe", b"101"), ("fail", b"504")])
def test_a_tunnel_that_opens_late_is_cut_only_where_calls_are(tmp_path, action, status):
    class Late(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            time.sleep(1)
            self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: echo\r\n\r\n")

    provider = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Late)
    threading.Thread(target=provider.serve_forever, daemon=True).start()
    config = tmp_path / "shunt.toml"
    config.write_text(f"""
[listen]
public = "127.0.0.1:0"
admin = "127.0.0.1:0"
[providers.late]
base_url = "http://127.0.0.1:{provider.server_address[1]}"
[[routes]]
name = "sockets"
match = {{ path = "/*" }}
targets = ["late"]
budget = {{ total = "200ms" }}
over_budget = {{ action = "{action}" }}
[cold]
store = "sqlite:{tmp_path}/jobs.db"
""")
    process, found = start(["serve", "--config", str(config)], "public", "admin")
    connection = connect(found["public"])
    connection.sendall(b"GET /ws HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: echo\r\n\r\n")
    assert connection.recv(65536).startswith(b"HTTP/1.1 " + status)
    connection.close()
    provider.shutdown()
    stop(process)


@pytest.mark.parametrize("fault", ["reset", "lie"])
def test_a_provider_that_breaks_off_before_the_answer_is_a_502(gateway, fault):
    body = json.dumps({"model": "gpt-4o", "messages": [], "metadata": {"sim_fault": fault}})
    status, _, answer = gateway.fetch(
        gateway.public + "/v1/chat/completions", "POST",
        {"content-type": "application/json"}, body.encode(),
    )
    assert (status, json.loads(answer)["error"]["code"]) == (502, "provider_unreachable")


def test_a_provider_that_stalls_is_given_up_at_the_deadline(gateway):
    body = {"model": "gpt-4o", "messages": [], "metadata": {"sim_fault": "stall"}}
    began = time.monotonic()
    status, _, _ = gateway.call("/v1/chat/completions", body, x_request_tag="stalls")
    assert status == 504
    assert time.monotonic() - began < 2
    gateway.until(lambda: gateway.stats("stalls").get("aborted") == 1)


def test_a_stream_that_breaks_off_is_not_ended_as_if_it_were_whole(gateway):
    body = {"model": "gpt-4o", "messages": [], "stream": True, "metadata": {"sim_fault": "reset"}}
    connection = connect(gateway.public)
    connection.sendall(post("/v1/chat/completions", json.dumps(body).encode(), "connection: close"))
    answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 200")
    assert not answer.endswith(b"0\r\n\r\n")


def test_a_provider_that_is_not_there_is_a_502_that_names_the_route(tmp_path):
    config = tmp_path / "shunt.toml"
    config.write_text(f"""
[listen]
public = "127.0.0.1:0"
admin = "127.0.0.1:0"
[providers.gone]
base_url = "http://127.0.0.1:1"
[cold]
store = "sqlite:{tmp_path}/jobs.db"
""")
    process, found = start(["serve", "--config", str(config)], "public", "admin")
    connection = connect(found["public"])
    connection.sendall(b"GET /gone/x HTTP/1.1\r\nhost: x\r\n\r\n")
    head, body, _ = read_answer(connection)
    assert head.startswith(b"HTTP/1.1 502")
    assert b"route `gone`" in body
    stop(process)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("budget = { total = \"1s\" }", "budgte = { total = \"1s\" }"), "10:1: routes[0].budgte: is not a key here; did you mean `budget`?"),
        (('targets = ["sim"]', 'targets = ["simm"]'), "9:1: routes[0].targets: the provider `simm` is not configured; did you mean `sim`?"),
        (('path = "/v1/*"', 'path = "v1"'), "routes[0].match.path: `v1` is not a path; write /v1/chat/completions"),
        (('total = "1s"', 'total = "1 second"'), "is not a duration; write it like 250ms, 2s, 15m or 24h"),
        (('total = "1s"', 'total = "0s"'), "routes[0].budget.total: must be longer than 0s"),
        (("[providers.sim]", "[providers.v1]"), "providers.v1: is a path of the gateway itself"),
        (('base_url = "http://x"', 'base_url = "x"'), "providers.sim.base_url: is not an address"),
        (('name = "a"', 'name = "sim"'), "is a provider's built-in route"),
        (('name = "a"', 'name = "a b"'), "is no name"),
        (('dialect = "openai"', 'dialect = "gemini"'), "providers.sim.dialect: `gemini` is not known; known are openai, anthropic, plain"),
        (('dialect = "openai"', 'api_key = "sk-very-secret"'), "api_key"),
        (('store = "sqlite:x.db"', 'store = "redis:x"'), "cold.store: `redis:x` is no store; write sqlite:shunt.db"),
    ],
)
def test_each_mistake_of_a_configuration_gets_its_line_and_its_sentence(tmp_path, change, says):
    import conftest

    text = """[listen]
public = "127.0.0.1:0"
[providers.sim]
base_url = "http://x"
dialect = "openai"
[[routes]]
name = "a"
match = { path = "/v1/*" }
targets = ["sim"]
budget = { total = "1s" }
[cold]
store = "sqlite:x.db"
"""
    assert change[0] in text
    config = tmp_path / "shunt.toml"
    config.write_text(text.replace(*change))
    done = subprocess.run(
        [conftest.SHUNT, "check", "--config", str(config)], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"{config}:"), done.stderr
    assert says in done.stderr, done.stderr
    assert "very-secret" not in done.stderr


def test_what_is_hardly_meant_and_what_is_not_set_are_told_and_are_no_mistakes(tmp_path):
    import os

    import conftest

    config = tmp_path / "shunt.toml"
    config.write_text("""[listen]
public = "127.0.0.1:0"
admin = "127.0.0.1:0"
[providers.sim]
base_url = "http://127.0.0.1:9/v1"
dialect = "openai"
api_key = { env = "SHUNT_TEST_KEY" }
[[routes]]
name = "a"
match = { path = "/v1/*" }
targets = ["sim"]
[callbacks]
secret = { env = "SHUNT_CALLBACK_SECRET" }
""")
    without = {name: value for name, value in os.environ.items() if not name.startswith("SHUNT_")}
    shunt = lambda command, **more: subprocess.run(
        [conftest.SHUNT, command, "--config", str(config)], capture_output=True, text=True, timeout=30,
        cwd=tmp_path, env=without | more,
    )
    told = shunt("check", SHUNT_CALLBACK_SECRET="whsec_dmVyeS1zZWNyZXQ=")
    assert told.returncode == 0
    begins = f"{config} is valid; serve would not start here: "
    assert [line.startswith(begins) for line in told.stdout.splitlines()] == [True, True]
    assert "providers.sim.api_key: the environment variable SHUNT_TEST_KEY is not set" in told.stdout
    assert "callbacks.secret: " in told.stdout and "dmVyeS1zZWNyZXQ" not in told.stdout
    doubt = f"{config}:5:1: providers.sim.base_url: ends in /v1"
    assert told.stderr.startswith(f"warning: {doubt}"), told.stderr
    secret = {"SHUNT_CALLBACK_SECRET": conftest.SECRET}
    assert shunt("check", SHUNT_TEST_KEY="k", **secret).stdout == f"{config} is valid\n"
    served = shunt("serve", **secret)
    assert served.returncode == 1 and "WARN" in served.stderr and doubt in served.stderr
