"""Providers that lie over HTTP/2: a call ends in a clear error, or broken off for all to see; no other
call gets a byte of its answer, none waits past its deadline, and nothing is kept."""

import concurrent.futures
import time

import battery
import conformance
import h2lies
import pytest
from conftest import start, stop
from test_limits import memory

BUDGET, IDLE = 2.0, 1.0


def configuration(folder, providers):
    yield f'[listen]\npublic = "127.0.0.1:0"\nadmin = "127.0.0.1:0"\n[server]\nworkers = 1\n[cold]\nstore = "sqlite:{folder}/jobs.db"\n'
    for number, provider in enumerate(providers):
        yield f'[providers.c{number}]\nbase_url = "{provider.url}"\nprotocol = "http2"\nwarm_connections = 0\n'
    for number in range(len(providers)):
        budget = 'budget = { first_token = "2s", total = "2s", idle = "1s" }'
        yield f'[[routes]]\nname = "r{number}"\nmatch = {{ path = "/c{number}/*" }}\ntargets = ["c{number}"]\n{budget}\n'


def call(url, path, method="GET", body=b""):
    """Head, body, whether the end came, and how long it took."""
    began = time.monotonic()
    with battery.connect(url) as connection:
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{length}Connection: close\r\n\r\n".encode() + body)
        data, ended = battery.receive(connection, lambda _: False, patience=4)
    head, _, body = data.partition(b"\r\n\r\n")
    return head, body, ended, time.monotonic() - began


def word(head, body, method):
    """What the caller sees."""
    if not head.startswith(b"HTTP/1.1 "):
        return "broken off"  # Before its head was sent.
    status = int(head.split()[1])
    if status >= 400:
        return f"{status}"
    chunked = b"\r\ntransfer-encoding: chunked" in head.lower()
    ended = body.endswith(b"0\r\n\r\n") or b"0\r\nx-sum: 1\r\n" in body
    length = battery.length_of(head)
    whole = method == "HEAD" or status in (204, 304) or (ended if chunked else len(body) == (length or 0))
    return f"{status}, whole" if whole else "broken off"


def one(url, number, provider, case):
    """(group, name, became, wrong)."""
    name, method, _, allowed, _ = case
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        beside = pool.submit(call, url, f"/c{number}/beside")
        head, body, ended, took = call(url, f"/c{number}/first", method, b"x" * 100_000 if method == "POST" else b"")
        sibling = beside.result()
    provider.lying = False
    became, wrong = word(head, body, method), None
    own = b"/c%d/" % number
    if not ended:
        wrong = "the answer did not end"
    elif took > BUDGET + IDLE + 1.5:
        wrong = f"it took {took:.1f} s"
    elif h2lies.EVIL in head or h2lies.EVIL in body or b"EXTRA" in body:
        wrong = f"the caller got {head + body}"
    elif own in body:
        wrong = "the caller got another's answer"
    elif word(*sibling[:2], "GET") not in ("200, whole", "502", "504", "broken off"):
        wrong = f"the call beside it got {sibling}"
    elif sibling[0].startswith(b"HTTP/1.1 2") and sibling[1] not in (own + b"beside", b""):
        wrong = f"the call beside it got {sibling}"
    elif became not in allowed:
        wrong = f"it became {became}"
    until, right = time.monotonic() + 12, 0
    while wrong is None and right < 3:
        head, body, _, took = call(url, f"/c{number}/after{right}")
        if took > BUDGET + 1.5:
            wrong = f"a later call took {took:.1f} s"
        elif head.startswith(b"HTTP/1.1 200") and body != own + b"after%d" % right:
            wrong = f"a later call got {body}"
        elif head.startswith(b"HTTP/1.1 200"):
            right += 1
        elif time.monotonic() > until:
            wrong = f"later calls get {head}"
        else:
            time.sleep(0.1)
    return "Answers over HTTP/2", name, " or ".join(allowed), wrong


@pytest.fixture(scope="module")
def lying(tmp_path_factory):
    folder = tmp_path_factory.mktemp("h2lies")
    providers = [h2lies.Provider(lie, greeting) for _, _, lie, _, greeting in h2lies.CASES]
    config = folder / "shunt.toml"
    config.write_text("".join(configuration(folder, providers)))
    process, found = start(["serve", "--config", str(config)], "public", "admin")
    before = memory(process)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        run = lambda item: one(found["public"], item[0], providers[item[0]], item[1])
        told = list(pool.map(run, enumerate(h2lies.CASES)))
    grown = memory(process) - before
    stop(process)
    for provider in providers:
        provider.close()
    return told, grown


@pytest.mark.parametrize("number", range(len(h2lies.CASES)), ids=[case[0] for case in h2lies.CASES])
def test_a_lie_over_http2_is_a_clear_error_and_nobody_elses(lying, number):
    *_, became, wrong = lying[0][number]
    assert wrong is None, f"{became}: {wrong}"


def test_nothing_is_kept_of_it(lying):
    assert lying[1] < 64 << 20, f"memory grew by {lying[1] >> 20} MiB"


def test_the_document_tells_what_was_run(lying):
    conformance.compare("h2 providers", lying[0])
