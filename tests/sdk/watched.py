"""A gateway that has something to tell in every metric, and Debian's Prometheus that scrapes it by the
rules of `config/prometheus`, only more often."""

import http.client
import json
import pathlib
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request

import conftest
import yaml
from conftest import SHUNT, Receiver, start, stop
from test_tls import Authority

FOLDER = pathlib.Path(__file__).parents[2]
RULES = FOLDER / "config" / "prometheus"

CONFIG = """
[listen]
public = "127.0.0.1:0"
admin  = "127.0.0.1:0"
tls    = {{ cert = "{folder}/cert/cert.pem", key = "{folder}/cert/key.pem" }}
[auth]
keys = "{folder}/keys.toml"
[providers.one]
base_url = "{simulator}"
dialect  = "openai"
concurrency = {{ mode = "fixed", limit = 3 }}
[providers.two]
base_url = "{simulator}"
dialect  = "openai"
[providers.gone]
base_url = "http://127.0.0.1:9"
dialect  = "openai"
[providers.tight]
base_url = "{limited}"
dialect  = "openai"
[[routes]]
name    = "chat"
match   = {{ path = "/v1/chat/completions", model = "gpt-*" }}
targets = ["one", "two", "gone"]
budget  = {{ first_token = "300ms", total = "300ms" }}
hedge   = {{ after = "50ms", max_extra = 0.1 }}
[[routes]]
name    = "limited"
match   = {{ path = "/v1/chat/completions", model = "limited-*" }}
targets = ["tight"]
{leaves}
[cold]
store = "sqlite:{folder}/jobs.db"
[callbacks]
secret   = {{ env = "SHUNT_CALLBACK_SECRET" }}
allow    = ["http://127.0.0.1:{hook}/*"]
schedule = ["1s", "1s"]
"""
LEAVES = """
[providers.leaver]
base_url = "{simulator}"
dialect  = "openai"
[[routes]]
name    = "leaves"
match   = {{ path = "/v1/chat/completions", model = "leaves-*" }}
targets = ["leaver"]
"""
ASYNC = {"prefer": "respond-async"}
AT_ONCE = {"prefer": "respond-async, wait=0"}


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def until(wanted, seconds=20):
    """Asked less often: each look may be a scrape."""
    conftest.until(wanted, seconds, every=0.2)


class Watched:
    def __init__(self, folder):
        self.folder, self.receiver = folder, Receiver()
        self.processes, self.at = [], None

    def begin(self):
        folder = self.folder
        self.authority = Authority(folder / "authority")
        self.authority.issue(folder / "cert")
        tokens = ["--first-token", "bimodal(5ms, 150ms, 0.1)", "--token-gap", "fixed(2ms)", "--tokens", "8"]
        wide = ["--quota-requests", "5000", *tokens]
        narrow = ["--quota-requests", "2", "--quota-silent", *tokens]
        simulate = ["simulate", "--listen", "127.0.0.1:0"]
        self.simulator = self.start([*simulate, *wide], "simulate")["simulate"]
        self.limited = self.start([*simulate, *narrow], "simulate")["simulate"]
        made = [SHUNT, "keys", "create", "--file", str(folder / "keys.toml"), "--name", "all"]
        self.key = subprocess.run(made, capture_output=True, text=True, check=True).stdout.strip()
        self.configure(LEAVES.format(simulator=self.simulator))
        serve = ["serve", "--config", str(folder / "shunt.toml")]
        found = self.start(serve, "public", "admin")
        self.gateway = self.processes[-1]
        self.public, self.admin = found["public"], found["admin"]

    def start(self, arguments, *names):
        process, found = start(arguments, *names)
        self.processes.append(process)
        return found

    def configure(self, leaves):
        text = CONFIG.format(
            folder=self.folder, simulator=self.simulator, limited=self.limited, leaves=leaves,
            hook=self.receiver.server_address[1],
        )
        (self.folder / "shunt.toml").write_text(text)

    def reload_without_the_route(self):
        self.configure("")
        self.gateway.send_signal(signal.SIGHUP)

    def metrics(self):
        with urllib.request.urlopen(self.admin + "/metrics", timeout=10) as answer:
            return answer.read().decode()

    def scrape(self, every="1s", native=False):
        """Starts Prometheus with the rules that are shipped, and the example's one job; `native`: and one
        more that asks for native histograms."""
        config = yaml.safe_load((RULES / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": every, "evaluation_interval": every}
        [job] = config["scrape_configs"]
        job["static_configs"] = [{"targets": [urllib.parse.urlsplit(self.admin).netloc]}]
        if native:
            asks = {"job_name": "native", "params": {"native_histograms": ["true"]}}
            config["scrape_configs"].append(job | asks)
        for name in config["rule_files"]:
            shutil.copy(RULES / name, self.folder / name)
        (self.folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.web = f"127.0.0.1:{free_port()}"
        command = ["prometheus", f"--config.file={self.folder}/prometheus.yml",
                   f"--web.listen-address={self.web}", f"--storage.tsdb.path={self.folder}/tsdb"]
        if native:
            command.append("--enable-feature=native-histograms")
        with open(self.folder / "prometheus.log", "wb") as log:
            self.processes.append(subprocess.Popen(command, stdout=log, stderr=log))
        until(self.is_ready)

    def is_ready(self):
        try:
            return urllib.request.urlopen(f"http://{self.web}/-/ready", timeout=5).status == 200
        except OSError:
            return False

    def query(self, query):
        """What an instant query gives, of the moment `at` if one is set; a mistake in it is an error with
        Prometheus's own words."""
        asked = {"query": query} | ({"time": self.at} if self.at else {})
        url = f"http://{self.web}/api/v1/query?" + urllib.parse.urlencode(asked)
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                told = json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{query}: {error.read().decode()}") from None
        assert told["status"] == "success" and not told.get("warnings"), (query, told)
        return told["data"]

    def ask(self, query):
        """The values of an instant query."""
        told = self.query(query)
        found = told["result"]
        values = [found] if told["resultType"] == "scalar" else [one["value"] for one in found]
        return [float(value) for _, value in values]

    def load(self, until):
        """Calls of every sort, side by side, until an event."""
        threads = [threading.Thread(target=self.calls, args=(until, at), daemon=True) for at in range(6)]
        for thread in threads:
            thread.start()
        return threads

    def calls(self, until, at):
        port = int(self.public.rsplit(":", 1)[1])
        context = self.authority.context()
        connection = http.client.HTTPSConnection("localhost", port, timeout=20, context=context)

        def call(model="gpt-4o", metadata=None, stream=False, key=self.key, **headers):
            body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "stream": stream}
            body["metadata"] = metadata or {}
            headers |= {"content-type": "application/json", "authorization": f"Bearer {key}"}
            connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
            connection.getresponse().read()

        late, hook = {"sim_latency_ms": "700"}, {"x-shunt-callback": self.receiver.url("watched")}
        while not until.is_set():
            for stream in (False, True, False, True):
                call(stream=stream)
            call(metadata={"sim_status": "500"})
            if at == 0:
                call(metadata=late, **ASYNC, **hook)
                call(metadata=late)
                call(**AT_ONCE, **hook)
                for _ in range(8):
                    call("limited-1", **AT_ONCE)
                for turned_away in ({"key": "nobody"}, {"model": "leaves-1"}):
                    call(**turned_away)
                    # Its body may not have been read: what follows it may find a closed connection.
                    connection.close()
            time.sleep(0.02)
        connection.close()

    def close(self):
        for process in reversed(self.processes):
            stop(process)
        self.receiver.shutdown()
