"""What callers may send, and how much of it: each bound, what its breaker is told, and that others do
not feel it."""

import gzip
import json
import re
import time
import urllib.request

import battery
import h2raw
import pytest
import raw_provider
from conftest import stop
from raw_provider import RawProvider
from test_tls import Authority

LIMITS = """
[limits]
head = "16KiB"
headers = 32
head_timeout = "1s"
body = "16KiB"
streams = 64
[limits.caller]
per_address = 6
upload = "64KiB"
body_idle = "1s"
idle = "2s"
cancels = 50
"""


class Gateway:
    """`secure`: both listeners speak TLS."""

    def __init__(self, folder, more="", secure=False, limits=LIMITS):
        self.provider = RawProvider(battery.echo)
        sim = f'[providers.sim]\nbase_url = "{self.provider.url}"\ndialect = "openai"\n'
        listen = ""
        if secure:
            Authority(folder / "authority").issue(folder / "shown")
            files = f'{{ cert = "{folder}/shown/cert.pem", key = "{folder}/shown/key.pem" }}'
            listen = f"tls = {files}\nadmin_tls = {files}"
        self.process, found = raw_provider.gateway(folder, self.provider, sim + limits + more, listen)
        self.public, self.admin = found["public"], found["admin"]

    def close(self):
        stop(self.process)
        self.provider.close()

    def metrics(self, name):
        with urllib.request.urlopen(self.admin + "/metrics", timeout=10, context=battery.trusting()) as answer:
            text = answer.read().decode()
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.M)
        return float(found[1]) if found else 0.0

    def refused(self, limit):
        return self.metrics(f'shunt_refused_total{{limit="{limit}"}}')

    def answers(self):
        """An innocent call on a connection of its own; gives its time."""
        began = time.monotonic()
        with urllib.request.urlopen(self.public + "/raw/innocent", timeout=5, context=battery.trusting()) as answer:
            assert answer.read() == b"/innocent 0"
        return time.monotonic() - began


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    gateway = Gateway(tmp_path_factory.mktemp("limits"))
    yield gateway
    gateway.close()


def everything(connection, seconds=6):
    """All bytes until the end, and how long that took."""
    connection.settimeout(seconds)
    began, data = time.monotonic(), b""
    try:
        while chunk := connection.recv(65536):
            data += chunk
    except ConnectionResetError:
        pass
    return data, time.monotonic() - began


def head(path, *lines, method="POST"):
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *lines, "\r\n"]).encode()


def code(answer):
    body = json.loads(answer.partition(b"\r\n\r\n")[2])
    return body["error"]["code"] if "error" in body else body["code"]


@pytest.mark.parametrize(
    "lines", [["X: " + "a" * 20_000], [f"X{number}: 1" for number in range(40)]], ids=["size", "lines"]
)
def test_a_head_past_its_size_or_its_lines_is_431(gateway, lines):
    before = gateway.refused("head")
    connection = battery.connect(gateway.public)
    connection.sendall(head("/raw/x", *lines, method="GET"))
    answer, _ = everything(connection)
    assert answer.startswith(b"HTTP/1.1 431"), answer
    assert gateway.refused("head") == before + 1


@pytest.mark.parametrize("sent", [b"", b"G", b"PRI * HT", b"GET /raw/x HTTP/1.1\r\nHost: x\r\nX:"])
def test_a_first_head_that_does_not_come_in_time_closes_the_connection(gateway, sent):
    before = gateway.refused("first_call")
    connection = battery.connect(gateway.public)
    connection.sendall(sent)
    _, took = everything(connection)
    assert 0.8 < took < 2.5
    gateway.answers()
    assert gateway.refused("first_call") == before + 1


def test_a_head_that_trickles_is_not_awaited_for_longer(gateway):
    connection = battery.connect(gateway.public)
    began = time.monotonic()
    with pytest.raises(OSError):
        for byte in head("/raw/x", "X: " + "a" * 100, method="GET"):
            connection.sendall(bytes([byte]))
            time.sleep(0.1)
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("path", "length"), [("/raw/x", 20_000), ("/sim/v1/chat/completions", 2_000)], ids=["passed on", "kept"]
)
@pytest.mark.parametrize("trickles", [False, True])
def test_a_body_that_stops_or_trickles_is_408_and_the_provider_is_not_blamed(gateway, path, length, trickles):
    before = gateway.refused("body_slow")
    began = time.monotonic()
    connections = [battery.connect(gateway.public) for _ in range(1 if trickles else 6)]
    for connection in connections:
        connection.sendall(head(path, "Content-Type: application/json", f"Content-Length: {length}") + b"{")
    if trickles:
        with pytest.raises(OSError):
            while time.monotonic() - began < 5:
                connections[0].sendall(b" ")
                time.sleep(0.2)
    else:
        for connection in connections:
            answer, _ = everything(connection)
            assert answer.startswith(b"HTTP/1.1 408") and code(answer) == "body_too_slow", answer
    assert 0.8 < time.monotonic() - began < 3
    assert gateway.refused("body_slow") > before
    assert gateway.metrics('shunt_target_healthy{target="raw"}') == 1
    gateway.answers()


def test_a_body_that_is_announced_too_long_is_413_before_a_byte_of_it_and_100_is_not_said(gateway):
    before, connections = gateway.refused("upload"), len(gateway.provider.requests)
    for lines in ["Content-Length: 70000"], ["Content-Length: 70000", "Expect: 100-continue"]:
        connection = battery.connect(gateway.public)
        connection.sendall(head("/raw/x", *lines))
        answer, _ = everything(connection)
        assert answer.startswith(b"HTTP/1.1 413") and code(answer) == "body_too_large", answer
    assert gateway.refused("upload") == before + 2
    assert len(gateway.provider.requests) == connections


