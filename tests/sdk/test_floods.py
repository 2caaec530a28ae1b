"""What stalls or floods a listener before it asked anything: callers' over TLS, operators' with and
without. Each is over in its time, and nobody else feels it."""

import concurrent.futures
import subprocess
import threading
import time
import urllib.parse

import battery
import conformance
import pytest
import stalls
from test_limits import LIMITS, Gateway, memory

CALLERS, OPERATORS, OPERATORS_TLS = "Callers, over TLS", "Operators", "Operators, over TLS"


def cases():
    """(listener, name, how it is driven, what may be answered, seconds)."""
    for listener in (CALLERS, OPERATORS, OPERATORS_TLS):
        for name, parts, callers, operators, seconds in stalls.HTTP:
            yield listener, name, battery.connect, parts, callers if listener == CALLERS else operators, seconds
    for name, chosen, said, allowed, seconds in stalls.OTHER:
        speak = lambda url, chosen=chosen: battery.connect(url, speaks=[chosen])
        yield CALLERS, name, speak, lambda said=said: [said], allowed, seconds
    preface = stalls.OTHER[0][2]
    yield OPERATORS, "HTTP/2", battery.connect, lambda: [preface], [stalls.NONE, (400,)], 0
    for listener in (CALLERS, OPERATORS_TLS):
        for name, parts, seconds in stalls.TLS:
            yield listener, f"handshake: {name}", battery.dial, parts, [stalls.NONE], seconds


CASES = sorted(cases(), key=lambda case: case[0])


class Bystander(threading.Thread):
    """Calls, one after the other, while something else goes on; keeps its longest wait."""

    def __init__(self, gateway):
        super().__init__(daemon=True)
        self.gateway, self.over, self.slowest, self.failed = gateway, threading.Event(), 0, None
        self.start()

    def run(self):
        while not self.over.wait(0.1):
            try:
                began = time.monotonic()
                self.gateway.metrics("shunt_build_info")
                self.slowest = max(self.slowest, self.gateway.answers(), time.monotonic() - began)
            except Exception as error:  # noqa: BLE001: whatever it is, it is what the test is about.
                self.failed = error

    def ends(self):
        self.over.set()
        self.join()
        assert self.failed is None, self.failed
        return self.slowest


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    gateway = Gateway(tmp_path_factory.mktemp("floods-tls"), secure=True)
    yield gateway
    gateway.close()


@pytest.fixture(scope="module")
def results(secure, tmp_path_factory):
    bare = Gateway(tmp_path_factory.mktemp("floods"))
    urls = {CALLERS: secure.public, OPERATORS: bare.admin, OPERATORS_TLS: secure.admin}
    before = [memory(one.process) for one in (secure, bare)]
    bystanders = [Bystander(one) for one in (secure, bare)]

    def run(case):
        listener, name, connect, parts, allowed, seconds = case
        path = b"/raw/x" if listener == CALLERS else b"/healthz"
        what = stalls.drive(connect(urls[listener]), parts(), path)
        return listener, name, *stalls.judge(*what, allowed, seconds)

    with concurrent.futures.ThreadPoolExecutor(len(CASES)) as pool:
        told = list(pool.map(run, CASES))
    slowest = max(one.ends() for one in bystanders)
    grown = [memory(one.process) - was for one, was in zip((secure, bare), before)]
    bare.close()
    return told, slowest, grown


@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{case[0]}: {case[1]}" for case in CASES])
def test_what_stalls_or_floods_a_listener_is_over_in_its_time(results, number):
    *_, became, wrong = results[0][number]
    assert wrong is None, f"{became}: {wrong}"


def test_the_others_do_not_feel_it_and_it_is_not_kept(results):
    _, slowest, grown = results
    print(f"{slowest=:.3f} {grown=}")
    assert slowest < 3, f"others waited {slowest} s"
    assert max(grown) < 48 << 20, grown


def test_the_document_tells_what_was_run(results):
    conformance.compare("floods", results[0])


def test_handshakes_without_number_are_taken_and_those_that_are_given_up_are_counted(secure):
    failed = 'shunt_tls_handshakes_failed_total{listener="public"}'
    before, was = secure.metrics(failed), memory(secure.process)
    bystander = Bystander(secure)
    held = [battery.dial(secure.public) for _ in range(300)]
    for connection in held:
        connection.sendall(stalls.hello())
    for _ in range(200):
        battery.connect(secure.public).close()
    until = time.monotonic() + 15
    while secure.metrics(failed) < before + 300:
        assert time.monotonic() < until, secure.metrics(failed)
        time.sleep(0.05)
    slowest, grown = bystander.ends(), memory(secure.process) - was
    print(f"{slowest=:.3f} {grown=}")
    assert slowest < 3
    assert grown < 32 << 20


@pytest.mark.parametrize(("version", "letter"), [("-tls1_2", "R"), ("-tls1_3", "K")], ids=["renegotiation", "KeyUpdate"])
def test_keys_that_are_asked_for_again_and_again_end_the_connection(secure, version, letter):
    where = urllib.parse.urlsplit(secure.public)
    command = ["openssl", "s_client", "-connect", where.netloc, version]
    client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    asked, began = 0, time.monotonic()
    try:
        while client.poll() is None and time.monotonic() < began + 4:
            client.stdin.write(f"{letter}\n".encode())
            client.stdin.flush()
            asked += 1
            time.sleep(0.002)
    except BrokenPipeError:
        pass
    took = time.monotonic() - began
    client.kill()
    client.wait()
    print(f"{asked=} {took=:.2f}")
    assert took < 3
    secure.answers()


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
def test_silent_operators_lock_no_other_out_for_longer_than_a_head_may_take(tmp_path, secure):
    few = LIMITS.replace("streams", "operators = 8\nstreams")
    gateway = Gateway(tmp_path, "uncounted = []\n", secure, few)
    held = [battery.dial(gateway.admin) for _ in range(6)]
    # One address has half of them.
    began, ended = time.monotonic(), 0
    for connection in held[4:]:
        connection.settimeout(0.5)
        ended += b"per_address" in connection.recv(999) or secure
    assert ended == 2
    for connection in held[:4]:
        connection.settimeout(5)
        assert connection.recv(999) == b""
    assert time.monotonic() - began < 2.5
    assert gateway.metrics("shunt_build_info") == 0 and gateway.refused("address") == 2
    gateway.close()
