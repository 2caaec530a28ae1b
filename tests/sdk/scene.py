"""A gateway under load for who looks at it: three routes, two providers of which one is slow, jobs, dead callbacks."""

import contextlib
import http.client
import json
import random
import sys
import threading
import time
import urllib.request

from conftest import Receiver, start, stop

CONFIG = """
[listen]
public = "127.0.0.1:0"
admin  = "{admin}"
{auth}
[providers.north]
base_url = "{north}"
dialect  = "openai"
concurrency = {{ mode = "fixed", limit = 40 }}
[providers.south]
base_url = "{south}"
dialect  = "openai"
[[routes]]
name    = "chat"
match   = {{ path = "/v1/chat/completions", model = "gpt-*" }}
targets = ["north", "south"]
budget  = {{ first_token = "300ms", total = "900ms" }}
hedge   = {{ after = "p90", max_extra = 0.08, min_samples = 30 }}
[[routes]]
name    = "summaries"
match   = {{ path = "/v1/chat/completions", model = "sum-*" }}
targets = ["south"]
budget  = {{ first_token = "2s", total = "4s" }}
over_budget = {{ action = "observe" }}
[[routes]]
name    = "embeddings"
match   = {{ path = "/v1/embeddings" }}
targets = ["north"]
budget  = {{ first_token = "1s", total = "400ms" }}
[server]
drain = "5s"
[cold]
store = "sqlite:{folder}/jobs.db"
[callbacks]
secret   = {{ env = "SHUNT_CALLBACK_SECRET" }}
allow    = ["http://127.0.0.1:{hook}/*"]
schedule = ["50ms"]
"""

TOKENS = ["--tokens", "24", "--token-gap", "fixed(3ms)"]


class Scene:
    """Begins and ends a gateway with its providers; `admin` stays the same when it begins again."""

    def __init__(self, folder, auth="", environment=None):
        self.receiver = Receiver()
        self.receiver.failures = 1_000_000
        self.environment = environment or {}
        self.providers = []
        where = {}
        for name, first in [("north", "lognormal(90ms, 0.45)"), ("south", "bimodal(140ms, 900ms, 0.06)")]:
            process, found = start(["simulate", "--listen", "127.0.0.1:0", "--first-token", first, *TOKENS], "simulate")
            self.providers.append(process)
            where[name] = found["simulate"]
        self.fill = lambda admin: CONFIG.format(
            folder=folder, hook=self.receiver.server_address[1], auth=auth, admin=admin, **where
        )
        self.config = folder / "shunt.toml"
        self.admin = None
        self.gateway = None

    def begin(self):
        self.config.write_text(self.fill(self.admin.removeprefix("http://") if self.admin else "127.0.0.1:0"))
        self.gateway, found = start(["serve", "--config", str(self.config)], "public", "admin", **self.environment)
        self.public, self.admin = found["public"], found["admin"]

    def end(self):
        stop(self.gateway)
        self.gateway = None

    def close(self):
        if self.gateway:
            self.end()
        for process in self.providers:
            stop(process)
        self.receiver.shutdown()

    def call(self, connection, path, body, **headers):
        connection.request("POST", path, json.dumps(body), {"content-type": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, answer.read()

    def one(self, connection, turn, key):
        """A call as apps make them."""
        messages = [{"role": "user", "content": "Hi"}]
        model = "sum-1" if turn % 5 == 4 else "gpt-4o"
        body = {"model": model, "messages": messages, "stream": turn % 2 == 0, "max_tokens": 24}
        path = "/v1/chat/completions"
        headers = {"authorization": f"Bearer {key}"}
        if turn % 7 == 3:
            path, body = "/v1/embeddings", {"model": "e", "input": "x"}
        elif turn % 23 == 5:
            body["metadata"] = {"sim_status": "400"}
        elif turn % 11 == 2:
            body |= {"metadata": {"sim_latency_ms": "1500"}, "stream": False, "model": "gpt-4o"}
            headers |= {"prefer": "respond-async", "x-shunt-callback": self.receiver.url(f"done/{turn}")}
        self.call(connection, path, body, **headers)

    @contextlib.contextmanager
    def load(self, threads=4, pause=0.02):
        """Calls until it is left."""
        over = threading.Event()

        def ask(number):
            connection = None
            chance = random.Random(number)
            for turn in range(number, 1_000_000):
                if over.is_set():
                    return
                try:
                    connection = connection or http.client.HTTPConnection(self.public.removeprefix("http://"), timeout=20)
                    self.one(connection, turn, f"key-{number}")
                except (OSError, http.client.HTTPException):
                    connection = None
                    over.wait(0.2)
                over.wait(chance.uniform(0, 2 * pause))

        crowd = [threading.Thread(target=ask, args=(number,), daemon=True) for number in range(threads)]
        for one in crowd:
            one.start()
        try:
            yield
        finally:
            over.set()
            for one in crowd:
                one.join(timeout=25)

    def snapshot(self):
        with urllib.request.urlopen(self.admin + "/api/live?once=true", timeout=20) as answer:
            return json.load(answer)


if __name__ == "__main__":
    # python tests/sdk/scene.py FOLDER SECONDS: something to look at, on loopback, for so long.
    import pathlib

    scene = Scene(pathlib.Path(sys.argv[1]))
    scene.begin()
    print(scene.admin, flush=True)
    with scene.load():
        time.sleep(float(sys.argv[2]))
    scene.close()