def test_a_body_that_grows_too_long_is_413_and_no_whole_request_reaches_the_provider(gateway):
    before = len(gateway.provider.requests)
    connection = battery.connect(gateway.public)
    connection.sendall(head("/raw/grows", "Transfer-Encoding: chunked"))
    try:
        for _ in range(80):
            connection.sendall(b"400\r\n" + b"a" * 1024 + b"\r\n")
    except OSError:
        pass
    answer, _ = everything(connection)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 413"), answer
    assert gateway.refused("upload") >= 1
    assert len(gateway.provider.requests) == before
    gateway.answers()


def memory(process):
    text = open(f"/proc/{process.pid}/status").read()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) << 10


def test_a_zip_bomb_is_never_unpacked(gateway):
    bomb = gzip.compress(bytes(40 << 20), 9)
    assert len(bomb) < 64 << 10
    before = memory(gateway.process)
    lines = ["Content-Type: application/json", "Content-Encoding: gzip", f"Content-Length: {len(bomb)}", "Connection: close"]
    connection = battery.connect(gateway.public)
    connection.sendall(head("/raw/bomb", *lines) + bomb)
    answer, _ = everything(connection)
    assert answer.endswith(b"/bomb %d" % len(bomb)), "it passes byte for byte"
    connection = battery.connect(gateway.public)
    connection.sendall(head("/sim/v1/chat/completions", *lines) + bomb)
    answer, _ = everything(connection)
    assert answer.startswith(b"HTTP/1.1 415") and b"accept-encoding: identity" in answer
    assert code(answer) == "encoded_body"
    assert gateway.refused("encoding") == 1
    assert memory(gateway.process) - before < 16 << 20


def test_an_idle_connection_is_closed_and_one_with_a_call_is_not(gateway):
    connection = battery.connect(gateway.public)
    connection.sendall(head("/raw/one", method="GET"))
    data, _ = battery.receive(connection, lambda data: battery.answers(data))
    assert data.endswith(b"/one 0")
    _, took = everything(connection)
    assert 1.5 < took < 3.5

    def late(request):
        if request[1] == b"/late":
            time.sleep(2.5)
        return battery.echo(request)

    gateway.provider.answers = late
    connection = battery.connect(gateway.public)
    connection.sendall(head("/raw/late", "Connection: close", method="GET"))
    answer, took = everything(connection)
    assert answer.endswith(b"/late 0") and took > 2


def test_answers_that_their_caller_does_not_take_are_not_held_for_ever(gateway):
    """A slow read: over HTTP/1.1 the socket is full, over HTTP/2 the window was never opened."""
    gateway.provider.answers = lambda request: (
        b"HTTP/1.1 200 OK\r\ncontent-length: 67108864\r\n\r\n", *[bytes(1 << 20)] * 64
    ) if request[1] == b"/long" else battery.echo(request)
    before, was = gateway.refused("unread"), memory(gateway.process)
    connection = battery.connect(gateway.public)
    connection.sendall(head("/raw/long", method="GET"))
    peer = h2raw.Peer(gateway.public, pairs=[(4, 0)], patience=7)
    peer.headers()
    began = time.monotonic()
    with pytest.raises(h2raw.Gone):
        peer.until(lambda kind, *_: False)
    while gateway.refused("unread") < before + 2:
        assert time.monotonic() < began + 8
        time.sleep(0.05)
    assert memory(gateway.process) - was < 24 << 20
    connection.close()
    gateway.provider.answers = battery.echo


def test_what_is_pipelined_behind_a_call_waits_in_the_callers_own_buffers(gateway):
    def stall(request):
        if request[1] == b"/stall":
            time.sleep(1.5)
        return battery.echo(request)

    gateway.provider.answers = stall
    before = memory(gateway.process)
    connection = battery.connect(gateway.public)
    connection.settimeout(0.5)
    connection.sendall(head("/raw/stall", method="GET"))
    sent, more = 0, head("/raw/more", method="GET") * 1_000
    with pytest.raises(TimeoutError):
        while sent < 64 << 20:
            sent += connection.send(more)
    assert memory(gateway.process) - before < 8 << 20
    connection.close()
    gateway.answers()


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
def test_an_address_has_its_connections_and_no_more_and_they_come_back(tmp_path, secure):
    gateway = Gateway(tmp_path, "uncounted = []\n", secure)
    # With TLS, a handshake that is only begun counts as one.
    held = [battery.dial(gateway.public) for _ in range(6)]
    time.sleep(0.2)
    answer, took = everything(battery.dial(gateway.public))
    assert answer == b"" if secure else answer.startswith(b"HTTP/1.1 429") and b"per_address" in answer
    assert took < 0.5
    assert gateway.refused("address") == 1
    # Ended by the caller, by a time-out, by a malformed head: each gives its place back.
    held[0].close()
    held[1].sendall(b"nonsense\r\n\r\n")
    for connection in held[1:]:
        everything(connection)
    gateway.answers()
    for _ in range(30):
        gateway.answers()
    gateway.close()


def test_a_bound_that_cannot_be_is_told(tmp_path):
    import subprocess

    import conftest

    config = tmp_path / "shunt.toml"
    config.write_text('[limits.caller]\nper_address = 0\nuncounted = ["10.0.0.0/40"]\n')
    done = subprocess.run([conftest.SHUNT, "check", "--config", str(config)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "limits.caller.per_address: must be above 0" in done.stderr
    assert "`10.0.0.0/40` is no network" in done.stderr
