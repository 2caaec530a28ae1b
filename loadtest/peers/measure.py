"""Processes on cores, and what the kernel tells of them."""

import contextlib
import json
import os
import re
import resource
import signal
import socket
import subprocess
import time

TICK = os.sysconf("SC_CLK_TCK")


def descriptors():
    """Raises the limit of open files as far as it goes, for children too; gives it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (131072, hard):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))
            return wanted
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def family(process):
    """A process and all that it started."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                parent = open(f"/proc/{entry}/stat").read().rsplit(")", 1)[1].split()[1]
                children.setdefault(int(parent), []).append(int(entry))
    found, next_ones = [], [process]
    while next_ones:
        one = next_ones.pop()
        found.append(one)
        next_ones += children.get(one, [])
    return found


def cpu(process):
    """Seconds of CPU of a process and all that it started: exact to the scheduler where it says so."""
    total = 0.0
    for one in family(process):
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{one}/task"):
                total += int(open(f"/proc/{one}/task/{task}/schedstat").read().split()[0]) / 1e9
    return total


def pss(process):
    """Proportional memory in MB."""
    total = 0
    for one in family(process):
        with contextlib.suppress(OSError):
            found = re.search(r"^Pss:\s+(\d+)", open(f"/proc/{one}/smaps_rollup").read(), re.M)
            total += int(found[1]) if found else 0
    return total / 1024


@contextlib.contextmanager
def running(command, port, core="0", environment=None, patience=60, log=None):
    """A server pinned to cores, from when it accepts until it is ended."""
    output = open(log, "w") if log else subprocess.DEVNULL
    child = subprocess.Popen(
        ["taskset", "-c", core, *command], stdout=output, stderr=output,
        env={**os.environ, **(environment or {})}, start_new_session=True,
    )
    try:
        end = time.monotonic() + patience
        while port:
            if child.poll() is not None:
                raise RuntimeError(f"{command[0]} ended with {child.returncode}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if time.monotonic() > end:
                raise RuntimeError(f"{command[0]} does not accept")
            time.sleep(0.05)
        yield child
    finally:
        for what, wait in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, what)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(wait)
                break


def micros(text):
    """wrk's durations, in microseconds."""
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()
    return float(number) * {"us": 1, "ms": 1e3, "s": 1e6, "m": 6e7}[unit]


def wrk(folder, port, connections, seconds, headers, process=None):
    """A closed loop: requests/s, CPU µs a request, p50 and p99 in µs, and answers that were none."""
    script = folder / "post.lua"
    lines = [
        'wrk.method = "POST"', 'wrk.headers["content-type"] = "application/json"',
        'wrk.headers["authorization"] = "Bearer k"',
        *(f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items()),
        'wrk.body = \'{"model":"gpt-4o","messages":[{"role":"user","content":"' + "z" * 950 + "\"}]}'",
    ]
    script.write_text("\n".join(lines) + "\n")
    before = cpu(process) if process else 0
    told = subprocess.run(
        ["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--latency", "--timeout", "30s",
         "-s", str(script), f"http://127.0.0.1:{port}/v1/chat/completions"],
        check=True, capture_output=True, text=True,
    ).stdout
    used = cpu(process) - before if process else 0
    requests = int(re.search(r"(\d+) requests in", told)[1])
    failed = int((re.search(r"Non-2xx or 3xx responses: (\d+)", told) or [0, 0])[1])

    def part(share):
        # Of no answers there is none.
        found = re.search(rf"^\s+{share}%\s+([\d.]+\w+)$", told, re.M)
        return micros(found[1]) if found else float("nan")

    return {
        "rate": float(re.search(r"Requests/sec:\s+([\d.]+)", told)[1]), "failed": failed,
        "cpu": used * 1e6 / max(requests, 1), "p50": part(50), "p99": part(99),
    }


def tool(peers, *arguments, core="1"):
    """One of the tools of benches/peers, and what it says."""
    run = ["taskset", "-c", core, peers, *map(str, arguments)]
    told = subprocess.run(run, capture_output=True, text=True)
    if told.returncode:
        raise RuntimeError(told.stderr.strip().partition("\n")[0])
    return json.loads(told.stdout) if told.stdout.strip() else {}
