"""A provider that does for each attempt what the call says, and a gateway before it.

A call says it in `x-script`: for each attempt, in their order, `MILLISECONDS`, `MILLISECONDS/STATUS`, `MILLISECONDS/STATUS/no`
where it says that the same again is of no use, `MILLISECONDS/STATUS/bare` where it has no body, or `MILLISECONDS/STATUS/SECONDS`
where it says when to come back. A stream may be `MILLISECONDS/error`: an error and nothing else; `/empty`: nothing; `/endless`: without its last event.
"""

import gzip
import http.server
import json
import threading
import time
import uuid

from conftest import Gateway, Receiver, start

PATH = "/v1/chat/completions"
SAID = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
ERROR = {"error": {"message": "The server is overloaded.", "type": "server_error", "code": None}}
USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}


class Provider(http.server.ThreadingHTTPServer):
    """Keeps the headers that it is sent, by the call's `x-tag`."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Scripted)
        self.lock, self.seen = threading.Lock(), {}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_):
        pass


class Scripted(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        with self.server.lock:
            seen = self.server.seen.setdefault(headers.get("x-tag"), [])
            script = headers.get("x-script", "0").split(",")
            step = script[min(len(seen), len(script) - 1)]
            seen.append(headers)
        wait, status, self.last_word = (step + "//").split("/")[:3]
        how, status = (status, 200) if status.isalpha() else ("", int(status or 200))
        # A name that is asked for stands for a version of it.
        model = asked["model"] + "-2026-11-01"
        if not asked.get("stream") or status != 200:
            time.sleep(int(wait) / 1000)
            body = {"id": "x", "object": "chat.completion", "model": model, "choices": [SAID], "usage": USAGE}
            self.answer(status, "application/json", json.dumps(body).encode())
            return
        chunk = {"model": model, "choices": [{"index": 0, "delta": {"content": "Hi"}}]}
        told = [json.dumps(chunk), json.dumps({"choices": [], "usage": USAGE}), "[DONE]"]
        told = {"error": [json.dumps(ERROR)], "empty": [], "endless": told[:1]}.get(how, told)
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        if asked.get("user") == "comment-first":
            self.wfile.write(b": a moment\n\n")
            self.wfile.flush()
        time.sleep(int(wait) / 1000)
        for one in told:
            self.wfile.write(f"data: {one}\n\n".encode())
            self.wfile.flush()
            time.sleep(0.05)
        self.close_connection = True

    def answer(self, status, kind, body):
        self.send_response(status)
        self.send_header("content-type", kind)
        # As providers behind a content delivery network do.
        self.send_header("alt-svc", 'h3=":443"; ma=86400')
        self.send_header("strict-transport-security", "max-age=31536000; includeSubDomains; preload")
        self.send_header("connection", "x-edge")
        self.send_header("x-edge", "ZRH")
        self.send_header("openai-processing-ms", "17")
        if self.last_word == "no":
            self.send_header("x-should-retry", "false")
        elif self.last_word == "bare":
            body = b""
        elif self.last_word:
            self.send_header("retry-after", self.last_word)
        # As providers do for who lets them.
        if body and "gzip" in self.headers.get("accept-encoding", ""):
            body = gzip.compress(body)
            self.send_header("content-encoding", "gzip")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


CONFIG = """
[listen]
public = "127.0.0.1:0"
admin  = "127.0.0.1:0"
[server]
drain = "5s"
[providers.one]
base_url = "{provider}"
dialect  = "openai"
[providers.two]
base_url = "{provider}"
dialect  = "openai"
[providers.narrow]
base_url = "{provider}"
dialect  = "openai"
concurrency = {{ mode = "fixed", limit = 1, queue = 10 }}
[[routes]]
name    = "tight"
match   = {{ path = "/v1/chat/completions", model = "tight-*" }}
targets = ["narrow"]
budget  = {{ first_token = "2s", total = "2s" }}
[[routes]]
name    = "watched"
match   = {{ path = "/v1/chat/completions", model = "watched-*" }}
targets = ["one"]
budget  = {{ first_token = "100ms", total = "100ms" }}
over_budget = {{ action = "observe" }}
[[routes]]
name    = "lonely"
match   = {{ path = "/v1/chat/completions", model = "lonely-*" }}
targets = ["one"]
budget  = {{ first_token = "5s", total = "5s" }}
hedge   = {{ after = "100ms", max_extra = 1.0 }}
[[routes]]
name    = "stored"
match   = {{ path = "/v1/responses" }}
targets = ["one"]
budget  = {{ first_token = "5s", total = "5s" }}
[[routes]]
name    = "plain"
match   = {{ path = "/v1/chat/completions", model = "plain-*" }}
targets = [{{ provider = "one", weight = 100 }}, "two"]
budget  = {{ first_token = "5s", total = "5s" }}
[[routes]]
name    = "chat"
match   = {{ path = "/v1/chat/completions", model = "gpt-*" }}
targets = [{{ provider = "one", weight = 100 }}, "two"]
budget  = {{ first_token = "600ms", total = "600ms" }}
hedge   = {{ after = "150ms", max_extra = 1.0 }}
cold    = {{ backoff = "50ms", backoff_max = "50ms" }}
[cold]
store = "sqlite:{folder}/jobs.db"
[callbacks]
secret   = {{ env = "SHUNT_CALLBACK_SECRET" }}
allow    = ["http://127.0.0.1:{hook}/*"]
schedule = ["1s", "1s"]
"""


class Scene:
    """A gateway before that provider; `more` is added to its configuration."""

    def __init__(self, folder, more="", **environment):
        self.folder, self.provider, self.receiver = folder, Provider(), Receiver()
        text = CONFIG.format(
            provider=self.provider.url(), folder=folder, hook=self.receiver.server_address[1]
        )
        self.config = folder / "shunt.toml"
        self.config.write_text(text + more.format(folder=folder, provider=self.provider.url()))
        self.environment = environment
        self.begin()

    def begin(self):
        self.process, found = start(["serve", "--config", str(self.config)], "public", "admin", **self.environment)
        self.gateway = Gateway(found["public"], found["admin"], None, self.receiver)

    def begin_again(self):
        """The gateway is killed, and begins again on its store."""
        self.process.kill()
        self.process.wait()
        self.begin()

    def call(self, script="0", model="plain-4o", body=None, path=PATH, **headers):
        """Calls once; gives the answer and the tag by which the provider knows the call."""
        tag = uuid.uuid4().hex
        asked = {"model": model, "messages": []} | (body or {})
        answer = self.gateway.call(path, asked, x_script=script, x_tag=tag, **headers)
        return answer, self.provider.seen.get(tag, [])

    def metrics(self):
        return self.gateway.fetch(self.gateway.admin + "/metrics")[2].decode()

    def counted(self, name, label=""):
        lines = [line for line in self.metrics().splitlines() if line.startswith(name) and label in line]
        return sum(float(line.split()[-1]) for line in lines)

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(timeout=20)
        self.provider.shutdown()
        self.receiver.shutdown()
        assert code == 0
        return self.process.stdout.read()
