"""`shunt top` in a pseudo-terminal of 80 columns and 24 lines, against a gateway under load."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import termios
import threading
import time

import pexpect
import pyte
import pytest
from conftest import SHUNT, House, until

BODY = json.dumps({"model": "gpt-4o", "messages": []}).encode()


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    port = free_port()
    house = House(
        tmp_path_factory.mktemp("top"), lambda text: text.replace('admin  = "127.0.0.1:0"', f'admin  = "127.0.0.1:{port}"')
    )
    house.gateway = house.begin()
    house.loaded = True

    def load():
        while house.loaded:
            try:
                house.gateway.call("/v1/chat/completions", BODY)
            except OSError:
                time.sleep(0.1)

    thread = threading.Thread(target=load, daemon=True)
    thread.start()
    yield house
    house.loaded = False
    thread.join(timeout=30)
    house.close()


class Top:
    """A terminal with `shunt top` in it."""

    def __init__(self, admin, arguments="", **environment):
        self.screen = pyte.Screen(80, 24)
        self.stream = pyte.ByteStream(self.screen)
        self.raw = b""
        environment = {"TERM": "xterm-256color", "PATH": "/usr/bin"} | environment
        # The shell stands for the reader's: the terminal is its again afterwards.
        self.child = pexpect.spawn(
            "sh", ["-c", f"sleep 0.2; '{SHUNT}' top --admin {admin} {arguments}; echo \"ended: $?\"; read _"],
            dimensions=(24, 80), env=environment, timeout=20,
        )
        self.before = termios.tcgetattr(self.child.child_fd)

    def text(self):
        try:
            while True:
                read = self.child.read_nonblocking(1 << 16, timeout=0.05)
                self.raw += read
                self.stream.feed(read)
        except (pexpect.TIMEOUT, pexpect.EOF):
            pass
        return "\n".join(self.screen.display)

    def shows(self, *wanted, seconds=15):
        """Waits until all of this is on the screen."""
        end = time.monotonic() + seconds
        while not all(re.search(one, self.text()) for one in wanted):
            assert time.monotonic() < end, f"{wanted} is not seen:\n{self.text()}"
        return self.text()

    def is_restored(self):
        """The process ended well, and the terminal is as it was: lines, echo, its own screen, a cursor."""
        until(lambda: self.text() and b"ended: 0" in self.raw, 20)
        assert termios.tcgetattr(self.child.child_fd) == self.before
        assert self.raw.rindex(b"\x1b[?1049l") > self.raw.rindex(b"\x1b[?1049h")
        assert self.raw.rindex(b"\x1b[?25h") > self.raw.rindex(b"\x1b[?25l")

    def close(self):
        self.child.close(force=True)


@pytest.fixture
def top(house):
    opened = []

    def top(admin=None, arguments="", **environment):
        opened.append(Top(admin or house.gateway.admin, arguments, **environment))
        return opened[-1]

    yield top
    for one in opened:
        one.close()


CHAT = r"chat +([\d.]+) +\d+ +[\d.]+m?s"


def test_it_shows_a_gateway_under_load_and_every_key_works(top):
    top = top()
    text = top.shows(CHAT, r"TARGET +HEALTH", r"sim +healthy", r"QUEUED +RUNNING|Jobs")
    top.shows("[▁▂▃▄▅▆▇█]")
    assert all(float(rate) > 0 for rate in re.findall(CHAT, text))
    assert "alive" in text and "Routes: whole answers, last 1m, by order" in text
    top.child.send("s")
    top.shows("by name")
    top.child.send("ssr")
    top.shows("by p99, reversed")
    top.child.send("rsss")
    top.shows("by order ?─")
    top.child.send("w")
    top.shows("last 5m")
    top.child.send("t")
    top.shows("first token")
    top.child.send("t/see")
    top.shows("routes with: see_", "see-other")
    assert "alive" not in top.text()
    top.child.send("\r")
    top.shows("only `see` ")
    # Arrows come as bytes of which the first is Esc.
    top.child.send("\x1b[B")
    assert "only `see` " in top.text()
    top.child.send("\x1b")
    top.shows("alive")
    # The arrow chose the one route that was left; the choice is still there.
    top.shows(">see-other", "see-other: failed")
    top.child.send("j")
    top.shows(">patient", "patient: failed")
    top.child.send("?")
    top.shows("Keys", "Any key goes on")
    top.child.send("x")
    top.shows("patient: failed")
    top.child.send("q")
    top.is_restored()


def test_what_is_frozen_stands_still(top):
    top = top()
    top.shows(CHAT)
    top.child.send(" ")
    held = top.shows("FROZEN")
    time.sleep(2.2)
    assert top.text() == held
    top.child.send(" ")
    until(lambda: "FROZEN" not in top.text() and top.text() != held, 10)


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_gives_the_terminal_back(top, by):
    top = top()
    top.shows(CHAT)
    [process] = pathlib.Path(f"/proc/{top.child.pid}/task/{top.child.pid}/children").read_text().split()
    os.kill(int(process), by)
    top.is_restored()


def test_it_has_colours_and_none_where_none_are_wanted(top):
    used = lambda top: {
        cell.fg for line in top.screen.buffer.values() for cell in line.values() if cell.data != " "
    }
    coloured, plain = top(), top(NO_COLOR="1")
    coloured.shows("healthy")
    plain.shows("healthy")
    assert len(used(coloured)) > 2
    assert used(plain) == {"default"}


def test_a_smaller_terminal_is_drawn_anew(top):
    top = top()
    top.shows(CHAT)
    top.screen.resize(20, 70)
    top.child.setwinsize(20, 70)
    top.shows(CHAT, "q quit")
    top.screen.resize(5, 30)
    top.child.setwinsize(5, 30)
    top.shows("shunt top needs 60 columns")


def test_a_gateway_that_is_away_is_told_of_and_found_again(house, top):
    house.gateway, gateway = house.gateway, house.gateway
    top = top()
    top.shows(CHAT)
    process = house.processes[-1]
    process.kill()
    process.wait()
    top.shows("NO ANSWER", "What is shown is old", "no gateway answers at", r"start it")
    house.gateway = house.begin()
    top.shows(CHAT)
    until(lambda: "NO ANSWER" not in top.text(), 10)
    top.child.send("\x03")
    top.is_restored()


def test_one_that_never_answers_and_one_that_is_no_admin_listener_are_told_of(house, top):
    nobody = top(f"http://127.0.0.1:{free_port()}")
    nobody.shows("no gateway answers at http://127.0.0.1", "name its admin *\n *listener", "q leaves")
    nobody.child.send("q")
    nobody.is_restored()
    public = top(house.gateway.public)
    public.shows("is no admin listener")


def test_without_a_terminal_it_says_what_to_do(house):
    told = subprocess.run([SHUNT, "top", "--admin", house.gateway.admin], capture_output=True, text=True, timeout=20)
    assert told.returncode == 1
    assert "needs a terminal" in told.stderr and "/api/live?once=true" in told.stderr


def test_a_listener_that_wants_a_token_is_told_of_and_given_one(tmp_path, monkeypatch, top):
    monkeypatch.setenv("OPERATORS", "x" * 40)
    house = House(tmp_path, lambda text: text + '[auth]\nadmin_token = { env = "OPERATORS" }\n')
    try:
        admin = house.begin().admin
        without = top(admin)
        without.shows("NO ANSWER", "send the admin token", "--admin-token-env")
        with_token = top(admin, "--admin-token-env OPERATORS", OPERATORS="x" * 40)
        with_token.shows("sim +healthy")
        unset = top(admin, "--admin-token-env NO_SUCH")
        until(lambda: unset.text() and b"ended: 1" in unset.raw, 10)
        assert b"NO_SUCH is not set" in unset.raw and b"?1049h" not in unset.raw
    finally:
        house.close()
