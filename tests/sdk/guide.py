"""Runs the code of a guide as its reader would: top to bottom, in one shell and one folder.

    ```sh          is run; it fails where a command fails
    ```text        right after it: what it prints, where `…` stands for anything
    ```LANG FILE   is written to that file
    ```LANG +FILE  is added to it

There is no other block, so that nothing in a guide is not run. A line that ends with `&` starts a server, which says
`listening on` unless its output goes to a file. Ports are exchanged for free ones, /tmp/try for a folder of the test.
Nothing is built or installed: `cargo`, `pip`, `npm` and `python3 -m venv` only look whether the tests have what is named.
At its end a guide has stopped all that it started.
"""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

from conftest import ROOT, SHUNT

# Shell, and what the guides' readers have: the gateway, Python and Node with their SDKs, Rust's receiver.
FENCE = re.compile(r"^```(\S*)(?: (\S+))?\n(.*?)^```$", re.M | re.S)
LISTEN = r"""```toml \1
[listen]
public = "127.0.0.1:8080"
admin  = "127.0.0.1:8081"
"""
PORTS = ["8080", "8081", "9000", "9001"]
TENS = ["810$", "820$"]


class Guide:
    # How long a gateway may drain at the end.
    patience = 20

    def __init__(self, name, folder, replacements=()):
        self.folder, self.name, self.steps = folder, name, 0
        text = (ROOT / "docs" / name).read_text()
        self.lines = len(text.splitlines())
        # The default ports are said, so that they can be exchanged.
        text = re.sub(r"^```toml (\S+)\n(?!\[listen)", LISTEN, text, flags=re.M)
        self.opening, self.code = text.split("```", 1)[0], "".join(block[2] for block in FENCE.findall(text))
        for old, new in [*replacements, *free_ports(), ("/tmp/try", str(folder))]:
            text = text.replace(old, new)
        self.blocks = FENCE.findall(text)
        assert text.count("```") == 2 * len(self.blocks), "a fence is not closed"
        (folder / "node_modules").symlink_to(ROOT / "tests/sdk/node_modules")
        self.bin = folder / "bin"
        self.bin.mkdir()
        shunt = pathlib.Path(SHUNT).resolve()
        (self.bin / "shunt").symlink_to(shunt)
        venv = 'test "$1 $2" = "-m venv" && mkdir -p "$3/bin" && exec touch "$3/bin/activate"'
        self.program("python3", f'{venv}\nexec {sys.executable} "$@"')
        requirements, package = ROOT / "tests/requirements.txt", ROOT / "tests/sdk/package.json"
        self.program("pip", f'test $1 = install || exit\nshift\nfor one; do grep -q "^$one==" {requirements} || exit; done')
        self.program("npm", f"test $1 = i || exit\nshift\nfor one; do grep -q '\"'$one'\": ' {package} || exit; done")
        # The Rust of a guide is an example of this crate, which `cargo test` has built.
        receive = f'test "$1 $2" = "run --" && exec {shunt.parent}/examples/receive "$3"'
        self.program("cargo", f'case "$*" in build | "build --release") exit ;; esac\n{receive}')

    def program(self, name, does):
        (self.bin / name).write_text(f"#!/bin/sh\n{does}\n")
        (self.bin / name).chmod(0o755)

    def run(self):
        environment = {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "NO_COLOR": "1",
        }
        self.shell = subprocess.Popen(
            ["bash", "-eu", "-o", "pipefail"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            cwd=self.folder, env=environment, start_new_session=True,
        )
        try:
            self.all()
            self.has_stopped()
        finally:
            self.stop(signal.SIGTERM, 10)
            self.stop(signal.SIGKILL, 10)

    def has_stopped(self):
        """Waits until only the shell runs of all that the guide started."""
        end = time.monotonic() + self.patience
        while others := [one for one in running(self.shell.pid) if one[0] != self.shell.pid]:
            assert time.monotonic() < end, f"{self.name} leaves these running: {others}"
            time.sleep(0.05)

    def stop(self, by, seconds):
        """Ends all that the guide started."""
        end = time.monotonic() + seconds
        try:
            os.killpg(self.shell.pid, by)
            while time.monotonic() < end:
                self.shell.poll()
                os.killpg(self.shell.pid, 0)
                time.sleep(0.02)
        except ProcessLookupError:
            self.shell.wait()

    def all(self):
        checked = 0
        for at, (language, file, text) in enumerate(self.blocks):
            if language == "sh" and not file:
                wanted = None
                if self.blocks[at + 1 : at + 2] and self.blocks[at + 1][0] == "text":
                    wanted = self.blocks[at + 1][2]
                    checked += 1
                self.step(text, wanted, f"{self.name}, block {at + 1}")
            elif language == "text":
                assert self.blocks[at - 1][0] == "sh", f"{self.name}, block {at + 1}: the output of what?"
            else:
                assert file, f"{self.name}, block {at + 1}: where does it go? {text}"
                with open(self.folder / file.lstrip("+"), "a" if file.startswith("+") else "w") as out:
                    out.write(text)
        assert checked, "nothing is looked at"

    def step(self, text, wanted, where):
        (self.folder / "step.sh").write_text(text)
        # A server goes on to write to the file of its own step.
        self.steps += 1
        said, done = self.folder / f"said-{self.steps}", self.folder / f"done-{self.steps}"
        said.touch()
        self.shell.stdin.write(f"exec > {said} 2>&1; source ./step.sh; echo > {done}\n")
        self.shell.stdin.flush()
        servers = len(re.findall(r"^(?!.* >).*&$", text, re.M))
        ready = lambda: done.exists() and said.read_text().count("listening on") >= servers
        end = time.monotonic() + 40
        while not ready():
            assert self.shell.poll() is None, f"{where} failed:\n{text}\n{said.read_text()}"
            assert time.monotonic() < end, f"{where} does not end:\n{text}\n{said.read_text()}"
            time.sleep(0.02)
        if wanted is not None:
            pattern = ".*?".join(re.escape(part) for part in wanted.strip("\n").split("…"))
            output = said.read_text().strip("\n")
            assert re.fullmatch(pattern, output, re.S), f"{where}:\n{text}\n--- wanted\n{wanted}\n--- got\n{output}"


def running(group):
    """Processes of a group, zombies left out."""
    told = subprocess.run(["ps", "-e", "-o", "pgid=,pid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    rows = (line.split(None, 3) for line in told.splitlines())
    return [(int(pid), args) for pgid, pid, stat, args in rows if int(pgid) == group and not stat.startswith("Z")]


# Ports that were given away: guides run beside each other.
TAKEN = set()


def free_ports():
    with_sockets = [socket.socket() for _ in PORTS]
    for one in with_sockets:
        one.bind(("127.0.0.1", 0))
    found = [(port, str(one.getsockname()[1])) for port, one in zip(PORTS, with_sockets)]
    for one in with_sockets:
        one.close()
    base = 2000 + os.getpid() % 800
    for ten in TENS:
        free = lambda tens: tens not in TAKEN and all(map(is_free, range(10 * tens, 10 * tens + 10)))
        base = next(tens for tens in range(base + 1, 3200) if free(tens))
        TAKEN.add(base)
        found.append((ten, f"{base}$"))
    return found


def is_free(port):
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
