"""Request smuggling and lying providers: each published trick, and what becomes of it."""

import time
import urllib.request

import battery
import conformance
import pytest
import responses
import smuggling
from conftest import stop
from raw_provider import RawProvider, gateway
from test_limits import memory

# The call that is lied to has a deadline.
SHORT = """[[routes]]
name = "first"
match = { path = "/raw/first" }
targets = ["raw"]
budget = { first_token = "1s", total = "1s", idle = "1s" }
"""
REQUESTS = list(smuggling.cases())
ids = [f"{group}: {name}" for group, name, _ in REQUESTS]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What became of every request of the battery, sent to callers' listener and to operators'."""
    provider = RawProvider(battery.echo)
    process, found = gateway(tmp_path_factory.mktemp("smuggling"), provider)
    try:
        told = battery.run(found["public"], provider, REQUESTS)
        assert not provider.malformed or any(wrong for *_, wrong in told), provider.malformed
        before = len(provider.requests)
        own = battery.run_own(found["admin"], REQUESTS)
        assert len(provider.requests) == before, "operators' listener called a provider"
    finally:
        stop(process)
        provider.close()
    return told, own


@pytest.fixture(scope="module")
def requests(both):
    return both[0]


@pytest.fixture(scope="module")
def own(both):
    return both[1]


@pytest.mark.parametrize("number", range(len(REQUESTS)), ids=ids)
def test_a_request_is_refused_or_is_one_request_for_every_reader(requests, number):
    *_, became, wrong = requests[number]
    assert wrong is None, f"{became}: {wrong}"


@pytest.mark.parametrize("number", range(len(REQUESTS)), ids=ids)
def test_operators_listener_takes_a_request_for_one_or_refuses_it(own, number):
    *_, became, wrong = own[number]
    assert wrong is None, f"{became}: {wrong}"


def test_the_document_tells_what_was_run_against_operators_listener(requests, own):
    differ = [mine for theirs, mine in zip(requests, own) if theirs[2:] != mine[2:]]
    fails = sum(1 for *_, wrong in own if wrong)
    note = f"{len(own)} cases, {fails} fail. Those that end otherwise than on callers' listener:"
    conformance.compare("operators", differ, note)


def answer_of(provider_says, method, folder_gateway):
    """What the caller got, and what three others got after it on the same pool."""
    url, provider = folder_gateway
    provider.answers = lambda request: provider_says if request[1] == b"/raw/first" else battery.echo(request)
    connection = battery.connect(url)
    connection.sendall(f"{method} /raw/first HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    data, ended = battery.receive(connection, lambda _: False, patience=3)
    connection.close()
    if not isinstance(provider_says, bytes) and any(part == 0.2 for part in provider_says):
        time.sleep(0.4)
    others = []
    for number in range(3):
        with urllib.request.urlopen(f"{url}/raw/other{number}", timeout=10) as other:
            others.append(other.read())
    return data, ended, others


@pytest.fixture(scope="module")
def lying(tmp_path_factory):
    provider = RawProvider(battery.echo)
    process, found = gateway(tmp_path_factory.mktemp("lying"), provider, SHORT)
    told, before = [], memory(process)
    for name, method, says in responses.CASES:
        began = time.monotonic()
        data, ended, others = answer_of(says, method, (found["public"], provider))
        took = time.monotonic() - began
        head, _, body = data.partition(b"\r\n\r\n")
        status = int(head.split()[1]) if head.startswith(b"HTTP/1.1 ") else 0
        wrong = None
        if took > 3.5:
            wrong = f"it took {took:.1f} s"
        elif others != [b"/other%d 0" % number for number in range(3)]:
            wrong = f"another caller got {others}"
        elif b"evil" in data or b"EXTRA" in data:
            wrong = f"the caller got {data}"
        elif status == 101:
            wrong = "the caller was switched to another protocol, unasked"
        elif not ended:
            wrong = "the answer did not end"
        elif data.count(b"HTTP/1.1 ") > 1:
            wrong = f"the caller got two answers: {data}"
        length = battery.length_of(head)
        whole = body == b"ok" and length in (None, 2) or (method == "HEAD" or status in (204, 304)) and not body
        whole = whole or body == b"2\r\nok\r\n0\r\n\r\n"
        became = "closed" if not status else f"{status}" if status >= 400 else f"{status}, whole" if whole else f"{status}, broken off"
        told.append(("Answers of a provider", name, became, wrong))
    grown = memory(process) - before
    assert grown < 32 << 20, f"memory grew by {grown >> 20} MiB"
    stop(process)
    provider.close()
    return told


@pytest.mark.parametrize("number", range(len(responses.CASES)), ids=[one[0] for one in responses.CASES])
def test_an_answer_is_its_callers_alone_and_a_confused_connection_is_not_used_again(lying, number):
    *_, became, wrong = lying[number]
    assert wrong is None, f"{became}: {wrong}"


def test_the_document_tells_what_was_run(requests, lying):
    conformance.compare("smuggling", requests + lying)
