"""A gateway, a simulated provider and a callback receiver, for tests with real clients."""

import base64
import http.server
import json
import os
import pathlib
import subprocess
import threading
import time
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHUNT = os.environ.get("SHUNT", str(ROOT / "target" / "debug" / "shunt"))
SECRET = "whsec_" + base64.b64encode(os.urandom(32)).decode()

CONFIG = """
[listen]
public = "127.0.0.1:0"
admin  = "127.0.0.1:0"
[providers.sim]
base_url = "{simulator}"
dialect  = "openai"
[providers.claude]
base_url = "{simulator}"
dialect  = "anthropic"
[providers.raw]
base_url = "{simulator}"
[[routes]]
name    = "chat"
match   = {{ path = "/v1/chat/completions", model = "gpt-*" }}
targets = ["sim"]
budget  = {{ first_token = "1s", total = "1s" }}
[[routes]]
name    = "alive"
match   = {{ path = "/v1/chat/completions", model = "alive-*" }}
targets = ["sim"]
budget  = {{ first_token = "1s", total = "30s", keepalive = "200ms" }}
[[routes]]
name    = "alive-messages"
match   = {{ path = "/v1/messages", model = "alive-*" }}
targets = ["claude"]
budget  = {{ first_token = "1s", total = "30s", keepalive = "200ms" }}
[[routes]]
name    = "paced"
match   = {{ path = "/v1/chat/completions", model = "paced-*" }}
targets = ["sim"]
budget  = {{ first_token = "1s", total = "30s", min_rate = 5 }}
over_budget = {{ mid_stream = "cut" }}
[[routes]]
name    = "see-other"
match   = {{ path = "/v1/chat/completions", model = "slow-*" }}
targets = ["sim"]
budget  = {{ first_token = "300ms", total = "300ms" }}
over_budget = {{ unasked = "see-other" }}
[[routes]]
name    = "patient"
match   = {{ path = "/v1/chat/completions", model = "patient-*" }}
targets = ["sim"]
budget  = {{ first_token = "300ms", total = "300ms" }}
over_budget = {{ unasked = "wait" }}
retries = {{ keep = "3s" }}
[[routes]]
name    = "predicted"
match   = {{ path = "/v1/chat/completions", model = "predict-*" }}
targets = ["sim"]
budget  = {{ first_token = "300ms", total = "300ms" }}
predict = {{ min_samples = 60 }}
[[routes]]
name    = "messages"
match   = {{ path = "/v1/messages" }}
targets = ["claude"]
budget  = {{ first_token = "1s", total = "1s" }}
[[routes]]
name    = "rest"
match   = {{ path = "/v1/*" }}
targets = ["sim"]
[cold]
store = "sqlite:{folder}/jobs.db"
[callbacks]
secret   = {{ env = "SHUNT_CALLBACK_SECRET" }}
allow    = ["http://127.0.0.1:{hook}/*"]
schedule = ["1s", "1s"]
"""


def start(arguments, *names, **environment):
    """Starts shunt, with these variables besides, and reads the addresses that it prints."""
    environment = dict(os.environ, SHUNT_CALLBACK_SECRET=SECRET) | environment
    process = subprocess.Popen(
        [SHUNT, *arguments], stdout=subprocess.PIPE, text=True, env=environment
    )
    found = {}
    for name in names:
        line = process.stdout.readline()
        assert line.startswith(f"{name} listening on "), line
        found[name] = line.split()[-1]
    return process, found


def stop(process):
    process.terminate()
    assert process.wait(timeout=40) == 0


class Receiver(http.server.ThreadingHTTPServer):
    """Keeps what it is sent; answers 500 as often as `failures` says."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.received = []
        self.failures = 0
        self.arrived = threading.Condition()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self, path):
        return f"http://127.0.0.1:{self.server_address[1]}/{path}"

    def wait_for(self, path, count=1, seconds=15):
        with self.arrived:
            found = lambda: [one for one in self.received if one[0] == f"/{path}"]
            assert self.arrived.wait_for(lambda: len(found()) >= count, timeout=seconds)
            return found()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        server = self.server
        with server.arrived:
            server.received.append((self.path, dict(self.headers.items()), body))
            failing = server.failures > 0
            server.failures -= 1 if failing else 0
            server.arrived.notify_all()
        self.send_response(500 if failing else 204)
        self.end_headers()

    def log_message(self, *_):
        pass


def until(wanted, seconds, every=0.01):
    """Waits until a condition holds."""
    end = time.monotonic() + seconds
    while not wanted():
        assert time.monotonic() < end, "did not come about in time"
        time.sleep(every)


class Gateway:
    def __init__(self, public, admin, simulator, receiver):
        self.public, self.admin, self.simulator = public, admin, simulator
        self.receiver = receiver

    def fetch(self, url, method="GET", headers=None, body=None):
        """Status, headers and body, whatever the status is; redirects are not followed."""
        request = urllib.request.Request(url, method=method, headers=headers or {}, data=body)
        opener = urllib.request.build_opener(Stay)
        try:
            answer = opener.open(request, timeout=60)
        except urllib.error.HTTPError as error:
            answer = error
        return answer.status, dict(answer.headers.items()), answer.read()

    def call(self, path, body, **headers):
        headers = {"content-type": "application/json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.fetch(self.public + path, "POST", headers, data)

    def stats(self, tag):
        _, _, body = self.fetch(self.simulator + "/stats")
        return json.loads(body)["by_tag"].get(tag, {})

    def until(self, wanted, seconds=10):
        until(wanted, seconds)


class House:
    """A receiver of callbacks, a simulated provider, and a gateway that may be begun again."""

    def __init__(self, folder, change=lambda text: text):
        self.receiver = Receiver()
        self.simulator, found = start(["simulate", "--listen", "127.0.0.1:0"], "simulate")
        self.simulate, self.config = found["simulate"], folder / "shunt.toml"
        text = CONFIG.format(
            simulator=self.simulate, folder=folder, hook=self.receiver.server_address[1]
        )
        self.config.write_text(change(text))
        self.processes = []

    def begin(self):
        """Starts a gateway; its process is the last of `processes`."""
        process, addresses = start(["serve", "--config", str(self.config)], "public", "admin")
        self.processes.append(process)
        return Gateway(addresses["public"], addresses["admin"], self.simulate, self.receiver)

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                stop(process)
        stop(self.simulator)
        self.receiver.shutdown()


class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


@pytest.fixture(scope="session")
def gateway(tmp_path_factory):
    house = House(tmp_path_factory.mktemp("gateway"))
    yield house.begin()
    house.close()
