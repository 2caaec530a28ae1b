"""A target that fails every second call, never five in a row, is ejected against its peer."""

import concurrent.futures
import http.server
import itertools
import json
import threading

from conftest import Gateway, start, stop

CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}


class Alternating(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    count = itertools.count()

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        body = b'{"object":"chat.completion","choices":[]}'
        self.send_response(200 if next(self.count) % 2 else 500)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_a_target_that_fails_every_second_call_is_left_alone(gateway, tmp_path, request):
    bad = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Alternating)
    bad.daemon_threads = True
    threading.Thread(target=bad.serve_forever, daemon=True).start()
    config = tmp_path / "shunt.toml"
    config.write_text(f"""
[listen]
public = "127.0.0.1:0"
admin = "127.0.0.1:0"
[providers.good]
base_url = "{gateway.simulator}"
dialect = "openai"
[providers.bad]
base_url = "http://127.0.0.1:{bad.server_address[1]}"
dialect = "openai"
[[routes]]
name = "both"
match = {{ path = "/v1/*" }}
targets = ["good", "bad"]
[cold]
store = "sqlite:{tmp_path}/jobs.db"
""")
    process, found = start(["serve", "--config", str(config)], "public", "admin")
    request.addfinalizer(bad.shutdown)
    request.addfinalizer(lambda: stop(process))
    both = Gateway(found["public"], found["admin"], gateway.simulator, None)

    def targets():
        _, _, body = both.fetch(both.admin + "/api/routes")
        return {one["name"]: one for one in json.loads(body)["routes"][0]["targets"]}

    ejected = threading.Event()

    def keep_calling():
        # The good target takes its time, so that the other's fast failures attract calls.
        while not ejected.is_set():
            both.call("/v1/chat/completions", CHAT, x_sim_latency_ms="1500")

    with concurrent.futures.ThreadPoolExecutor(16) as callers:
        for _ in range(16):
            callers.submit(keep_calling)
        try:
            both.until(lambda: targets()["bad"]["ejections"] > 0, seconds=20)
            assert targets()["bad"]["healthy"] is False
        finally:
            ejected.set()
    assert targets()["good"]["healthy"] is True
    assert targets()["good"]["ejections"] == 0
